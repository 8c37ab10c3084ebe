"""A Ray cluster for shards: the user's, or one of a command's own on this machine."""

import logging
import os
from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager
from typing import Any

import ray
from prefect.task_runners import TaskRunner
from prefect_ray import RayTaskRunner
from prefect_ray.context import remote_options
from ray.exceptions import RayError

from flows.groups import Result, run_group
from flows.jobs import Job
from flows.runners import Runner, needs_gpu
from pipeline.errors import PipelineError

STORE_BYTES = 2**27  # Ray's object store: tasks pass names and counts; its own choice is a third of the memory


class RayCluster:
    """Workers of a Ray cluster that this process is connected to.

    Args:
        runner: what was asked for.
    """

    def __init__(self, runner: Runner) -> None:
        self.runner = runner
        offered = ray.cluster_resources()
        gpu = needs_gpu(runner, int(offered.get("GPU", 0)))
        # by itself Ray ends a process after one task with a GPU, and the next would load the models again
        self.options: dict[str, Any] = {"num_gpus": 1, "max_calls": 0} if gpu else {"num_cpus": 1}
        self.slots = max(1, int(offered.get("GPU" if gpu else "CPU", 1)))

    def run(self, opener: str, job: Job, groups: Sequence[range]) -> Iterator[list[Result] | BaseException]:
        """By Ray itself: without Prefect there is nothing to tell a server."""
        remote: Any = ray.remote(**self.options)(run_group)
        threads = self.runner.threads()
        pending = [remote.remote(opener, job, group, threads) for group in groups]
        try:
            while pending:
                ended, pending = ray.wait(pending, num_returns=1)
                try:
                    yield ray.get(ended[0])
                except RayError as error:
                    yield _lost(error)
        finally:
            for task in pending:  # those of a run that stops: the cluster may go on
                ray.cancel(task)

    def task_runner(self) -> TaskRunner[Any]:
        """Prefect's, which takes the connection that this process has."""
        return RayTaskRunner()

    def placed(self) -> AbstractContextManager[Any]:
        """Tasks submitted within have a GPU, if they are to have one."""
        return remote_options(**self.options)


@contextmanager
def open_cluster(runner: Runner) -> Iterator[RayCluster]:
    """Connect to the cluster at the runner's address, or start one and stop it afterwards.

    Raises:
        PipelineError: if nobody answers at the address.
    """
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")  # nothing about a run leaves the machine
    os.environ.setdefault("RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO", "0")  # a task without a GPU leaves the variable alone
    os.environ.setdefault("RAY_worker_niceness", "0")  # by itself Ray's workers give way to everything else
    if runner.address is None:
        _start(runner)
    else:
        _connect(runner.address)
    try:
        yield RayCluster(runner)
    finally:
        ray.shutdown()


def _start(runner: Runner) -> None:
    # "local": by itself Ray joins a cluster that an earlier run left a note of
    ray.init(
        "local",
        num_cpus=runner.workers,
        include_dashboard=False,
        object_store_memory=STORE_BYTES,
        logging_level=logging.WARNING,
        namespace="styleclip",
    )


def _connect(address: str) -> None:
    try:
        ray.init(address, logging_level=logging.WARNING, namespace="styleclip")
    except (ConnectionError, ValueError, RuntimeError) as error:
        raise PipelineError(
            f"`runner_address` must be that of a Ray cluster that answers, as ray://host:10001, or auto on one of its "
            f"nodes; {address} does not ({error})."
        ) from error


def _lost(error: RayError) -> Exception:
    """What to say of a task that did not come to its end: its workers died."""
    return PipelineError(
        f"a task of shards did not end: {str(error).strip().splitlines()[0]} What is finished is kept; run the same "
        f"command again, with fewer workers if memory was short."
    )
