"""Exported generators load strictly into slow networks of the other tools' layout, and draw the same."""

import io
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from pipeline.checkpoints.detect import detect_format
from pipeline.checkpoints.export import ExportFormat, export_generator, rosinality_arguments
from pipeline.checkpoints.foreign_file import read_foreign_file
from pipeline.checkpoints.nvlabs import read_nvlabs
from pipeline.checkpoints.rosinality import read_rosinality
from pipeline.errors import PackError
from pipeline.models.stylegan2 import Generator, GeneratorConfig
from tests.pipeline.checkpoints import nvlabs_files as nv
from tests.pipeline.checkpoints import rosinality_files as ro
from tests.tolerances import IMPORTED_NETWORK

CONFIG = GeneratorConfig(resolution=32, channel_base=256, channel_max=16, z_dim=12, w_dim=12, mapping_layers=3)


def make_generator(config: GeneratorConfig) -> Generator:
    torch.manual_seed(0)
    generator = Generator(config).requires_grad_(False)
    for name, tensor in generator.named_parameters():
        if name.endswith(("noise_strength", ".bias")):
            tensor.add_(torch.randn(tensor.shape))
    return generator


def exported(generator: Generator, export_format: ExportFormat) -> tuple[dict[str, Any], str]:
    data, advice = export_generator(generator, export_format)
    return torch.load(io.BytesIO(data), weights_only=True), advice


def their_network(export_format: ExportFormat, content: dict[str, Any]) -> nn.Module:
    if export_format == "rosinality":
        widths = {r: min(256 // r, 16) for r in (4, 8, 16, 32)}
        network = ro.Generator(32, 12, 3, widths).requires_grad_(False)
        network.load_state_dict(content["g_ema"], strict=True)
        return network
    arguments = content["init_kwargs"]
    network = nv.Generator(
        arguments["img_resolution"],
        channel_base=arguments["channel_base"],
        channel_max=arguments["channel_max"],
        z_dim=arguments["z_dim"],
        w_dim=arguments["w_dim"],
        mapping_layers=arguments["mapping_kwargs"]["num_layers"],
    ).requires_grad_(False)
    network.load_state_dict(content["G_ema"], strict=True)
    return network


def last_image(network: nn.Module, w_plus: Tensor) -> Tensor:
    trace = network(w_plus) if isinstance(network, ro.Generator) else network.synthesis(w_plus)
    return trace[-1][1]


@pytest.mark.parametrize("export_format", ["rosinality", "nvlabs-state"])
def test_exported_generator_draws_the_same_in_the_other_layout(export_format: ExportFormat):
    ours = make_generator(CONFIG)
    content, _ = exported(ours, export_format)
    w_plus = torch.randn(2, ours.space.num_ws, 12)
    theirs = last_image(their_network(export_format, content), w_plus)
    scale = float(theirs.abs().max())
    torch.testing.assert_close(ours(w_plus) / scale, theirs / scale, **IMPORTED_NETWORK)


def test_rosinality_export_comes_back_bit_by_bit(tmp_path: Any):
    ours = make_generator(CONFIG)
    (tmp_path / "x.pt").write_bytes(export_generator(ours, "rosinality")[0])
    found = read_rosinality(read_foreign_file(tmp_path / "x.pt"), source="x")
    assert all(torch.equal(tensor, found.state[name]) for name, tensor in ours.state_dict().items())


def test_nvlabs_round_trip_through_their_layout_is_bit_by_bit(tmp_path: Any):
    ours = make_generator(CONFIG)
    content, _ = exported(ours, "nvlabs-state")
    path = nv.save_pickle(tmp_path / "x.pkl", their_network("nvlabs-state", content))
    found = read_nvlabs(read_foreign_file(path), source="x")
    assert found.config == CONFIG
    assert all(torch.equal(tensor, found.state[name]) for name, tensor in ours.state_dict().items())


def test_rosinality_export_says_how_to_build_the_network():
    known = GeneratorConfig(resolution=64, channel_base=16384, channel_max=512, mapping_layers=1)
    with torch.device("meta"):
        generator = Generator(known)
    assert "channel_multiplier=1)" in rosinality_arguments(generator)
    assert "16: 16" in rosinality_arguments(make_generator(CONFIG))


def test_rosinality_export_of_another_mapping_width_is_refused():
    with pytest.raises(PackError, match=r"one width for z, w.*z_dim=6.*nvlabs-state"):
        export_generator(make_generator(replace(CONFIG, z_dim=6)), "rosinality")


def test_nvlabs_state_is_read_back_with_its_settings(tmp_path: Path):
    config = GeneratorConfig(
        resolution=16, channel_base=64, channel_max=8, z_dim=4, w_dim=4, conv_clamp=256, num_fp16_res=2
    )
    generator = Generator(config)
    (tmp_path / "x.pt").write_bytes(export_generator(generator, "nvlabs-state")[0])
    tree = read_foreign_file(tmp_path / "x.pt")
    assert detect_format(tree) == "nvlabs"
    found = read_nvlabs(tree, source="x.pt", parity="nvlabs")
    assert (found.config.conv_clamp, found.config.num_fp16_res) == (256, 2)
    assert all(torch.equal(found.state[name], value) for name, value in generator.state_dict().items())
