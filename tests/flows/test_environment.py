"""What the user's surroundings do to a command: one line within seconds, exit code 2, no work done."""

import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from flows.cli import build_app, load_commands
from flows.environment import check_places, check_server
from pipeline.errors import PipelineError

ROOT = Path(__file__).parents[2]
PROMPTS = "name,target,neutral,strengths\nglasses,a face with glasses,a face,8\n"


def edit_dataset(folder: Path, *arguments: str, **environment: str) -> subprocess.CompletedProcess[str]:
    (folder / "p.csv").write_text(PROMPTS)
    run = () if "--run" in arguments else ("--run", str(folder / "run"))
    return subprocess.run(
        [
            sys.executable,
            "-m",
            "flows.cli",
            "edit-dataset",
            "--prompts",
            "p.csv",
            *run,
            "--num-latents",
            "1",
            *arguments,
        ],
        capture_output=True,
        text=True,
        timeout=120,
        cwd=folder,
        env={**os.environ, "PYTHONPATH": str(ROOT), "COLUMNS": "200", **environment},
        check=False,
    )


def here(folder: Path, *arguments: str) -> Any:
    """The same without a process of its own, for what depends on none."""
    (folder / "p.csv").write_text(PROMPTS)
    run = () if "--run" in arguments else ("--run", str(folder / "run"))
    given = ("edit-dataset", "--prompts", str(folder / "p.csv"), *run, "--num-latents", "1", *arguments)
    return CliRunner().invoke(build_app(), given)


def assert_one_line(result: Any, *words: str) -> None:
    code = result.returncode if isinstance(result, subprocess.CompletedProcess) else result.exit_code
    assert code == 2, result.stderr
    lines = [line for line in result.stderr.splitlines() if line.strip()]
    assert len(lines) == 1, result.stderr
    assert lines[0].startswith("error: ")
    for word in words:
        assert word in lines[0]


@pytest.mark.parametrize("device", ["gpu", "cuda:99", "tpu", "cuda:x"])
def test_a_device_that_is_not_there_names_those_that_are(device: str, tmp_path: Path):
    assert_one_line(here(tmp_path, "--device", device), "`device`", repr(device), "cpu", "auto")
    assert not (tmp_path / "run").exists()


def test_a_dead_prefect_server_is_said_at_once(tmp_path: Path):
    result = edit_dataset(tmp_path, PREFECT_API_URL="http://127.0.0.1:9/api")
    assert_one_line(result, "PREFECT_API_URL", "http://127.0.0.1:9/api", "unset")


