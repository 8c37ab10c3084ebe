import threading

import pytest
from prefect import flow, task
from prefect.cache_policies import NO_CACHE

from flows.runners import run_shards

pytestmark = pytest.mark.usefixtures("prefect_server")


def run(workers: int, *, broken: int | None = None) -> tuple[set[int], set[int], int, BaseException | None]:
    """Shards that ran, the threads they ran on, the flow's own thread, and what was raised."""
    ran, threads, own, raised = set[int](), set[int](), 0, None

    @task(cache_policy=NO_CACHE)
    def shard_task(prefix: str, shard: int) -> dict[str, object]:
        ran.add(shard)
        threads.add(threading.get_ident())
        if shard == broken:
            raise ValueError(f"{prefix} {shard} is broken")
        return {"stage": "shards", "rows": 1, "skipped": False}

    @flow
    def shards_flow() -> None:
        nonlocal own, raised
        own = threading.get_ident()
        try:
            run_shards(shard_task, num_shards=3, workers=workers, parameters={"prefix": "shard"})
        except ValueError as error:
            raised = error

    shards_flow()
    return ran, threads, own, raised


def test_run_shards_one_worker_stays_on_the_flows_thread_several_do_not():
    ran, threads, own, _ = run(1)
    assert (ran, threads) == ({0, 1, 2}, {own})
    ran, threads, own, _ = run(2)
    assert ran == {0, 1, 2}
    assert own not in threads


@pytest.mark.parametrize("workers", [1, 2])
def test_run_shards_one_that_fails_does_not_stop_the_others(workers: int):
    ran, _, _, raised = run(workers, broken=1)
    assert ran == {0, 1, 2}
    assert str(raised) == "shard 1 is broken"
