"""Shards in this process and as Prefect tasks: the same order of things, errors and threads."""

import threading
from collections.abc import Callable
from typing import Any

import pytest

from flows.deployments import PrefectEngine
from flows.engine import Engine, Local
from flows.jobs import Job, Work, open_work
from pipeline.runs.progress import advance
from pipeline.runs.shard import ShardReport

JOB = Job(run="nowhere", pack="none", device="cpu")
RAN: list[tuple[int, int]] = []  # shard, thread


def open_three(job: Job) -> Work:
    """Three shards, of which one may be broken."""

    def run_shard(shard: int) -> ShardReport:
        RAN.append((shard, threading.get_ident()))
        advance(2)
        if shard == job.options.get("broken"):
            raise ValueError(f"shard {shard} is broken")
        return ShardReport("three", shard, rows=1, failures=0, skipped=shard == job.options.get("skipped"))

    return Work("three", 3, "hash", run_shard, total=6, unit="things")


def outcomes(engine: Engine, *, workers: int, **options: Any) -> list[Any]:
    RAN.clear()
    job = Job(run="nowhere", pack="none", device="cpu", options=options)
    return list(engine.shards(open_three, job, open_work(open_three, job), workers=workers))


def in_prefect(run: Callable[[], Any]) -> Any:
    from prefect import flow

    return flow(name="test")(run)()


@pytest.fixture(params=["local", "prefect"])
def run_outcomes(request: pytest.FixtureRequest) -> Callable[..., list[Any]]:
    if request.param == "local":
        return lambda **options: outcomes(Local(), **options)
    request.getfixturevalue("prefect_server")
    return lambda **options: in_prefect(lambda: outcomes(PrefectEngine(), **options))


def test_shards_one_worker_stays_on_the_callers_thread_several_do_not(run_outcomes: Callable[..., list[Any]]):
    run_outcomes(workers=1)
    assert [(shard, threading.get_ident()) for shard in range(3)] == RAN
    run_outcomes(workers=2)
    assert sorted(shard for shard, _ in RAN) == [0, 1, 2]
    assert threading.get_ident() not in {thread for _, thread in RAN}


@pytest.mark.parametrize("workers", [1, 2])
def test_shards_one_that_fails_does_not_stop_the_others(run_outcomes: Callable[..., list[Any]], workers: int):
    found = run_outcomes(workers=workers, broken=1)
    assert sorted(shard for shard, _ in RAN) == [0, 1, 2]
    failed = [x for x in found if isinstance(x, BaseException)]
    assert [str(x) for x in failed] == ["three shard 1: ValueError: shard 1 is broken"]
    assert sorted(x.shard for x in found if x not in failed) == [0, 2]


class Counted:
    """A progress that counts."""

    def __init__(self) -> None:
        self.seen: list[Any] = []

    def stage(self, name: str, total: int, unit: str) -> "Counted":
        self.seen.append((name, total, unit))
        return self

    def __enter__(self) -> "Counted":
        return self

    def __exit__(self, *_: object) -> None:
        self.seen.append("end")

    def advance(self, amount: int) -> None:
        self.seen.append(amount)

    def skip(self, amount: float) -> None:
        self.seen.append(f"skipped {amount:g}")


@pytest.mark.parametrize("workers", [1, 2])
def test_local_shards_report_what_stages_advance_and_what_was_skipped(workers: int):
    progress = Counted()
    outcomes(Local(progress), workers=workers, skipped=1)
    assert progress.seen[0] == ("three", 6, "things")
    assert progress.seen[-1] == "end"
    assert sorted(map(str, progress.seen[1:-1])) == ["2", "2", "2", "skipped 2"]