def test_a_run_whose_server_is_dead_completes_without_it(
    tiny_pack_uri: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    run = ("--run", str(tmp_path / "run"), "--pack", tiny_pack_uri, "--device", "cpu", "--num-latents", "2")
    monkeypatch.setenv("PREFECT_API_URL", "http://127.0.0.1:9/api")
    assert_one_line(CliRunner().invoke(build_app(), ["sample-latents", *run]), "PREFECT_API_URL")
    assert not (tmp_path / "run").exists()
    monkeypatch.delenv("PREFECT_API_URL")
    assert CliRunner().invoke(build_app(), ["sample-latents", *run]).exit_code == 0
    assert (tmp_path / "run" / "_latents.json").exists()


@pytest.mark.parametrize("url", ["nonsense", "http://", "ftp://127.0.0.1/x"])
def test_a_server_url_that_is_none_is_an_error_of_ours(url: str):
    with pytest.raises(PipelineError, match="the Prefect server in PREFECT_API_URL must answer"):
        check_server(url)


def test_a_home_that_cannot_be_written_does_not_matter_without_a_server(tmp_path: Path):
    result = edit_dataset(tmp_path, "--pack", "nobody", HOME="/proc/nope", PREFECT_HOME="/proc/nope")
    assert_one_line(result, "`pack` must be a built-in pack")


def test_a_prefect_home_that_cannot_be_written_is_said(monkeypatch: pytest.MonkeyPatch, tmp_path: Path):
    from http.server import BaseHTTPRequestHandler, HTTPServer
    from threading import Thread

    class Healthy(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.send_response(200)
            self.end_headers()

        def log_message(self, *_: object) -> None:
            pass

    server = HTTPServer(("127.0.0.1", 0), Healthy)
    Thread(target=server.serve_forever, daemon=True).start()
    monkeypatch.setenv("PREFECT_HOME", "/proc/nope")
    try:
        with pytest.raises(
            PipelineError, match=r"Prefect's home folder must be writable; /proc/nope is not .* PREFECT_HOME"
        ):
            check_server(f"http://127.0.0.1:{server.server_port}/api")
    finally:
        server.shutdown()
        server.server_close()


def test_a_run_folder_that_cannot_be_written_is_said_before_any_work(tmp_path: Path):
    assert_one_line(here(tmp_path, "--run", "/proc/nope/run"), "/proc/nope/run", "rights")


def test_a_run_folder_that_is_a_file_is_said(tmp_path: Path):
    (tmp_path / "file").write_text("x")
    assert_one_line(here(tmp_path, "--run", str(tmp_path / "file" / "run")), "file/run")


def test_no_temporary_folder_is_said(monkeypatch: pytest.MonkeyPatch):
    def none() -> str:
        raise FileNotFoundError(2, "No usable temporary directory found in ['/tmp']")

    monkeypatch.setattr("tempfile.gettempdir", none)
    request = load_commands()["sample-latents"].check({"run": "memory://run"})
    with pytest.raises(PipelineError, match="Set TMPDIR"):
        check_places(request)


def test_a_terminal_that_knows_ascii_alone_gets_a_help_page(tmp_path: Path):
    result = subprocess.run(
        [sys.executable, "-m", "flows.cli", "edit-dataset", "--help"],
        capture_output=True,
        timeout=120,
        env={**os.environ, "PYTHONPATH": str(ROOT), "PYTHONIOENCODING": "ascii", "LC_ALL": "C"},
        check=False,
    )
    assert result.returncode == 0, result.stderr
    assert b"--num-latents" in result.stdout


@pytest.mark.skipif(shutil.which("mount") is None or os.geteuid() != 0, reason="a small file system needs root")
def test_a_full_disk_is_one_line_and_the_rerun_completes(tmp_path: Path, tiny_pack_uri: str):
    disk = tmp_path / "disk"
    disk.mkdir()
    mounted = subprocess.run(["mount", "-t", "tmpfs", "-o", "size=16k", "none", str(disk)], check=False)
    if mounted.returncode:
        pytest.skip("no file system can be mounted here")
    try:
        run = ("--run", str(disk / "run"), "--pack", tiny_pack_uri, "--device", "cpu", "--num-latents", "200")
        result = CliRunner().invoke(build_app(), ["sample-latents", *run])
        assert result.exit_code == 2, result.stderr
        assert "No space left" in result.stderr
        assert "Traceback" not in result.stderr
        subprocess.run(["mount", "-o", "remount,size=8m", str(disk)], check=True)
        assert CliRunner().invoke(build_app(), ["sample-latents", *run]).exit_code == 0
    finally:
        subprocess.run(["umount", "-l", str(disk)], check=False)


def test_a_bad_prompt_list_is_told_before_torch_is_imported(tmp_path: Path):
    (tmp_path / "p.csv").write_text("name,target,neutral\nsame,a face,a face\n,a hat,\n")
    code = (
        "import sys; from typer.testing import CliRunner; from flows.cli import build_app;"
        "r = CliRunner().invoke(build_app(), sys.argv[1:]); print(r.exit_code, 'torch' in sys.modules); print(r.output)"
    )
    result = subprocess.run(
        [sys.executable, "-c", code, "edit-dataset", "--prompts", str(tmp_path / "p.csv"), "--run", "memory://x"],
        capture_output=True,
        text=True,
        timeout=120,
        cwd=ROOT,
        check=True,
    )
    assert result.stdout.startswith("2 False")
    assert "p.csv: 2 problems" in result.stderr + result.stdout
