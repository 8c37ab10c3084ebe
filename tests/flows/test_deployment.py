"""What the README tells a user to type: server, pool, deploy, worker, run. On loopback, stopped at the end."""

import json
import re
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
import yaml

from flows import deployments as deployments_module
from flows.cli import load_commands
from flows.deployments import FLOWS
from flows.parameter_groups import group_of
from tests.conftest import PROMPT_ROWS
from tests.flows.prefect_processes import ROOT, PrefectProcesses, serving

NAMES = sorted(load_commands())


@pytest.fixture(scope="module")
def deployed(tmp_path_factory: pytest.TempPathFactory) -> Iterator[PrefectProcesses]:
    """A server with the work pool and every deployment of prefect.yaml."""
    with serving(tmp_path_factory.mktemp("prefect")) as prefect:
        prefect.run("deploy", "--all", "--no-prompt")
        yield prefect


def test_prefect_yaml_has_one_deployment_per_flow():
    deployments = yaml.safe_load((ROOT / "prefect.yaml").read_text())["deployments"]
    assert sorted(d["name"] for d in deployments) == NAMES
    for deployment in deployments:
        assert deployment["entrypoint"] == f"flows/deployments.py:{deployment['name'].replace('-', '_')}"
        assert deployment["work_pool"] == {"name": "styleclip"}
        assert getattr(deployments_module, deployment["name"].replace("-", "_")) is FLOWS[deployment["name"]]


def test_deployment_bad_parameters_are_refused_before_a_run_is_created(deployed: PrefectProcesses):
    run = ("deployment", "run", "edit-dataset/edit-dataset")
    assert "num_latents" in deployed.refused(*run, "-p", "num_latents=0")
    assert "num_latnets" in deployed.refused(*run, "-p", "num_latnets=3")
    assert "templates" in deployed.refused(*run, "-p", "templates=imagenet_81")
    assert deployed.ask("flow_runs/count", {}) == 0


def test_form_describes_every_parameter_and_offers_no_null(deployed: PrefectProcesses):
    for deployment in deployed.ask("deployments/filter", {}):
        schema = deployment["parameter_openapi_schema"]
        assert "unknown_parameters" not in schema["properties"]
        for name, about in schema["properties"].items():
            assert about.get("description"), f"{deployment['name']}: {name}"
            assert {"type": "null"} not in about.get("anyOf", []), f"{deployment['name']}: {name}"


def test_form_shows_parameters_in_their_groups(deployed: PrefectProcesses, chromium: Any):
    (deployment,) = deployed.ask("deployments/filter", {"deployments": {"name": {"any_": ["edit-dataset"]}}})
    chromium.get(f"http://127.0.0.1:{deployed.port}/v2/deployments/deployment/{deployment['id']}/run")
    titles: list[str] = []
    for _ in range(120):
        labels = chromium.execute_script("return [...document.querySelectorAll('label')].map(e => e.textContent)")
        titles = [label.removesuffix(" (Optional)") for label in labels if ": " in label]
        if titles:
            break
        time.sleep(0.5)
    parameters = load_commands()["edit-dataset"].parameters
    assert titles == [f"{group_of(parameter)}: {parameter.name}" for parameter in parameters]
    assert titles[:2] == ["Run: prompts", "Run: run"]
    assert titles[-1] == "Work: tries"


def test_schedule_makes_runs(deployed: PrefectProcesses):
    deployed.run("deployment", "schedule", "create", "sample-latents/sample-latents", "--cron", "0 2 * * *")
    try:
        for _ in range(120):
            scheduled = {"flow_runs": {"state": {"type": {"any_": ["SCHEDULED"]}}}}
            if deployed.ask("flow_runs/count", scheduled) > 1:
                return
            time.sleep(0.5)
        raise AssertionError("the schedule made no runs within a minute")
    finally:
        deployed.run("deployment", "schedule", "clear", "sample-latents/sample-latents", "--accept-yes")


def test_run_that_cannot_start_says_why_in_its_state(deployed: PrefectProcesses, tmp_path: Path):
    deployment = deployed.ask("deployments/filter", {"deployments": {"name": {"any_": ["sample-latents"]}}})[0]
    for wrong in ({"pack": "nobody"}, {"num_latnets": 3}):  # the API itself takes names that the form has not
        parameters = {"run": f"{tmp_path}/run", "device": "cpu", **wrong}
        deployed.ask(f"deployments/{deployment['id']}/create_flow_run", {"parameters": parameters})
    time.sleep(2)
    deployed.run("worker", "start", "--pool", "styleclip", "--run-once")
    failed = deployed.ask("flow_runs/filter", {"flow_runs": {"state": {"type": {"any_": ["FAILED"]}}}})
    messages = " ".join(run["state"]["message"] for run in failed)
    assert "`pack` must be a built-in pack" in messages
    assert "unknown parameter `num_latnets`; did you mean `num_latents`?" in messages
    assert not (tmp_path / "run").exists()


def test_deployed_edit_dataset_runs_on_a_worker(deployed: PrefectProcesses, complete_pack_uri: str, tmp_path: Path):
    parameters = {
        "prompts": PROMPT_ROWS,
        "run": f"{tmp_path}/{{date}}-{{flow_run}}",
        "pack": complete_pack_uri,
        "num_latents": 3,
        "device": "cpu",
        "templates": "none",
        "images_per_shard": 6,
    }
    deployed.run("deployment", "run", "edit-dataset/edit-dataset", "--params", json.dumps(parameters))
    time.sleep(2)
    output = deployed.run("worker", "start", "--pool", "styleclip", "--run-once")
    (run,) = tmp_path.iterdir()
    assert re.fullmatch(r"\d{4}-\d\d-\d\d-complete-2-prompts-x-3-[0-9a-f]{8}", run.name), output[-3000:]
    assert (run / "contact_sheet.png").exists(), output[-3000:]
    assert len(pd.read_parquet(run / "dataset")) == 3 * 4
    assert len(pd.read_parquet(run / "scores")) == 3 * (1 + 3)
    names = {found["name"] for found in deployed.ask("flow_runs/filter", {})}
    assert {"complete 2 prompts x 3", "complete render-dataset", "complete sample-latents 3 latents"} <= names
    assert "dataset 1 of 3" in {found["name"] for found in deployed.ask("task_runs/filter", {})}
    artifacts = {found["key"]: found["data"] for found in deployed.ask("artifacts/filter", {})}
    assert "data:image/jpeg;base64," in artifacts["contact-sheet"]
    assert "Red Hair" in artifacts["summary"]
    assert artifacts["dataset-progress"] == 100.0
    assert f"**12 rows** in `{run}/dataset`" in artifacts["dataset-made"]
    assert {"latents-made", "edited-latents-made", "scores-made"} <= set(artifacts)
    lines = {found["message"] for found in deployed.ask("logs/filter", {})}
    assert any(f"12 images in {run}/dataset, 0 prompts failed" in line for line in lines)
