from collections.abc import Iterator, Sequence
from weakref import WeakKeyDictionary

import pytest
import torch

from pipeline.machine import batch_size
from pipeline.machine.batch_size import CUDA_BATCH, Batches, Cost, choose_batch_size, grown_batch_size, render_bytes
from pipeline.packs.pack import Pack
from tests.threads import torch_threads


@pytest.fixture
def threads() -> Iterator[int]:
    """Of torch, for the test."""
    with torch_threads(2):
        yield 2


def free_for(monkeypatch: pytest.MonkeyPatch, num_bytes: float) -> None:
    """So much memory that a quarter of it is ``num_bytes``."""
    monkeypatch.setattr(batch_size, "free_bytes", lambda device: int(4 * num_bytes) + 1)


@pytest.mark.parametrize(("renders", "chosen"), [(0.5, 1), (1, 1), (3.9, 2), (4, 4), (15.9, 8), (1000, 16)])
def test_a_batch_on_every_core_fits_a_quarter_of_the_free_memory(
    tiny_pack: Pack, threads: int, monkeypatch: pytest.MonkeyPatch, renders: float, chosen: int
):
    free_for(monkeypatch, renders * threads * render_bytes(tiny_pack.generator))
    assert choose_batch_size(tiny_pack.generator) == chosen


@pytest.mark.usefixtures("threads")
def test_with_gradients_one_batch_is_at_work_and_a_render_holds_more(tiny_pack: Pack, monkeypatch: pytest.MonkeyPatch):
    each = render_bytes(tiny_pack.generator, gradient=True)
    assert each > render_bytes(tiny_pack.generator)
    free_for(monkeypatch, 4 * each)
    assert choose_batch_size(tiny_pack.generator, gradient=True) == 4


def test_a_number_asked_for_is_taken(tiny_pack: Pack, monkeypatch: pytest.MonkeyPatch):
    free_for(monkeypatch, 1)
    assert choose_batch_size(tiny_pack.generator, 24) == 24


def test_free_memory_is_some_of_the_machines():
    assert 0 < batch_size.free_bytes(torch.device("cpu")) < 2**50


# ------------------------------------------------------------------ measured, on a card that is made up


class Card:
    """Renders take a fixed time to start and then some each; above ``wide`` they gain nothing from company."""

    def __init__(self, *, start: float, wide: int, each_bytes: int, memory: int) -> None:
        self.start, self.wide, self.each_bytes, self.memory = start, wide, each_bytes, memory
        self.tried: list[int] = []

    def trial(self, size: int) -> Cost:
        self.tried.append(size)
        if size * self.each_bytes > self.memory:
            raise torch.OutOfMemoryError(f"{size} are too many")
        return Cost(self.start + max(1.0, size / self.wide), size * self.each_bytes)


@pytest.mark.parametrize(("wide", "chosen"), [(1, 1), (4, 4), (64, 64), (10**6, CUDA_BATCH)])
def test_a_batch_grows_until_throughput_does_not(wide: int, chosen: int):
    card = Card(start=0.0, wide=wide, each_bytes=1, memory=10**9)
    assert grown_batch_size(card.trial, budget=10**9, most=CUDA_BATCH) == chosen


@pytest.mark.parametrize(("budget", "chosen"), [(100, 1), (199, 1), (200, 2), (799, 4), (800, 8)])
def test_a_batch_keeps_to_its_budget_without_trying_beyond(budget: int, chosen: int):
    card = Card(start=9.0, wide=10**6, each_bytes=100, memory=10**9)
    assert grown_batch_size(card.trial, budget=budget, most=CUDA_BATCH) == chosen
    assert max(card.tried) * 100 <= budget


def test_a_trial_out_of_memory_ends_the_growth():
    card = Card(start=9.0, wide=10**6, each_bytes=100, memory=350)
    assert grown_batch_size(card.trial, budget=10**9, most=CUDA_BATCH) == 2


def test_a_card_that_does_not_hold_one_render_says_so():
    with pytest.raises(torch.OutOfMemoryError):
        grown_batch_size(Card(start=1.0, wide=1, each_bytes=100, memory=50).trial, budget=10**9, most=CUDA_BATCH)


def test_a_size_is_measured_once_for_each_generator_and_kind(tiny_pack: Pack, monkeypatch: pytest.MonkeyPatch):
    asked: list[tuple[int, bool, str]] = []

    def trial(generator: object, size: int, *, gradient: bool, precision: str) -> Cost:
        asked.append((size, gradient, precision))
        return Cost(1.0, 1)

    monkeypatch.setattr(batch_size, "_trial", trial)
    monkeypatch.setattr(torch.cuda, "mem_get_info", lambda device: (2**30, 2**32))
    monkeypatch.setattr(batch_size, "_sizes", WeakKeyDictionary())
    for _ in range(2):
        for gradient, precision in ((False, "full"), (True, "full"), (True, "half")):
            found = batch_size._measured(tiny_pack.generator, gradient=gradient, precision=precision)  # type: ignore[arg-type]
            assert found == CUDA_BATCH  # time does not grow with the size
    assert len(asked) == 3 * CUDA_BATCH.bit_length()


# ------------------------------------------------------------------ out of memory


@pytest.mark.parametrize(("held", "sizes"), [(8, [8, 2]), (4, [8, 4, 4, 2]), (1, [8, 4, 2, *[1] * 10])])
def test_out_of_memory_halves_the_batch_and_goes_on(held: int, sizes: list[int]):
    tried = []

    def run(part: Sequence[int]) -> list[int]:
        tried.append(len(part))
        if len(part) > held:
            raise torch.OutOfMemoryError("too many")
        return [10 * x for x in part]

    batches = Batches(8)
    assert batches.run(run, range(10)) == [10 * x for x in range(10)]
    assert tried == sizes
    assert batches.size == min(8, held)  # later work does not try again


def test_one_item_out_of_memory_is_an_error():
    def run(part: Sequence[int]) -> list[int]:
        raise torch.OutOfMemoryError("too large")

    with pytest.raises(torch.OutOfMemoryError, match="too large"):
        Batches(4).run(run, range(4))
