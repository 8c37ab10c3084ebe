import random
import tracemalloc
from pathlib import Path

import pytest

from storage import SortedRecords, sorting


@pytest.mark.parametrize("run_length", [1, 7, 1_000])
def test_sorted_records_come_in_order_and_again(run_length: int):
    rng = random.Random(0)
    records = [(f"{rng.randrange(50)}", chr(rng.randrange(32, 0x2FFF)) + "\n", "x") for _ in range(150)]
    with SortedRecords(records, run_length=run_length) as found:
        assert found.count == 150
        assert list(found) == sorted(records)
        assert list(found) == sorted(records)


def test_sorted_records_merge_when_there_are_too_many_runs(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(sorting, "MOST_RUNS", 3)
    records = [(f"{i * 7 % 40:02d}",) for i in range(40)]
    with SortedRecords(records, run_length=2) as found:
        assert list(found) == sorted(records)
        assert len(found._runs) <= 3


def test_sorted_records_leave_nothing_on_the_disk():
    with SortedRecords([("a",)]) as found:
        folder = Path(found._folder.name)
        assert list(folder.iterdir())
    assert not folder.exists()


def test_sorted_records_hold_one_run_at_a_time():
    def peak(count: int) -> int:
        tracemalloc.start()
        with SortedRecords(((f"{i * 7919 % count:09d}", "x" * 50) for i in range(count)), run_length=500) as found:
            assert sum(1 for _ in found) == count
        size = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
        return size

    assert peak(20_000) < 1_000_000  # all of them would be 4 MB
