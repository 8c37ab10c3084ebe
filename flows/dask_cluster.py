"""A Dask cluster for shards: the user's, or one of a command's own on this machine, which listens on loopback only."""

import os
from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from typing import Any

import dask
from distributed import Client, Nanny, Scheduler, SpecCluster, as_completed
from distributed.security import Security
from prefect.task_runners import TaskRunner
from prefect_dask.task_runners import DaskTaskRunner

from flows.groups import Result, run_group
from flows.jobs import Job
from flows.runners import Runner, needs_gpu
from pipeline.errors import PipelineError

LOOPBACK = "127.0.0.1"
SERVED = {"protocol": "tls://", "host": LOOPBACK, "dashboard": False, "dashboard_address": f"{LOOPBACK}:0"}
CONNECT_SECONDS = 20


class DaskCluster:
    """Workers of a Dask scheduler.

    Args:
        runner: what was asked for.
        client: connected to the scheduler.
        security: keys of a cluster of the command's own; None where the user's configuration has them.
    """

    def __init__(self, runner: Runner, client: Client, security: Security | None) -> None:
        self.runner, self.client, self.security = runner, client, security
        workers = client.scheduler_info(n_workers=-1)["workers"].values()
        gpus = sum(int(worker["resources"].get("GPU", 0)) for worker in workers)
        self.resources = {"GPU": 1} if needs_gpu(runner, gpus) else None
        self.slots = gpus if self.resources else sum(worker["nthreads"] for worker in workers)

    def run(self, opener: str, job: Job, groups: Sequence[range]) -> Iterator[list[Result] | BaseException]:
        """By the client itself: without Prefect there is nothing to tell a server."""
        threads = self.runner.threads()
        futures = [
            self.client.submit(run_group, opener, job, group, threads, pure=False, resources=self.resources)
            for group in groups
        ]
        try:
            for future in as_completed(futures, loop=self.client.loop):
                yield future.result() if future.status == "finished" else _lost(future)
        finally:
            self.client.cancel(futures)  # those of a run that stops: the cluster may go on

    def task_runner(self) -> TaskRunner[Any]:
        """Prefect's, connected to the same scheduler."""
        assert self.client.scheduler is not None
        keys = {} if self.security is None else {"security": self.security}
        return DaskTaskRunner(address=self.client.scheduler.address, client_kwargs=keys)

    def placed(self) -> AbstractContextManager[Any]:
        """Tasks submitted within take a unit of the resource GPU, if they are to have one."""
        return dask.annotate(resources=self.resources) if self.resources else nullcontext()  # pyright: ignore


@contextmanager
def open_cluster(runner: Runner) -> Iterator[DaskCluster]:
    """Connect to the scheduler at the runner's address, or start one with its workers and stop it afterwards.

    Raises:
        PipelineError: if nobody answers at the address, or this machine has fewer GPUs than workers are to have one.
    """
    if runner.address is not None:
        with _connected(runner.address, None) as client:
            if not client.nthreads():
                raise PipelineError(
                    f"the Dask scheduler at {runner.address} must have workers; it has none. Start some with "
                    f"`dask worker {runner.address} --nthreads 1`."
                )
            yield DaskCluster(runner, client, None)
        return
    security = Security.temporary()  # other users of this machine can reach its loopback too
    with (
        SpecCluster(
            workers=_workers(runner, security),
            scheduler={"cls": Scheduler, "options": {**SERVED, "security": security}},
            security=security,
            silence_logs=True,
        ) as cluster,
        _connected(cluster.scheduler_address, security) as client,  # pyright: ignore[reportAttributeAccessIssue]
    ):
        client.wait_for_workers(runner.workers)
        yield DaskCluster(runner, client, security)


@contextmanager
def _connected(address: str, security: Security | None) -> Iterator[Client]:
    try:
        client = Client(address, security=security, timeout=CONNECT_SECONDS, set_as_default=False)
    except (OSError, ValueError) as error:
        raise PipelineError(
            f"`runner_address` must be that of a Dask scheduler that answers, as tcp://host:8786; {address} does not "
            f"({error})."
        ) from error
    with client:
        yield client


def _workers(runner: Runner, security: Security) -> dict[int, dict[str, Any]]:
    """One process a worker, one shard at a time in each, each with a GPU of its own where there are any."""
    visible = _visible_gpus(runner)
    made = {}
    for index in range(runner.workers):
        options: dict[str, Any] = {
            **SERVED,
            "security": security,
            "nthreads": 1,
            "memory_limit": 0,  # stages bound their own memory; Dask would pause or kill a worker that loads models
        }
        if visible:
            options |= {"resources": {"GPU": 1}, "env": {"CUDA_VISIBLE_DEVICES": visible[index]}}
        made[index] = {"cls": Nanny, "options": options}
    return made


def _visible_gpus(runner: Runner) -> list[str]:
    """The GPUs of this machine, as CUDA_VISIBLE_DEVICES names them; none where shards run on CPUs."""
    import torch

    count = torch.cuda.device_count() if runner.device in ("auto", "cuda") else 0
    if count and count < runner.workers:
        raise PipelineError(
            f"`workers` must be at most the GPUs of this machine, since each worker has one; got {runner.workers}, "
            f"there are {count}."
        )
    named = os.environ.get("CUDA_VISIBLE_DEVICES")
    return named.split(",")[:count] if named else [str(index) for index in range(count)]


def _lost(future: Any) -> Exception:
    """What to say of a task that did not come to its end: its workers died, or the scheduler went away."""
    reason = "the connection to the scheduler was lost" if future.cancelled() else future.exception()
    return PipelineError(
        f"a task of shards did not end: {reason}. What is finished is kept; run the same command again, with fewer "
        f"workers if memory was short."
    )
