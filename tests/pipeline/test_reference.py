"""The published code's switches against values worked out by hand or by the slow form."""

import pytest
import torch
from torch.nn import functional as F

from pipeline.errors import PipelineError
from pipeline.models.stylegan2 import Generator, GeneratorConfig
from pipeline.pixels import to_uint8
from pipeline.prompts import templates
from pipeline.reference import CORRECTED, OFFICIAL, Reference, raw_box_preprocess, reference_named, styles_with_gain
from pipeline.style_space import StyleSpace
from tests.tolerances import FLOAT32_KERNEL


def test_presets_by_name():
    assert reference_named(None) == CORRECTED == Reference()
    assert reference_named("official") == OFFICIAL
    with pytest.raises(PipelineError, match=r"must be .official., or switches"):
        reference_named("tf")


def test_official_is_what_the_published_tensorflow_code_does():
    assert OFFICIAL.model_dump() == {
        "clip_preprocess": "raw_box",
        "l2_reduction": "by_method",
        "mapper_pixelnorm_axis": "layer",
        "s_truncation": "all_layers",
        "s_std_ddof": 0,
        "relevance_base": "mean_anchored",
        "relevance_cumulative_bug": True,
        "relevance_layers": "res<=128",
        "templates": "imagenet_79",
        "torgb_style": "pre_gain",
        "uint8": "+128",
        "guard": "zeros",
    }


@pytest.mark.parametrize("resolution", [32, 64, 256])
def test_raw_box_equals_upsampling_and_pooling(resolution: int):
    images = torch.rand(2, 3, resolution, resolution, generator=torch.Generator().manual_seed(0)) * 4 - 2
    wanted = F.avg_pool2d(F.interpolate(images, scale_factor=7, mode="nearest"), resolution // 32)
    torch.testing.assert_close(raw_box_preprocess(images), wanted, **FLOAT32_KERNEL)


def test_raw_box_of_another_size_is_refused():
    with pytest.raises(ValueError, match="multiple of 32 px; got 48 x 48"):
        raw_box_preprocess(torch.zeros(1, 3, 48, 48))


def test_uint8_of_each_version_by_hand():
    pixels = torch.tensor([-2.0, -1.0, -0.001, 0.0, 0.001, 1.0]).reshape(1, 1, 1, 6).expand(1, 3, 1, 6)
    expected = {
        "round": [0, 0, 127, 128, 128, 255],
        "+127.5": [0, 0, 127, 127, 127, 255],
        "+128": [0, 0, 127, 128, 128, 255],
    }
    for how, wanted in expected.items():
        assert to_uint8(pixels, how)[0, 0, 0].tolist() == wanted, how


def test_styles_with_gain_are_what_the_torgb_layers_multiply_with():
    generator = Generator(GeneratorConfig(resolution=16, channel_base=64, channel_max=8, z_dim=4, w_dim=4))
    styles = torch.randn(2, generator.space.num_channels)
    for layer in generator.space.layers:
        module = generator.synthesis.layer(layer.index)
        gain = module.weight_gain if layer.is_torgb else 1.0
        got = styles_with_gain(styles, generator.space)[:, layer.slice]
        torch.testing.assert_close(got, styles[:, layer.slice] * gain, **FLOAT32_KERNEL)


def test_first8_truncates_rows_below_8_only():
    generator = Generator(GeneratorConfig(resolution=64, channel_base=256, channel_max=8, z_dim=4, w_dim=4))
    z = torch.randn(1, 4)
    got = generator.map(z, psi=0.0, cutoff=Reference(s_truncation="first8").cutoff)
    assert torch.equal(got[0, :8], generator.mapping.w_avg.expand(8, -1))
    assert torch.equal(got[0, 8:], generator.map(z)[0, 8:])
    assert CORRECTED.cutoff is None


def test_published_layers_and_templates_have_the_published_sizes():
    space = StyleSpace(1024, 32768)
    assert sum(layer.num_channels for layer in space.editable if layer.index <= 16) == 5376
    assert len(templates(OFFICIAL.templates)) == 79
    assert len(templates(CORRECTED.templates)) == 80
