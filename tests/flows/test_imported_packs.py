"""A pack made of foreign files, through the whole chain: latents, mapper and channel directions as people have them."""

import io
import json
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch
from PIL import Image
from torch import Tensor

from flows.edit_dataset import edit_dataset
from flows.import_latents import import_latents
from flows.train_mappers import train_mappers
from pipeline.checkpoints.import_pack import import_pack
from pipeline.config import MappersConfig, recommended
from pipeline.errors import CheckpointError, MissingInputError
from pipeline.models.clip import CONFIG_FILE, MERGES_FILE, WEIGHTS_FILE
from pipeline.models.sampling import sample_z
from pipeline.packs.pack import load_pack, write_pack
from pipeline.prompts import check_prompts, of_method, templates
from pipeline.stages.mappers import to_train
from storage import Store
from tests.conftest import write_tiny_pack
from tests.pipeline.checkpoints import nvlabs_files as nv
from tests.pipeline.checkpoints.test_official import (
    WIDTH,
    mapper_file,
    published_mapper,
    published_style_mapper,
    style_mapper_file,
)

LEVELS = {"course_mapping": slice(0, 4), "medium_mapping": slice(4, 8), "fine_mapping": slice(8, 8)}  # as published
ROWS = [
    {"name": "Afro", "target": "a face with a hat", "method": "mapper", "strengths": [1.0, 2.0]},
    {"name": "hat", "target": "a face with a red hat", "strength": 3.0, "num_channels": 4},
]


@pytest.fixture(scope="module")
def theirs() -> nv.Generator:
    return nv.random_generator(32, w_dim=WIDTH, z_dim=WIDTH)


