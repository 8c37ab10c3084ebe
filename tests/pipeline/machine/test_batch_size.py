from collections.abc import Iterator

import pytest
import torch

from pipeline.machine import batch_size
from pipeline.machine.batch_size import choose_batch_size, render_bytes
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
