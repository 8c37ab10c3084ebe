"""Prefect as a user runs it: a server, workers and the command, each a process on loopback that can be killed."""

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
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import psutil

ROOT = Path(__file__).parents[2]
PREFECT = [sys.executable, "-m", "prefect"]
POOL = "styleclip"
LONGEST_START = 400.0  # seconds for a server on a machine with much else to do


class PrefectProcesses:
    """A server with a home of its own, and what is run against it.

    Args:
        home: folder of its database, settings and logs.
        heartbeat: seconds between two signs of life of a flow run; None leaves Prefect's.
    """

    def __init__(self, home: Path, *, heartbeat: int | None = None) -> None:
        self.home, self.port = home, _free_port()
        self.server: subprocess.Popen[bytes] | None = None
        self.environment = {
            **{k: v for k, v in os.environ.items() if not k.startswith("PREFECT_")},
            "PYTHONPATH": str(ROOT),  # this checkout's packages, whichever are installed
            "PREFECT_HOME": str(home),
            "PREFECT_API_URL": f"http://127.0.0.1:{self.port}/api",
            "PREFECT_SERVER_ANALYTICS_ENABLED": "false",
            "PREFECT_WORKER_QUERY_SECONDS": "1",
            "PREFECT_SERVER_SERVICES_SCHEDULER_LOOP_SECONDS": "2",
            "DO_NOT_TRACK": "1",
            "OMP_NUM_THREADS": "1",
            **({} if heartbeat is None else {"PREFECT_FLOWS_HEARTBEAT_FREQUENCY": str(heartbeat)}),
        }

    def start_server(self) -> None:
        """On its port and database, a second time too; returns once it answers."""
        arguments = ("server", "start", "--host", "127.0.0.1", "--port", str(self.port))
        self.server = self.begin(*arguments, log="server.log")
        end = time.monotonic() + LONGEST_START
        while time.monotonic() < end:
            assert self.server.poll() is None, self.said("server.log")
            with contextlib.suppress(OSError), urllib.request.urlopen(self._url("health"), timeout=5) as answer:
                if answer.status == 200:
                    return
            time.sleep(0.5)
        raise AssertionError(f"the server did not come up: {self.said('server.log')}")

    def kill_server(self) -> None:
        """As a lost machine would end it."""
        if self.server is not None:
            kill(self.server)

    def start_worker(self, *arguments: str) -> "subprocess.Popen[bytes]":
        """A worker of the pool."""
        return self.begin("worker", "start", "--pool", POOL, *arguments, log="worker.log")

    def begin(self, *arguments: str, log: str) -> "subprocess.Popen[bytes]":
        """``prefect`` as a process in a session of its own, its output in a file of the home folder."""
        with (self.home / log).open("ab") as file:
            return subprocess.Popen(
                [*PREFECT, *arguments],
                env=self.environment,
                cwd=ROOT,
                stdin=subprocess.DEVNULL,
                stdout=file,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )

    def said(self, log: str) -> str:
        """The end of a log."""
        return (self.home / log).read_text(errors="replace")[-3000:]

    def run(self, *arguments: str, timeout: int = 400) -> str:
        """What ``prefect`` says where it succeeds."""
        result = self._command(*arguments, timeout=timeout)
        assert result.returncode == 0, result.stdout[-3000:] + result.stderr[-3000:]
        return result.stdout

    def refused(self, *arguments: str) -> str:
        """What ``prefect`` says where it refuses."""
        result = self._command(*arguments, timeout=120)
        assert result.returncode != 0, result.stdout
        return " ".join((result.stdout + result.stderr).split())

    def ask(self, path: str, body: dict[str, object]) -> Any:
        """The answer of the server's API."""
        data, headers = json.dumps(body).encode(), {"Content-Type": "application/json"}
        request = urllib.request.Request(self._url(path), data=data, headers=headers)
        with urllib.request.urlopen(request, timeout=30) as answer:
            return json.loads(answer.read())

    def _command(self, *arguments: str, timeout: int) -> "subprocess.CompletedProcess[str]":
        return subprocess.run(
            [*PREFECT, *arguments],
            env=self.environment,
            cwd=ROOT,
            capture_output=True,
            text=True,
            timeout=timeout,
            check=False,
        )

    def _url(self, path: str) -> str:
        return f"{self.environment['PREFECT_API_URL']}/{path}"


@contextmanager
def serving(home: Path, *, heartbeat: int | None = None) -> Iterator[PrefectProcesses]:
    """A server with its work pool, killed in the end."""
    prefect = PrefectProcesses(home, heartbeat=heartbeat)
    try:
        prefect.start_server()
        prefect.run("work-pool", "create", POOL, "--type", "process", "--overwrite")
        yield prefect
    finally:
        prefect.kill_server()


def kill(process: "subprocess.Popen[bytes]") -> None:
    """SIGKILL to a process that ``begin`` started, and to whatever shares its session."""
    with contextlib.suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGKILL)
    process.wait()


def descendants(process: "subprocess.Popen[bytes]") -> list[psutil.Process]:
    """What a process started, and they in turn: the flow runs of a worker, each in a session of its own."""
    try:
        return psutil.Process(process.pid).children(recursive=True)
    except psutil.NoSuchProcess:
        return []


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]
