"""Mappers, fs3 and latents of the published code, against values worked out by hand."""

import math
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor

from pipeline.checkpoints.foreign_file import read_foreign_file
from pipeline.checkpoints.official import check_w_plus, read_fs3, read_mapper
from pipeline.errors import CheckpointError
from pipeline.models.mapper import Mapper, MapperConfig
from pipeline.style_space import StyleSpace
from tests.tolerances import IMPORTED_NETWORK

WIDTH = 6
SPACE = StyleSpace(1024, 32768)


def mapper_file(path: Path, *names: str, size: int | None = 1024, decoder: int | None = None) -> Path:
    """``size`` as recorded; ``decoder``: resolution of the generator in the file."""
    random = torch.Generator().manual_seed(0)
    state = {"decoder.style.1.weight": torch.zeros(2, 2)}
    for i in range(0 if decoder is None else int(math.log2(decoder)) - 2):
        state[f"decoder.to_rgbs.{i}.bias"] = torch.zeros(1, 3, 1, 1)
    for name in names:
        for i in range(1, 5):
            state[f"mapper.{name}.mapping.{i}.weight"] = torch.randn(WIDTH, WIDTH, generator=random) * 100
            state[f"mapper.{name}.mapping.{i}.bias"] = torch.randn(WIDTH, generator=random) * 10
    opts = {"description": "x"} | ({} if size is None else {"stylegan_size": size})
    torch.save({"state_dict": state, "opts": opts}, path)
    return path


def published_mapper(x: Tensor, state: dict[str, Tensor], name: str) -> Tensor:
    """One level as published: the norm runs over axis 1 of [n, l, d], which is the rows."""
    x = x / (x.square().mean(dim=1, keepdim=True) + 1e-8).sqrt()
    for i in range(1, 5):
        weight, bias = state[f"mapper.{name}.mapping.{i}.weight"], state[f"mapper.{name}.mapping.{i}.bias"]
        x = x @ (weight * 0.01 / math.sqrt(WIDTH)).T + bias * 0.01
        x = torch.where(x >= 0, x, 0.2 * x) * math.sqrt(2)
    return x


def load(path: Path, space: StyleSpace = SPACE) -> Mapper:
    found = read_mapper(read_foreign_file(path), source="x", space=space)
    assert found.notes == {"norm_axis": "layer", "width": WIDTH}
    network = Mapper(found.config, num_ws=space.num_ws, w_dim=WIDTH, space=space)
    network.load_state_dict(found.state, strict=True)
    return network.requires_grad_(False)


def test_levels_mapper_equals_the_published_formula_with_its_norm_over_rows(tmp_path: Path):
    names = {"course_mapping": slice(0, 4), "medium_mapping": slice(4, 8), "fine_mapping": slice(8, 18)}
    path = mapper_file(tmp_path / "x.pt", *names)
    state = torch.load(path)["state_dict"]
    w_plus = torch.randn(2, 18, WIDTH)
    wanted = torch.cat([published_mapper(w_plus[:, rows], state, name) for name, rows in names.items()], dim=1)
    torch.testing.assert_close(load(path)(w_plus), wanted, **IMPORTED_NETWORK)


@pytest.mark.parametrize("resolution", [32, 16, 8])
def test_levels_mapper_of_a_small_generator_equals_the_published_formula(resolution: int, tmp_path: Path):
    """The published code cuts ``x[:, :4, :]``, ``x[:, 4:8, :]``, ``x[:, 8:, :]`` whatever the number of rows."""
    path = mapper_file(tmp_path / "x.pt", "course_mapping", "medium_mapping", "fine_mapping", size=resolution)
    state, space = torch.load(path)["state_dict"], StyleSpace(resolution, 256)
    w_plus = torch.randn(2, space.num_ws, WIDTH)
    parts = [
        (w_plus[:, :4, :], "course_mapping"),
        (w_plus[:, 4:8, :], "medium_mapping"),
        (w_plus[:, 8:, :], "fine_mapping"),
    ]
    wanted = torch.cat([published_mapper(part, state, name) for part, name in parts], dim=1)
    torch.testing.assert_close(load(path, space)(w_plus), wanted, **IMPORTED_NETWORK)


