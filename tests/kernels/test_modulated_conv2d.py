"""modulated_conv2d: the reference against Eq. 1-3 written out per sample, the fast path against the reference."""

from typing import Any

import pytest
import torch
from scipy.signal import convolve2d
from torch import Tensor
from torch.nn import functional as F

from kernels import binomial_filter, modulated_conv2d, moved_modulated_conv2d
from kernels.impl import Impl
from tests.kernels.random_tensors import Randn
from tests.tolerances import DEMODULATION_EPS_LEAK, FLOAT32_KERNEL, FLOAT64_FORMULA

FILTER = binomial_filter().double()
BOTH = pytest.mark.parametrize("impl", ["fast", "ref"])
DEMODULATE = pytest.mark.parametrize("demodulate", [True, False])


def sample_weight(weight: Tensor, style: Tensor, *, demodulate: bool) -> Tensor:
    """Eq. 1 and 3 of Karras et al. 2020 for one sample, channel by channel."""
    modulated = torch.stack([weight[:, i] * style[i] for i in range(weight.shape[1])], dim=1)
    if not demodulate:
        return modulated
    return torch.stack([kernel / (kernel.square().sum() + 1e-8).sqrt() for kernel in modulated])


def conv_per_sample(x: Tensor, weight: Tensor, styles: Tensor, *, demodulate: bool) -> Tensor:
    rows = []
    for image, style in zip(x, styles, strict=True):
        own = sample_weight(weight, style, demodulate=demodulate)
        rows.append(F.conv2d(image[None], own, padding=weight.shape[-1] // 2))
    return torch.cat(rows)


def zero_insert(x: Tensor) -> Tensor:
    out = x.new_zeros(*x.shape[:2], 2 * x.shape[2], 2 * x.shape[3])
    out[:, :, ::2, ::2] = x
    return out


def upsampling_conv_per_sample(x: Tensor, weight: Tensor, styles: Tensor, *, demodulate: bool) -> Tensor:
    """Zeros between pixels, a full true convolution, then the blur, each a plain convolution.

    An upsampling layer convolves (its taps are flipped against conv2d's), as NVlabs' and rosinality's do.
    """
    blur = torch.outer(FILTER, FILTER)[None, None] * 4.0
    rows = []
    for image, style in zip(x, styles, strict=True):
        own = sample_weight(weight, style, demodulate=demodulate).flip(2, 3)
        full = F.conv2d(zero_insert(image[None]), own, padding=2)  # [1 o 2h+2 2w+2]
        full = full[:, :, :-1, :-1]  # the last row and column read only the zeros after the last pixel
        channels = [F.conv2d(c, blur, padding=1) for c in full.split(1, dim=1)]
        rows.append(torch.cat(channels, dim=1))
    return torch.cat(rows)


@BOTH
@DEMODULATE
@pytest.mark.parametrize("k", [1, 3, 5])
def test_modulated_conv2d_equals_conv_per_sample(k: int, demodulate: bool, impl: Impl, randn: Randn) -> None:
    x, weight, styles = randn(3, 4, 5, 6), randn(2, 4, k, k), randn(3, 4)
    got = modulated_conv2d(x, weight, styles, demodulate=demodulate, impl=impl)
    torch.testing.assert_close(got, conv_per_sample(x, weight, styles, demodulate=demodulate), **FLOAT64_FORMULA)


@BOTH
@DEMODULATE
def test_modulated_conv2d_up_equals_zero_insert_conv_blur(demodulate: bool, impl: Impl, randn: Randn) -> None:
    x, weight, styles = randn(3, 4, 5, 6), randn(2, 4, 3, 3), randn(3, 4)
    got = modulated_conv2d(x, weight, styles, demodulate=demodulate, up=2, resample_filter=FILTER, impl=impl)
    want = upsampling_conv_per_sample(x, weight, styles, demodulate=demodulate)
    assert got.shape == (3, 2, 10, 12)
    torch.testing.assert_close(got, want, **FLOAT64_FORMULA)


@BOTH
def test_modulated_conv2d_up_single_channel_equals_scipy(impl: Impl, randn: Randn) -> None:
    x, weight, styles = randn(1, 1, 4, 4), randn(1, 1, 3, 3), randn(1, 1)
    kernel = convolve2d(weight[0, 0].numpy(), 4 * torch.outer(FILTER, FILTER).numpy())
    want = convolve2d(zero_insert(x)[0, 0].numpy(), kernel * float(styles))[2:10, 2:10]
    got = modulated_conv2d(x, weight, styles, demodulate=False, up=2, resample_filter=FILTER, impl=impl)
    torch.testing.assert_close(got[0, 0], torch.from_numpy(want), **FLOAT64_FORMULA)


@DEMODULATE
@pytest.mark.parametrize("up", [1, 2])
@pytest.mark.parametrize("shift_shape", [None, (1, 3, 1, 1), (1, 1, 8, 8), (2, 3, 8, 8)])
def test_modulated_conv2d_fast_equals_ref_with_gradients(
    up: int, demodulate: bool, shift_shape: tuple[int, ...] | None, randn: Randn
) -> None:
    x, weight, styles = randn(2, 4, 8 // up, 8 // up), randn(3, 4, 3, 3), randn(2, 4)
    shift = None if shift_shape is None else randn(*shift_shape)
    results = []
    for impl in ("fast", "ref"):
        leaves = [t.clone().requires_grad_() for t in (x, weight, styles)]
        if shift is not None:
            leaves.append(shift.clone().requires_grad_())
        out = modulated_conv2d(
            *leaves[:3],
            demodulate=demodulate,
            up=up,
            resample_filter=FILTER,
            shift=None if shift is None else leaves[3],
            gain=1.5,
            impl=impl,
        )
        results.append((out.detach(), *torch.autograd.grad(out.square().sum(), leaves)))
    torch.testing.assert_close(results[0], results[1], **FLOAT64_FORMULA)


@pytest.mark.filterwarnings("ignore:`torch.jit.script`:FutureWarning")  # torch's own, at its first forward derivative
@pytest.mark.parametrize("layout", [torch.contiguous_format, torch.channels_last])
def test_modulated_conv2d_pointwise_derivatives_are_right(layout: torch.memory_format, randn: Randn) -> None:
    x, weight, styles = randn(2, 4, 3, 5).contiguous(memory_format=layout), randn(3, 4, 1, 1), randn(2, 4)
    leaves = [t.requires_grad_() for t in (x, weight, styles)]

    def run(*tensors: Tensor) -> Tensor:
        return modulated_conv2d(*tensors, demodulate=False, impl="fast")

    assert torch.autograd.gradcheck(run, leaves, check_forward_ad=True)
    assert torch.autograd.gradgradcheck(run, leaves)
    (gradient,) = torch.autograd.grad(run(*leaves).square().sum(), x)
    assert gradient.is_contiguous(memory_format=layout)


def test_modulated_conv2d_pointwise_derivatives_keep_their_precision_under_autocast(randn: Randn) -> None:
    x, weight, styles = (randn(*s, dtype=torch.float32) for s in ((2, 4, 3, 5), (3, 4, 1, 1), (2, 4)))
    x = x.contiguous(memory_format=torch.channels_last).requires_grad_()
    with torch.autocast("cpu", torch.bfloat16):
        out = modulated_conv2d(x, weight, styles, demodulate=False)
    (got,) = torch.autograd.grad(out.float().sum(), x)
    (want,) = torch.autograd.grad(modulated_conv2d(x, weight, styles, demodulate=False, impl="ref").sum(), x)
    assert got.dtype == torch.float32
    torch.testing.assert_close(got, want)


@DEMODULATE
@pytest.mark.parametrize("k", [1, 3])
@pytest.mark.parametrize("shift_shape", [None, (1, 3, 1, 1), (1, 1, 5, 6), (1, 3, 5, 6)])
def test_modulated_conv2d_fast_takes_channels_last_and_keeps_it_in_features(
    k: int, demodulate: bool, shift_shape: tuple[int, ...] | None, randn: Randn
) -> None:
    x, weight, styles = randn(2, 4, 5, 6), randn(3, 4, k, k), randn(2, 4)
    last = x.contiguous(memory_format=torch.channels_last)
    shift = None if shift_shape is None else randn(*shift_shape)
    got = modulated_conv2d(last, weight, styles, demodulate=demodulate, shift=shift, gain=1.5, impl="fast")
    want = modulated_conv2d(x, weight, styles, demodulate=demodulate, shift=shift, gain=1.5, impl="ref")
    colours_are_planes = torch.contiguous_format
    assert got.is_contiguous(memory_format=colours_are_planes if k == 1 else torch.channels_last)
    torch.testing.assert_close(got, want, **FLOAT64_FORMULA)


def test_modulated_conv2d_float32_fast_equals_ref(randn: Randn) -> None:
    x, weight, styles = (randn(*s, dtype=torch.float32) for s in ((2, 8, 8, 8), (8, 8, 3, 3), (2, 8)))
    fast, ref = (modulated_conv2d(x, weight, styles, impl=impl) for impl in ("fast", "ref"))
    assert fast.dtype == torch.float32
    torch.testing.assert_close(fast, ref, **FLOAT32_KERNEL)


@BOTH
@DEMODULATE
def test_modulated_conv2d_gain_scales_and_shift_adds(demodulate: bool, impl: Impl, randn: Randn) -> None:
    x, weight, styles, shift = randn(2, 4, 5, 5), randn(3, 4, 3, 3), randn(2, 4), randn(1, 3, 1, 1)
    plain = modulated_conv2d(x, weight, styles, demodulate=demodulate, impl=impl)
    got = modulated_conv2d(x, weight, styles, demodulate=demodulate, shift=shift, gain=3.0, impl=impl)
    torch.testing.assert_close(got, 3.0 * plain + shift, **FLOAT64_FORMULA)


@BOTH
@pytest.mark.parametrize("factor", [0.5, 7.0])
def test_modulated_conv2d_demodulated_ignores_scale_of_styles(factor: float, impl: Impl, randn: Randn) -> None:
    x, weight, styles = randn(2, 4, 5, 5), randn(3, 4, 3, 3), randn(2, 4)
    plain = modulated_conv2d(x, weight, styles, impl=impl)
    scaled = modulated_conv2d(x, weight, styles * factor, impl=impl)
    torch.testing.assert_close(scaled, plain, **DEMODULATION_EPS_LEAK)


@BOTH
def test_modulated_conv2d_zero_styles_give_finite_zeros(impl: Impl, randn: Randn) -> None:
    out = modulated_conv2d(randn(1, 4, 5, 5), randn(3, 4, 3, 3), torch.zeros(1, 4, dtype=torch.float64), impl=impl)
    assert torch.equal(out, torch.zeros_like(out))


@BOTH
@pytest.mark.parametrize("up", [1, 2])
def test_modulated_conv2d_permuted_batch_permutes_output(up: int, impl: Impl, randn: Randn) -> None:
    x, weight, styles = randn(4, 3, 5, 5), randn(2, 3, 3, 3), randn(4, 3)
    order = torch.tensor([2, 0, 3, 1])
    plain = modulated_conv2d(x, weight, styles, up=up, resample_filter=FILTER, impl=impl)
    permuted = modulated_conv2d(x[order], weight, styles[order], up=up, resample_filter=FILTER, impl=impl)
    torch.testing.assert_close(permuted, plain[order], **FLOAT64_FORMULA)


@BOTH
def test_modulated_conv2d_leaves_its_inputs_alone(impl: Impl, randn: Randn) -> None:
    inputs = [randn(2, 3, 5, 5), randn(2, 3, 3, 3), randn(2, 3)]
    before = [t.clone() for t in inputs]
    modulated_conv2d(*inputs, shift=torch.ones(1, 2, 1, 1, dtype=torch.float64), gain=2.0, impl=impl)
    assert all(torch.equal(a, b) for a, b in zip(inputs, before, strict=True))


@pytest.mark.usefixtures("unchecked")
@pytest.mark.parametrize(
    ("x", "weight", "styles"),
    [((1, 3, 4, 4), (2, 4, 3, 3), (1, 4)), ((1, 4, 4, 4), (2, 4, 3, 3), (1, 3)), ((2, 4, 4, 4), (2, 4, 3, 3), (1, 4))],
)
def test_modulated_conv2d_shapes_that_disagree_raise(x: Any, weight: Any, styles: Any) -> None:
    with pytest.raises(ValueError, match="must agree on the input channels and samples; got x"):
        modulated_conv2d(torch.zeros(x), torch.zeros(weight), torch.zeros(styles))


@pytest.mark.usefixtures("unchecked")
@pytest.mark.parametrize("taps", [(2, 2), (3, 1)])
def test_modulated_conv2d_even_or_oblong_taps_raise(taps: tuple[int, int]) -> None:
    with pytest.raises(ValueError, match=f"square, odd taps; got {taps[0]}x{taps[1]}"):
        modulated_conv2d(torch.zeros(1, 2, 4, 4), torch.zeros(2, 2, *taps), torch.ones(1, 2))


@pytest.mark.parametrize(("up", "k", "resample_filter"), [(3, 3, FILTER), (2, 1, FILTER), (2, 3, None), (0, 3, FILTER)])
def test_modulated_conv2d_unsupported_up_raises(up: int, k: int, resample_filter: Tensor | None) -> None:
    with pytest.raises(ValueError, match=f"`up` must be 1, or 2 with 3x3 taps .* got up={up}, {k}x{k} taps"):
        modulated_conv2d(
            torch.zeros(1, 2, 4, 4), torch.zeros(2, 2, k, k), torch.ones(1, 2), up=up, resample_filter=resample_filter
        )


@pytest.mark.parametrize("shift_shape", [(1, 1, 1, 1), (1, 4, 1, 1), (1, 4, 6, 10), (2, 4, 6, 10)])
@pytest.mark.parametrize(("up", "num_taps"), [(1, 0), (2, 2), (2, 4), (2, 6)])
def test_moved_modulated_conv2d_equals_ref(up: int, num_taps: int, shift_shape: tuple[int, ...], randn: Randn) -> None:
    x, weight, styles = randn(2, 3, 6 // up, 10 // up), randn(4, 3, 3, 3), randn(2, 3)
    layer: dict[str, Any] = {"up": up, "resample_filter": randn(num_taps) if num_taps else None}
    sums = modulated_conv2d(x, weight, styles, demodulate=False, **layer)
    layer |= {"shift": randn(*shift_shape), "gain": 1.5}
    fast, ref = (
        moved_modulated_conv2d(sums, x, weight, styles, channel=1, moves=[0.7, -2.0], impl=impl, **layer)
        for impl in ("fast", "ref")
    )
    torch.testing.assert_close(fast, ref, **FLOAT64_FORMULA)


def test_moved_modulated_conv2d_keeps_channels_last(randn: Randn) -> None:
    x, weight, styles = randn(2, 3, 6, 8).to(memory_format=torch.channels_last), randn(4, 3, 3, 3), randn(2, 3)
    sums = modulated_conv2d(x, weight, styles, demodulate=False)
    got = moved_modulated_conv2d(sums, x, weight, styles, channel=0, moves=[1.0], shift=randn(1, 4, 6, 8))
    assert got.is_contiguous(memory_format=torch.channels_last)
