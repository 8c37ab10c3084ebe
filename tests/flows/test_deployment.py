"""What the README tells a user to type: server, pool, deploy, worker, run. On loopback, stopped at the end."""

import contextlib
import json
import os
import signal
import socket
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator
from pathlib import Path

import pandas as pd
import pytest
import yaml

from flows.cli import load_commands
from tests.conftest import PROMPT_ROWS

ROOT = Path(__file__).parents[2]
NAMES = sorted(load_commands())
PREFECT = [sys.executable, "-m", "prefect"]


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


@pytest.fixture(scope="module")
def prefect_environment(tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[str, str]]:
    """A real server on a free port, its own home; killed at the end."""
    port = free_port()
    home = tmp_path_factory.mktemp("prefect")
    environment = {
        **{k: v for k, v in os.environ.items() if not k.startswith("PREFECT_")},
        "PREFECT_HOME": str(home),
        "PREFECT_API_URL": f"http://127.0.0.1:{port}/api",
        "PREFECT_SERVER_ANALYTICS_ENABLED": "false",
        "PREFECT_WORKER_QUERY_SECONDS": "1",
        "DO_NOT_TRACK": "1",
        "OMP_NUM_THREADS": "1",
    }
    log = (home / "server.log").open("w")
    server = subprocess.Popen(
        [*PREFECT, "server", "start", "--host", "127.0.0.1", "--port", str(port)],
        env=environment,
        stdout=log,
        stderr=subprocess.STDOUT,
        start_new_session=True,
    )
    try:
        wait_for_health(environment["PREFECT_API_URL"], server, home / "server.log")
        yield environment
    finally:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(server.pid, signal.SIGKILL)
        server.wait()
        log.close()


def wait_for_health(url: str, server: subprocess.Popen[bytes], log: Path) -> None:
    for _ in range(240):
        assert server.poll() is None, log.read_text()[-3000:]
        with contextlib.suppress(OSError), urllib.request.urlopen(f"{url}/health", timeout=5) as answer:
            if answer.status == 200:
                return
        time.sleep(0.5)
    raise AssertionError(f"the server did not come up: {log.read_text()[-3000:]}")


def prefect(environment: dict[str, str], *arguments: str, timeout: int = 240) -> str:
    result = subprocess.run(
        [*PREFECT, *arguments], env=environment, cwd=ROOT, capture_output=True, text=True, timeout=timeout, check=False
    )
    assert result.returncode == 0, result.stdout[-3000:] + result.stderr[-3000:]
    return result.stdout


def test_prefect_yaml_has_one_deployment_per_flow():
    deployments = yaml.safe_load((ROOT / "prefect.yaml").read_text())["deployments"]
    assert sorted(d["name"] for d in deployments) == NAMES
    for deployment in deployments:
        assert deployment["entrypoint"] == f"flows/deployments.py:{deployment['name'].replace('-', '_')}"
        assert deployment["work_pool"] == {"name": "styleclip"}


def test_deployed_edit_dataset_runs_on_a_worker(
    prefect_environment: dict[str, str], complete_pack_uri: str, tmp_path: Path
):
    run = tmp_path / "run"
    prefect(prefect_environment, "work-pool", "create", "styleclip", "--type", "process", "--overwrite")
    prefect(prefect_environment, "deploy", "--all", "--no-prompt")
    listed = json.loads(prefect(prefect_environment, "deployment", "ls", "--output", "json"))
    assert len(listed) == len(NAMES)
    parameters = {
        "prompts": PROMPT_ROWS,
        "run": str(run),
        "pack": complete_pack_uri,
        "num_latents": 3,
        "device": "cpu",
        "templates": "none",
    }
    prefect(prefect_environment, "deployment", "run", "edit-dataset/edit-dataset", "--params", json.dumps(parameters))
    time.sleep(2)
    output = prefect(prefect_environment, "worker", "start", "--pool", "styleclip", "--run-once", timeout=400)
    assert (run / "contact_sheet.png").exists(), output[-3000:]
    assert len(pd.read_parquet(run / "dataset")) == 3 * 4
    assert len(pd.read_parquet(run / "scores")) == 3 * 3


def test_deployment_bad_parameter_is_refused_before_a_run_is_created(prefect_environment: dict[str, str]):
    result = subprocess.run(
        [*PREFECT, "deployment", "run", "edit-dataset/edit-dataset", "-p", "num_latents=0"],
        env=prefect_environment,
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert result.returncode != 0
    assert "num_latents" in result.stdout + result.stderr
