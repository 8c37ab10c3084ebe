"""Rosinality files against a slow network of our own that wrote them."""

from pathlib import Path
from typing import Any

import pytest
import torch

from pipeline.checkpoints.foreign_file import read_foreign_file
from pipeline.checkpoints.generator_state import W_AVG_SEEDS, ImportedGenerator
from pipeline.checkpoints.rosinality import read_rosinality
from pipeline.errors import CheckpointError
from pipeline.models.sampling import sample_z
from pipeline.models.stylegan2 import Generator
from tests.pipeline.checkpoints import rosinality_files as ro
from tests.tolerances import IMPORTED_NETWORK

CASES: dict[str, dict[str, Any]] = {
    "32": {"size": 32},
    "64-deep": {"size": 64, "n_mlp": 8, "base": 1024, "largest": 24},
    "128": {"size": 128, "n_mlp": 1, "base": 2048, "largest": 16},
    "256": {"size": 256, "base": 1024},
    "512": {"size": 512, "base": 2048},
    "1024": {"size": 1024, "n_mlp": 8, "base": 4096},
}


def read(path: Path, mapping_lr: float | None = None) -> ImportedGenerator:
    return read_rosinality(read_foreign_file(path), source=path.name, mapping_lr=mapping_lr)


def built(found: ImportedGenerator) -> Generator:
    generator = Generator(found.config)
    generator.load_state_dict(found.state, strict=True)
    return generator.eval().requires_grad_(False)


def assert_same_network(ours: Generator, theirs: ro.Generator) -> None:
    """w, styles, every layer's output and the image."""
    z = torch.randn(2, theirs.style_dim, generator=torch.Generator().manual_seed(3))
    w = theirs.style(z)
    torch.testing.assert_close(ours.map(z)[:, 0], w, **IMPORTED_NETWORK)
    w_plus = w[:, None].repeat(1, theirs.num_ws, 1)
    w_plus = w_plus + 0.1 * torch.randn(w_plus.shape, generator=torch.Generator().manual_seed(4))
    styles = ours.styles(w_plus)
    torch.testing.assert_close(styles, theirs.styles(w_plus), **IMPORTED_NETWORK)
    got = ours.activations(styles, 0)
    for layer, (features, image) in enumerate(theirs(w_plus), start=1):
        got = ours.activations(styles, layer, since=got)
        scale = max(1.0, float(features.abs().max()))
        torch.testing.assert_close(got.features / scale, features / scale, **IMPORTED_NETWORK)
        if image is not None:
            assert got.rgb is not None
            torch.testing.assert_close(got.rgb, image, **IMPORTED_NETWORK)


@pytest.mark.parametrize("case", CASES)
def test_converted_file_imports_to_the_same_network(case: str, tmp_path: Path):
    theirs = ro.random_generator(**CASES[case])
    path = ro.save_converted(tmp_path / "x.pt", theirs, zipped=case != "32")
    found = read(path)
    assert torch.equal(found.state["mapping.w_avg"], torch.load(path)["latent_avg"])
    assert len(found.unused) == sum(name.endswith("kernel") for name in theirs.state_dict())
    assert_same_network(built(found), theirs)


def test_trained_file_has_its_average_estimated_from_seeds_and_noted(tmp_path: Path):
    theirs = ro.random_generator(32)
    found = read(ro.save_trained(tmp_path / "x.pt", theirs))
    wanted = theirs.style(sample_z(range(W_AVG_SEEDS), theirs.style_dim)).mean(dim=0)
    torch.testing.assert_close(found.state["mapping.w_avg"], wanted, **IMPORTED_NETWORK)
    assert "seeds 0 to 9999" in found.notes["w_avg"]
    assert_same_network(built(found), theirs)


def test_file_without_noise_images_gets_seeded_ones_and_says_so(tmp_path: Path):
    state = ro.random_generator(16).state_dict()
    torch.save({"g_ema": {k: v for k, v in state.items() if not k.startswith("noises.")}}, tmp_path / "x.pt")
    first, second = read(tmp_path / "x.pt"), read(tmp_path / "x.pt")
    assert "seed 0" in first.notes["noise"]
    assert torch.equal(first.state["synthesis.b16.conv1.noise_const"], second.state["synthesis.b16.conv1.noise_const"])


@pytest.mark.parametrize(
    ("change", "match"),
    [
        ({"convs.1.conv.weight": torch.zeros(1, 8, 16, 3, 3)}, r"convs.1.conv.weight must be|convs.\d.* must be"),
        ({"convs.0.activate.bias": torch.zeros(3)}, r"convs.0.activate.bias must be \[16\]; got \[3\]"),
        ({"noises.noise_2": torch.zeros(1, 1, 16, 16)}, "another resolution"),
        ({"extra.weight": torch.zeros(1)}, "1 have none: extra.weight"),
        ({"convs.0.conv.blur.kernel": torch.ones(4, 4)}, "Other blur kernels"),
        ({"noise.weight": torch.zeros(2)}, "noise.weight"),
        ({"conv1.noise.weight": torch.zeros(2)}, "must have 1 elements"),
    ],
)
def test_tensor_that_does_not_fit_is_named(change: dict[str, torch.Tensor], match: str, tmp_path: Path):
    torch.save({"g_ema": {**ro.random_generator(16).state_dict(), **change}}, tmp_path / "x.pt")
    with pytest.raises(CheckpointError, match=match):
        read(tmp_path / "x.pt")


def test_file_of_something_else_lists_what_it_holds(tmp_path: Path):
    torch.save({"model": {}, "epoch": 3}, tmp_path / "x.pt")
    with pytest.raises(CheckpointError, match="got model, epoch"):
        read(tmp_path / "x.pt")


@pytest.mark.parametrize("rate", [1.0, 0.1, 0.001])
def test_mapping_of_another_learning_rate_is_warned_of_and_read_as_told(rate: float, tmp_path: Path):
    theirs = ro.random_generator(16, lr_mlp=rate)
    path = ro.save_converted(tmp_path / "x.pt", theirs)
    assert f"import again with --mapping-lr {rate:g}" in read(path).notes["mapping_lr"]
    told = read(path, rate)
    assert told.notes["mapping_lr"] == rate
    assert_same_network(built(told), theirs)
    with pytest.raises(AssertionError):
        assert_same_network(built(read(path)), theirs)


@pytest.mark.parametrize("spread", [0.7, 1.0, 2.5])
def test_mapping_of_the_usual_learning_rate_draws_no_warning(spread: float, tmp_path: Path):
    theirs = ro.random_generator(16)
    with torch.no_grad():
        for name, tensor in theirs.named_parameters():
            if name.startswith("style.") and name.endswith("weight"):  # training widens or narrows them
                tensor.mul_(spread)
    assert "mapping_lr" not in read(ro.save_converted(tmp_path / "x.pt", theirs)).notes


def test_whole_generator_of_four_pixels_is_named_as_such(tmp_path: Path):
    with pytest.raises(CheckpointError, match=r"8 px or more; this one is whole and draws 4 px"):
        read(ro.save_converted(tmp_path / "x.pt", ro.random_generator(4)))
    cut = ro.random_generator(8).state_dict()
    cut = {key: value for key, value in cut.items() if not key.startswith("convs.1.")}
    torch.save({"g_ema": cut}, tmp_path / "y.pt")
    with pytest.raises(CheckpointError, match="not the whole network"):
        read(tmp_path / "y.pt")
