"""Items made in one thread, finished on others, taken in order."""

import threading
from collections.abc import Iterator

import pytest
import torch

from pipeline.machine.beside import Leaving, finish_beside


def test_results_come_in_order_from_other_threads():
    def finish(item: int) -> tuple[int, bool]:
        return item, threading.current_thread() is threading.main_thread()

    assert list(finish_beside(finish, range(20), threads=3, ahead=4)) == [(i, False) for i in range(20)]


@pytest.mark.parametrize("ahead", [1, 3])
def test_no_more_items_are_made_than_are_wanted_ahead(ahead: int):
    made, most, taken = 0, 0, 0

    def items() -> Iterator[int]:
        nonlocal made, most
        for i in range(12):
            made += 1
            most = max(most, made - taken)
            yield i

    for _ in finish_beside(lambda i: i, items(), threads=2, ahead=ahead):
        taken += 1
    assert (taken, most) == (12, ahead)


def test_items_are_made_while_earlier_ones_are_finished():
    second_is_made = threading.Event()

    def items() -> Iterator[int]:
        yield 0
        second_is_made.set()
        yield 1

    assert list(finish_beside(lambda i: second_is_made.wait(30), items(), threads=1, ahead=2)) == [True, True]


def test_an_error_of_an_item_comes_out_and_ends_the_work():
    def finish(item: int) -> int:
        if item == 2:
            raise ValueError("item 2")
        return item

    found = []
    with pytest.raises(ValueError, match="item 2"):
        found.extend(finish_beside(finish, range(100), threads=1, ahead=2))
    made = []
    with pytest.raises(ValueError, match="making"):
        for _ in finish_beside(made.append, (i if i < 3 else _fail() for i in range(9)), threads=1, ahead=2):
            pass
    assert made[:2] == [0, 1]


def _fail() -> int:
    raise ValueError("making")


def test_a_cpu_s_tensor_leaves_as_it_is():
    x = torch.arange(6).view(2, 3)
    assert Leaving(x).array().tolist() == x.tolist()
