"""Shards that fail: set aside while the others go on, then made by the rerun alone, to the same bytes."""

from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any
from uuid import UUID

import httpx
import pandas as pd
import pytest
from typer.testing import CliRunner

from flows import artifacts
from flows.cli import build_app
from flows.edit_dataset import edit_dataset
from flows.edit_latents import edit_latents
from flows.failures import Missing, attempt, shortfall
from flows.gallery import gallery
from flows.global_directions import global_directions
from flows.render_dataset import render_dataset
from flows.report import report
from flows.sample_latents import sample_latents
from flows.score_edits import score_edits
from flows.style_statistics import style_statistics
from pipeline.errors import IncompleteError, ShardError
from pipeline.runs.shard import ShardReport
from pipeline.stages import dataset, edited_latents, latents, scores, style_directions
from pipeline.stages import style_statistics as moments
from storage import ConflictError, CorruptError, RefusedError, Store, UnavailableError
from tests.conftest import PROMPT_ROWS
from tests.mortal_store import Killed


def run_stages(folder: Path, pack: str, workers: int = 1) -> list[Missing]:
    """Every stage by itself, in small shards; what is missing at the end."""
    where: dict[str, Any] = {"run": str(folder), "pack": pack, "device": "cpu"}
    on = {**where, "workers": workers}
    closed = [
        sample_latents(**on, num_latents=6, latents_per_shard=2),
        global_directions(PROMPT_ROWS, **on, prompts_per_shard=1, templates="none"),
        edit_latents(PROMPT_ROWS, **on, latents_per_shard=2, templates="none"),
        render_dataset(**on, images_per_shard=8),
        score_edits(**on),
        report(**where),
        gallery(**on),
    ]
    return [missing for stage in closed for missing in stage["missing"]]


def contents(folder: Path) -> dict[str, bytes]:
    return {path: (folder / path).read_bytes() for path in Store(folder).list()}


@pytest.fixture(scope="module")
def whole(complete_pack_uri: str, tmp_path_factory: pytest.TempPathFactory) -> dict[str, bytes]:
    """Every file of a run in which nothing failed."""
    folder = tmp_path_factory.mktemp("whole")
    assert run_stages(folder, complete_pack_uri) == []
    return contents(folder)


class Breaking:
    """Makes a stage's function raise for one shard, and counts the shards that it is asked for."""

    def __init__(self, patch: pytest.MonkeyPatch, module: Any, function: str, shard: int, error: BaseException) -> None:
        self.asked: Counter[int] = Counter()
        real: Callable[..., Any] = getattr(module, function)

        def broken(config: Any, store: Any, pack: Any, number: int, **inputs: Any) -> Any:
            self.asked[number] += 1
            if number == shard:
                raise error
            return real(config, store, pack, number, **inputs)

        patch.setattr(module, function, broken)


class Counting:
    """Notes the shards that a stage makes anew."""

    def __init__(self, patch: pytest.MonkeyPatch, module: Any) -> None:
        self.made: list[int] = []
        real: Callable[..., ShardReport] = module.run_shard

        def counted(store: Any, stage: str, shard: int, **how: Any) -> ShardReport:
            found = real(store, stage, shard, **how)
            self.made += [] if found.skipped else [shard]
            return found

        patch.setattr(module, "run_shard", counted)


@pytest.mark.parametrize(
    ("module", "stage", "workers"),
    [(latents, "latents", 2), (edited_latents, "edited_latents", 1), (dataset, "dataset", 2), (scores, "scores", 1)],
)
def test_the_others_go_on_and_the_rerun_does_only_the_failed_one(
    complete_pack_uri: str, tmp_path: Path, whole: dict[str, bytes], module: Any, stage: str, workers: int
):
    with pytest.MonkeyPatch.context() as patch:
        Breaking(patch, module, f"run_{stage}_shard", 1, RuntimeError("a bug\nin two lines"))
        missing = run_stages(tmp_path, complete_pack_uri, workers)
    assert shortfall(missing)[0] == f"{stage} shard 1: RuntimeError: a bug in two lines"
    assert len(shortfall(missing)) == 2
    assert set(pd.read_parquet(tmp_path / "scores").latent_id) == {f"seed-{seed:08d}" for seed in (0, 1, 4, 5)}
    before = contents(tmp_path)

    asked = {}
    with pytest.MonkeyPatch.context() as patch:
        for one, name in ((latents, "latents"), (edited_latents, "edited_latents"), (dataset, "dataset")):
            asked[name] = Counting(patch, one)
        assert run_stages(tmp_path, complete_pack_uri) == []
    after = contents(tmp_path)
    assert after == whole
    kept = [path for path in before if path.startswith(("dataset/", "scores/", "edited_latents/", "latents/"))]
    assert len(kept) >= 8
    assert {path: before[path] for path in kept} == {path: after[path] for path in kept}
    made = {name: of.made for name, of in asked.items()}
    order = ["latents", "edited_latents", "dataset", "scores"]
    assert made == {name: [1] if order.index(name) >= order.index(stage) else [] for name in made}


