"""Settings found by trial: chosen in a run, recommended for another, taken over, reused."""

import json
from pathlib import Path
from typing import Any

import pandas as pd
import pytest

import storage
from flows.edit_dataset import edit_dataset
from flows.global_directions import global_directions
from flows.recommend_settings import recommend_settings, take_over
from pipeline.errors import MissingInputError
from pipeline.prompts import check_prompts
from storage import Store

ROWS: list[dict[str, Any]] = [
    {"name": "hat", "target": "a face with a hat", "neutral": "a face"},
    {"name": "bald", "target": "a bald face", "neutral": "a face", "settings": "default"},
    {"name": "red", "target": "a face with red hair", "neutral": "a face", "strength": 2.0, "num_channels": 1},
]
SMALL: dict[str, Any] = {"templates": "none", "device": "cpu", "trial_latents": 2}


@pytest.fixture(scope="module")
def chosen(complete_pack_uri: str, tmp_path_factory: pytest.TempPathFactory) -> str:
    run = str(tmp_path_factory.mktemp("auto") / "run")
    edit_dataset(
        ROWS, run=run, pack=complete_pack_uri, settings="auto", margin=0.0, num_latents=1, judging_samples=0, **SMALL
    )
    return run


def test_settings_auto_records_the_choice_in_the_artifact_and_in_the_rows_of_the_dataset(chosen: str):
    table = pd.read_parquet(f"{chosen}/chosen_settings").set_index("prompt")
    assert list(table.index) == ["hat", "red"]  # the other one says default
    tried = pd.read_parquet(f"{chosen}/chosen_settings_tried")
    assert table.renders.tolist() == [2 * int((tried.prompt == name).sum()) for name in table.index]
    best = tried.loc[tried.groupby("prompt").score.idxmax()].set_index("prompt")
    assert (best.is_chosen).all()
    edits = pd.read_parquet(f"{chosen}/dataset").dropna(subset=["prompt"]).set_index("prompt")
    for name in table.index:
        assert edits.rule[name] == table.rule[name] == best.rule[name]
        assert edits.strength[name] == table.strength[name] == best.strength[name]
        assert edits.num_channels[name] == best.moved[name]
    assert edits.rule["bald"] == "paper"


def test_settings_auto_leaves_what_the_prompt_gives(chosen: str):
    tried = pd.read_parquet(f"{chosen}/chosen_settings_tried").query("prompt == 'red'")
    assert set(tried.strength) == {2.0}
    assert set(tried.num_channels) == {1}


def test_settings_auto_is_not_tried_again_on_a_rerun(
    chosen: str, complete_pack_uri: str, monkeypatch: pytest.MonkeyPatch
):
    from pipeline.stages import chosen_settings

    def fail(*_: object) -> None:
        raise AssertionError("a trial was drawn again")

    monkeypatch.setattr(chosen_settings, "_draw", fail)
    edit_dataset(
        ROWS,
        run=chosen,
        pack=complete_pack_uri,
        settings="auto",
        margin=0.0,
        num_latents=1,
        judging_samples=0,
        **SMALL,
    )


def test_a_prompt_whose_settings_are_auto_is_tried_by_itself(complete_pack_uri: str, tmp_path: Path):
    rows = [{**ROWS[0], "settings": "auto"}, ROWS[1]]
    global_directions(rows, run=str(tmp_path), pack=complete_pack_uri, trial_strengths=(1.0,), **SMALL)
    assert pd.read_parquet(tmp_path / "chosen_settings").prompt.tolist() == ["hat"]


@pytest.fixture(scope="module")
def recommended(complete_pack_uri: str, tmp_path_factory: pytest.TempPathFactory) -> str:
    run = str(tmp_path_factory.mktemp("recommended") / "run")
    recommend_settings(ROWS, run=run, pack=complete_pack_uri, trial_strengths=(1.0, 2.0), **SMALL)
    return run


def test_recommended_settings_are_taken_over_by_name(recommended: str, complete_pack_uri: str, tmp_path: Path):
    table = pd.read_parquet(f"{recommended}/recommended_settings").set_index("prompt")
    rows = [{k: v for k, v in row.items() if k in ("name", "target", "neutral")} for row in ROWS]
    rows.append({"name": "other", "target": "an old face"})
    run = str(tmp_path / "run")
    edit_dataset(
        rows,
        run=run,
        pack=complete_pack_uri,
        settings_from=recommended,
        num_latents=1,
        judging_samples=0,
        templates="none",
        device="cpu",
    )
    edits = pd.read_parquet(f"{run}/dataset").dropna(subset=["prompt"]).set_index("prompt")
    assert edits.strength[table.index].tolist() == table.strength.tolist()
    assert edits.rule[table.index].tolist() == table.rule.tolist()
    assert edits.rule["other"] == "paper"


def test_the_recommendation_is_a_prompt_list_too(recommended: str):
    from pipeline.prompts import read_prompts

    table = pd.read_parquet(f"{recommended}/recommended_settings")
    listed = read_prompts(f"{recommended}/recommended_settings.csv")
    assert [p.strengths for p in listed] == [(s,) for s in table.strength]
    assert [p.rule for p in listed] == table.rule.tolist()


def test_take_over_reads_a_comparison_and_leaves_what_a_prompt_gives(tmp_path: Path):
    import pyarrow as pa

    store = Store(str(tmp_path))
    curves = [
        {"prompt": name, "method": method, "strength": 1.0, "hit": hit, "kept": 1.0}
        for name in ("hat", "red", "bald")
        for method, hit in (("global", 0.5), ("mapper", 0.9))
    ]
    store.write_bytes("comparison_curves.parquet", storage.table_bytes(pa.Table.from_pylist(curves)))
    storage.write_stage(store, "comparison", {"stage": "comparison"})
    taken, unknown = take_over(
        check_prompts([*ROWS, {"name": "new", "target": "an old face"}], default_neutral="a"), str(tmp_path)
    )
    assert [p.method for p in taken] == ["mapper", "global", "global", "global"]
    assert taken[0].strengths == (1.0,)
    assert taken[2].strengths == (2.0,)
    assert unknown == ["new"]


def test_take_over_from_a_run_that_recommends_nothing_names_the_commands(tmp_path: Path):
    with pytest.raises(MissingInputError, match="recommend-settings` or `styleclip compare-methods"):
        take_over(check_prompts(ROWS), str(tmp_path))


def test_trials_are_part_of_what_a_run_holds(recommended: str):
    closed = json.loads(Path(f"{recommended}/_recommended_settings.json").read_text())
    assert closed["config"]["by"] == "hit"
    assert closed["rows"] == 3
