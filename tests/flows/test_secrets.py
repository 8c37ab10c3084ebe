"""Planted secrets, searched for in everything a run leaves and says, in this process and in Prefect's database."""

import os
import sqlite3
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from prefect.settings import get_current_settings
from prefect.utilities.schema_tools import validate

from flows.cli import load_commands
from flows.deployments import FLOWS
from pipeline.errors import ParameterError
from pipeline.stages import latents
from tests.conftest import PROMPT_ROWS

ROOT = Path(__file__).parents[2]
PLANTED = {
    "AWS_ACCESS_KEY_ID": "AKIAPLANTED000000001",
    "AWS_SECRET_ACCESS_KEY": "planted/aws+secret-0123456789",
    "PREFECT_API_AUTH_STRING": "admin:planted-prefect-password",
    "AZURE_STORAGE_ACCOUNT_KEY": "planted-azure-key==",
}
IN_A_URI = "planted-in-a-uri"
SECRETS = [*PLANTED.values(), "planted-prefect-password", IN_A_URI]


def found_in(text: str) -> list[str]:
    return [secret for secret in SECRETS if secret in text]


def styleclip(folder: Path, *arguments: str, **environment: str) -> str:
    """Everything the command says."""
    result = subprocess.run(
        [sys.executable, "-m", "flows.cli", *arguments],
        capture_output=True,
        text=True,
        timeout=300,
        cwd=folder,
        env={**os.environ, **PLANTED, "PYTHONPATH": str(ROOT), "COLUMNS": "500", **environment},
        check=False,
    )
    return f"{result.returncode}\n{result.stdout}{result.stderr}"


@pytest.mark.parametrize("option", ["--run", "--pack", "--inputs", "--prompts"])
def test_credentials_in_a_uri_are_refused_in_one_line_without_them(option: str, tmp_path: Path):
    (tmp_path / "p.csv").write_text("name,target,neutral\nhat,a hat,a face\n")
    given = {"--run": str(tmp_path / "run"), "--prompts": "p.csv"} | {option: f"s3://key:{IN_A_URI}@bucket/x"}
    said = styleclip(tmp_path, "global-directions", *(word for pair in given.items() for word in pair))
    assert said.startswith("2\n")
    assert f"`{option[2:]}`" in said
    assert "must hold no credentials" in said
    assert not found_in(said)
    assert not (tmp_path / "run").exists()


def test_the_api_refuses_credentials_in_a_uri_before_there_is_a_run():
    schema = FLOWS["edit-dataset"].parameters.model_dump_for_openapi()
    usual: dict[str, Any] = {"prompts": "p.csv", "run": "s3://bucket/a@b"}
    validate(usual, schema, raise_on_error=True)
    for name in ("prompts", "run", "pack", "images", "latents"):
        with pytest.raises(Exception, match=name):
            validate(usual | {name: f"s3://key:{IN_A_URI}@bucket/x"}, schema, raise_on_error=True)


def test_a_refused_parameter_is_not_shown_with_its_secret():
    with pytest.raises(ParameterError) as raised:
        load_commands()["sample-latents"](run=f"https://host/run?sig={IN_A_URI}")
    assert not found_in(str(raised.value))


def test_a_run_on_a_store_that_refuses_says_no_secret(tmp_path: Path):
    for endpoint in ("http://127.0.0.1:9", f"http://user:{IN_A_URI}@127.0.0.1:9"):
        run = ("--run", "s3://bucket/run", "--device", "cpu", "--verbose")
        said = styleclip(tmp_path, "sample-latents", *run, AWS_ENDPOINT_URL=endpoint)
        assert said.startswith("2\n")
        assert len(said.strip().splitlines()) == 2
        assert not found_in(said)


def test_nothing_that_a_run_leaves_or_says_holds_a_planted_secret(complete_pack_uri: str, tmp_path: Path):
    (tmp_path / "p.csv").write_text("name,target,neutral\nhat,a face with a hat,a face\n")
    run = ("--run", str(tmp_path / "run"), "--pack", complete_pack_uri, "--device", "cpu", "--num-latents", "2")
    said = styleclip(tmp_path, "edit-dataset", "--prompts", "p.csv", *run, "--verbose", "--templates", "none")
    assert said.startswith("0\n"), said[-2000:]
    assert not found_in(said)
    for path in (tmp_path / "run").rglob("*"):
        assert path.is_dir() or not found_in(path.read_bytes().decode("latin-1")), path


def test_prefects_database_holds_no_planted_secret(
    prefect_server: None, complete_pack_uri: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    for name, value in PLANTED.items():
        monkeypatch.setenv(name, value)
    words = f"a bug that tells {PLANTED['AWS_SECRET_ACCESS_KEY']} and s3://key:{IN_A_URI}@bucket"

    def told(*_: Any, **__: Any) -> Any:
        raise RuntimeError(words)

    monkeypatch.setattr(latents, "run_latents_shard", told)
    given: dict[str, Any] = {"pack": complete_pack_uri, "device": "cpu", "run": str(tmp_path / "run")}
    state: Any = FLOWS["edit-dataset"](prompts=PROMPT_ROWS, **given, num_latents=2, return_state=True)
    assert state.is_failed()
    assert "a bug that tells ***" in state.message
    kept = database_text()
    assert "a bug that tells ***" in kept
    assert not found_in(kept)


def database_text() -> str:
    """All that Prefect's database holds, as text."""
    url = get_current_settings().server.database.connection_url
    assert url is not None
    path = url.get_secret_value().rpartition("sqlite+aiosqlite:///")[2]
    with sqlite3.connect(path) as database:
        return "\n".join(database.iterdump())
