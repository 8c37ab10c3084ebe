"""Who runs steps and shards: this process by itself, or Prefect (``flows/deployments.py``), which puts its own here."""

import logging
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor, as_completed
from contextvars import ContextVar, copy_context
from typing import TYPE_CHECKING, Any, Protocol

from flows.jobs import Job, OpenWork, Work
from flows.logs import logged_as
from flows.progress import Progress, Quiet
from pipeline.runs.progress import listening

if TYPE_CHECKING:
    from flows.commands import Command, Request
    from pipeline.runs.shard import ShardReport

Log = logging.Logger | logging.LoggerAdapter[Any]


class Engine(Protocol):
    """What a flow asks of whoever runs it."""

    @property
    def log(self) -> Log:
        """Where a step says what it did."""
        ...

    def call(self, command: "Command", request: "Request") -> dict[str, Any]:
        """Run a command with checked parameters, as a run of its own or as a step of the one that is running."""
        ...

    def shards(
        self, opener: OpenWork, job: Job, work: Work, *, workers: int
    ) -> "Iterator[ShardReport | BaseException]":
        """Run every shard, ``workers`` at a time, and yield what became of each as they end."""
        ...


class Local:
    """Runs everything in this process, without a server.

    Args:
        progress: is told what runs and how far it is.
    """

    def __init__(self, progress: Progress | None = None) -> None:
        self.progress: Progress = progress or Quiet()
        self.log: Log = logging.getLogger("styleclip")

    def call(self, command: "Command", request: "Request") -> dict[str, Any]:
        """Run the command's body in this thread."""
        run = {"run": request["run"]} if request.values.get("run") else {}
        with logged_as(command=command.name, **run):
            return command.body(request)

    def shards(
        self, opener: OpenWork, job: Job, work: Work, *, workers: int
    ) -> "Iterator[ShardReport | BaseException]":
        """In the caller's own thread where one works alone.

        OpenMP counts a second thread's team as more threads than there are cores, and from then on every barrier sleeps
        instead of spinning; a backward pass on 2 cores takes a third longer.
        """
        share = work.total / work.num_shards if work.num_shards else 0
        with self.progress.stage(work.stage, work.total, work.unit) as bar:

            def run(shard: int) -> "ShardReport | BaseException":
                with listening(bar.advance), logged_as(stage=work.stage, shard=shard):
                    try:
                        report = work.run_shard(shard)
                    except Exception as error:
                        return error
                if report.skipped:
                    bar.skip(share)
                return report

            if workers == 1:
                yield from map(run, range(work.num_shards))
                return
            with ThreadPoolExecutor(workers) as pool:
                futures = [pool.submit(copy_context().run, run, shard) for shard in range(work.num_shards)]
                for future in as_completed(futures):
                    yield future.result()


ENGINE: ContextVar[Engine] = ContextVar("engine", default=Local())  # noqa: B039 - Quiet, it holds no state
