"""Who runs steps and shards: this process by itself, or Prefect (``flows/deployments.py``), which puts its own here.

Either has shards worked on by this process's threads, or by a cluster that is open (``flows/runners.py``).
"""

import logging
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor, as_completed
from contextvars import ContextVar, copy_context
from typing import TYPE_CHECKING, Any, Protocol

from flows.groups import for_every_process, grouped, outcomes
from flows.jobs import Job, OpenWork, Work, name_of
from flows.logs import logged_as
from flows.progress import Bar, Progress, Quiet
from flows.runners import CLUSTER, Cluster, on_runner
from flows.stopping import check_stopped
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
        """Run the command's body in this thread; what it does in shards, where its parameters say."""
        run = {"run": request["run"]} if request.values.get("run") else {}
        with logged_as(command=command.name, **run), on_runner(request.values, request.places):
            return command.body(request)

    def shards(
        self, opener: OpenWork, job: Job, work: Work, *, workers: int
    ) -> "Iterator[ShardReport | BaseException]":
        """By the cluster that is open; without one in threads, in the caller's own where one works alone.

        OpenMP counts a second thread's team as more threads than there are cores, and from then on every barrier sleeps
        instead of spinning; a backward pass on 2 cores takes a third longer.
        """
        share = work.total / work.num_shards if work.num_shards else 0
        cluster = CLUSTER.get()
        with self.progress.stage(work.stage, work.total, work.unit) as bar:
            if cluster is not None:
                yield from _on_cluster(cluster, name_of(opener), job, work, bar)
                return

            def run(shard: int) -> "ShardReport | BaseException":
                with listening(bar.advance), logged_as(stage=work.stage, shard=shard):
                    try:
                        report = work.run_shard(shard)
                    except Exception as error:
                        self.log.debug("shard %d of %s", shard, work.stage, exc_info=error)
                        return error
                if report.skipped:
                    bar.skip(share)
                return report

            if workers == 1:
                yield from map(run, range(work.num_shards))
                return
            pool = ThreadPoolExecutor(workers)
            try:
                futures = [pool.submit(copy_context().run, run, shard) for shard in range(work.num_shards)]
                for future in as_completed(futures):
                    yield future.result()
            finally:
                pool.shutdown(cancel_futures=True)  # whoever listens may stop before the end


def _on_cluster(
    cluster: Cluster, opener: str, job: Job, work: Work, bar: Bar
) -> "Iterator[ShardReport | BaseException]":
    """Shards by a cluster's workers, whose progress is seen shard by shard."""
    groups = grouped(work.num_shards, cluster.slots)
    ended = 0
    for group in cluster.run(opener, for_every_process(job), groups):
        for outcome in [group] if isinstance(group, BaseException) else outcomes(group):
            if isinstance(outcome, BaseException):
                yield outcome
                continue
            ended += 1
            if outcome.skipped:
                bar.skip(work.total / work.num_shards)
            else:
                bar.advance(work.total * ended // work.num_shards - work.total * (ended - 1) // work.num_shards)
            yield outcome
        check_stopped()  # the workers do not hear of it


ENGINE: ContextVar[Engine] = ContextVar("engine", default=Local())  # noqa: B039 - Quiet, it holds no state
