"""Doubling, convolution and low-pass as one convolution on the small grid, against the three steps."""

import pytest
import torch

from kernels import binomial_filter, modulated_conv2d, polyphase_conv2d, polyphase_weight, upsampling_conv2d
from tests.kernels.random_tensors import Randn
from tests.tolerances import FLOAT64_FORMULA

EXACT = 1e-14  # float64: the same products, added up in another order, on values of order 1
SIZES = pytest.mark.parametrize(("h", "w"), [(1, 1), (1, 4), (2, 3), (5, 4), (7, 7), (8, 8)])
# none is symmetric: a filter or a phase turned round would show
FILTERS = pytest.mark.parametrize(
    "taps", [(1.0,), (1.0, 3.0), (1.0, 2.0, 5.0), (1.0, 3.0, 3.0, 1.0), (1.0, 2.0, 4.0, 7.0)]
)


@SIZES
@FILTERS
def test_upsampling_conv2d_equals_the_three_steps(h: int, w: int, taps: tuple[float, ...], randn: Randn) -> None:
    x, weight, f = randn(2, 3, h, w), randn(5, 3, 3, 3) / 9, torch.tensor(taps, dtype=torch.float64) / sum(taps)
    got, want = (upsampling_conv2d(x, weight, f, impl=impl) for impl in ("fast", "ref"))
    assert got.shape == (2, 5, 2 * h, 2 * w)
    assert float((got - want).abs().max()) < EXACT


@SIZES
def test_polyphase_conv2d_scaled_equals_modulated_conv2d(h: int, w: int, randn: Randn) -> None:
    x, weight, styles, f = randn(3, 4, h, w), randn(6, 4, 3, 3), randn(3, 4), binomial_filter((1, 2, 4, 7)).double()
    scaled = polyphase_conv2d(x * styles[:, :, None, None], polyphase_weight(weight, f))
    got = scaled * torch.rsqrt(styles.square() @ weight.square().sum(dim=(2, 3)).T + 1e-8)[:, :, None, None]
    want = modulated_conv2d(x, weight, styles, up=2, resample_filter=f, impl="ref")
    torch.testing.assert_close(got, want, **FLOAT64_FORMULA)


@pytest.mark.parametrize("phase", [(0, 0), (0, 1), (1, 0), (1, 1)])
def test_polyphase_weight_of_each_phase_draws_the_pixels_of_that_parity(phase: tuple[int, int], randn: Randn) -> None:
    x, weight, f = randn(1, 2, 3, 5), randn(4, 2, 3, 3), binomial_filter().double()
    a, b = phase
    whole = upsampling_conv2d(x, weight, f, impl="ref")
    own = polyphase_weight(weight, f).view(2, 2, 4, 2, 3, 3)[a, b]
    torch.testing.assert_close(
        torch.nn.functional.conv2d(x, own, padding=1), whole[:, :, a::2, b::2], **FLOAT64_FORMULA
    )


def test_polyphase_conv2d_of_channels_last_is_channels_last(randn: Randn) -> None:
    x, taps = randn(2, 4, 6, 6), polyphase_weight(randn(8, 4, 3, 3), binomial_filter())
    x, taps = (t.contiguous(memory_format=torch.channels_last) for t in (x, taps))
    assert polyphase_conv2d(x, taps).is_contiguous(memory_format=torch.channels_last)


def test_upsampling_conv2d_gradients_equal_ref(randn: Randn) -> None:
    x, weight, f = randn(2, 3, 4, 5).requires_grad_(), randn(4, 3, 3, 3).requires_grad_(), binomial_filter().double()
    down = randn(2, 4, 8, 10)
    fast, ref = (
        torch.autograd.grad((upsampling_conv2d(x, weight, f, impl=impl) * down).sum(), (x, weight))
        for impl in ("fast", "ref")
    )
    for got, want in zip(fast, ref, strict=True):
        torch.testing.assert_close(got, want, **FLOAT64_FORMULA)


def test_upsampling_conv2d_longer_filter_goes_the_long_way_or_raises(randn: Randn) -> None:
    x, weight, f = randn(1, 2, 4, 4), randn(3, 2, 3, 3), randn(6)
    assert torch.equal(upsampling_conv2d(x, weight, f), upsampling_conv2d(x, weight, f, impl="ref"))
    with pytest.raises(ValueError, match=r"1-D with 1 to 4 taps; got \(6,\)"):
        upsampling_conv2d(x, weight, f, impl="fast")


@pytest.mark.parametrize(
    "call",
    [
        lambda w: polyphase_weight(w, torch.ones(4)),
        lambda w: upsampling_conv2d(torch.zeros(1, 2, 4, 4), w, torch.ones(4)),
    ],
)
@pytest.mark.usefixtures("unchecked")
def test_polyphase_taps_other_than_3x3_raise(call, randn: Randn) -> None:
    with pytest.raises(ValueError, match="3x3 taps; got"):
        call(randn(2, 2, 5, 5))
