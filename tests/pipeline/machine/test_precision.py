"""Precision as a setting: refused where it cannot run, held while work goes on, never what torch does by itself."""

import threading
from collections.abc import Iterator

import pytest
import torch

from pipeline.config import (
    ChannelDirectionsConfig,
    DatasetConfig,
    MappersConfig,
    OptimizedLatentsConfig,
    ScreeningConfig,
)
from pipeline.errors import PipelineError
from pipeline.machine import precision as module
from pipeline.machine.precision import check_precision, held_precision
from pipeline.optimization.mappers import _deterministic

CUDA, CPU = torch.device("cuda"), torch.device("cpu")


def switches() -> tuple[bool, bool, bool]:
    """TF32 in convolutions, TF32 in matrix products, cuDNN at all."""
    return torch.backends.cudnn.allow_tf32, torch.backends.cuda.matmul.allow_tf32, torch.backends.cudnn.enabled


def set_switches(convolutions: bool, products: bool, cudnn: bool) -> None:
    torch.backends.cudnn.allow_tf32, torch.backends.cuda.matmul.allow_tf32 = convolutions, products
    torch.backends.cudnn.enabled = cudnn


@pytest.fixture(autouse=True)
def switches_kept() -> Iterator[None]:
    before = switches()
    yield
    set_switches(*before)


@pytest.fixture
def card(monkeypatch: pytest.MonkeyPatch) -> None:
    """A card that has everything."""
    monkeypatch.setattr(torch.cuda, "get_device_capability", lambda device: (9, 0))


@pytest.mark.parametrize("precision", ["tf32", "half"])
def test_faster_precision_on_a_cpu_is_refused(precision):
    with pytest.raises(PipelineError, match=f"must be full on cpu.*got '{precision}'.*--precision full"):
        check_precision(precision, CPU)
    check_precision("full", CPU)


@pytest.mark.parametrize(
    ("precision", "capability", "wanted"),
    [("tf32", (7, 5), "8.0"), ("half", (6, 1), "7.0")],
)
def test_a_card_without_the_precision_is_refused(precision, capability, wanted, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(torch.cuda, "get_device_capability", lambda device: capability)
    monkeypatch.setattr(torch.cuda, "get_device_name", lambda device: "Old Card")
    with pytest.raises(PipelineError, match=rf"{precision} needs .* {wanted} or above; Old Card has {capability[0]}"):
        check_precision(precision, CUDA)
    check_precision("full", CUDA)


@pytest.mark.usefixtures("card")
@pytest.mark.parametrize(("precision", "rounded"), [("full", False), ("tf32", True), ("half", True)])
def test_held_precision_sets_torch_s_switches_and_full_does_without_cudnn(precision, rounded: bool):
    set_switches(not rounded, not rounded, not rounded)
    with held_precision(precision, CUDA):
        assert switches() == (rounded, rounded, rounded)


@pytest.mark.usefixtures("card")
def test_the_switches_are_put_back_when_the_last_of_the_work_is_through():
    set_switches(True, False, True)
    with held_precision("full", CUDA):
        with held_precision("full", CUDA):
            pass
        assert switches() == (False, False, False)
    assert switches() == (True, False, True)


def test_held_precision_on_a_cpu_leaves_the_switches_alone():
    before = switches()
    with held_precision("full", CPU):
        assert switches() == before


@pytest.mark.usefixtures("card")
def test_work_of_one_precision_goes_side_by_side_and_of_another_waits():
    entered = {name: threading.Event() for name in ("first", "second", "other")}
    leave = {name: threading.Event() for name in entered}
    seen: dict[str, tuple[bool, bool, bool]] = {}

    def work(name: str, precision) -> None:
        with held_precision(precision, CUDA):
            seen[name] = switches()
            entered[name].set()
            leave[name].wait(30)

    threads = [threading.Thread(target=work, args=("first", "full"))]
    threads[0].start()
    assert entered["first"].wait(30)
    threads += [threading.Thread(target=work, args=x) for x in (("second", "full"), ("other", "tf32"))]
    for thread in threads[1:]:
        thread.start()
    assert entered["second"].wait(30)
    assert switches() == (False, False, False)
    assert not entered["other"].is_set()
    leave["first"].set()
    threads[0].join(30)
    assert module._holders == ["full"]
    leave["second"].set()
    assert entered["other"].wait(30)
    assert seen["other"] == (True, True, True)
    leave["other"].set()
    for thread in threads:
        thread.join(30)
    assert module._holders == []


@pytest.mark.usefixtures("card")
def test_an_error_gives_the_precision_back():
    with pytest.raises(ZeroDivisionError), held_precision("tf32", CUDA):
        raise ZeroDivisionError
    assert module._holders == []


@pytest.mark.parametrize("allowed", [True, False])
def test_repeatable_convolutions_turn_neither_tf32_nor_cudnn_on(allowed: bool):
    set_switches(allowed, False, allowed)
    with _deterministic(CPU):
        assert switches() == (allowed, False, allowed)


@pytest.mark.parametrize(
    "kind", [ChannelDirectionsConfig, ScreeningConfig, OptimizedLatentsConfig, MappersConfig, DatasetConfig]
)
def test_precision_is_part_of_a_result_s_identity_where_it_departs_from_full(kind):
    assert "precision" not in kind().identity()
    assert kind(precision="half").identity()["precision"] == "half"
