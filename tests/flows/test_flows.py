"""Every flow on the tiny pack, in this process, alone and as the chain."""

import io
import json
from pathlib import Path
from typing import Literal

import numpy as np
import pandas as pd
import pytest
from PIL import Image

import storage
from flows.edit_dataset import edit_dataset
from flows.edit_latents import edit_latents
from flows.global_directions import global_directions
from flows.render_dataset import render_dataset
from flows.sample_latents import sample_latents
from flows.score_edits import score_edits
from flows.style_statistics import style_statistics
from pipeline.errors import MissingInputError, PipelineError, PromptError
from storage import ConflictError, Store
from tests.conftest import PROMPT_ROWS


def run_chain(run: Path | str, pack: str, **changes: object) -> dict:
    values = {"num_latents": 5, "latents_per_shard": 2, "images_per_shard": 8, "device": "cpu", "templates": "none"}
    return edit_dataset(PROMPT_ROWS, run=str(run), pack=pack, **{**values, **changes})


@pytest.fixture(scope="module")
def finished(complete_pack_uri: str, tmp_path_factory: pytest.TempPathFactory) -> str:
    run = str(tmp_path_factory.mktemp("finished"))
    run_chain(run, complete_pack_uri)
    return run


def test_edit_dataset_opens_with_pandas_and_says_what_is_in_it(finished: str):
    frame = pd.read_parquet(f"{finished}/dataset")
    assert len(frame) == 5 * (1 + 3)  # original, hat, red hair at two strengths
    assert frame.groupby("prompt_id").size().to_dict() == {"original": 5, "hat": 5, "red-hair": 10}
    assert set(frame.loc[frame.prompt_id == "hat", "strength"]) == {4.0}  # the pack's default
    assert set(frame.loc[frame.prompt_id == "red-hair", "strength"]) == {2.0, 6.0}
    assert frame.image_id.is_unique
    row = frame[frame.prompt_id == "hat"].iloc[0]
    assert (row.target, row.neutral, row.method) == ("a face with a hat", "a face", "global")
    image = Image.open(io.BytesIO(row.image["bytes"]))
    assert image.size == (16, 16)
    assert row.image["path"] == f"{row.image_id}.png"


def test_edit_dataset_scores_every_edit_and_every_original(finished: str):
    scores = pd.read_parquet(f"{finished}/scores")
    images = pd.read_parquet(f"{finished}/dataset")
    assert sorted(scores.image_id) == sorted(images.image_id)
    originals, edits = scores[scores.prompt_id == "original"], scores[scores.prompt_id != "original"]
    assert (originals.pixel_distance == 0).all()
    assert originals[["clip_similarity", "hit", "wants"]].isna().all().all()
    assert edits[["clip_gain", "already", "hit_by", "before_shade", "after_hue", "target_score"]].notna().all().all()
    assert edits.clip_similarity.between(-1, 1).all()
    assert (edits.pixel_distance > 0).all()


def test_edit_dataset_draws_a_contact_sheet_and_a_summary(finished: str):
    sheet = np.asarray(Image.open(f"{finished}/contact_sheet.png"))
    assert sheet.shape[0] > 5 * 16
    assert sheet.std() > 0
    summary = pd.read_parquet(f"{finished}/summary.parquet")
    assert summary["prompt"].tolist() == ["hat", "Red Hair", "Red Hair"]
    assert summary["images"].tolist() == [5, 5, 5]


def test_edit_dataset_edits_that_give_no_image_are_failed_rows(complete_pack_uri: str, tmp_path: Path):
    strengths = [4.0, 1e20, 1e38, 1e39]
    rows = [{**PROMPT_ROWS[0], "strengths": strengths}]
    edit_dataset(rows, run=str(tmp_path), pack=complete_pack_uri, num_latents=2, templates="none", device="cpu")
    dataset = pd.read_parquet(tmp_path / "dataset").query("prompt_id == 'hat'").set_index("strength")
    scores = pd.read_parquet(tmp_path / "scores").set_index("strength")
    measured = ["clip_similarity", "clip_gain", "clip_direction", "pixel_distance", "after_shade", "saturated"]
    for strength in strengths:
        failed = strength > 4
        assert (dataset.loc[strength, "status"] == ("failed" if failed else "ok")).all()
        assert (dataset.loc[strength, "image"].isna() == failed).all()
        assert (scores.loc[strength, measured].isna() == failed).all().all()
        assert not failed or scores.loc[strength, "error"].str.contains("Lower the strength").all()
    summary = pd.read_parquet(tmp_path / "summary.parquet").set_index("strength")
    assert summary["images"].to_dict() == {4.0: 2, 1e20: 0, 1e38: 0, 1e39: 0}
    assert summary["failed"].to_dict() == {4.0: 0, 1e20: 2, 1e38: 2, 1e39: 2}
    assert summary["status"].tolist() == ["ok", "failed", "failed", "failed"]
    assert "Lower the strength" in summary.loc[1e39, "error"]
    assert np.asarray(Image.open(tmp_path / "contact_sheet.png")).std() > 0


