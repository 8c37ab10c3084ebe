"""Runs that grow: more latents or prompts in the same folder; what exists stays, the rest is brought up to date."""

from pathlib import Path
from typing import Any

import pandas as pd
import pyarrow.parquet as pq
import pytest

import storage
from flows.edit_dataset import edit_dataset
from flows.export_dataset import export_dataset
from flows.sample_latents import sample_latents
from pipeline.errors import MissingInputError
from pipeline.runs.growth import EARLIER
from pipeline.stages import dataset as dataset_stage
from pipeline.stages import mappers, optimized_latents
from storage import ConflictError, Store
from tests.conftest import PROMPT_ROWS
from tests.mortal_store import Killed

HAT, *OTHERS = PROMPT_ROWS
ADDED = {"name": "bald", "target": "a bald face", "neutral": "a face", "strengths": [3.0]}
CLOSINGS = ("latents", "style_directions", "edited_latents", "dataset", "scores", "report")


def run_chain(run: Path | str, pack: str, prompts: list[dict[str, Any]] = PROMPT_ROWS, **changes: object) -> dict:
    usual = {"num_latents": 5, "latents_per_shard": 4, "images_per_shard": 8, "device": "cpu", "templates": "none"}
    return edit_dataset(prompts, run=str(run), pack=pack, **{**usual, "judging_samples": 16, **changes})


