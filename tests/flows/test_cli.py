import inspect
import os
import subprocess
import sys
from pathlib import Path

import pytest
import typer

from flows import cli
from flows.cli import FLOWS, command_for, load_flow
from pipeline.errors import CheckpointError

COMMAND = [sys.executable, "-m", "flows.cli"]


def styleclip(*arguments: str, cwd: Path | None = None) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [*COMMAND, *arguments],
        capture_output=True,
        text=True,
        timeout=300,
        cwd=cwd,
        env={**os.environ, "COLUMNS": "200"},
        check=False,
    )


@pytest.mark.parametrize("name", FLOWS)
def test_command_has_exactly_the_flows_parameters(name: str):
    ours = inspect.signature(command_for(name)).parameters
    theirs = inspect.signature(load_flow(name).fn).parameters
    assert {k: p.default for k, p in ours.items()} == {k: p.default for k, p in theirs.items()}


def test_help_lists_every_flow_and_pack():
    result = styleclip("--help")
    assert result.returncode == 0
    for words in (*FLOWS, *FLOWS.values(), "pack"):
        assert words in result.stdout


def test_help_of_a_command_explains_its_options():
    result = styleclip("edit-dataset", "--help")
    text = " ".join(result.stdout.replace("\u2502", " ").split())
    for words in ("--prompts", "--num-latents", "Truncation: 1 keeps w", "standard deviations"):
        assert words in text


def test_help_keeps_the_brackets_of_a_shape():
    text = " ".join(styleclip("import-latents", "--help").stdout.replace("\u2502", " ").split())
    assert "a local .npy, .pt or .pth, [n, rows, 512]." in text


def test_unknown_pack_is_one_line_and_exit_code_2(tmp_path: Path):
    result = styleclip("pack", "show", "nobody", cwd=tmp_path)
    assert result.returncode == 2
    assert "error: `pack` must be a built-in pack" in result.stderr
    assert "Traceback" not in result.stderr


def test_error_keeps_its_brackets(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]):
    def refused(_: str) -> object:
        raise CheckpointError("x[/y].pt: latents must be [n, 18, 512]; got [2, 512]")

    monkeypatch.setattr(cli, "load_flow", refused)
    with pytest.raises(typer.Exit):
        cli._run("import-latents", {})
    assert "error: x[/y].pt: latents must be [n, 18, 512]; got [2, 512]\n" in capsys.readouterr().err


def test_learning_rate_zero_is_a_clear_word_and_exit_code_2(tmp_path: Path):
    arguments = ("--prompts", "p.csv", "--run", str(tmp_path / "run"), "--learning-rate", "0")
    result = styleclip("optimize-latents", *arguments, cwd=tmp_path)
    assert result.returncode == 2
    assert "learning_rate" in result.stderr
    assert "greater than 0" in result.stderr
    assert "Traceback" not in result.stderr
    assert not (tmp_path / "run").exists()


def test_pack_show_tells_of_the_embedded_pack():
    result = styleclip("pack", "show")
    assert result.returncode == 0
    assert "Pablo Stanley" in result.stdout
    assert "128 px" in result.stdout


def test_conflicting_settings_are_one_line_without_prefects_traceback(tmp_path: Path, tiny_pack_uri: str):
    common = ("sample-latents", "--run", str(tmp_path), "--pack", tiny_pack_uri, "--device", "cpu", "--num-latents")
    assert styleclip(*common, "2").returncode == 0
    result = styleclip(*common, "3")
    assert result.returncode == 2
    assert "error: " in result.stderr
    assert "must hold the results of one config" in result.stderr
    assert "Traceback" not in result.stderr + result.stdout
