"""Shards as other processes work on them: groups go out with a job, and what became of each shard comes back."""

import pickle
import traceback
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, TypeAlias, Union

from flows.failures import stops_the_run
from flows.jobs import Job, work_named
from flows.logs import logged_as

if TYPE_CHECKING:
    from pipeline.runs.shard import ShardReport

Result: TypeAlias = Union["ShardReport", "Failure"]

MOST_TASKS = 256  # of one stage, where its workers are few: Prefect's server takes some 0.1 s for each
TASKS_PER_SLOT = 8  # at least, where there are shards enough, so that slow ones even out


@dataclass(frozen=True)
class Failure:
    """What a shard raised, in a form that can be sent: pickling an exception drops its cause and its traceback.

    Attributes:
        error: what was raised, its traceback as a note.
        cause: what it was raised from.
    """

    error: BaseException
    cause: BaseException | None

    def unpacked(self) -> BaseException:
        """The error as it was raised."""
        self.error.__cause__ = self.cause
        return self.error


class GroupFailedError(Exception):
    """Some shards of a task failed: the task's state is then failed, and what became of each shard is kept.

    Attributes:
        results: of all its shards.
    """

    def __init__(self, results: list[Result]) -> None:
        super().__init__(results)
        self.results = results

    def __str__(self) -> str:
        failed = [str(result.error) for result in self.results if isinstance(result, Failure)]
        return f"{len(failed)} of {len(self.results)} shards failed: {'; '.join(failed)}"


def grouped(num_shards: int, slots: int) -> list[range]:
    """Shards as tasks: one each while they are few, else ranges of equal length.

    Orchestration costs some 0.1 s a task, and a server's database grows by 20 KB for each: a stage of 400,000 shards
    must not be as many tasks.

    Args:
        num_shards: of the stage.
        slots: shards worked on at a time.
    """
    size = -(-num_shards // max(MOST_TASKS, TASKS_PER_SLOT * slots)) or 1
    return [range(start, min(start + size, num_shards)) for start in range(0, num_shards, size)]


def run_group(opener: str, job: Job, shards: range, threads: int | None = None) -> list[Result]:
    """Run shards one after the other in this process; one that fails does not stop the others, if they can do better.

    Args:
        opener: see ``work_named``.
        job: what to work on.
        shards: their numbers.
        threads: of torch in the calling thread; None leaves them as they are.
    """
    if threads is not None:
        import torch

        torch.set_num_threads(threads)
    work = work_named(opener, job)
    results: list[Result] = []
    for shard in shards:
        try:
            with logged_as(stage=work.stage, shard=shard):
                results.append(work.run_shard(shard))
        except Exception as error:
            results.append(_sendable(error))
            if stops_the_run(error):
                break
    return results


def run_task(opener: str, job: Job, shards: range, threads: int | None = None) -> list[Result]:
    """``run_group`` as a task whose state says whether shards failed.

    Raises:
        GroupFailedError: if one of several failed; what a lone one raises is raised as it is.
    """
    results = run_group(opener, job, shards, threads)
    failed = [result for result in results if isinstance(result, Failure)]
    if failed:
        raise failed[0].unpacked() if len(results) == 1 else GroupFailedError(results)
    return results


def outcomes(results: Sequence[Result]) -> "list[ShardReport | BaseException]":
    """What became of each shard: its report, or what it raised."""
    return [result.unpacked() if isinstance(result, Failure) else result for result in results]


def for_every_process(job: Job) -> Job:
    """The job with its folders as they are called everywhere: a worker may have another working directory."""
    from pipeline.packs.pack import built_in_packs
    from storage import Store

    return replace(
        job,
        run=Store(job.run).uri,
        inputs=None if job.inputs is None else Store(job.inputs).uri,
        pack=job.pack if job.pack in built_in_packs() else Store(job.pack).uri,
    )


def _sendable(error: Exception) -> Failure:
    """The error and its cause, each as text where it cannot be pickled."""
    trace = "".join(traceback.format_exception(error))
    cause = error.__cause__
    failure = Failure(_picklable(error), None if cause is None else _picklable(cause))
    failure.error.add_note(trace)
    return failure


def _picklable(error: BaseException) -> BaseException:
    try:
        pickle.loads(pickle.dumps(error))
    except Exception:
        return RuntimeError(f"{type(error).__name__}: {error}")
    return error
