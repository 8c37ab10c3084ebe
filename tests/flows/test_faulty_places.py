"""Whole runs where the store fails, is taken, or where the run is told to stop."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from flows.cli import build_app
from storage import LEASE_FILE, Store, lease
from tests.flows.kills import Forked, contents, storm
from tests.storage.faulty_proxy import FaultyProxy, running

ROOT = Path(__file__).parents[2]
PROMPTS = "name,target,neutral,strengths\nhat,a face with a hat,a face,2\nred hair,a face with red hair,a face,4\n"


def command(folder: Path, run: str, pack: str) -> list[str]:
    (folder / "p.csv").write_text(PROMPTS)
    settings = ("--num-latents", "4", "--latents-per-shard", "2", "--images-per-shard", "6", "--templates", "none")
    where = ("--run", run, "--pack", pack, "--device", "cpu")
    return ["edit-dataset", "--prompts", str(folder / "p.csv"), *where, *settings]


def styleclip(arguments: list[str], **environment: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "flows.cli", *arguments],
        capture_output=True,
        text=True,
        timeout=600,
        cwd=ROOT,
        env={**os.environ, "COLUMNS": "300", "OMP_NUM_THREADS": "1", **environment},
        check=False,
    )


def test_a_run_through_an_endpoint_that_fails_one_request_in_ten_ends_in_the_same_bytes(
    s3_bucket: str, complete_pack_uri: str, tmp_path: Path
):
    # in a process of its own too: this one may keep what an earlier test computed with other threads
    undisturbed = styleclip(command(tmp_path, str(tmp_path / "run"), complete_pack_uri))
    assert undisturbed.returncode == 0, undisturbed.stderr
    store = Store(f"{s3_bucket}/{tmp_path.name}")
    with running(FaultyProxy(os.environ["AWS_ENDPOINT_URL"], share=0.1)) as proxy:
        result = styleclip(
            command(tmp_path, store.uri, complete_pack_uri),
            AWS_ENDPOINT_URL=proxy.url,
            FSSPEC_S3='{"config_kwargs": {"read_timeout": 2}}',  # less than the proxy hangs
        )
    assert result.returncode == 0, result.stderr
    assert proxy.spoilt.total() > 20
    assert {path: store.read_bytes(path) for path in store.list()} == contents(tmp_path / "run")


@pytest.mark.parametrize(("fault", "words"), [("403", "must let us write"), ("503", "must answer")])
def test_an_endpoint_that_refuses_for_good_is_one_line_and_nothing_is_written(
    s3_bucket: str, complete_pack_uri: str, tmp_path: Path, fault: str, words: str
):
    store = Store(f"{s3_bucket}/{tmp_path.name}")
    with running(FaultyProxy(os.environ["AWS_ENDPOINT_URL"], share=1.0, faults=(fault,))) as proxy:
        result = styleclip(command(tmp_path, store.uri, complete_pack_uri), AWS_ENDPOINT_URL=proxy.url)
    assert result.returncode == 2
    (line,) = [line for line in result.stderr.splitlines() if line.strip()]
    assert words in line
    assert proxy.requests <= 3
    assert store.list() == []


def test_a_store_that_goes_away_in_the_middle_stops_the_run_and_the_rerun_completes(
    s3_bucket: str, complete_pack_uri: str, tmp_path: Path
):
    store = Store(f"{s3_bucket}/{tmp_path.name}")
    arguments = command(tmp_path, store.uri, complete_pack_uri)

    class Dying(FaultyProxy):
        def fault(self) -> str | None:
            super().fault()
            return "503" if self.requests > 60 else None

    with running(Dying(os.environ["AWS_ENDPOINT_URL"], share=0.0)) as proxy:
        result = styleclip(arguments, AWS_ENDPOINT_URL=proxy.url, STYLECLIP_STORE_PATIENCE="1")
    assert result.returncode == 2
    assert result.stderr.splitlines()[-1].startswith("error: the store must answer to ")
    again = CliRunner().invoke(build_app(), arguments)  # the dead run's lease is still there
    assert again.exit_code == 0, again.output
    assert not store.exists(LEASE_FILE)


def test_a_second_run_on_a_folder_is_refused_in_one_line(complete_pack_uri: str, tmp_path: Path):
    with lease(Store(tmp_path / "run"), what="edit-dataset"):
        result = CliRunner().invoke(build_app(), command(tmp_path, str(tmp_path / "run"), complete_pack_uri))
    assert result.exit_code == 2
    assert f"edit-dataset on {os.uname().nodename} (process {os.getpid()}) writes it" in result.stderr
    assert len(result.stderr.strip().splitlines()) == 1
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize(("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_a_signal_stops_between_shards_with_one_line_of_what_is_kept(
    complete_pack_uri: str, tmp_path: Path, number: int, code: int
):
    run = tmp_path / "run"
    arguments = ["sample-latents", "--run", str(run), "--pack", complete_pack_uri, "--device", "cpu"]
    many = [*arguments, "--num-latents", "3000", "--latents-per-shard", "1"]
    process: Any = subprocess.Popen(
        [sys.executable, "-m", "flows.cli", *many], cwd=ROOT, stderr=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )
    while process.poll() is None and not list(run.glob("latents/part-*")):
        time.sleep(0.02)
    process.send_signal(number)
    _, said = process.communicate(timeout=120)
    assert process.returncode == code, said
    lines = [line for line in said.splitlines() if line.strip()]
    assert lines[-1] == "stopped; finished shards are kept, the same command goes on from them"
    assert not any("Traceback" in line for line in lines)
    kept = contents(run)
    assert LEASE_FILE not in kept
    assert 0 < len([path for path in kept if path.startswith("_shards/")]) < 3000
    assert "_latents.json" not in kept


def test_runs_killed_at_random_moments_end_in_the_same_bytes(complete_pack_uri: str, tmp_path: Path):
    arguments = command(tmp_path, "RUN", complete_pack_uri)

    def work(run: Path) -> None:
        result = CliRunner().invoke(build_app(), [word.replace("RUN", str(run)) for word in arguments])
        assert result.exit_code == 0, result.output

    tally = storm(Forked(work), tmp_path, kills=5, per_run=5)
    assert tally.kills == 5
    assert (tally.different, tally.lost, tally.doubled) == ([], 0, 0)