@pytest.fixture(scope="module")
def files(theirs: nv.Generator, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """network.pkl, mappers afro.pt and (in StyleSpace) spiky.pt, fs3.npy, celebs.npy whose second latent is broken."""
    folder = tmp_path_factory.mktemp("files")
    nv.save_pickle(folder / "network.pkl", theirs)
    mapper_file(folder / "afro.pt", *LEVELS, size=32)
    layers = [3 * i + k for i in range(4) for k in (-1, 0)][1:]  # in running order, without toRGB: 0, 2, 3, 5, 6, 8, 9
    widths = dict(zip(layers, [layer.weight.shape[1] for layer, _ in conv_layers(theirs)], strict=True))
    style_mapper_file(folder / "spiky.pt", widths)
    rng = np.random.default_rng(0)
    blocks = [getattr(theirs.synthesis, f"b{r}") for r in theirs.synthesis.block_resolutions]
    convs = [getattr(block, name) for block in blocks for name in ("conv0", "conv1") if hasattr(block, name)]
    rows = rng.normal(size=(sum(conv.weight.shape[1] for conv in convs), 16))
    np.save(folder / "fs3.npy", rows / np.linalg.norm(rows, axis=1, keepdims=True))
    latents = rng.normal(size=(3, 8, WIDTH)).astype(np.float32)
    latents[1, 2, 3] = np.nan
    np.save(folder / "celebs.npy", latents)
    return folder


@pytest.fixture(scope="module")
def pack_uri(files: Path, tmp_path_factory: pytest.TempPathFactory) -> str:
    """The imported pack, with the tiny pack's CLIP in place of one that would have to be fetched."""
    folder = tmp_path_factory.mktemp("packs")
    store = Store(str(folder / "mine"))
    import_pack([str(files / name) for name in ("network.pkl", "afro.pt", "spiky.pt", "fs3.npy")], store)
    tiny = write_tiny_pack(folder / "tiny")
    description: dict[str, Any] = json.loads(store.read_bytes("pack.json"))
    kept = {name: store.read_bytes(name) for name in description.pop("files")}
    kept |= {name: (tiny / name).read_bytes() for name in (CONFIG_FILE, WEIGHTS_FILE, MERGES_FILE)}
    write_pack(store, {**description, "clip": {}}, kept)
    return store.uri


def rendered(theirs: nv.Generator, w_plus: Tensor) -> np.ndarray:
    """The slow network's image in 8 bits."""
    image = theirs.synthesis(w_plus[None])[-1][1]
    assert image is not None
    return ((image[0].permute(1, 2, 0) + 1) * 127.5).round().clamp(0, 255).int().numpy()


def conv_layers(network: nv.Generator) -> list[tuple[nv.SynthesisLayer, int]]:
    """Convolutions in running order, each with its row of w_plus."""
    found, row = [], 0
    for r in network.synthesis.block_resolutions:
        block = getattr(network.synthesis, f"b{r}")
        for name in ("conv0", "conv1"):
            if hasattr(block, name):
                found.append((getattr(block, name), row))
                row += 1
    return found


def moved_network(theirs: nv.Generator, files: Path, text: Tensor) -> nv.Generator:
    """The network with the prompt's direction, times 3, in the bias of its affine layers; by the paper's formula."""
    z = sample_z(range(1_000_000, 1_010_000), WIDTH)
    w = theirs.mapping.w_avg + 0.7 * (theirs.mapping(z) - theirs.mapping.w_avg)
    std = torch.cat([layer.affine(w).double().std(dim=0, correction=0) for layer, _ in conv_layers(theirs)])
    relevance = torch.from_numpy(np.load(files / "fs3.npy")) @ text.double()
    kept = relevance.abs() >= relevance.abs().sort().values[-4]
    offset = torch.where(kept, relevance / relevance.abs().max() * std, 0.0)
    network, start = nv.random_generator(32, w_dim=WIDTH, z_dim=WIDTH), 0
    for layer, _ in conv_layers(network):
        width = layer.weight.shape[1]
        layer.affine.bias += 3.0 * offset[start : start + width].float()
        start += width
    assert start == len(offset)
    return network


def test_edit_dataset_on_imported_latents_mapper_and_directions_draws_what_the_formulas_say(
    theirs: nv.Generator, files: Path, pack_uri: str, tmp_path: Path, caplog: pytest.LogCaptureFixture
):
    values = {"run": str(tmp_path), "pack": pack_uri, "device": "cpu", "templates": "none"}
    values["latents"] = str(files / "celebs.npy")
    with caplog.at_level("INFO"):
        result = edit_dataset(ROWS, **values, latents_per_shard=2)
    assert result["failed_prompts"] == 0
    assert "mapper 'Afro': taken from the pack, not trained" in caplog.text
    assert not (tmp_path / "mapper_training").exists()
    latents = pd.read_parquet(tmp_path / "latents").set_index("latent_id")
    assert latents["status"].to_dict() == {"celebs-00000": "ok", "celebs-00001": "failed", "celebs-00002": "ok"}
    assert "must be finite" in latents.loc["celebs-00001", "error"]
    frame = pd.read_parquet(tmp_path / "dataset").set_index(["latent_id", "prompt_id", "strength"])
    assert sorted(set(frame.index.get_level_values(0))) == ["celebs-00000", "celebs-00002"]
    clip = load_pack(pack_uri, device="cpu").clip
    text = clip.text_direction("a face with a red hat", "a face", templates("none"))
    with_hat = moved_network(theirs, files, text)
    state = torch.load(files / "afro.pt")["state_dict"]
    given = torch.from_numpy(np.load(files / "celebs.npy"))
    for number in (0, 2):
        w = given[number]
        move = torch.cat([published_mapper(w[None, rows], state, name) for name, rows in LEVELS.items()], dim=1)[0]
        wanted = {
            ("original", 0.0): rendered(theirs, w),
            ("afro", 1.0): rendered(theirs, w + 0.1 * move),
            ("afro", 2.0): rendered(theirs, w + 0.2 * move),
            ("hat", 3.0): rendered(with_hat, w),
        }
        for key, image in wanted.items():
            cell = frame.loc[(f"celebs-{number:05d}", *key), "image"]
            got = np.asarray(Image.open(io.BytesIO(cell["bytes"]))).astype(int)
            assert np.abs(got - image).max() <= 1, key  # float rounding at the edge of a grey level
            assert key[0] == "original" or np.abs(image - wanted["original", 0.0]).max() > 5
    again = edit_dataset(ROWS, **values, latents_per_shard=2)
    assert again["shards_skipped"] == again["shards"]


def test_imported_mapper_in_style_space_draws_what_the_formulas_say(
    theirs: nv.Generator, files: Path, pack_uri: str, tmp_path: Path
):
    rows = [{"name": "spiky", "target": "a face with a hat", "method": "mapper", "strength": 1.5}]
    edit_dataset(rows, run=str(tmp_path), pack=pack_uri, device="cpu", latents=str(files / "celebs.npy"))
    frame = pd.read_parquet(tmp_path / "dataset").set_index(["latent_id", "prompt_id"])
    state = torch.load(files / "spiky.pt")["state_dict"]
    w = torch.from_numpy(np.load(files / "celebs.npy"))[0]
    network = nv.random_generator(32, w_dim=WIDTH, z_dim=WIDTH)
    layers = sorted({int(key.split("mapper_")[1].split(".")[0]) for key in state if "mapper_" in key})
    for index, (layer, row) in zip(layers, conv_layers(network), strict=True):
        layer.affine.bias += 1.5 * 0.1 * published_style_mapper(layer.affine(w[None, row]), state, index)[0]
    got = np.asarray(Image.open(io.BytesIO(frame.loc[("celebs-00000", "spiky"), "image"]["bytes"]))).astype(int)
    assert np.abs(got - rendered(network, w)).max() <= 1
    assert np.abs(got - rendered(theirs, w)).max() > 5


def test_mapper_in_the_pack_is_trained_anew_when_told(pack_uri: str, tmp_path: Path):
    shared = {"run": str(tmp_path), "pack": pack_uri, "device": "cpu"}
    with pytest.raises(MissingInputError, match="styleclip sample-latents"):
        train_mappers(ROWS, **shared, reuse_mappers=False)
    assert train_mappers(ROWS, **shared)["rows"] == 1
    row = pd.read_parquet(tmp_path / "mappers").iloc[0]
    assert json.loads(row["description"])["norm_axis"] == "layer"
    assert pd.isna(row["loss"])


def test_pack_may_recommend_to_train_although_it_holds_the_mapper(pack_uri: str, tmp_path: Path):
    store, given = Store(str(tmp_path / "pack")), Store(pack_uri)
    description: dict[str, Any] = json.loads(given.read_bytes("pack.json"))
    kept = {name: given.read_bytes(name) for name in description.pop("files")}
    write_pack(store, {**description, "settings": {"mapper": {"reuse_mappers": False}}}, kept)
    pack, prompts = (
        load_pack(store.uri, device="cpu"),
        of_method(check_prompts([{**row, "neutral": "a face"} for row in ROWS]), "mapper"),
    )
    assert len(to_train(recommended(MappersConfig, pack.description.settings["mapper"], {}), pack, prompts)) == 1
    assert not to_train(MappersConfig(reuse_mappers=True), pack, prompts)


@pytest.mark.parametrize(
    ("array", "message"),
    [
        (
            np.zeros((2, 14, WIDTH), np.float32),
            r"must be \[n, 8, 6\] .* got \[2, 14, 6\]. It is for a 256-px generator",
        ),
        (np.zeros((2, 8, WIDTH), np.int64), "must be floating-point numbers .* got int64"),
        (np.zeros((0, 8, WIDTH), np.float32), r"got \[0, 8, 6\]"),
    ],
)
def test_latents_that_do_not_fit_stop_the_run_before_anything_is_written(
    array: np.ndarray, message: str, pack_uri: str, tmp_path: Path
):
    np.save(tmp_path / "x.npy", array)
    with pytest.raises(CheckpointError, match=message):
        edit_dataset(ROWS, run=str(tmp_path / "run"), pack=pack_uri, latents=str(tmp_path / "x.npy"), device="cpu")
    with pytest.raises(CheckpointError, match="there is none at"):
        import_latents(str(tmp_path / "y.npy"), run=str(tmp_path / "run"), pack=pack_uri, device="cpu")
    assert not (tmp_path / "run").exists()
