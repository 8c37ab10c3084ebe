"""The comparison of methods and the check of prompts, from the command to the files."""

import json
from pathlib import Path

import pandas as pd
import pytest
from PIL import Image
from rich.console import Console

from flows.check_prompts import check_prompts
from flows.compare_methods import compare_methods
from flows.edit_dataset import edit_dataset
from flows.summary import print_comparison, print_reachability
from pipeline.errors import ParameterError, PromptError

ROWS = [
    {"name": "dark", "target": "a face with a hat", "class": "simple", "wants": "shade=dark"},
    {"name": "red hat", "target": "a face with a red hat", "class": "complex", "wants": "hue=b;shade=light"},
]
SMALL = {
    "num_latents": 3,
    "doses": (0.5, 1.0),
    "mapper_latents": 4,
    "mapper_steps": 2,
    "optimization_steps": 2,
    "tedigan_steps": 2,
    "judging_samples": 24,
    "device": "cpu",
}


def test_compare_methods_writes_the_same_tables_text_and_pictures_twice(complete_pack_uri: str, tmp_path: Path):
    values = {"run": str(tmp_path), "pack": complete_pack_uri, **SMALL}
    compare_methods(ROWS, **values)
    table = pd.read_parquet(tmp_path / "comparison.parquet")
    methods = ["global", "mapper", "optimize", "tedigan"]
    assert table.groupby("prompt", sort=False).method.apply(list).to_dict() == {"dark": methods, "red hat": methods}
    curves = pd.read_parquet(tmp_path / "comparison_curves.parquet")
    assert len(curves) == 2 * 4 * 2
    assert {"changed_shade", "changed_hue", "kid", "diversity"} <= set(curves.columns)
    assert curves.loc[curves.method == "global", "strength"].unique().tolist() == [2.0, 4.0]
    classes = pd.read_parquet(tmp_path / "comparison_classes.parquet")
    assert set(classes["class"]) == {"simple", "complex"}
    searched = table[table.method.isin(["optimize", "tedigan"])]
    assert (searched.renders == 2 * 3).all()
    text = (tmp_path / "comparison.md").read_text()
    assert "- simple: " in text
    assert "tedigan" in text
    with Image.open(tmp_path / "comparison_pictures.png") as pictures:
        assert pictures.width > 9 * 16
    assert set(json.loads((tmp_path / "comparison_seconds.json").read_text())) == set(methods)
    names = [path for path in tmp_path.iterdir() if path.name.startswith("comparison") and path.suffix != ".json"]
    before = {path: path.read_bytes() for path in names}
    assert compare_methods(ROWS, **values)["shards_skipped"] == 1
    assert {path: path.read_bytes() for path in names} == before
    console = Console(record=True, width=120)
    print_comparison(str(tmp_path), console)
    assert "target reached" in console.export_text()


def test_compare_methods_names_the_methods_it_knows(complete_pack_uri: str, tmp_path: Path):
    with pytest.raises(
        ParameterError, match="some of global, mapper, optimize, tedigan, each once; got 'global,magic'"
    ):
        compare_methods(ROWS, run=str(tmp_path), pack=complete_pack_uri, methods="global,magic", **SMALL)


def test_check_prompts_prints_one_json_object_a_prompt(complete_pack_uri: str):
    found = check_prompts(ROWS, pack=complete_pack_uri, judging_samples=24, device="cpu")["prompts"]
    console = Console(record=True, width=40)
    print_reachability(found, console, as_json=True)
    objects = [json.loads(line) for line in console.export_text().splitlines()]
    assert [o["name"] for o in objects] == ["dark", "red hat"]
    assert all({"reachable", "score", "unknown_words", "suggestions"} <= set(o) for o in objects)
    assert "red" in objects[1]["unknown_words"]


def test_edit_dataset_leaves_out_stops_at_or_keeps_what_is_out_of_reach(complete_pack_uri: str, tmp_path: Path):
    rows = [{"name": "far", "target": "a zebra on a motorcycle"}]
    values = {"pack": complete_pack_uri, "device": "cpu", "num_latents": 1, "judging_samples": 24, "templates": "none"}
    for choice, message in (("stop", "1 of 1 prompts seem out of this pack's reach"), ("skip", "no prompt is left")):
        with pytest.raises(PromptError, match=message):
            edit_dataset(rows, run=str(tmp_path / choice), unreachable=choice, **values)
        assert not (tmp_path / choice / "dataset").exists()
    done = edit_dataset(rows, run=str(tmp_path / "keep"), **values)
    assert done["edits"] == 1
    told = pd.read_parquet(tmp_path / "keep" / "reachability.parquet")
    assert told.reachable.tolist() == [False]
    summary = pd.read_parquet(tmp_path / "keep" / "summary.parquet")
    assert summary.verdict.tolist() == ["0 of 1, words unknown"]
