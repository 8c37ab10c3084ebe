"""``styleclip runs``: what a person sees of runs, whole and damaged; exit codes."""

import json
from pathlib import Path

import pytest
from typer.testing import CliRunner, Result

import storage
from flows.runs_cli import runs_app
from flows.sample_latents import sample_latents


def runs(*arguments: object) -> Result:
    return CliRunner().invoke(runs_app, [str(x) for x in arguments], env={"COLUMNS": "120"})


@pytest.fixture
def run(tiny_pack_uri: str, tmp_path: Path) -> Path:
    sample_latents(run=str(tmp_path / "night"), pack=tiny_pack_uri, num_latents=5, latents_per_shard=2, device="cpu")
    return tmp_path / "night"


def test_list_names_runs_with_rows_and_size(run: Path):
    result = runs("list", run.parent)
    assert result.exit_code == 0
    line = next(line for line in result.output.splitlines() if "night" in line)
    assert line.split()[:5] == ["night", "latents", "yes", "5", "0"]
    rows = [json.loads(line) for line in runs("list", run.parent, "--json").output.splitlines()]
    assert [(row["run"], row["rows"], row["whole"]) for row in rows] == [(str(run), 5, True)]


def test_list_of_nothing_says_so(tmp_path: Path):
    assert runs("list", tmp_path).output.strip() == f"no runs at {tmp_path}"


def test_show_has_stages_and_settings(run: Path):
    output = runs("show", run).output
    assert ["latents", "yes", "3", "5", "0"] in [line.split()[:5] for line in output.splitlines()]
    assert "num_latents 5" in output
    row = json.loads(runs("show", run, "--json").output)
    assert (row["stage"], row["shards"], row["rows"], row["whole"]) == ("latents", 3, 5, True)


def test_verify_of_a_whole_run_says_what_was_read(run: Path):
    result = runs("verify", run)
    assert result.exit_code == 0
    assert result.output.startswith("whole: 3 files")


def test_verify_names_a_damaged_file_and_the_same_command_mends_it(run: Path, tiny_pack_uri: str):
    damaged = run / "latents" / "part-00001.parquet"
    before = damaged.read_bytes()
    damaged.write_bytes(before[:-1])
    result = runs("verify", run)
    assert result.exit_code == 1
    assert "latents shard 1: latents/part-00001.parquet is damaged" in result.output
    row = json.loads(runs("verify", run, "--json").stdout)
    assert (row["stage"], row["shard"]) == ("latents", 1)
    sample_latents(run=str(run), pack=tiny_pack_uri, num_latents=5, latents_per_shard=2, device="cpu")
    assert runs("verify", run).exit_code == 0
    assert damaged.read_bytes() == before


def test_clean_is_a_dry_run_without_yes(run: Path):
    result = runs("clean", run, "--stage", "latents")
    assert "nothing was deleted" in result.output
    assert storage.read_stage(storage.Store(str(run)), "latents") is not None
    assert "deleted" in runs("clean", run, "--stage", "latents", "--yes").output
    assert not [path for path in run.rglob("*") if path.is_file()]


def test_clean_refuses_a_stage_that_is_not_there(run: Path):
    result = runs("clean", run, "--stage", "latnets", "--yes")
    assert result.exit_code == 2
    assert "got 'latnets'" in result.output
    assert "(latents)" in result.output
    assert runs("clean", run).output.strip() == "nothing to clean"


@pytest.mark.parametrize("command", ["show", "verify", "clean"])
def test_a_folder_without_receipts_is_one_line(command: str, run: Path):
    result = runs(command, run.parent)
    assert result.exit_code == 2
    assert "must be a run's folder" in result.output
    assert str(run) in result.output
