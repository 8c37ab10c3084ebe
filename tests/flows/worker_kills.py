"""Runs on a Prefect worker in which a process is killed: the run's own, the worker, both at once, or the server."""

import json
import random
import re
import time
from collections import Counter
from contextlib import suppress
from pathlib import Path
from typing import Any

import psutil

from storage import LEASE_FILE
from tests.flows.prefect_processes import PrefectProcesses, descendants, kill

DEPLOYMENT = "edit-dataset/edit-dataset"
VICTIMS = ("run", "worker", "worker and run", "server")
FINAL = ("COMPLETED", "FAILED", "CRASHED", "CANCELLED")
LONGEST = 900.0  # seconds that anything here may take, on a machine with much else to do
STEP = 0.1  # seconds between two looks


class OnWorker:
    """Runs by ``prefect deployment run`` on a worker that is started again where it is gone.

    Args:
        prefect: its server, with ``edit-dataset`` deployed.
        parameters: of the runs, but for their folder.
        seed: of the choice of victims.
        victims: of which one is killed.
        away: seconds for which a killed server is away at most.
    """

    def __init__(
        self,
        prefect: PrefectProcesses,
        parameters: dict[str, Any],
        *,
        seed: int = 0,
        victims: tuple[str, ...] = VICTIMS,
        away: float = 3.0,
    ) -> None:
        self.prefect, self.parameters, self.victims = prefect, parameters, victims
        self.generator, self.away = random.Random(seed), away
        self.worker = prefect.start_worker()
        self.orphans: list[psutil.Process] = []
        self.killed: Counter[str] = Counter()
        self.states: Counter[str] = Counter()

    def finish(self, run: Path) -> float:
        """See ``tests.flows.kills.Runs``."""
        identity = self.begin(run)
        start = time.monotonic()
        state = until(lambda: self.final(identity), f"{run} to end")
        if state["type"] != "COMPLETED":
            raise RuntimeError(f"a run in {run} ended as {state['name']}: {state['message']}")
        return time.monotonic() - start

    def kill(self, run: Path, after: float) -> bool:
        """See ``tests.flows.kills.Runs``."""
        identity = self.begin(run)
        time.sleep(after)
        working = [process for process in descendants(self.worker) if process.is_running()]
        if self.final(identity) is not None:
            return False
        victim = self.generator.choice(self.victims)
        self.killed[victim] += 1
        if "worker" in victim:
            kill(self.worker)
        if victim == "server":
            self.prefect.kill_server()
            time.sleep(self.generator.uniform(0, self.away))
            self.prefect.start_server()
        if "run" in victim:
            for process in working:
                _kill(process)
        self.orphans = [process for process in working if process.is_running()]
        if victim == "server":
            until(lambda: not any(map(_lives, working)), f"the run in {run} to end")
        self.states[f"{victim}: {self.state(identity)['name']}"] += 1
        return True

    def begin(self, run: Path) -> str:
        """Have a worker begin a run; its id, once it is at work."""
        until(lambda: not any(map(_lives, self.orphans)), "the run of a lost worker to end")
        if self.worker.poll() is not None:
            self.worker = self.prefect.start_worker()
        parameters = json.dumps({**self.parameters, "run": str(run)})
        said = self.prefect.run("deployment", "run", DEPLOYMENT, "--params", parameters)
        found = re.search(r"[0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12}", said)
        assert found is not None, said
        identity = found.group()
        until(lambda: self._at_work(run, identity), f"the run in {run} to begin")
        return identity

    def state(self, identity: str) -> dict[str, Any]:
        """What the server says of a run."""
        (found,) = self.prefect.ask("flow_runs/filter", {"flow_runs": {"id": {"any_": [identity]}}})
        return found["state"]

    def _at_work(self, run: Path, identity: str) -> bool:
        """Whether it holds the folder; a dead run's lease, which is still there, does not count."""
        if self.final(identity) is not None:
            return True
        try:
            holder = json.loads((run / LEASE_FILE).read_bytes())["pid"]
        except (OSError, ValueError):
            return False
        return holder in {process.pid for process in descendants(self.worker)}

    def final(self, identity: str) -> dict[str, Any] | None:
        """What the server says of a run that has ended; None of one that has not."""
        state = self.state(identity)
        return state if state["type"] in FINAL else None

    def stop(self) -> None:
        """The worker and what it runs."""
        left = [*descendants(self.worker), *self.orphans]
        kill(self.worker)
        for process in left:
            _kill(process)


def until(found: Any, what: str) -> Any:
    """What a function returns once that is something."""
    end = time.monotonic() + LONGEST
    while time.monotonic() < end:
        if result := found():
            return result
        time.sleep(STEP)
    raise AssertionError(f"waited {LONGEST:g} s for {what}")


def _lives(process: psutil.Process) -> bool:
    try:
        return process.is_running() and process.status() != psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return False


def _kill(process: psutil.Process) -> None:
    with suppress(psutil.NoSuchProcess):
        process.kill()
