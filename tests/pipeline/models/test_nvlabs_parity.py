"""conv_clamp and half precision as NVlabs' networks have them; both off unless the configuration says so."""

from dataclasses import replace

import pytest
import torch
from torch import Tensor

from kernels import Impl
from pipeline.models import synthesis
from pipeline.models.stylegan2 import Generator, GeneratorConfig
from pipeline.models.synthesis_plan import DirectPlan
from tests.tolerances import HALF_PRECISION

PLAIN = GeneratorConfig(resolution=32, channel_base=512, channel_max=16, z_dim=8, w_dim=8, mapping_layers=2)


def make_generator(config: GeneratorConfig) -> Generator:
    torch.manual_seed(0)
    return Generator(config).requires_grad_(False)


def dtypes(generator: Generator, styles: Tensor) -> list[torch.dtype]:
    return [generator.activations(styles, i + 1).features.dtype for i in range(len(generator.space.layers))]


def test_half_precision_is_off_by_default_and_on_a_cpu():
    for config in (PLAIN, replace(PLAIN, num_fp16_res=2)):
        generator = make_generator(config)
        assert set(dtypes(generator, torch.randn(1, generator.space.num_channels))) == {torch.float32}


@pytest.mark.parametrize(("num_fp16_res", "first_half"), [(0, 64), (1, 32), (2, 16), (3, 8), (9, 8)])
def test_half_precision_runs_in_the_highest_resolutions(
    num_fp16_res: int, first_half: int, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(synthesis, "HALF_DEVICES", ("cpu",))
    generator = make_generator(replace(PLAIN, num_fp16_res=num_fp16_res))
    found = dtypes(generator, torch.randn(1, generator.space.num_channels))
    wanted = [torch.float16 if x.resolution >= first_half else torch.float32 for x in generator.space.layers]
    assert found == wanted


@pytest.mark.parametrize("impl", ["fast", "ref"])
def test_half_precision_draws_the_same_within_its_rounding(impl: Impl, monkeypatch: pytest.MonkeyPatch):
    generator = make_generator(replace(PLAIN, num_fp16_res=3))
    styles = generator.styles(torch.randn(2, 8))
    full = generator.render(styles, plan=DirectPlan(generator.synthesis, impl=impl))
    monkeypatch.setattr(synthesis, "HALF_DEVICES", ("cpu",))
    half = generator.render(styles, plan=DirectPlan(generator.synthesis, impl=impl))
    assert half.dtype == torch.float32
    assert not torch.equal(full, half)
    scale = float(full.abs().max())
    torch.testing.assert_close(half / scale, full / scale, **HALF_PRECISION)


def test_half_precision_does_not_overflow_for_large_weights_and_styles(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(synthesis, "HALF_DEVICES", ("cpu",))
    generator = make_generator(replace(PLAIN, num_fp16_res=1, conv_clamp=256.0))
    for name in ("conv0", "conv1"):
        generator.get_submodule(f"synthesis.b32.{name}").weight.mul_(1e6)
    assert bool(torch.isfinite(generator.render(generator.styles(torch.randn(2, 8)))).all())


def test_clamp_bounds_every_layer():
    generator = make_generator(replace(PLAIN, conv_clamp=0.5))
    styles = generator.styles(torch.randn(2, 8))
    for layer in generator.space.layers:
        assert float(generator.activations(styles, layer.index + 1).features.abs().max()) <= 0.5