@pytest.mark.parametrize(("size", "decoder"), [(1024, None), (None, 1024), (1024, 1024)])
def test_mapper_of_another_size_is_refused_naming_both(size: int | None, decoder: int | None, tmp_path: Path):
    path = mapper_file(tmp_path / "x.pt", "course_mapping", size=size, decoder=decoder)
    with pytest.raises(CheckpointError, match=r"which is of 32 px; this one was trained for 1024 px"):
        load(path, StyleSpace(32, 256))
    load(path)


def test_mapper_without_fine_level_leaves_those_rows(tmp_path: Path):
    mapper = load(mapper_file(tmp_path / "x.pt", "course_mapping", "medium_mapping"))
    offset = mapper(torch.randn(1, 18, WIDTH))
    assert bool(offset[:, :8].any())
    assert not bool(offset[:, 8:].any())


def test_single_mapper_equals_the_published_formula(tmp_path: Path):
    path = mapper_file(tmp_path / "x.pt", "mapping")
    w_plus = torch.randn(2, 18, WIDTH)
    wanted = published_mapper(w_plus, torch.load(path)["state_dict"], "mapping")
    torch.testing.assert_close(load(path)(w_plus), wanted, **IMPORTED_NETWORK)


def test_norm_axis_is_what_differs_between_the_two_settings():
    torch.manual_seed(0)
    ours, theirs = (
        Mapper(MapperConfig(kind="single", norm_axis=axis), num_ws=18, w_dim=WIDTH, space=SPACE)
        for axis in ("channel", "layer")
    )
    theirs.load_state_dict(ours.state_dict())
    x = torch.randn(1, 18, WIDTH)
    by_channel = x / (x.square().mean(dim=2, keepdim=True) + 1e-8).sqrt()
    by_layer = x / (x.square().mean(dim=1, keepdim=True) + 1e-8).sqrt()
    layers = [ours.get_submodule(f"single.{i}") for i in range(1, 5)]
    for network, normed in ((ours, by_channel), (theirs, by_layer)):
        for layer in layers:
            normed = layer(normed)
        torch.testing.assert_close(network(x), normed, **IMPORTED_NETWORK)


SMALL = StyleSpace(32, 256)  # 4 px: layer 0; 8 to 32 px: layers 2, 3, 5, 6, 8, 9; toRGB 1, 4, 7, 10
CONVOLUTIONS = {0: 64, 2: 64, 3: 32, 5: 32, 6: 16, 8: 16, 9: 8}


def style_mapper_file(path: Path, widths: dict[int, int]) -> Path:
    """A mapper of the published code's ``work_in_stylespace``: one network a layer, as wide as the layer."""
    random = torch.Generator().manual_seed(0)
    state = {"decoder.style.1.weight": torch.zeros(2, 2)}
    for layer, width in widths.items():
        for i in range(1, 5):
            state[f"mapper.mapper_{layer}.mapping.{i}.weight"] = torch.randn(width, width, generator=random) * 100
            state[f"mapper.mapper_{layer}.mapping.{i}.bias"] = torch.randn(width, generator=random) * 10
    torch.save({"state_dict": state, "opts": {"work_in_stylespace": True}}, path)
    return path


def published_style_mapper(x: Tensor, state: dict[str, Tensor], layer: int) -> Tensor:
    """One layer's network as published: on [n, c], where axis 1 is the channels."""
    x = x / (x.square().mean(dim=1, keepdim=True) + 1e-8).sqrt()
    for i in range(1, 5):
        weight, bias = (state[f"mapper.mapper_{layer}.mapping.{i}.{field}"] for field in ("weight", "bias"))
        x = x @ (weight * 0.01 / math.sqrt(x.shape[1])).T + bias * 0.01
        x = torch.where(x >= 0, x, 0.2 * x) * math.sqrt(2)
    return x


def test_style_space_mapper_equals_the_published_formula_layer_by_layer(tmp_path: Path):
    path = style_mapper_file(tmp_path / "x.pt", CONVOLUTIONS)
    found = read_mapper(read_foreign_file(path), source="x", space=SMALL)
    assert (found.config.kind, found.config.norm_axis, found.config.residual_scale) == ("styles", "channel", 0.1)
    network = Mapper(found.config, num_ws=8, w_dim=WIDTH, space=SMALL)
    network.load_state_dict(found.state, strict=True)
    styles, state = torch.randn(2, SMALL.num_channels), torch.load(path)["state_dict"]
    moves = SMALL.split(network(styles).detach())
    for layer, part, move in zip(SMALL.layers, SMALL.split(styles), moves, strict=True):
        wanted = torch.zeros_like(part) if layer.is_torgb else published_style_mapper(part, state, layer.index)
        torch.testing.assert_close(move, wanted, **IMPORTED_NETWORK)


