"""Every format, read back with the library that people read it with."""

import gc
import json
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

import storage
from pipeline.config import ExportedDatasetConfig
from pipeline.errors import PipelineError
from pipeline.packs.pack import Pack
from storage import Store
from tests.mortal_store import Killed, MortalStore
from tests.pipeline.export.finished_run import NUM_LATENTS, export, write_run

SETTINGS: dict[str, Any] = {"images_per_shard": 10, "validation_share": 0.25, "test_share": 0.25, "captions": 2}
IMAGES = NUM_LATENTS * 4


@pytest.fixture(scope="module")
def run(tiny_pack: Pack, tmp_path_factory: pytest.TempPathFactory) -> Store:
    store = Store(str(tmp_path_factory.mktemp("run")))
    write_run(store, tiny_pack)
    return store


@pytest.fixture(scope="module")
def rendered(run: Store) -> dict[str, np.ndarray]:
    frame = pd.read_parquet(f"{run.uri}/dataset")
    return {row.image_id: storage.decode_image(row.image["bytes"]) for row in frame.itertuples()}


@pytest.fixture(scope="module")
def datasets(tmp_path_factory: pytest.TempPathFactory) -> Any:
    found = pytest.importorskip("datasets")
    found.config.HF_DATASETS_CACHE = tmp_path_factory.mktemp("hf")
    found.config.HF_HUB_OFFLINE = True
    found.disable_progress_bars()
    return found


def exported(run: Store, folder: Path, pack: Pack, **changes: Any) -> str:
    export(run, Store(str(folder)), pack, ExportedDatasetConfig(**{**SETTINGS, **changes}))
    return str(folder)


@pytest.mark.parametrize("image_format", ["png", "webp"])
@pytest.mark.parametrize("kind", ["parquet", "imagefolder"])
def test_load_dataset_gives_every_image_bit_for_bit_and_typed_labels(
    run: Store, rendered: dict, datasets: Any, tiny_pack: Pack, tmp_path: Path, kind: str, image_format: str
):
    folder = exported(run, tmp_path, tiny_pack, format=kind, image_format=image_format)
    loaded = datasets.load_dataset(folder, cache_dir=str(tmp_path / "cache"))
    seen = {}
    for split in loaded.values():
        assert split.features["shade"].names == ["light", "dark"]
        assert split.features["hit"].dtype == "bool"
        for row in split:
            seen[row["image_id"]] = np.asarray(row["image"])
            assert row["image"].format == image_format.upper()
            assert split.features["shade"].int2str(row["shade"]) in ("light", "dark")
            assert row["captions"]
    assert seen.keys() == rendered.keys()
    assert all((seen[name] == rendered[name]).all() for name in rendered)


def test_load_dataset_of_tar_shards_gives_images_and_typed_labels(
    run: Store, rendered: dict, datasets: Any, tiny_pack: Pack, tmp_path: Path
):
    folder = exported(run, tmp_path, tiny_pack, format="webdataset")
    loaded = datasets.load_dataset(folder, streaming=True)
    seen = {row["json"]["image_id"]: np.asarray(row["png"]) for split in loaded.values() for row in split}
    assert seen.keys() == rendered.keys()
    assert all((seen[name] == rendered[name]).all() for name in rendered)
    assert next(iter(loaded.values())).features["json"]["shade"].names == ["light", "dark"]


@pytest.mark.filterwarnings("ignore:unclosed file:ResourceWarning")  # webdataset leaves its shards open
def test_webdataset_reads_the_tar_shards_as_samples(run: Store, rendered: dict, tiny_pack: Pack, tmp_path: Path):
    webdataset = pytest.importorskip("webdataset")
    exported(run, tmp_path, tiny_pack, format="webdataset")
    shards = sorted(str(path) for path in (tmp_path / "data").glob("*.tar"))
    samples = webdataset.WebDataset(shards, shardshuffle=False, empty_check=False).decode("rgb8")
    seen = {sample["json"]["image_id"]: sample["png"] for sample in samples}
    del samples
    gc.collect()
    assert seen.keys() == rendered.keys()
    assert all((seen[name] == rendered[name]).all() for name in rendered)


def test_csv_names_a_png_for_every_row(run: Store, rendered: dict, tiny_pack: Pack, tmp_path: Path):
    folder = exported(run, tmp_path, tiny_pack, format="csv")
    frame = pd.concat(pd.read_csv(path) for path in sorted(tmp_path.glob("[tv]*.csv")))
    assert set(frame.image_id) == set(rendered)
    for row in frame.itertuples():
        assert (storage.decode_image(Path(folder, row.image).read_bytes()) == rendered[row.image_id]).all()
    assert set(frame.shade) <= {"light", "dark"}


def test_polars_and_duckdb_read_the_parquet_files(run: Store, tiny_pack: Pack, tmp_path: Path):
    polars, duckdb = pytest.importorskip("polars"), pytest.importorskip("duckdb")
    exported(run, tmp_path, tiny_pack)
    pattern = f"{tmp_path}/data/*.parquet"
    frame = polars.read_parquet(pattern)
    assert len(frame) == IMAGES
    assert frame["image"][0]["bytes"].startswith(b"\x89PNG")
    counted = duckdb.sql(f"select prompt, count(*) from '{pattern}' group by prompt order by prompt").fetchall()
    assert dict(counted) == {"dark": 2 * NUM_LATENTS, "hat": NUM_LATENTS, None: NUM_LATENTS}


