import threading
from collections.abc import Iterator

import pytest
import torch

from pipeline.machine.cores import map_on_cores
from tests.threads import torch_threads

CPU = torch.device("cpu")


@pytest.fixture
def three_threads() -> Iterator[None]:
    with torch_threads(3):
        yield


@pytest.mark.usefixtures("three_threads")
def test_as_many_items_run_at_a_time_as_torch_has_threads_and_results_keep_the_order():
    together = threading.Barrier(3)  # would never open for fewer

    def run(item: int) -> int:
        together.wait(timeout=30)
        return 10 * item

    assert list(map_on_cores(run, range(6), device=CPU)) == [0, 10, 20, 30, 40, 50]


@pytest.mark.usefixtures("three_threads")
def test_torch_has_one_thread_within_and_its_own_number_outside_and_in_new_threads():
    def run(item: int) -> int:
        x = torch.randn(200, 200, requires_grad=True)
        (x @ x).exp().sum().backward()
        return torch.get_num_threads()

    assert list(map_on_cores(run, range(4), device=CPU)) == [1, 1, 1, 1]
    new: list[int] = []
    thread = threading.Thread(target=lambda: new.append(torch.get_num_threads()))
    thread.start()
    thread.join()
    assert torch.get_num_threads() == 3
    assert new == [3]


@pytest.mark.usefixtures("three_threads")
@pytest.mark.parametrize("on", [True, False])
def test_gradients_are_on_where_they_are_in_the_caller(on: bool):
    with torch.set_grad_enabled(on):
        assert list(map_on_cores(lambda item: torch.is_grad_enabled(), range(3), device=CPU)) == [on] * 3


@pytest.mark.usefixtures("three_threads")
def test_items_are_not_taken_far_ahead_of_the_results():
    taken: list[int] = []

    def items() -> Iterator[int]:
        for i in range(100):
            taken.append(i)
            yield i

    next(map_on_cores(lambda item: item, items(), device=CPU))
    assert len(taken) == 4


@pytest.mark.usefixtures("three_threads")
def test_an_error_is_raised_and_what_has_not_started_is_not_run():
    done: list[int] = []

    def run(item: int) -> int:
        if item == 1:
            raise ValueError("no")
        done.append(item)
        return item

    with pytest.raises(ValueError, match="no"):
        list(map_on_cores(run, range(100), device=CPU))
    assert len(done) < 10


@pytest.mark.usefixtures("three_threads")
@pytest.mark.parametrize(("items", "device"), [([1], CPU), ([1, 2], torch.device("meta")), ([], CPU)])
def test_a_lone_item_and_other_devices_stay_in_the_calling_thread(items: list[int], device: torch.device):
    found = list(map_on_cores(lambda item: threading.get_ident(), items, device=device))
    assert found == [threading.get_ident()] * len(items)


@pytest.mark.usefixtures("three_threads")
def test_within_an_item_there_is_nothing_to_spread():
    def run(item: int) -> bool:
        here = threading.get_ident()
        return list(map_on_cores(lambda _: threading.get_ident(), range(3), device=CPU)) == [here] * 3

    assert list(map_on_cores(run, range(3), device=CPU)) == [True] * 3