@pytest.fixture(scope="module")
def larger(complete_pack_uri: str, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Five latents in one go."""
    run = tmp_path_factory.mktemp("larger")
    run_chain(run, complete_pack_uri)
    return run


@pytest.fixture
def drawn(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Names of the images that are rendered from here on."""
    found: list[str] = []
    rows_of_batch = dataset_stage._rows

    def counted(batch: Any, renders: Any) -> list:
        rows = rows_of_batch(batch, renders)
        found.extend(row.image_id for row in rows)
        return rows

    monkeypatch.setattr(dataset_stage, "_rows", counted)
    return found


def files_of(run: Path) -> dict[str, bytes]:
    """Everything in a run but receipts, which hold times and states of other files."""
    return {
        str(p.relative_to(run)): p.read_bytes()
        for p in sorted(run.rglob("*"))
        if p.is_file() and "_shards" not in p.parts
    }


def assert_whole(run: Path, stages: tuple[str, ...] = CLOSINGS) -> None:
    assert all((run / f"_{stage}.json").exists() for stage in stages)
    assert not list((run / EARLIER).rglob("*.*"))


def assert_same_run(got: Path, want: Path) -> None:
    """Byte for byte."""
    got_files, want_files = files_of(got), files_of(want)
    assert set(got_files) == set(want_files)
    differ = [name for name in got_files if got_files[name] != want_files[name]]
    assert not differ


def test_more_latents_leave_full_shards_alone_and_give_the_run_of_one_go(
    complete_pack_uri: str, tmp_path: Path, larger: Path, drawn: list[str]
):
    run_chain(tmp_path, complete_pack_uri, num_latents=4)
    full = [tmp_path / "dataset" / "part-00000.parquet", tmp_path / "latents" / "part-00000.parquet"]
    before = [(path.read_bytes(), path.stat().st_mtime_ns) for path in full]
    drawn.clear()
    run_chain(tmp_path, complete_pack_uri, num_latents=5)
    assert [(path.read_bytes(), path.stat().st_mtime_ns) for path in full] == before
    assert sorted({name.split("__")[0] for name in drawn}) == ["seed-00000004"]
    assert_whole(tmp_path)
    assert_same_run(tmp_path, larger)


@pytest.mark.parametrize("place", [0, 1, 2])
def test_more_prompts_anywhere_draw_the_new_ones_alone_and_give_the_run_of_one_go(
    place: int, complete_pack_uri: str, tmp_path: Path, larger: Path, drawn: list[str]
):
    prompts = [*PROMPT_ROWS]
    prompts.insert(place, ADDED)
    run_chain(tmp_path / "grown", complete_pack_uri)
    drawn.clear()
    run_chain(tmp_path / "grown", complete_pack_uri, prompts)
    assert sorted(drawn) == [f"seed-{i:08d}__bald__3" for i in range(5)]
    assert_whole(tmp_path / "grown")
    if place == 1:
        run_chain(tmp_path / "fresh", complete_pack_uri, prompts)
        assert_same_images(tmp_path / "grown", tmp_path / "fresh")


def assert_same_images(got: Path, want: Path) -> None:
    """The same rows in the same order, pixels within a level, scores within what a batch of other company changes."""
    for name in ("dataset", "scores"):
        a, b = (pd.read_parquet(run / name) for run in (got, want))
        assert a.image_id.tolist() == b.image_id.tolist()
        numbers = list(a.select_dtypes("number").columns)
        pd.testing.assert_frame_equal(a[numbers], b[numbers], atol=2e-3)


def test_fewer_or_changed_is_refused_before_anything_is_touched(complete_pack_uri: str, tmp_path: Path, larger: Path):
    before = files_of(larger)
    for changes, named in (
        ({"num_latents": 4}, "num_latents: 5 -> 4"),
        ({"num_latents": 6, "prompts": [HAT]}, "gone"),
        ({"num_latents": 6, "prompts": [{**HAT, "target": "a face with a big hat"}, *OTHERS]}, "changed"),
    ):
        with pytest.raises(ConflictError, match=named):
            run_chain(larger, complete_pack_uri, **changes)
    assert files_of(larger) == before


def test_a_growth_killed_at_any_write_never_reads_as_whole_and_goes_on(
    complete_pack_uri: str, tmp_path: Path, larger: Path, monkeypatch: pytest.MonkeyPatch
):
    whole = {"latents": 4, "dataset": 4 * 4, "scores": 4 * 4}
    run_chain(tmp_path, complete_pack_uri, num_latents=4)
    write, left = Store.write_bytes, [0]

    def dying(store: Store, path: str, data: bytes) -> None:
        left[0] -= 1
        if left[0] < 0:
            raise Killed
        write(store, path, data)

    kills = 0
    for allowed in (0, 1, 2, 1, 2, 3, 1, 2, 1, 2, 3, 2, 4, 3, 5):
        left[0] = allowed
        with monkeypatch.context() as patch:
            patch.setattr(Store, "write_bytes", dying)
            try:
                run_chain(tmp_path, complete_pack_uri, num_latents=5)
                break
            except Killed:
                kills += 1
        open_stages = [stage for stage in CLOSINGS if not (tmp_path / f"_{stage}.json").exists()]
        for stage, rows in whole.items():
            closed = storage.read_stage(Store(tmp_path), stage)
            if closed is not None and closed["rows"] == rows:  # still the smaller run, all of it
                paths = [f"{stage}/part-{i:05d}.parquet" for i in range(closed["shards"])]
                assert sum(pq.read_metadata(tmp_path / path).num_rows for path in paths) == rows
        assert not open_stages or "report" in open_stages
        if {"dataset", "scores"} & set(open_stages):
            with pytest.raises(MissingInputError, match="must be made first"):
                export_dataset(str(tmp_path), to=str(tmp_path / "export"), pack=complete_pack_uri, device="cpu")
    assert kills >= 5
    run_chain(tmp_path, complete_pack_uri, num_latents=5)
    assert_whole(tmp_path)
    assert_same_run(tmp_path, larger)


def test_what_stands_on_grown_latents_is_open_until_it_has_grown_too(complete_pack_uri: str, tmp_path: Path):
    run_chain(tmp_path, complete_pack_uri, num_latents=4)
    latents = {"latents_per_shard": 4, "pack": complete_pack_uri, "device": "cpu"}
    sample_latents(run=str(tmp_path), num_latents=6, **latents)
    assert [stage for stage in CLOSINGS if (tmp_path / f"_{stage}.json").exists()] == ["latents", "style_directions"]
    with pytest.raises(MissingInputError, match="dataset must be made first"):
        export_dataset(str(tmp_path), to=str(tmp_path / "export"), pack=complete_pack_uri, device="cpu")
    with pytest.raises(ConflictError, match="num_latents: 6 -> 4"):
        run_chain(tmp_path, complete_pack_uri, num_latents=4)
    run_chain(tmp_path, complete_pack_uri, num_latents=6)
    assert len(pd.read_parquet(tmp_path / "dataset")) == 6 * 4


def test_searches_and_mappers_of_before_are_kept(
    complete_pack_uri: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    searched: list[tuple[str, str]] = []
    trained: list[str] = []
    search, train = optimized_latents.compute_optimized_latents, mappers.train_mappers

    def counted_search(pack: Any, pairs: Any, config: Any) -> list:
        searched.extend((pair.latent_id, pair.prompt_id) for pair in pairs)
        return search(pack, pairs, config)

    def counted_train(generator: Any, loss: Any, tasks: Any, *rest: Any, **options: Any) -> list:
        trained.extend(task.prompt_id for task in tasks)
        return train(generator, loss, tasks, *rest, **options)

    monkeypatch.setattr(optimized_latents, "compute_optimized_latents", counted_search)
    monkeypatch.setattr(mappers, "train_mappers", counted_train)
    steps = {"mapper_latents": 4, "mapper_steps": 2, "optimization_steps": 2}
    before = [
        {"name": "hat", "target": "a hat", "method": "optimize"},
        {"name": "red", "target": "red", "method": "mapper"},
    ]
    run_chain(tmp_path, complete_pack_uri, before, num_latents=2, **steps)
    weights = (tmp_path / "mapper_weights" / "red.safetensors").read_bytes()
    kept = pd.read_parquet(tmp_path / "optimized_latents").set_index(["latent_id", "prompt_id"])
    searched.clear(), trained.clear()
    after = [{**before[0], "name": "cap"}, *before, {**before[1], "name": "afro"}]
    run_chain(tmp_path, complete_pack_uri, after, num_latents=3, **steps)
    pairs = {(f"seed-{i:08d}", name) for i in range(3) for name in ("hat", "cap")}
    assert sorted(searched) == sorted(pairs - set(kept.index))
    assert trained == ["afro"]
    assert (tmp_path / "mapper_weights" / "red.safetensors").read_bytes() == weights
    found = pd.read_parquet(tmp_path / "optimized_latents").set_index(["latent_id", "prompt_id"])
    assert list(found.index) == [(f"seed-{i:08d}", name) for i in range(3) for name in ("cap", "hat")]
    pd.testing.assert_frame_equal(found.loc[kept.index], kept)
    assert len(pd.read_parquet(tmp_path / "dataset")) == 3 * (1 + 4)
    assert_whole(tmp_path, ("latents", "mappers", "optimized_latents", "edited_latents", "dataset", "scores", "report"))
    with pytest.raises(ConflictError, match="mapper_latents: 4 -> 5"):
        run_chain(tmp_path, complete_pack_uri, after, num_latents=3, **{**steps, "mapper_latents": 5})


def test_an_export_grows_with_its_run_and_keeps_no_old_part(complete_pack_uri: str, tmp_path: Path):
    to = tmp_path / "export"
    for num_latents in (6, 9):
        run_chain(tmp_path / "run", complete_pack_uri, num_latents=num_latents)
        export_dataset(
            str(tmp_path / "run"), to=str(to), pack=complete_pack_uri, device="cpu", images_per_shard=7, split_seed=1
        )
        splits: dict[str, list[int]] = {}
        for path in sorted((to / "data").glob("*.parquet")):
            splits.setdefault(path.name.split("-")[0], []).append(pq.read_metadata(path).num_rows)
            assert int(path.stem.split("-of-")[1]) == len(list((to / "data").glob(f"{path.name.split('-')[0]}-*")))
        assert sum(map(sum, splits.values())) == num_latents * 4
        assert f"num_examples: {sum(splits['train'])}" in (to / "README.md").read_text()