def test_edit_dataset_again_does_no_work_and_says_so(
    finished: str, complete_pack_uri: str, caplog: pytest.LogCaptureFixture
):
    store = Store(finished)
    before = {path: (Path(finished) / path).stat().st_mtime_ns for path in store.list()}
    with caplog.at_level("INFO"):
        result = run_chain(finished, complete_pack_uri)
    assert result["shards_skipped"] == result["shards"]
    assert "edit-dataset: nothing to do" in caplog.text
    assert {path: (Path(finished) / path).stat().st_mtime_ns for path in store.list()} == before


def test_edit_dataset_deleted_shard_is_redone_alone(complete_pack_uri: str, tmp_path: Path):
    first = run_chain(tmp_path, complete_pack_uri)
    lost = tmp_path / "dataset" / "part-00001.parquet"
    before = lost.read_bytes()
    lost.unlink()
    second = run_chain(tmp_path, complete_pack_uri)
    assert first["shards_skipped"] == 0
    assert second["shards"] - second["shards_skipped"] == 1
    assert lost.read_bytes() == before


@pytest.mark.parametrize(
    "changes",
    [
        {"workers": 2},
        {"latents_per_shard": 1, "images_per_shard": 1},
        {"latents_per_shard": 64, "images_per_shard": 64},
    ],
)
def test_edit_dataset_workers_and_shards_change_no_row(
    finished: str, complete_pack_uri: str, tmp_path: Path, changes: dict
):
    run_chain(tmp_path, complete_pack_uri, **changes)
    for artifact in ("dataset", "scores"):
        there = pd.read_parquet(f"{finished}/{artifact}").set_index("image_id").sort_index()
        here = pd.read_parquet(f"{tmp_path}/{artifact}").set_index("image_id").sort_index()
        if artifact == "dataset":
            decode = lambda cell: np.asarray(Image.open(io.BytesIO(cell["bytes"]))).astype(int)  # noqa: E731
            for a, b in zip(there.image.map(decode), here.image.map(decode), strict=True):
                assert np.abs(a - b).max() <= 1  # one grey level where float rounding meets the edge of a bin
            there, here = there.drop(columns="image"), here.drop(columns="image")
            pd.testing.assert_frame_equal(there, here)
        else:
            pd.testing.assert_frame_equal(there, here, atol=2e-3)


def test_edit_dataset_bad_prompt_stops_before_anything_is_written(complete_pack_uri: str, tmp_path: Path):
    rows = [*PROMPT_ROWS, {"name": "same", "target": "a face", "neutral": "a face"}]
    with pytest.raises(PromptError, match="row 3: target and neutral must differ"):
        edit_dataset(rows, run=str(tmp_path / "run"), pack=complete_pack_uri, device="cpu")
    assert not (tmp_path / "run").exists()


def test_edit_dataset_without_channel_directions_names_the_command(tiny_pack_uri: str, tmp_path: Path):
    with pytest.raises(MissingInputError, match="styleclip channel-directions"):
        edit_dataset(PROMPT_ROWS, run=str(tmp_path), pack=tiny_pack_uri, device="cpu", mode="exact")


@pytest.mark.parametrize("mode", ["screened", "gradient"])
def test_global_directions_without_a_table_measures_what_the_prompts_need(
    tiny_pack_uri: str, tmp_path: Path, mode: Literal["screened", "gradient"]
):
    style_statistics(run=str(tmp_path), pack=tiny_pack_uri, num_samples=60, device="cpu")
    shared = {"run": str(tmp_path), "pack": tiny_pack_uri, "device": "cpu", "templates": "none", "mode": mode}
    first = global_directions(PROMPT_ROWS, **shared, num_channels=2)
    assert (first["rows"], first["failures"]) == (2, 0)
    assert pd.read_parquet(tmp_path / "style_directions").groupby("prompt_id").size().tolist() == [2, 2]
    table = pd.read_parquet(tmp_path / "screened_directions")
    assert ("not_measured" in set(table["status"])) == (mode == "screened")
    recorded = json.loads((tmp_path / "_style_directions.json").read_text())["config"]
    assert recorded["rule"] == ("effect" if mode == "screened" else "paper")
    counts = pd.read_parquet(tmp_path / "prompts")["channel_counts"][0]
    assert (np.diff(counts) <= 0).all()
    assert len(counts) == 51
    again = global_directions(PROMPT_ROWS, **shared, num_channels=2)
    assert again["shards_skipped"] == again["shards"]


