"""What the README tells a user to type: server, pool, deploy, worker, run. On loopback, stopped at the end."""

import contextlib
import json
import os
import re
import signal
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
import yaml

from flows import deployments as deployments_module
from flows.cli import load_commands
from flows.deployments import FLOWS
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
        "PREFECT_SERVER_SERVICES_SCHEDULER_LOOP_SECONDS": "2",
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


@pytest.fixture(scope="module")
def deployed(prefect_environment: dict[str, str]) -> dict[str, str]:
    """The server with the work pool and every deployment of prefect.yaml."""
    prefect(prefect_environment, "work-pool", "create", "styleclip", "--type", "process", "--overwrite")
    prefect(prefect_environment, "deploy", "--all", "--no-prompt")
    return prefect_environment


def test_prefect_yaml_has_one_deployment_per_flow():
    deployments = yaml.safe_load((ROOT / "prefect.yaml").read_text())["deployments"]
    assert sorted(d["name"] for d in deployments) == NAMES
    for deployment in deployments:
        assert deployment["entrypoint"] == f"flows/deployments.py:{deployment['name'].replace('-', '_')}"
        assert deployment["work_pool"] == {"name": "styleclip"}
        assert getattr(deployments_module, deployment["name"].replace("-", "_")) is FLOWS[deployment["name"]]


def refused(environment: dict[str, str], *arguments: str) -> str:
    """What `prefect` says where it refuses."""
    result = subprocess.run(
        [*PREFECT, *arguments], env=environment, cwd=ROOT, capture_output=True, text=True, timeout=120, check=False
    )
    assert result.returncode != 0, result.stdout
    return " ".join((result.stdout + result.stderr).split())


def ask(environment: dict[str, str], path: str, body: dict[str, object]) -> Any:
    """The answer of the server's API."""
    request = urllib.request.Request(
        f"{environment['PREFECT_API_URL']}/{path}",
        data=json.dumps(body).encode(),
        headers={"Content-Type": "application/json"},
    )
    with urllib.request.urlopen(request, timeout=30) as answer:
        return json.loads(answer.read())


def test_deployment_bad_parameters_are_refused_before_a_run_is_created(deployed: dict[str, str]):
    run = ("deployment", "run", "edit-dataset/edit-dataset")
    assert "num_latents" in refused(deployed, *run, "-p", "num_latents=0")
    assert "num_latnets" in refused(deployed, *run, "-p", "num_latnets=3")
    assert "templates" in refused(deployed, *run, "-p", "templates=imagenet_81")
    assert ask(deployed, "flow_runs/count", {}) == 0


def test_form_describes_every_parameter_and_offers_no_null(deployed: dict[str, str]):
    for deployment in ask(deployed, "deployments/filter", {}):
        schema = deployment["parameter_openapi_schema"]
        assert "unknown_parameters" not in schema["properties"]
        for name, about in schema["properties"].items():
            assert about.get("description"), f"{deployment['name']}: {name}"
            assert {"type": "null"} not in about.get("anyOf", []), f"{deployment['name']}: {name}"


def test_schedule_makes_runs(deployed: dict[str, str]):
    prefect(deployed, "deployment", "schedule", "create", "sample-latents/sample-latents", "--cron", "0 2 * * *")
    try:
        for _ in range(120):
            scheduled = {"flow_runs": {"state": {"type": {"any_": ["SCHEDULED"]}}}}
            if ask(deployed, "flow_runs/count", scheduled) > 1:
                return
            time.sleep(0.5)
        raise AssertionError("the schedule made no runs within a minute")
    finally:
        prefect(deployed, "deployment", "schedule", "clear", "sample-latents/sample-latents", "--accept-yes")


def test_run_that_cannot_start_says_why_in_its_state(deployed: dict[str, str], tmp_path: Path):
    deployment = ask(deployed, "deployments/filter", {"deployments": {"name": {"any_": ["sample-latents"]}}})[0]
    for wrong in ({"pack": "nobody"}, {"num_latnets": 3}):  # the API itself takes names that the form has not
        parameters = {"run": f"{tmp_path}/run", "device": "cpu", **wrong}
        ask(deployed, f"deployments/{deployment['id']}/create_flow_run", {"parameters": parameters})
    time.sleep(2)
    prefect(deployed, "worker", "start", "--pool", "styleclip", "--run-once", timeout=400)
    failed = ask(deployed, "flow_runs/filter", {"flow_runs": {"state": {"type": {"any_": ["FAILED"]}}}})
    messages = " ".join(run["state"]["message"] for run in failed)
    assert "`pack` must be a built-in pack" in messages
    assert "unknown parameter `num_latnets`; did you mean `num_latents`?" in messages
    assert not (tmp_path / "run").exists()


def test_deployed_edit_dataset_runs_on_a_worker(deployed: dict[str, str], complete_pack_uri: str, tmp_path: Path):
    parameters = {
        "prompts": PROMPT_ROWS,
        "run": f"{tmp_path}/{{date}}-{{flow_run}}",
        "pack": complete_pack_uri,
        "num_latents": 3,
        "device": "cpu",
        "templates": "none",
        "images_per_shard": 6,
    }
    prefect(deployed, "deployment", "run", "edit-dataset/edit-dataset", "--params", json.dumps(parameters))
    time.sleep(2)
    output = prefect(deployed, "worker", "start", "--pool", "styleclip", "--run-once", timeout=400)
    (run,) = tmp_path.iterdir()
    assert re.fullmatch(r"\d{4}-\d\d-\d\d-complete-2-prompts-x-3-[0-9a-f]{8}", run.name), output[-3000:]
    assert (run / "contact_sheet.png").exists(), output[-3000:]
    assert len(pd.read_parquet(run / "dataset")) == 3 * 4
    assert len(pd.read_parquet(run / "scores")) == 3 * (1 + 3)
    names = {found["name"] for found in ask(deployed, "flow_runs/filter", {})}
    assert {"complete 2 prompts x 3", "complete render-dataset", "complete sample-latents 3 latents"} <= names
    assert "dataset 1 of 3" in {found["name"] for found in ask(deployed, "task_runs/filter", {})}
    artifacts = {found["key"]: found["data"] for found in ask(deployed, "artifacts/filter", {})}
    assert "data:image/jpeg;base64," in artifacts["contact-sheet"]
    assert "Red Hair" in artifacts["summary"]
    assert artifacts["dataset-progress"] == 100.0
    assert f"**12 rows** in `{run}/dataset`" in artifacts["dataset-made"]
    assert {"latents-made", "edited-latents-made", "scores-made"} <= set(artifacts)
    lines = {found["message"] for found in ask(deployed, "logs/filter", {})}
    assert any(f"12 images in {run}/dataset, 0 prompts failed" in line for line in lines)
