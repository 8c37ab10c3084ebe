"""Who works on shards: threads of this process, or the workers of a Dask or Ray cluster.

A cluster is opened once for a whole command, its steps included, so that every worker process loads its models once.
"""

import os
from collections.abc import Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager
from contextvars import ContextVar
from dataclasses import dataclass
from importlib import import_module
from importlib.util import find_spec
from typing import TYPE_CHECKING, Any, Protocol

from flows.jobs import Job
from pipeline.errors import ParameterError, PipelineError

if TYPE_CHECKING:
    from prefect.task_runners import TaskRunner

    from flows.groups import Result

PACKAGES = {"dask": "prefect_dask", "ray": "prefect_ray"}  # by runner, which is also the name of the extra


@dataclass(frozen=True)
class Runner:
    """Which cluster a command asks for.

    Attributes:
        name: dask or ray.
        address: of a cluster that is there already; None for one of the command's own on this machine.
        workers: processes of a cluster of its own.
        device: as the user said it.
    """

    name: str
    address: str | None
    workers: int
    device: str

    @property
    def own(self) -> bool:
        """Whether the cluster is the command's own."""
        return self.address is None

    def threads(self) -> int | None:
        """Threads of torch per shard; None where whoever started the workers has set them (OMP_NUM_THREADS)."""
        from pipeline.machine.cores import cores_each

        return cores_each(self.workers) if self.own else None


class Cluster(Protocol):
    """A cluster while it is open."""

    runner: Runner

    @property
    def slots(self) -> int:
        """Shards that it works on at a time."""
        ...

    def run(self, opener: str, job: Job, groups: Sequence[range]) -> "Iterator[list[Result] | BaseException]":
        """Have the workers run groups of shards, see ``run_group``; its results as the groups end.

        In place of a group that did not come to its end, because its workers died, stands an error.
        """
        ...

    def task_runner(self) -> "TaskRunner[Any]":
        """Prefect's runner on this cluster."""
        ...

    def placed(self) -> AbstractContextManager[Any]:
        """Tasks that are submitted within have what they need, a GPU where the cluster has any for them."""
        ...


CLUSTER: ContextVar[Cluster | None] = ContextVar("cluster", default=None)


@contextmanager
def on_runner(values: Mapping[str, Any], places: Sequence[str] = ()) -> Iterator[None]:
    """Have the shards of a command run where its parameters say; a step within it uses the cluster that is open.

    Args:
        values: the command's parameters; one without ``runner`` goes with the command it is a step of.
        places: its URIs.
    Raises:
        ParameterError: for parameters that contradict each other.
        PipelineError: if the runner's package is not installed, or there is no cluster at the address.
    """
    if "runner" not in values:
        yield
        return
    runner = _checked(values, places)
    opened = CLUSTER.get()
    if runner is None or (opened is not None and opened.runner == runner):
        yield
        return
    os.environ.setdefault("DASK_LOGGING__DISTRIBUTED", "warning")  # read at import, here and in the workers
    with import_module(f"flows.{runner.name}_cluster").open_cluster(runner) as cluster:
        token = CLUSTER.set(cluster)
        try:
            yield
        finally:
            CLUSTER.reset(token)


def _checked(values: Mapping[str, Any], places: Sequence[str]) -> Runner | None:
    """The cluster that the parameters name; None for threads of this process."""
    name, address, workers, device = (values[key] for key in ("runner", "runner_address", "workers", "device"))
    if name == "local":
        if address is not None:
            raise ParameterError(f"`runner_address` goes with the runners dask and ray; got {address!r} with local.")
        return None
    if address is not None and workers != 1:
        raise ParameterError(
            f"`workers` is for a cluster that the command starts itself; the one at {address} has its own workers. "
            f"Leave out one of the two; got {workers}."
        )
    if device.startswith("cuda:"):
        raise ParameterError(
            f"`device` must be auto, cpu or cuda with runner {name}, which gives every worker a GPU of its own; "
            f"got {device}."
        )
    in_memory = [place for place in places if place.startswith("memory:")]
    if in_memory:
        raise ParameterError(
            f"a run on runner {name} must be where every process can reach it; got {in_memory[0]}, which lives in "
            f"one process. Take a folder or a bucket."
        )
    if find_spec(PACKAGES[name]) is None:
        raise PipelineError(
            f"runner {name} needs the extra of that name; it is not installed. "
            f"Run `pip install 'styleclip-pipeline[{name}]'`, in a checkout `pip install -e '.[{name}]'`."
        )
    return Runner(name, address, workers, device)


def needs_gpu(runner: Runner, gpus: int) -> bool:
    """Whether each shard is to have a GPU for itself.

    Args:
        runner: says the device.
        gpus: how many the cluster offers as a resource.
    Raises:
        PipelineError: if GPUs are asked for and the cluster offers none; its tasks would wait for ever.
    """
    if runner.device == "cuda" and not gpus:
        remedy = {"dask": "Start its workers with `--resources GPU=1`, one worker a GPU", "ray": "Add nodes with GPUs"}
        raise PipelineError(
            f"device cuda on runner {runner.name} needs workers that offer a GPU; none does. {remedy[runner.name]}, or "
            f"take device cpu."
        )
    return gpus > 0 and runner.device in ("cuda", "auto")
