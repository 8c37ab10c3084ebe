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
from pipeline.packs.pack import PACK_FILE, write_pack
from storage import Store
from tests.threads import torch_threads

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


METHODS = ["global", "mapper", "optimize", "tedigan"]


@pytest.fixture(scope="module")
def compared(complete_pack_uri: str, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run with the comparison of all methods, by one thread as in the tests: another number changes last bits."""
    run = tmp_path_factory.mktemp("compared")
    with torch_threads(1):
        compare_methods(ROWS, run=str(run), pack=complete_pack_uri, **SMALL)
    return run


def files_of(run: Path) -> dict[str, bytes]:
    """What a comparison wrote, but for the seconds."""
    return {path.name: path.read_bytes() for path in run.glob("comparison*") if path.suffix != ".json"}


def test_compare_methods_writes_tables_text_and_pictures(compared: Path):
    table = pd.read_parquet(compared / "comparison.parquet")
    assert table.groupby("prompt", sort=False).method.apply(list).to_dict() == {"dark": METHODS, "red hat": METHODS}
    curves = pd.read_parquet(compared / "comparison_curves.parquet")
    assert len(curves) == 2 * 4 * 2
    assert {"changed_shade", "changed_hue", "kid", "diversity", "identity", "kept"} <= set(curves.columns)
    assert curves.loc[curves.method == "global", "strength"].unique().tolist() == [2.0, 4.0]
    classes = pd.read_parquet(compared / "comparison_classes.parquet")
    assert set(classes["class"]) == {"simple", "complex"}
    searched = table[table.method.isin(["optimize", "tedigan"])]
    assert (searched.renders == 2 * 3).all()
    assert classes.loc[classes.method == "tedigan", "renders"].tolist() == [6.0, 6.0]
    text = (compared / "comparison.md").read_text()
    assert "- simple: " in text
    assert "tedigan" in text
    with Image.open(compared / "comparison_pictures.png") as pictures:
        assert pictures.width > 9 * 16


def test_compare_methods_tells_seconds_and_renders(compared: Path):
    seconds = json.loads((compared / "comparison_seconds.json").read_text())
    assert set(seconds) == set(METHODS)
    assert all(set(spent) == {"edits", "images"} for spent in seconds.values())
    console = Console(record=True, width=160)
    print_comparison(str(compared), console)
    head, *lines = console.export_text().splitlines()[1:]
    assert {"target reached", "renders a prompt", "s to find", "s to draw"} <= {x.strip() for x in head.split("\u2503")}
    assert any("tedigan" in line and " 6 " in line for line in lines)


def test_compare_methods_elsewhere_writes_the_same_bytes(compared: Path, complete_pack_uri: str, tmp_path: Path):
    compare_methods(ROWS, run=str(tmp_path), pack=complete_pack_uri, **SMALL)
    assert files_of(tmp_path) == files_of(compared)


def test_compare_methods_again_does_nothing_and_keeps_the_seconds(compared: Path, complete_pack_uri: str):
    before = {path: path.read_bytes() for path in compared.glob("comparison*")}
    assert compare_methods(ROWS, run=str(compared), pack=complete_pack_uri, **SMALL)["shards_skipped"] == 1
    assert {path: path.read_bytes() for path in compared.glob("comparison*")} == before


def test_compare_methods_leaves_out_what_no_network_can_see_and_says_so(complete_pack_uri: str, tmp_path: Path):
    description = json.loads((Path(complete_pack_uri) / PACK_FILE).read_text())
    gone = {description.pop(name) and f"{name}.safetensors" for name in ("identity", "oracle")}
    files = {
        name: (Path(complete_pack_uri) / name).read_bytes() for name in description.pop("files") if name not in gone
    }
    write_pack(Store(str(tmp_path / "blind")), description, files)
    rows = [{k: v for k, v in row.items() if k != "wants"} for row in ROWS]
    values = {"run": str(tmp_path / "run"), "pack": str(tmp_path / "blind"), "methods": "global,optimize"}
    compare_methods(rows, **values, **SMALL)
    table, classes, curves = (
        set(pd.read_parquet(tmp_path / "run" / f"comparison{part}.parquet").columns)
        for part in ("", "_classes", "_curves")
    )
    assert not {"kept", "identity", "matched_kept", "matched_identity", "judge_gain", "outside_change"} & (
        table | classes | curves
    )
    assert {"hit_at_kept", "renders", "matched_hit"} <= table
    text = (tmp_path / "run" / "comparison.md").read_text()
    assert "has no identity network" in text
    assert "has no oracle" in text
    assert "no judge was named" in text
    assert "kept |" not in text
    hits = pd.read_parquet(tmp_path / "run" / "comparison.parquet")
    assert hits.strength.notna().all()  # the strength of the most hits: nobody can say what is kept


@pytest.mark.usefixtures("prefect_server")
def test_comparison_in_prefect_leaves_a_table_a_text_and_pictures(complete_pack_uri: str, tmp_path: Path):
    from prefect.client.orchestration import get_client

    from flows.deployments import FLOWS

    values = {"run": str(tmp_path), "pack": complete_pack_uri, "methods": "global", **SMALL}
    FLOWS["compare-methods"](prompts=ROWS, **values)
    with get_client(sync_client=True) as client:
        found = {a.key: a for a in client.read_artifacts()}
    assert "target reached" in str(found["comparison"].data)
    assert "| red hat | complex | global |" in str(found["comparison-text"].data)
    assert str(found["comparison-pictures"].data).startswith("data:image/jpeg;base64,")
    assert found["comparison"].type == "table"
    assert found["comparison-pictures"].type == "image"


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
