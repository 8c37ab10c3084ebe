"""bias_act: the formula, fast against reference, and that nothing is written into the caller's tensors."""

import importlib
import math
import re
from functools import partial

import pytest
import torch
from torch import Tensor

from kernels import LRELU_GAIN, bias_act
from kernels.bias_act import LRELU_SLOPE
from kernels.impl import Impl
from tests.kernels.random_tensors import Randn
from tests.tolerances import FLOAT64_FORMULA

module = importlib.import_module("kernels.bias_act")  # the package has a function of this name
BOTH = pytest.mark.parametrize("impl", ["fast", "ref"])


def elementwise(x: float, *, act: bool, clamp: float | None) -> float:
    if act:
        x = (x if x >= 0 else 0.2 * x) * math.sqrt(2)
    return x if clamp is None else max(-clamp, min(clamp, x))


@BOTH
@pytest.mark.parametrize("clamp", [None, 0.7])
@pytest.mark.parametrize("act", [True, False])
@pytest.mark.parametrize("with_noise", [True, False])
@pytest.mark.parametrize("with_bias", [True, False])
def test_bias_act_equals_formula_value_by_value(
    with_bias: bool, with_noise: bool, act: bool, clamp: float | None, impl: Impl, randn: Randn
) -> None:
    x, bias, noise = randn(2, 3, 4, 5), randn(3), randn(1, 1, 4, 5)
    total = x + (bias[:, None, None] if with_bias else 0.0) + (noise if with_noise else 0.0)
    want = total.clone().apply_(lambda value: elementwise(value, act=act, clamp=clamp))
    got = bias_act(x, bias if with_bias else None, noise=noise if with_noise else None, act=act, clamp=clamp, impl=impl)
    torch.testing.assert_close(got, want, **FLOAT64_FORMULA)


@BOTH
@pytest.mark.parametrize("act", [True, False])
@pytest.mark.parametrize("with_noise", [True, False])
@pytest.mark.parametrize("with_bias", [True, False])
def test_bias_act_leaves_its_inputs_alone(
    with_bias: bool, with_noise: bool, act: bool, impl: Impl, randn: Randn
) -> None:
    inputs = [randn(2, 3, 4, 4), randn(3), randn(1, 1, 4, 4)]
    before = [t.clone() for t in inputs]
    bias_act(
        inputs[0],
        inputs[1] if with_bias else None,
        noise=inputs[2] if with_noise else None,
        act=act,
        clamp=0.5,
        impl=impl,
    )
    assert all(torch.equal(a, b) for a, b in zip(inputs, before, strict=True))


@pytest.mark.parametrize(
    ("leaves", "with_bias"),
    [((0,), True), ((0,), False), ((1,), True), ((2,), True), ((2,), False), ((0, 1, 2), True), ((0, 2), False)],
)
@pytest.mark.parametrize("slope", [LRELU_SLOPE, 0.0, -0.5])
@pytest.mark.parametrize("gain", [LRELU_GAIN, 1.0])
@pytest.mark.parametrize("act", [True, False])
def test_bias_act_fast_gradients_equal_ref(
    leaves: tuple[int, ...],
    with_bias: bool,
    slope: float,
    gain: float,
    act: bool,
    randn: Randn,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    inputs = [randn(2, 3, 4, 4), randn(3), randn(2, 1, 4, 4)]
    results: list[tuple[Tensor | None, ...]] = []
    for impl in ("ref", "fast"):
        own = [t.clone().requires_grad_(i in leaves) for i, t in enumerate(inputs)]
        kernel = partial(bias_act, act=act, slope=slope, gain=gain, clamp=1.0, impl=impl)
        out = kernel(own[0], own[1] if with_bias else None, noise=own[2])
        out.square().sum().backward()
        results.append((out.detach(), *(t.grad for t in own)))
        monkeypatch.setattr(module, "_bias_act_ref", None)  # the fast path must do without it
    for ref, fast in zip(results[0], results[1], strict=True):
        torch.testing.assert_close(fast, ref, **FLOAT64_FORMULA)


def test_bias_act_auto_takes_the_reference_only_for_gradients(randn: Randn, monkeypatch: pytest.MonkeyPatch) -> None:
    x, bias = randn(2, 3, 4, 4), randn(3)
    monkeypatch.setattr(module, "_bias_act_fast", lambda x, *args, **kwargs: torch.ones_like(x))
    monkeypatch.setattr(module, "_bias_act_ref", lambda x, *args, **kwargs: torch.zeros_like(x))
    took_fast = [bool(bias_act(x, b).all()) for b in (bias, bias.clone().requires_grad_())]
    assert took_fast == [True, False]


def test_bias_act_without_grad_mode_gives_same_values(randn: Randn) -> None:
    x, bias = randn(2, 3, 4, 4).requires_grad_(), randn(3).requires_grad_()
    want = bias_act(x, bias).detach()
    with torch.no_grad():
        got = bias_act(x, bias)
    assert not got.requires_grad
    torch.testing.assert_close(got, want, **FLOAT64_FORMULA)


def test_bias_act_default_gain_is_he_initialisations() -> None:
    assert math.isclose(LRELU_GAIN, 2**0.5)


@BOTH
def test_bias_act_other_slope_and_gain_are_used(impl: Impl) -> None:
    out = bias_act(torch.tensor([-2.0, 3.0]).reshape(1, 1, 1, 2), slope=0.5, gain=10.0, impl=impl)
    assert out.flatten().tolist() == [-10.0, 30.0]


@pytest.mark.usefixtures("unchecked")
@BOTH
def test_bias_act_bias_of_other_length_raises(impl: Impl) -> None:
    with pytest.raises(ValueError, match=re.escape("one value per channel, (3,); got (2,)")):
        bias_act(torch.zeros(1, 3, 2, 2), torch.zeros(2), impl=impl)