@pytest.mark.parametrize("dies_between", [False, True])
def test_prompts_of_a_failed_shard_are_failed_rows_until_the_rerun(
    complete_pack_uri: str, tmp_path: Path, whole: dict[str, bytes], dies_between: bool
):
    with pytest.MonkeyPatch.context() as patch:
        Breaking(patch, style_directions, "run_style_directions_shard", 1, RuntimeError("a bug"))
        if dies_between:
            Breaking(patch, edited_latents, "run_edited_latents_shard", 2, Killed())
        try:
            missing = run_stages(tmp_path, complete_pack_uri)
        except Killed:
            assert dies_between
            assert (tmp_path / "_shards/edited_latents/00001.json").exists()
        else:
            assert [str(one) for one in missing] == ["style_directions shard 1: RuntimeError: a bug"]
            summary = pd.read_parquet(tmp_path / "summary.parquet").set_index("prompt")
            assert summary["status"].to_dict() == {"hat": "ok", "Red Hair": "failed"}
            assert "its shard of style_directions failed: RuntimeError: a bug" in summary["error"]["Red Hair"]
    assert run_stages(tmp_path, complete_pack_uri) == []
    assert contents(tmp_path) == whole


def test_other_settings_do_not_replace_what_lacks_a_shard(complete_pack_uri: str, tmp_path: Path):
    with pytest.MonkeyPatch.context() as patch:
        Breaking(patch, style_directions, "run_style_directions_shard", 1, RuntimeError("a bug"))
        run_stages(tmp_path, complete_pack_uri)
    with pytest.raises(ConflictError, match=r"strengths"):
        edit_latents(PROMPT_ROWS, run=str(tmp_path), pack=complete_pack_uri, device="cpu", strengths=[1.0])


def test_edit_dataset_goes_on_without_a_shard_and_counts_what_is_there(complete_pack_uri: str, tmp_path: Path):
    settings: dict[str, Any] = {"num_latents": 6, "images_per_shard": 8, "device": "cpu", "templates": "none"}
    with pytest.MonkeyPatch.context() as patch:
        Breaking(patch, dataset, "run_dataset_shard", 0, RuntimeError("a bug"))
        result = edit_dataset(PROMPT_ROWS, run=str(tmp_path), pack=complete_pack_uri, **settings)
    assert shortfall(result["missing"]) == [
        "dataset shard 0: RuntimeError: a bug",
        "3 further shards wait for these",  # scores, labels, gallery
    ]
    assert (result["images"], result["edits"]) == (4 * 4, 4 * 3)
    result = edit_dataset(PROMPT_ROWS, run=str(tmp_path), pack=complete_pack_uri, **settings)
    assert (result["images"], result["edits"], result["missing"]) == (6 * 4, 6 * 3, [])


def test_a_prefect_run_ends_as_failed_and_its_message_says_what_failed_once(
    prefect_server: None, complete_pack_uri: str, tmp_path: Path
):
    from flows.deployments import FLOWS

    with pytest.MonkeyPatch.context() as patch:
        Breaking(patch, dataset, "run_dataset_shard", 0, RuntimeError("a bug"))
        state: Any = FLOWS["edit-dataset"](
            prompts=PROMPT_ROWS,
            run=str(tmp_path),
            pack=complete_pack_uri,
            num_latents=6,
            images_per_shard=8,
            device="cpu",
            templates="none",
            return_state=True,
        )
    assert (state.type.value, state.name) == ("FAILED", "CompletedWithFailures")
    assert state.message.count("dataset shard 0: RuntimeError: a bug") == 1
    assert "3 further shards wait for these" in state.message
    assert state.result(raise_on_failure=False)["images"] == 4 * 4


