import importlib
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest
import typer
import yaml
from typer.testing import CliRunner

from flows import cli
from flows.cli import MODULES, build_app, load_commands
from flows.commands import COMMANDS
from flows.parameters import settings_of
from pipeline import config as settings
from pipeline.config import MappersConfig, StageConfig
from pipeline.errors import CheckpointError, ParameterError

ROOT = Path(__file__).parents[2]
COMMAND = [sys.executable, "-m", "flows.cli"]
NAMES = [name.replace("_", "-") for name in MODULES]


def styleclip(*arguments: str, cwd: Path | None = None, **environment: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [*COMMAND, *arguments],
        capture_output=True,
        text=True,
        timeout=300,
        cwd=cwd,
        env={**os.environ, "COLUMNS": "200", "PYTHONPATH": str(ROOT), **environment},
        check=False,
    )


def in_process(*arguments: str) -> str:
    """What the command prints, without a process of its own."""
    return CliRunner().invoke(build_app(), list(arguments), env={"COLUMNS": "200"}).output


def stage_configs() -> list[type[StageConfig]]:
    kinds = [x for x in vars(settings).values() if isinstance(x, type) and issubclass(x, StageConfig)]
    return [x for x in kinds if not any(issubclass(y, x) and y is not x for y in kinds)]  # bases have no command


def test_no_setting_is_described_in_two_places():
    seen: dict[tuple[str, str], str] = {}
    for path in [*(ROOT / "flows").glob("*.py"), *(ROOT / "pipeline" / "config").glob("*.py")]:
        for name, text in re.findall(r'(?m)^\s*(\w+)[:=].*?description="([^"]+)"', path.read_text()):
            assert (name, text) not in seen, f"{name}: {text!r} stands in {seen[name, text]} and in {path.name}"
            seen[name, text] = path.name


def test_every_setting_of_a_stage_is_a_parameter_of_some_command_or_marked_as_none():
    load_commands()
    reached = {(p.owner, p.field) for command in COMMANDS.values() for p in command.parameters}
    for config in stage_configs():
        wanted = {(p.owner, p.field) for p in settings_of(config)}
        assert wanted <= reached, f"{config.__name__}: no command takes {wanted - reached}"


def test_a_parameters_type_limits_and_default_are_its_fields():
    by_name = {p.name: p for p in settings_of(MappersConfig)}
    steps = by_name["latents_per_step"]
    assert (steps.field, steps.default, steps.description) == (
        "batch_size",
        2,
        "Latents per update; changes the result.",
    )
    assert "norm_axis" not in by_name
    advised = {p.name: p for p in settings_of(MappersConfig, method="mapper")}
    assert advised["num_steps"].default is None
    assert advised["num_steps"].shown == "150, the pack's; published 50000"


@pytest.mark.parametrize("name", NAMES)
def test_command_options_are_the_commands_parameters(name: str):
    output = in_process(name, "--help")
    for parameter in load_commands()[name].parameters:
        assert f"--{parameter.option or parameter.name.replace('_', '-')}" in output, parameter.name


def test_help_lists_every_command_with_its_one_line():
    output = in_process("--help")
    for name, command in load_commands().items():
        assert name in output
        assert command.summary in output


def test_help_imports_neither_torch_nor_prefect():
    code = (
        "import sys; from typer.testing import CliRunner; from flows.cli import build_app;"
        "r = CliRunner().invoke(build_app(), ['edit-dataset', '--help']); assert r.exit_code == 0, r.output;"
        "r = CliRunner().invoke(build_app(), ['edit-dataset', '--nonsense']); assert r.exit_code == 2, r.output;"
        "print(sorted({'torch', 'prefect', 'pyarrow', 'pandas', 'open_clip', 'torchvision'} & set(sys.modules)))"
    )
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, cwd=ROOT)
    assert result.stdout.strip() == "[]"


def test_help_shows_defaults_as_numbers_and_whose_they_are():
    text = " ".join(in_process("optimize-latents", "--help").replace("\u2502", " ").split())
    assert "the pack's; published 300" in text
    text = " ".join(in_process("edit-dataset", "--help").replace("\u2502", " ").split())
    for words in ("--num-latents", "Truncation: 1 keeps w", "standard deviations", "[default: 16]"):
        assert words in text


def test_help_keeps_the_brackets_of_a_shape():
    text = " ".join(in_process("import-latents", "--help").replace("\u2502", " ").split())
    assert "path or URI of a .npy, .pt or .pth, [n, rows, 512]." in text