@pytest.mark.parametrize("kind", ["parquet", "imagefolder", "webdataset", "csv"])
def test_pairs_show_the_original_before_and_the_edit_after(
    run: Store, rendered: dict, datasets: Any, tiny_pack: Pack, tmp_path: Path, kind: str
):
    folder = exported(run, tmp_path, tiny_pack, format=kind, layout="pairs")
    pairs = {}
    if kind == "csv":
        for row in pd.concat(pd.read_csv(path) for path in sorted(tmp_path.glob("[tv]*.csv"))).itertuples():
            files = (Path(folder, name).read_bytes() for name in (row.before, row.after))
            pairs[row.image_id] = tuple(storage.decode_image(data) for data in files)
    else:
        keys = ("before.png", "after.png") if kind == "webdataset" else ("before", "after")
        for split in datasets.load_dataset(folder, streaming=True).values():
            for row in split:
                labels = row["json"] if kind == "webdataset" else row
                pairs[labels["image_id"]] = tuple(np.asarray(row[key]) for key in keys)
    assert len(pairs) == IMAGES - NUM_LATENTS
    for name, (before, after) in pairs.items():
        assert (before == rendered[name.split("__")[0] + "__original"]).all()
        assert (after == rendered[name]).all()


def test_splits_keep_every_face_together_and_parts_have_the_stated_size(run: Store, tiny_pack: Pack, tmp_path: Path):
    exported(run, tmp_path, tiny_pack)
    faces: dict[str, set[str]] = {}
    for path in (tmp_path / "data").iterdir():
        frame = pd.read_parquet(path)
        assert len(frame) <= SETTINGS["images_per_shard"]
        faces.setdefault(path.name.split("-")[0], set()).update(frame.latent_id)
        assert (frame.groupby("pair_id").latent_id.nunique() == 1).all()
    assert len(faces) == 3
    assert sum(map(len, faces.values())) == len(set().union(*faces.values())) == NUM_LATENTS


def test_rejected_edits_stand_apart_with_their_reasons(run: Store, datasets: Any, tiny_pack: Pack, tmp_path: Path):
    scores = pd.read_parquet(f"{run.uri}/scores")
    limit = float(scores.pixel_distance.median())
    folder = exported(run, tmp_path / "all", tiny_pack, max_pixel_distance=limit)
    rejected = datasets.load_dataset(folder, "rejected", split="rejected", cache_dir=str(tmp_path / "cache"))
    assert set(rejected["image_id"]) == set(scores.image_id[scores.pixel_distance > np.float32(limit)])
    assert all(reason.startswith("pixel_distance") for reason in rejected["reject_reason"])
    accepted = datasets.load_dataset(folder, cache_dir=str(tmp_path / "cache"))
    assert sum(len(split) for split in accepted.values()) + len(rejected) == IMAGES
    without = exported(run, tmp_path / "without", tiny_pack, max_pixel_distance=limit, keep_rejected=False)
    assert not list(Path(without, "data").glob("rejected*"))


def test_export_of_nothing_says_what_rejected_it(run: Store, tiny_pack: Pack, tmp_path: Path):
    with pytest.raises(PipelineError, match=r"at least one accepted image; all 36 were rejected"):
        exported(run, tmp_path, tiny_pack, layout="pairs", min_clip_gain=2)


@pytest.mark.parametrize("after", [False, True])
@pytest.mark.parametrize("kind", ["parquet", "csv"])
def test_killed_export_goes_on_and_ends_the_same(run: Store, tiny_pack: Pack, tmp_path: Path, kind: str, after: bool):
    config = ExportedDatasetConfig(**SETTINGS, format=kind)
    whole = Store(str(tmp_path / "whole"))
    export(run, whole, tiny_pack, config)
    MortalStore.after = after
    resumed = False
    for writes in (1, 5, 12) if kind == "parquet" else (1, 20, 60):
        folder = tmp_path / f"killed-{writes}"
        MortalStore.writes_left = writes
        with pytest.raises(Killed):
            export(run, MortalStore(str(folder)), tiny_pack, config)
        skipped = export(run, Store(str(folder)), tiny_pack, config)
        assert sorted(skipped, reverse=True) == skipped  # what was whole was left alone, and came first
        resumed |= any(skipped)
        for path in whole.list():
            if not path.startswith(("_work", "_shards/dataset_card", "README.md")):  # the card names its folder
                assert Store(str(folder)).read_bytes(path) == whole.read_bytes(path), path
    assert resumed


def test_card_states_counts_prompts_licence_and_the_commands(run: Store, tiny_pack: Pack, tmp_path: Path):
    folder = exported(run, tmp_path, tiny_pack, min_identity=-1, image_format="jpeg")
    card = Path(folder, "README.md").read_text()
    assert f"{NUM_LATENTS} faces, 2 prompts" in card
    assert "Licence: none" in card
    assert "`min_identity` -1.0" in card
    assert "--image-format jpeg" in card
    assert tiny_pack.digest[:16] in card
    again = pd.read_csv(Path(folder, "prompts.csv"))
    assert again.strengths.tolist() == ["2 6.5", "4"]
    assert json.loads(Path(folder, "labels.json").read_text())["hue"] == ["a", "b", "c"]