def test_a_server_that_takes_no_artifact_ends_no_run(monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture):
    def away(*_: Any, **__: Any) -> Any:
        raise httpx.ConnectError("refused")

    for name in ("create_progress_artifact", "create_markdown_artifact", "update_progress_artifact"):
        monkeypatch.setattr(artifacts, name, away)
    meter = artifacts.Meter("dataset", 3)
    meter.artifact = UUID(int=1)
    meter.advance(2)
    artifacts.publish_stage({"stage": "dataset", "rows": 1, "shards": 1, "run": "memory://x"})
    assert meter.done == 2
    assert caplog.text.count("its server did not take it: refused") == 3


def test_the_command_lists_what_failed_and_ends_with_3(complete_pack_uri: str, tmp_path: Path):
    arguments = ["--pack", complete_pack_uri, "--device", "cpu", "--num-latents", "6", "--latents-per-shard", "2"]
    command = ["sample-latents", "--run", str(tmp_path), *arguments]
    with pytest.MonkeyPatch.context() as patch:
        Breaking(patch, latents, "run_latents_shard", 1, RuntimeError("a bug"))
        result = CliRunner().invoke(build_app(), command)
    assert result.exit_code == 3
    assert result.stderr.count("latents shard 1: RuntimeError: a bug") == 1
    assert "the same command run again makes only these" in result.stderr
    assert CliRunner().invoke(build_app(), command).exit_code == 0


def test_where_all_shards_fail_the_error_itself_is_raised(complete_pack_uri: str, tmp_path: Path):
    error = ZeroDivisionError("in every shard")
    with pytest.MonkeyPatch.context() as patch:
        breaking = Breaking(patch, latents, "run_latents_shard", 0, error)
        with pytest.raises(ZeroDivisionError) as raised:
            sample_latents(run=str(tmp_path), pack=complete_pack_uri, device="cpu", num_latents=2)
    assert raised.value is error
    assert breaking.asked == {0: 1}


@pytest.mark.parametrize("error", [RefusedError("full"), UnavailableError("away")])
@pytest.mark.parametrize("workers", [1, 2])
def test_a_place_that_takes_nothing_stops_the_run(
    complete_pack_uri: str, tmp_path: Path, error: Exception, workers: int
):
    with pytest.MonkeyPatch.context() as patch:
        breaking = Breaking(patch, latents, "run_latents_shard", 0, error)
        with pytest.raises(type(error)):
            sample_latents(
                run=str(tmp_path),
                pack=complete_pack_uri,
                device="cpu",
                num_latents=40,
                latents_per_shard=1,
                workers=workers,
            )
    assert len(breaking.asked) < 40


def test_what_the_next_stage_needs_in_full_stops_with_the_list(tiny_pack_uri: str, tmp_path: Path):
    with pytest.MonkeyPatch.context() as patch:
        Breaking(patch, moments, "run_style_moments_shard", 1, ValueError("a bug"))
        with pytest.raises(IncompleteError, match=r"1 of 3 shards failed: style_moments shard 1: ValueError: a bug\."):
            style_statistics(run=str(tmp_path), pack=tiny_pack_uri, num_samples=6, samples_per_shard=2, device="cpu")


@pytest.mark.parametrize(
    ("error", "calls"), [(ValueError("a bug"), 1), (CorruptError("cut"), 3), (RefusedError("full"), 1)]
)
def test_attempt_tries_again_only_what_may_pass(error: Exception, calls: int, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr("flows.failures.LONGEST_WAIT", 0.01)
    asked: list[int] = []

    def fails(shard: int) -> Any:
        asked.append(shard)
        raise error

    with pytest.raises(RefusedError if isinstance(error, RefusedError) else ShardError):
        attempt("stage", 7, fails, tries=3)
    assert asked == [7] * calls


def test_a_reason_shows_no_secret(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "planted-secret-key")

    def fails(shard: int) -> Any:
        raise ValueError("key planted-secret-key of s3://name:planted@bucket")

    with pytest.raises(ShardError) as raised:
        attempt("stage", 0, fails, tries=1)
    assert str(raised.value) == "stage shard 0: ValueError: key *** of s3://***@bucket"


def test_shortfall_names_what_failed_once_and_counts_what_waits():
    missing = [Missing("dataset", 1, "a bug", False), Missing("scores", 1, "needs", True)]
    assert shortfall(missing) == ["dataset shard 1: a bug", "1 further shards wait for these"]


def test_whole_run_folder_has_no_trace_of_set_aside(whole: dict[str, bytes]):
    assert not any(b"set_aside" in data or b"provisional" in data for data in whole.values())
    assert not any("provisional" in path for path in whole)