@pytest.mark.parametrize(
    ("widths", "match"),
    [
        (CONVOLUTIONS | {1: 64, 4: 32, 7: 16, 10: 8}, r"leave the toRGB layers alone; this one moves \[1, 4, 7, 10\]"),
        (CONVOLUTIONS | {11: 8}, r"7 convolution layers \(32 px\), up to layer 9; got 8, up to 11.*another resolution"),
        (
            CONVOLUTIONS | {3: 16},
            r"mapper_3.mapping.1.weight must be \[32, 32\]; got \[16, 16\]. It belongs to a generator of another chann",
        ),
    ],
)
def test_style_space_mapper_that_does_not_fit_is_refused(widths: dict[int, int], match: str, tmp_path: Path):
    tree = read_foreign_file(style_mapper_file(tmp_path / "x.pt", widths))
    with pytest.raises(CheckpointError, match=match):
        read_mapper(tree, source="x", space=SMALL)


def test_mapper_of_another_architecture_is_refused(tmp_path: Path):
    with pytest.raises(CheckpointError, match=r"must hold mapper.course_mapping"):
        load(mapper_file(tmp_path / "x.pt", "hair_mapping"))


@pytest.mark.parametrize(("rows", "last"), [(5376, 15), (6048, 24)])
def test_fs3_with_each_published_number_of_rows_covers_its_layers(rows: int, last: int, tmp_path: Path):
    table = np.zeros((rows, 4), np.float16)
    table[:, 0] = 3
    table[7] = np.nan
    np.save(tmp_path / "fs3.npy", table)
    layers, directions = read_fs3(read_foreign_file(tmp_path / "fs3.npy"), StyleSpace(1024, 32768), source="fs3.npy")
    assert sum(layer.num_channels for layer in layers) == rows
    assert layers[-1].index == last
    assert not any(layer.is_torgb for layer in layers)
    assert directions[0].tolist() == [1, 0, 0, 0]
    assert directions[7].tolist() == [0, 0, 0, 0]


def test_fs3_of_another_generator_is_refused_with_both_numbers(tmp_path: Path):
    np.save(tmp_path / "fs3.npy", np.zeros((6048, 4), np.float32))
    tree = read_foreign_file(tmp_path / "fs3.npy")
    with pytest.raises(CheckpointError, match=r"4,928 rows for this 256-px generator; got shape \[6048, 4\]"):
        read_fs3(tree, StyleSpace(256, 16384), source="fs3.npy")


@pytest.mark.parametrize("kind", ["npy", "pt", "pth"])
def test_latents_of_each_kind_of_file_are_read(kind: str, tmp_path: Path):
    latents = torch.randn(3, 18, 512)
    path = tmp_path / f"w_plus.{kind}"
    if kind == "npy":
        np.save(path, latents.numpy())
    else:
        torch.save(latents, path, _use_new_zipfile_serialization=kind == "pt")
    assert torch.equal(check_w_plus(read_foreign_file(path), source="x", num_ws=18).load(), latents)


def test_one_latent_without_a_batch_axis_is_one_latent(tmp_path: Path):
    np.save(tmp_path / "x.npy", np.zeros((18, 512), np.float32))
    assert check_w_plus(read_foreign_file(tmp_path / "x.npy"), source="x", num_ws=18).shape == (1, 18, 512)


@pytest.mark.parametrize(
    ("array", "match"),
    [
        (np.zeros((2, 14, 512), np.float32), r"\[n, 18, 512\].*got \[2, 14, 512\]. It is for a 256-px generator"),
        (np.zeros((2, 512), np.float32), r"got \[2, 512\]"),
    ],
)
def test_latents_that_do_not_fit_are_refused(array: np.ndarray, match: str, tmp_path: Path):
    np.save(tmp_path / "x.npy", array)
    with pytest.raises(CheckpointError, match=match):
        check_w_plus(read_foreign_file(tmp_path / "x.npy"), source="x", num_ws=18)
