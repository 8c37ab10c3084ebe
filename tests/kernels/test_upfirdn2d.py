"""upfirdn2d against scipy, fast against reference, errors."""

import re

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from scipy.signal import upfirdn
from torch import Tensor

from kernels import binomial_filter, upfirdn2d
from kernels.impl import Impl
from kernels.upfirdn2d import Padding
from tests.kernels.random_tensors import Randn
from tests.tolerances import FLOAT32_KERNEL, FLOAT64_FORMULA

ASYMMETRIC = torch.tensor([1.0, 2.0, -3.0, 0.5], dtype=torch.float64)  # a flipped filter would show
PADDINGS: list[Padding] = [(0, 0, 0, 0), (2, 2, 1, 1), (2, 1, 0, 3), (-1, 2, 1, -2), (-1, -1, -1, -1)]


def pad_or_crop(x: NDArray[np.float64], axis: int, before: int, after: int) -> NDArray[np.float64]:
    widths = [(0, 0)] * x.ndim
    widths[axis] = (max(before, 0), max(after, 0))
    index = [slice(None)] * x.ndim
    index[axis] = slice(max(-before, 0), x.shape[axis] - max(-after, 0))
    return np.pad(x[tuple(index)], widths)


def scipy_axis(
    x: NDArray[np.float64], f: NDArray[np.float64], *, axis: int, up: int, pad: tuple[int, int]
) -> NDArray[np.float64]:
    """scipy gives the full convolution: k - 1 zeros before, k - up after the grid; ours pads by ``pad`` instead."""
    k = len(f)
    full = upfirdn(f, x, up=up, axis=axis)
    return pad_or_crop(full, axis, pad[0] - (k - 1), pad[1] - (k - up))


def scipy_upfirdn2d(x: Tensor, f: Tensor, *, up: int, down: int, padding: Padding, gain: float) -> Tensor:
    left, right, top, bottom = padding
    y = scipy_axis(x.numpy(), f.numpy(), axis=2, up=up, pad=(top, bottom))
    y = scipy_axis(y, f.numpy(), axis=3, up=up, pad=(left, right))
    return torch.from_numpy(np.ascontiguousarray(gain * y[:, :, ::down, ::down]))


@pytest.mark.parametrize("impl", ["fast", "ref"])
@pytest.mark.parametrize("padding", PADDINGS)
@pytest.mark.parametrize("down", [1, 2, 3])
@pytest.mark.parametrize("up", [1, 2, 3])
def test_upfirdn2d_equals_scipy_along_both_axes(up: int, down: int, padding: Padding, impl: Impl, randn: Randn) -> None:
    x = randn(2, 3, 7, 9)
    got = upfirdn2d(x, ASYMMETRIC, up=up, down=down, padding=padding, gain=1.7, impl=impl)
    want = scipy_upfirdn2d(x, ASYMMETRIC, up=up, down=down, padding=padding, gain=1.7)
    torch.testing.assert_close(got, want, **FLOAT64_FORMULA)


@pytest.mark.parametrize("impl", ["fast", "ref"])
def test_upfirdn2d_full_padding_equals_scipy_with_its_own_down(impl: Impl, randn: Randn) -> None:
    x, k, up, down = randn(1, 2, 6, 5), ASYMMETRIC.numel(), 2, 3
    got = upfirdn2d(x, ASYMMETRIC, up=up, down=down, padding=(k - 1, k - up, k - 1, k - up), impl=impl)
    want = upfirdn(ASYMMETRIC.numpy(), x.numpy(), up=up, down=down, axis=2)
    want = upfirdn(ASYMMETRIC.numpy(), want, up=up, down=down, axis=3)
    torch.testing.assert_close(got, torch.from_numpy(want), **FLOAT64_FORMULA)


@pytest.mark.parametrize("gain", [1.0, 4.0, -0.5])
@pytest.mark.parametrize("padding", PADDINGS)
@pytest.mark.parametrize(("up", "down"), [(1, 1), (1, 2), (2, 1), (2, 3), (3, 2), (5, 1)])
def test_upfirdn2d_fast_equals_ref_with_gradient(
    up: int, down: int, padding: Padding, gain: float, randn: Randn
) -> None:
    x = randn(2, 2, 6, 8)
    results = []
    for impl in ("fast", "ref"):
        leaf = x.clone().requires_grad_()
        out = upfirdn2d(leaf, ASYMMETRIC, up=up, down=down, padding=padding, gain=gain, impl=impl)
        (gradient,) = torch.autograd.grad(out.square().sum(), leaf)
        results.append((out.detach(), gradient))
    torch.testing.assert_close(results[0], results[1], **FLOAT64_FORMULA)


def test_upfirdn2d_second_gradient_is_right(randn: Randn) -> None:
    x = randn(1, 1, 4, 3).requires_grad_()
    assert torch.autograd.gradgradcheck(lambda x: upfirdn2d(x, ASYMMETRIC, up=2, padding=(2, 1, 2, 1)).square(), x)


def test_upfirdn2d_float32_fast_equals_ref(randn: Randn) -> None:
    x = randn(1, 3, 16, 16, dtype=torch.float32)
    fast, ref = (upfirdn2d(x, binomial_filter(), up=2, padding=(2, 1, 2, 1), gain=4.0, impl=i) for i in ("fast", "ref"))
    assert fast.dtype == torch.float32
    torch.testing.assert_close(fast, ref, **FLOAT32_KERNEL)


@pytest.mark.parametrize("impl", ["fast", "ref"])
def test_upfirdn2d_upsampling_a_constant_keeps_it_inside(impl: Impl) -> None:
    out = upfirdn2d(torch.ones(1, 1, 8, 8), binomial_filter(), up=2, padding=(2, 1, 2, 1), gain=4.0, impl=impl)
    assert out.shape == (1, 1, 16, 16)
    torch.testing.assert_close(out[:, :, 2:-2, 2:-2], torch.ones(1, 1, 12, 12), **FLOAT32_KERNEL)


@pytest.mark.parametrize("impl", ["fast", "ref"])
def test_upfirdn2d_leaves_its_input_alone(impl: Impl, randn: Randn) -> None:
    x = randn(1, 2, 5, 5)
    before = x.clone()
    upfirdn2d(x, ASYMMETRIC, up=2, padding=(2, 1, 2, 1), gain=4.0, impl=impl)
    assert torch.equal(x, before)


def test_binomial_filter_default_is_normalised_1331() -> None:
    assert binomial_filter().tolist() == [0.125, 0.375, 0.375, 0.125]


@pytest.mark.usefixtures("unchecked")
def test_upfirdn2d_two_dimensional_filter_raises() -> None:
    with pytest.raises(ValueError, match=re.escape("`f` must be a 1-D separable filter; got shape (2, 2)")):
        upfirdn2d(torch.zeros(1, 1, 4, 4), torch.ones(2, 2))


@pytest.mark.parametrize(("up", "down"), [(0, 1), (1, 0)])
def test_upfirdn2d_factor_below_one_raises(up: int, down: int) -> None:
    with pytest.raises(ValueError, match=f"must be at least 1; got up={up}, down={down}"):
        upfirdn2d(torch.zeros(1, 1, 4, 4), torch.ones(2), up=up, down=down)


@pytest.mark.parametrize("padding", [(0, 0, 0, 0), (-2, 0, 3, 3), (3, 3, -2, 0)])
def test_upfirdn2d_image_smaller_than_filter_raises(padding: Padding) -> None:
    with pytest.raises(ValueError, match=r"at least as large as the filter \(4 taps\)"):
        upfirdn2d(torch.zeros(1, 1, 3, 3), torch.ones(4), padding=padding)
