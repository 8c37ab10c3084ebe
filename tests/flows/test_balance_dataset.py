"""A balanced request on the tiny pack, whose oracle is made to see about half of the faces light and half dark."""

import json
from pathlib import Path

import pandas as pd
import pytest
import torch
from safetensors.torch import load, save

import storage
from flows.balance_dataset import balance_dataset
from pipeline.errors import ParameterError, PipelineError
from pipeline.models.sampling import sample_w_plus
from pipeline.packs.pack import ORACLE_FILE, load_pack, write_pack
from pipeline.runs.shard import find_input
from storage import Store
from tests.conftest import PROMPT_ROWS

SETTINGS = {"pilot_latents": 8, "survey_latents": 32, "device": "cpu", "templates": "none"}


@pytest.fixture(scope="module")
def even_pack_uri(complete_pack_uri: str, tmp_path_factory: pytest.TempPathFactory) -> str:
    pack, folder = load_pack(complete_pack_uri, device="cpu"), tmp_path_factory.mktemp("packs") / "even"
    description = json.loads(Path(complete_pack_uri, "pack.json").read_text())
    files = {name: Path(complete_pack_uri, name).read_bytes() for name in description.pop("files")}
    with torch.no_grad():
        w_plus = sample_w_plus(pack.generator, range(500, 628), psi=0.7)
        light, dark = pack.oracle.logits(pack.generator.render(pack.generator.styles(w_plus)))[0].T
    weights = load(files[ORACLE_FILE])
    weights["encoder.head.bias"][0] -= (light - dark).median()
    files[ORACLE_FILE] = save(weights)
    write_pack(Store(str(folder)), description, files)
    return str(folder)


def ask(total: int = 20, kind: str = "faces", tolerance: float = 0.0, **more: object) -> dict:
    shares = {"shade": {"light": 0.3, "dark": 0.7}}
    return {"balance": {"total": total, "kind": kind, "tolerance": tolerance, "attributes": shares}, **more}


def test_balanced_request_is_met_to_the_image_and_again_does_nothing(even_pack_uri: str, tmp_path: Path):
    values = {"settings": ask(), "prompts": PROMPT_ROWS[:1], "pack": even_pack_uri, "run": str(tmp_path), **SETTINGS}
    first = balance_dataset(**values)
    frame = pd.concat(map(pd.read_parquet, (tmp_path / "export/data").iterdir()))
    assert first["rows"] == len(frame) == 20
    assert frame.latent_id.is_unique
    assert frame.shade.value_counts().to_dict() == {0: 6, 1: 14}
    names = json.loads((tmp_path / "export/labels.json").read_text())
    assert names["shade"] == ["light", "dark"]
    card = (tmp_path / "export/README.md").read_text()
    assert "styleclip balance-dataset --run" in card
    again = balance_dataset(**values)
    assert again["shards_skipped"] == again["shards"] == first["shards"]
    assert first["shards_skipped"] == 0


def test_balanced_pairs_are_originals_with_their_planned_edits(even_pack_uri: str, tmp_path: Path):
    values = {"prompts": PROMPT_ROWS, "pack": even_pack_uri, "run": str(tmp_path), **SETTINGS}
    balance_dataset(settings=ask(24, "pairs", 0.1, layout="pairs", format="csv"), **values)
    split = [path for path in (tmp_path / "export").glob("*.csv") if path.stem != "prompts"]
    frame = pd.concat(map(pd.read_csv, split))
    assert len(frame) == 12
    assert frame.latent_id.is_unique
    dark = (frame.shade == "dark").sum() + (frame.before_shade == "dark").sum()
    assert abs(dark / 24 - 0.7) <= 0.1
    edited = find_input("edited_latents", Store(str(tmp_path / "round-00"))).table()
    planned = find_input("edit_plan", Store(str(tmp_path / "round-00"))).table()
    images = storage.read_table(Store(str(tmp_path / "round-00")), "dataset/part-00000.parquet")
    assert edited["status"].to_pylist().count("ok") == planned.num_rows
    assert edited["status"].to_pylist().count("left_out") == edited.num_rows - planned.num_rows > 0
    assert images.num_rows == planned.num_rows + len(set(planned["latent_id"].to_pylist()))


def test_impossible_request_is_refused_with_numbers_before_a_round(even_pack_uri: str, tmp_path: Path):
    wish = ask()
    wish["balance"]["attributes"] = {"hue": {"a": 0.5, "c": 0.5}}
    values = {"prompts": PROMPT_ROWS[:1], "pack": even_pack_uri, "run": str(tmp_path), **SETTINGS}
    with pytest.raises(
        PipelineError, match=r"hue=a: 0 where 10 are wanted.*hue=a in 0 of 32 faces, no prompt gives it"
    ):
        balance_dataset(settings=wish, **values)
    assert not (tmp_path / "round-00").exists()


def test_request_without_balance_or_with_a_search_is_refused(even_pack_uri: str, tmp_path: Path):
    values = {"pack": even_pack_uri, "run": str(tmp_path), **SETTINGS}
    with pytest.raises(ParameterError, match="must hold `balance`, the request"):
        balance_dataset(settings={"require_hit": True}, **values)
    rows = [{**PROMPT_ROWS[0], "method": "optimize"}]
    with pytest.raises(ParameterError, match="draws on prompts of method global"):
        balance_dataset(settings=ask(), prompts=rows, **values)