def test_global_directions_renders_per_prompt_is_kept_and_recorded_the_batch_size_is_not(
    tiny_pack_uri: str, tmp_path: Path
):
    style_statistics(run=str(tmp_path), pack=tiny_pack_uri, num_samples=60, device="cpu")
    shared = {"run": str(tmp_path), "pack": tiny_pack_uri, "device": "cpu", "templates": "none", "num_channels": 2}
    global_directions(PROMPT_ROWS, **shared, renders_per_prompt=10)
    counts = pd.read_parquet(tmp_path / "screened_directions")["count"]
    assert 0 < 2 * counts.sum() <= 10 * len(PROMPT_ROWS)
    recorded = json.loads((tmp_path / "_screened_directions.json").read_text())["config"]
    assert recorded["renders_per_prompt"] == 10
    assert "batch_size" not in recorded
    again = global_directions(PROMPT_ROWS, **shared, renders_per_prompt=10, screening_batch_size=2)
    assert again["shards_skipped"] == again["shards"]
    with pytest.raises(ConflictError, match="config"):
        global_directions(PROMPT_ROWS, **shared, renders_per_prompt=14)


def test_edit_dataset_prompt_without_channels_is_recorded_the_others_go_on(complete_pack_uri: str, tmp_path: Path):
    rows = [PROMPT_ROWS[0], {"name": "none", "target": "a hat", "neutral": "a face", "relevance_threshold": 1.0}]
    result = edit_dataset(
        rows, run=str(tmp_path), pack=complete_pack_uri, num_latents=2, device="cpu", templates="none"
    )
    assert result["failed_prompts"] == 1
    summary = pd.read_parquet(tmp_path / "summary.parquet").set_index("prompt")
    assert summary.loc["hat", "images"] == 2
    assert summary.loc["none", "images"] == 0
    assert "must not exceed the largest absolute relevance" in summary.loc["none", "error"]


def test_edit_latents_no_usable_prompt_is_a_clear_error(complete_pack_uri: str, tmp_path: Path):
    rows = [{**PROMPT_ROWS[0], "relevance_threshold": 1.0}]
    run = str(tmp_path)
    sample_latents(run=run, pack=complete_pack_uri, num_latents=1, device="cpu")
    global_directions(rows, run=run, pack=complete_pack_uri, device="cpu", templates="none")
    with pytest.raises(PipelineError, match="all 1 failed, the first: prompt 'hat'"):
        edit_latents(rows, run=run, pack=complete_pack_uri, device="cpu", templates="none")


def test_stages_run_alone_on_another_runs_outputs(finished: str, complete_pack_uri: str, tmp_path: Path):
    run = str(tmp_path)
    shared = {"run": run, "inputs": finished, "pack": complete_pack_uri, "device": "cpu"}
    global_directions(PROMPT_ROWS, **shared, templates="none", num_channels=2)
    edit_latents(PROMPT_ROWS, **shared, templates="none")
    render_dataset(**shared)
    score_edits(**shared, templates="none")
    assert pd.read_parquet(tmp_path / "style_directions").groupby("prompt_id").size().tolist() == [2, 2]
    assert len(pd.read_parquet(tmp_path / "scores")) == 20
    assert not (tmp_path / "latents").exists()


@pytest.mark.parametrize(("flow", "maker"), [(render_dataset, "sample-latents"), (score_edits, "render-dataset")])
def test_stage_without_its_input_names_the_command(flow, maker: str, tiny_pack_uri: str, tmp_path: Path):
    with pytest.raises(MissingInputError, match=f"Run `styleclip {maker}`"):
        flow(run=str(tmp_path), pack=tiny_pack_uri, device="cpu")


def test_sample_latents_other_settings_in_one_run_are_refused(tiny_pack_uri: str, tmp_path: Path):
    sample_latents(run=str(tmp_path), pack=tiny_pack_uri, num_latents=2, device="cpu")
    with pytest.raises(ConflictError, match=r"first_seed: 0 -> 7"):
        sample_latents(run=str(tmp_path), pack=tiny_pack_uri, num_latents=2, first_seed=7, device="cpu")
    assert storage.read_stage(Store(str(tmp_path)), "latents")["rows"] == 2


def test_flow_parameter_out_of_range_is_refused_before_the_run(tiny_pack_uri: str, tmp_path: Path):
    with pytest.raises(Exception, match="greater than or equal to 1"):
        sample_latents(run=str(tmp_path), pack=tiny_pack_uri, num_latents=0)


def test_global_directions_warn_of_words_the_clip_never_saw(
    finished: str, complete_pack_uri: str, tmp_path: Path, caplog: pytest.LogCaptureFixture
):
    rows = [{"name": "wizard", "target": "a wizard hat"}]
    global_directions(rows, run=str(tmp_path), pack=complete_pack_uri, templates="none", device="cpu")
    assert "prompt 'wizard': CLIP of pack 'tiny' does not know 'wizard'" in caplog.text


def test_report_says_on_the_sheet_what_it_leaves_out(
    finished: str, complete_pack_uri: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    from flows.report import report
    from pipeline.stages import report as stage

    notes = []
    draw = stage.compute_contact_sheet
    monkeypatch.setattr(stage, "compute_contact_sheet", lambda *a, note: notes.append(note) or draw(*a, note=note))
    for rows, columns in ((16, 16), (2, 1)):
        run = str(tmp_path / f"{rows}")
        report(run=run, inputs=finished, pack=complete_pack_uri, device="cpu", rows=rows, columns=columns)
    assert notes == ["", "2 of 5 faces, 1 of 2 prompts; the gallery has all"]