def test_prefect_yaml_says_of_each_flow_what_the_command_says():
    deployments = yaml.safe_load((ROOT / "prefect.yaml").read_text())["deployments"]
    assert {d["name"]: d["description"] for d in deployments} == {n: c.summary for n, c in load_commands().items()}


@pytest.mark.parametrize(
    ("given", "strengths"),
    [
        (["--strengths", "6,10"], (6.0, 10.0)),
        (["--strengths", "6", "--strengths", "-10.5"], (6.0, -10.5)),
        (["--strengths=-5:5:5"], (-5.0, -2.5, 2.5, 5.0)),
        ([], None),
    ],
)
def test_strengths_are_taken_in_one_word_or_in_several(
    given: list[str], strengths: tuple[float, ...] | None, monkeypatch: pytest.MonkeyPatch
):
    seen = []
    monkeypatch.setattr(cli, "_run_here", lambda command, request, progress: seen.append(request["strengths"]) or {})
    monkeypatch.setattr(cli, "_close", lambda *_: None)
    monkeypatch.setattr("flows.environment.check_prompt_list", lambda _: None)
    in_process("edit-latents", "--prompts", "p.csv", "--run", "memory://x", *given)
    assert seen == [strengths]


def test_strengths_that_are_no_numbers_are_a_clear_error():
    parameter = next(p for p in load_commands()["edit-latents"].parameters if p.name == "strengths")
    with pytest.raises(ParameterError, match=r"--strengths must be numbers, as in `--strengths 6,10`; got 'six'"):
        cli._numbers(parameter, ["six"])


def test_unknown_pack_is_one_line_and_exit_code_2(tmp_path: Path):
    result = styleclip("pack", "show", "nobody", cwd=tmp_path)
    assert result.returncode == 2
    assert "error: `pack` must be a built-in pack" in result.stderr
    assert "Traceback" not in result.stderr


def test_error_keeps_its_brackets(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]):
    def refused(*_: object, **__: object) -> dict[str, object]:
        raise CheckpointError("x[/y].pt: latents must be [n, 18, 512]; got [2, 512]")

    monkeypatch.setattr(cli, "_run_here", refused)
    with pytest.raises(typer.Exit):
        cli.run(load_commands()["sample-latents"], {"run": "memory://x"})
    assert "error: x[/y].pt: latents must be [n, 18, 512]; got [2, 512]\n" in capsys.readouterr().err


def test_learning_rate_zero_is_a_clear_word_and_exit_code_2(tmp_path: Path):
    arguments = ("--prompts", "p.csv", "--run", str(tmp_path / "run"), "--learning-rate", "0")
    result = styleclip("optimize-latents", *arguments, cwd=tmp_path)
    assert result.returncode == 2
    assert "`learning_rate`: input should be greater than 0; got 0.0" in result.stderr
    assert "Traceback" not in result.stderr
    assert not (tmp_path / "run").exists()


def test_pack_show_tells_of_the_embedded_pack():
    shown = in_process("pack", "show")
    assert "Pablo Stanley" in shown
    assert "128 px" in shown


def test_another_number_of_latents_in_one_run_is_one_line_that_names_it(tmp_path: Path, tiny_pack_uri: str):
    common = ("sample-latents", "--run", str(tmp_path), "--pack", tiny_pack_uri, "--device", "cpu", "--num-latents")
    assert "2 rows in" in in_process(*common, "2")
    result = styleclip(*common, "2", "--psi", "0.5")
    assert result.returncode == 2
    assert "latents there was made with other settings: psi: 0.7 -> 0.5." in result.stderr
    assert result.stderr.count("error") == 1
    assert "Traceback" not in result.stderr + result.stdout


def test_a_module_that_no_command_comes_from_is_not_listed():
    for name in MODULES:
        assert hasattr(importlib.import_module(f"flows.{name}"), name)


def test_results_in_memory_are_not_promised_and_those_on_disk_are_named_once(tiny_pack_uri: str, tmp_path: Path):
    options = ("--pack", tiny_pack_uri, "--num-latents", "1", "--device", "cpu")
    kept = in_process("sample-latents", "--run", f"{tmp_path}/out/", *options)
    assert f"1 rows in {tmp_path}/out/latents\n" in kept
    gone = in_process("sample-latents", "--run", "memory://run/", *options)
    assert "1 rows in memory://run/latents (in memory only: gone when this process ends" in gone
