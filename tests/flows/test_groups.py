"""Groups of shards: how many tasks a stage is, and what comes back from another process."""

import pickle
import signal
from collections.abc import Iterator
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from flows.engine import Local
from flows.groups import (
    MOST_TASKS,
    TASKS_PER_SLOT,
    GroupFailedError,
    Result,
    for_every_process,
    grouped,
    outcomes,
    run_group,
)
from flows.jobs import Job, Work
from flows.runners import CLUSTER, Runner
from flows.stopping import Stopped, stopping_between_shards
from pipeline.errors import ShardError
from pipeline.runs.shard import ShardReport
from storage import ConflictError

JOB = Job(run="nowhere", pack="none", device="cpu")
OPENER = f"{__name__}:open_four"


class UnpicklableError(Exception):
    """Takes two arguments and keeps one."""

    def __init__(self, first: str, second: str) -> None:
        super().__init__(first)


def open_four(job: Job) -> Work:
    """Four shards; the second and the third are broken."""

    def run_shard(shard: int) -> ShardReport:
        if shard == 1:
            raise ValueError("shard 1 is broken") from KeyError("why")
        if shard == 2:
            raise UnpicklableError("shard 2", "x")
        return ShardReport("four", shard, rows=1, failures=0, skipped=False)

    return Work("four", 4, "hash", run_shard)


@given(st.integers(0, 500_000), st.integers(1, 100))
def test_grouped_covers_every_shard_once_in_few_tasks(num_shards: int, slots: int):
    groups = grouped(num_shards, slots)
    assert [shard for group in groups for shard in group] == list(range(num_shards))
    assert len(groups) <= max(MOST_TASKS, TASKS_PER_SLOT * slots)


def test_grouped_few_shards_are_a_task_each():
    assert grouped(MOST_TASKS, 2) == [range(shard, shard + 1) for shard in range(MOST_TASKS)]


def test_run_group_goes_on_past_a_shard_that_fails_and_its_errors_can_be_sent():
    sent = pickle.loads(pickle.dumps(run_group(OPENER, JOB, range(4))))
    found = outcomes(sent)
    assert [type(x).__name__ for x in found] == ["ShardReport", "ShardError", "ShardError", "ShardReport"]
    assert isinstance(found[1], ShardError)
    assert str(found[1]) == "four shard 1: ValueError: shard 1 is broken"
    assert repr(found[1].__cause__) == "ValueError('shard 1 is broken')"
    assert "in run_shard" in found[1].__notes__[0]
    assert repr(found[2].__cause__) == "RuntimeError('UnpicklableError: shard 2')"


def open_conflict(job: Job) -> Work:
    """Shards in a folder of other settings: none can do better than another."""

    def run_shard(shard: int) -> ShardReport:
        raise ConflictError(f"shard {shard}")

    return Work("conflict", 4, "hash", run_shard)


def test_run_group_ends_where_no_other_shard_could_do_better():
    found = outcomes(run_group(f"{__name__}:open_conflict", JOB, range(4)))
    assert [(type(x), str(x)) for x in found] == [(ConflictError, "shard 0")]


class Handing:
    """A cluster that hands out groups, and says whether it was told to give up the rest."""

    runner, slots = Runner("dask", None, 1, "cpu"), 1

    def __init__(self) -> None:
        self.handed, self.closed = 0, False

    def run(self, opener: str, job: Job, groups: list[range]) -> Iterator[list[Result]]:
        try:
            for group in groups:
                self.handed += 1
                yield [ShardReport("four", shard, rows=1, failures=0, skipped=False) for shard in group]
        finally:
            self.closed = True


def test_shards_of_a_cluster_are_given_up_once_a_stop_was_asked_for():
    cluster: Any = Handing()
    token = CLUSTER.set(cluster)
    try:
        with stopping_between_shards(lambda: None):
            shards = Local().shards(open_four, JOB, open_four(JOB), workers=1)
            assert next(shards).shard == 0
            signal.raise_signal(signal.SIGTERM)
            with pytest.raises(Stopped):
                next(shards)
    finally:
        CLUSTER.reset(token)
    assert (cluster.handed, cluster.closed) == (1, True)


def test_group_failed_error_names_every_shard_that_failed_and_can_be_sent():
    error = pickle.loads(pickle.dumps(GroupFailedError(run_group(OPENER, JOB, range(4)))))
    assert str(error) == (
        "2 of 4 shards failed: four shard 1: ValueError: shard 1 is broken; four shard 2: UnpicklableError: shard 2"
    )
    assert [x.shard for x in outcomes(error.results) if isinstance(x, ShardReport)] == [0, 3]


def test_run_group_threads_are_those_of_the_shard():
    import torch

    run_group(OPENER, JOB, range(1), threads=3)
    assert torch.get_num_threads() == 3


def test_for_every_process_folders_do_not_depend_on_the_working_directory(tmp_path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.chdir(tmp_path)
    job = for_every_process(Job(run="output/a", inputs="s3://b/c", pack="packs/mine", device="cpu"))
    assert (job.run, job.inputs, job.pack) == (f"{tmp_path}/output/a", "s3://b/c", f"{tmp_path}/packs/mine")
    assert for_every_process(Job(run="a", pack="peeps", device="cpu")).pack == "peeps"
