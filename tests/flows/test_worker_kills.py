"""Runs on a Prefect worker that lose a process, or their server: run again, they end in the bytes of any other run."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.conftest import PROMPT_ROWS
from tests.flows.kills import SETTINGS, contents, edit_tiny, storm
from tests.flows.prefect_processes import ROOT, descendants, kill, serving
from tests.flows.worker_kills import OnWorker, until

pytestmark = pytest.mark.slow  # a server, a worker and a dozen runs
WITHIN = 70  # seconds without a sign of life; runs give one every 30


@pytest.fixture(scope="module")
def on_worker(tmp_path_factory: pytest.TempPathFactory, complete_pack_uri: str) -> Iterator[OnWorker]:
    home = tmp_path_factory.mktemp("prefect")
    with serving(home, heartbeat=30) as prefect:
        prefect.run("deploy", "--name", "edit-dataset", "--no-prompt")
        automation = (ROOT / "docs" / "deploy" / "crashed-runs.yaml").read_text()
        assert "within: 600" in automation
        (home / "automation.yaml").write_text(automation.replace("within: 600", f"within: {WITHIN}"))
        prefect.run("automation", "create", "--from-file", str(home / "automation.yaml"))
        runs = OnWorker(prefect, {**SETTINGS, "prompts": PROMPT_ROWS, "pack": complete_pack_uri})
        yield runs
        runs.stop()


def test_killed_runs_workers_and_servers_cost_no_byte(on_worker: OnWorker, tmp_path: Path):
    tally = storm(on_worker, tmp_path, kills=4, per_run=4)
    assert tally.kills == on_worker.killed.total() == 4
    assert (tally.different, tally.lost, tally.doubled) == ([], 0, 0)


def test_a_run_that_vanished_is_called_crashed_and_its_retry_completes_it(
    on_worker: OnWorker, complete_pack_uri: str, tmp_path: Path
):
    identity = on_worker.begin(tmp_path / "run")
    until(lambda: list(tmp_path.glob("run/_shards/*/*.json")), "a shard to be made")
    working = descendants(on_worker.worker)
    kill(on_worker.worker)
    for process in working:
        process.kill()
    assert on_worker.state(identity)["name"] == "Running"
    assert "cannot be retried" in on_worker.prefect.refused("flow-run", "retry", identity)
    until(lambda: on_worker.state(identity)["name"] == "Crashed", "the server to notice")
    assert on_worker.state(identity)["message"].startswith("No sign of life")
    on_worker.prefect.run("flow-run", "retry", identity)
    on_worker.worker = on_worker.prefect.start_worker()
    until(lambda: on_worker.state(identity)["name"] == "Completed", "the retry to complete")
    edit_tiny(complete_pack_uri, tmp_path / "undisturbed")
    assert contents(tmp_path / "run") == contents(tmp_path / "undisturbed")


def test_a_run_that_died_alone_is_called_crashed_by_its_worker(on_worker: OnWorker, tmp_path: Path):
    identity = on_worker.begin(tmp_path / "run")
    for process in descendants(on_worker.worker):
        process.kill()
    state = until(lambda: on_worker.final(identity), "the worker to notice")
    assert state["name"] == "Crashed"


def test_a_server_that_is_away_for_a_while_costs_at_most_a_rerun(on_worker: OnWorker, tmp_path: Path):
    on_worker.away, on_worker.victims = 20.0, ("server",)
    tally = storm(on_worker, tmp_path, kills=1, per_run=1)
    assert (tally.kills, tally.different, tally.lost, tally.doubled) == (1, [], 0, 0)
