"""Weight-modulated convolution (Karras et al. 2020, section 2.2). Letters: n sample, o i channels, k taps."""

from collections.abc import Sequence
from typing import Any, cast

import torch
from jaxtyping import Float
from torch import Tensor
from torch.nn import functional as F

from kernels.impl import Impl, check_impl
from kernels.upfirdn2d import upfirdn2d
from kernels.winograd import winograd_conv2d

DEMODULATION_EPS = 1e-8  # Karras 2020, Eq. 3


def modulated_conv2d(
    x: Float[Tensor, "n i h w"],
    weight: Float[Tensor, "o i k k"],
    styles: Float[Tensor, "n i"],
    *,
    demodulate: bool = True,
    up: int = 1,
    resample_filter: Float[Tensor, "t"] | None = None,
    shift: Float[Tensor, "#n #o #h_out #w_out"] | None = None,
    gain: float = 1.0,
    taps: Float[Tensor, "36 i o"] | None = None,
    impl: Impl = "auto",
) -> Float[Tensor, "n o h_out w_out"]:
    """Convolve each sample with the shared weight scaled per input channel by its style.

    ``w'[n,o,i,k] = styles[n,i] * weight[o,i,k]``  (Eq. 1), then if ``demodulate``
    ``w''[n,o,i,k] = w'[n,o,i,k] / sqrt(sum_{i,k} w'[n,o,i,k]^2 + 1e-8)``  (Eq. 3), then a "same" convolution of
    x[n] with w''[n]. With ``up=2`` the image is zero-upsampled first and low-passed by ``resample_filter`` after.

    The result is ``gain * convolution + shift``: bias and noise ride on the same pass over memory as the
    demodulation.

    The reference forms every sample's own weight and runs a grouped convolution. The fast path uses that a
    convolution is linear: scale the input by the style, convolve once with the shared weight, scale the output by
    the demodulation, which needs only the matrix ``sum_k weight^2``.

    Args:
        x: features; may be of half precision while weight and styles are not: then the convolution runs in half
            precision and the demodulation in that of the weights.
        weight: odd k; cross-correlated as torch's conv2d does; with ``up=2`` convolved (taps flipped), as NVlabs' and
            rosinality's networks store it.
        styles: raw affine output, any sign.
        demodulate: off for toRGB layers.
        up: 1 or 2; with 2, ``k`` must be 3.
        resample_filter: 1-D low-pass for ``up=2``; required then.
        shift: added to the result, not multiplied by ``gain``; bias [1, o, 1, 1], noise [1, 1, h, w] or their sum.
        gain: factor on the convolution.
        taps: ``winograd_taps(weight)``; the fast path then convolves with these, see ``winograd_conv2d``. For ``up=1``;
            with ``impl="fast"`` without gradients, and for sides that 4 divides.
        impl: see ``kernels``.
    Returns:
        [n, o, h * up, w * up], dtype and device of ``x``; differentiable in x, weight and styles.
    Raises:
        ValueError: if shapes do not fit each other, k is even, ``up`` is not 1 or 2, the filter is missing, or there
            are ``taps`` where the convolution upsamples.
    Source:
        Karras et al. 2020, "Analyzing and Improving the Image Quality of StyleGAN", Eq. 1-3.
    """
    check_impl(impl)
    _, num_in, k, k_w = weight.shape
    if x.shape[1] != num_in or styles.shape != (x.shape[0], num_in):
        raise ValueError(
            f"`x`, `weight` and `styles` must agree on the input channels and samples; "
            f"got x {tuple(x.shape)}, weight {tuple(weight.shape)}, styles {tuple(styles.shape)}."
        )
    if k != k_w or k % 2 == 0:
        raise ValueError(f"`weight` must have square, odd taps; got {k}x{k_w}.")
    if up not in (1, 2) or (up == 2 and (k != 3 or resample_filter is None)):
        raise ValueError(f"`up` must be 1, or 2 with 3x3 taps and a `resample_filter`; got up={up}, {k}x{k} taps.")
    if taps is not None and up != 1:
        raise ValueError(f"`taps` must be None where the convolution upsamples; got up={up}.")
    if taps is not None and impl != "ref":
        return _winograd(x, weight, styles, demodulate=demodulate, shift=shift, gain=gain, taps=taps, impl=impl)
    f = resample_filter if up == 2 else None
    run = _modulated_conv2d_ref if impl == "ref" else _modulated_conv2d_fast
    return run(x, weight, styles, demodulate=demodulate, f=f, shift=shift, gain=gain)


def moved_modulated_conv2d(
    sums: Float[Tensor, "n o h_out w_out"],
    x: Float[Tensor, "n i h w"],
    weight: Float[Tensor, "o i k k"],
    styles: Float[Tensor, "n i"],
    *,
    channel: int,
    moves: Sequence[float],
    up: int = 1,
    resample_filter: Float[Tensor, "t"] | None = None,
    shift: Float[Tensor, "#n #o #h_out #w_out"],
    gain: float = 1.0,
    impl: Impl = "auto",
) -> Float[Tensor, "mn o h_out w_out"]:
    """Modulated convolutions whose styles have moved in one channel, without a convolution each.

    A convolution is linear in its input: moving the style of one channel by d adds d times that channel's own
    convolution, of k * k multiplications per pixel and output channel instead of i * k * k. Only the demodulation is
    new for every move.

    Args:
        sums: ``modulated_conv2d(x, weight, styles, demodulate=False)`` with the same ``up`` and filter.
        x: features.
        weight: as for ``modulated_conv2d``.
        styles: unmoved.
        channel: input channel that moves.
        moves: m numbers added to that channel's style, one after another.
        up: as for ``modulated_conv2d``, as are the next four.
        resample_filter: 1-D low-pass for ``up=2``.
        shift: added to the result.
        gain: factor on the convolution.
        impl: see ``kernels``.
    Returns:
        ``modulated_conv2d`` of all samples with the first move, then of all with the second, ...
    Source:
        Karras et al. 2020, Eq. 1-3; linearity.
    """
    check_impl(impl)
    moved = styles.repeat(len(moves), 1, 1)  # [m n i]
    moved[:, :, channel] += torch.tensor(moves, dtype=styles.dtype, device=styles.device)[:, None]
    if impl == "ref":
        parts = [
            modulated_conv2d(x, weight, row, up=up, resample_filter=resample_filter, shift=shift, gain=gain, impl="ref")
            for row in moved
        ]
        return torch.cat(parts)
    own = _one_channel(x[:, channel : channel + 1], weight[:, channel], f=resample_filter if up == 2 else None)
    scales = (_demodulation(weight, moved.flatten(0, 1)) * gain).unflatten(0, (len(moves), -1))[:, :, :, None, None]
    shift = _laid_out_as(sums, shift)
    parts = [
        torch.addcmul(shift, torch.add(sums, own, alpha=move), scale) for move, scale in zip(moves, scales, strict=True)
    ]
    return torch.cat(parts)


def _one_channel(
    x: Float[Tensor, "n 1 h w"], weight: Float[Tensor, "o k k"], *, f: Tensor | None
) -> Float[Tensor, "n o h_out w_out"]:
    """One input channel's convolution as a product over the taps; channels-last.

    The low-pass is applied to the one channel before the taps instead of to all output channels after them.
    """
    k = weight.shape[-1]
    if f is None:
        x = F.pad(x, (k // 2,) * 4)
    else:
        before = (f.numel() - 1) // 2 + 2  # ``_low_pass``'s and the two rows that the taps reach further
        after = f.numel() + 1 - before
        x = upfirdn2d(x, f, up=2, padding=(before, after, before, after), gain=4.0)
        weight = weight.flip(1, 2)  # a transposed convolution is a true convolution
    windows = x[:, 0].unfold(1, k, 1).unfold(2, k, 1).flatten(3)  # [n h_out w_out k*k]
    return (windows @ weight.flatten(1).T).permute(0, 3, 1, 2)


def _modulated_conv2d_ref(
    x: Tensor,
    weight: Tensor,
    styles: Tensor,
    *,
    demodulate: bool,
    f: Tensor | None,
    shift: Tensor | None,
    gain: float,
) -> Tensor:
    """Every sample's own weight, one group per sample."""
    n, num_in, h, w = x.shape
    num_out, _, k, _ = weight.shape
    weights = weight[None] * styles[:, None, :, None, None]  # [n o i k k], Eq. 1
    if demodulate:
        weights = weights * torch.rsqrt(weights.square().sum(dim=(2, 3, 4), keepdim=True) + DEMODULATION_EPS)  # Eq. 3
    weights = weights.to(x.dtype)
    x = x.reshape(1, n * num_in, h, w)
    if f is None:
        out = F.conv2d(x, weights.reshape(n * num_out, num_in, k, k), padding=k // 2, groups=n)
        out = out.reshape(n, num_out, h, w)
    else:
        taps = weights.transpose(1, 2).reshape(n * num_in, num_out, k, k)
        out = F.conv_transpose2d(x, taps, stride=2, groups=n)
        out = _low_pass(out.reshape(n, num_out, 2 * h + 1, 2 * w + 1), f, impl="ref")
    out = out * gain
    return out if shift is None else out + shift


def _modulated_conv2d_fast(
    x: Tensor,
    weight: Tensor,
    styles: Tensor,
    *,
    demodulate: bool,
    f: Tensor | None,
    shift: Tensor | None,
    gain: float,
) -> Tensor:
    """One weight for all samples: scale in, convolve, low-pass, scale out and shift in one pass."""
    if weight.shape[-1] == 1:
        return _pointwise(x, weight[:, :, 0, 0], styles, demodulate=demodulate, shift=shift, gain=gain)
    x = x * styles[:, :, None, None].to(x.dtype)
    taps = weight.to(x.dtype)
    if f is None:
        out = F.conv2d(x, taps, padding=weight.shape[-1] // 2)
    else:
        out = _low_pass(F.conv_transpose2d(x, taps.transpose(0, 1), stride=2), f, impl="fast")
    if demodulate:
        scale = (_demodulation(weight, styles) * gain)[:, :, None, None].to(out.dtype)
        if shift is None:
            return out * scale
        if torch.is_grad_enabled() and out.requires_grad:  # addcmul's backward pass multiplies by its `value` of 1
            return (out * scale).add_(shift)
        return torch.addcmul(_laid_out_as(out, shift), out, scale)
    if gain != 1.0:
        out = out * gain
    return out if shift is None else out + shift


def _winograd(
    x: Tensor,
    weight: Tensor,
    styles: Tensor,
    *,
    demodulate: bool,
    shift: Tensor | None,
    gain: float,
    taps: Tensor,
    impl: Impl,
) -> Tensor:
    """The fast path with a quarter of the multiplications; style, demodulation and shift ride on its passes."""
    scale = _demodulation(weight, styles) * gain if demodulate else x.new_full((len(x), len(weight)), gain)
    shift = x.new_zeros(1, 1, 1, 1) if shift is None else shift
    return winograd_conv2d(x, weight, scale_in=styles, scale_out=scale, shift=shift, taps=taps, impl=impl)


def _demodulation(weight: Tensor, styles: Tensor) -> Float[Tensor, "n o"]:
    """Eq. 3's factor: the reciprocal length of every sample's own weight."""
    energy = weight.square().sum(dim=(2, 3))  # [o i]
    return torch.rsqrt(styles.square() @ energy.T + DEMODULATION_EPS)


def _pointwise(
    x: Tensor, weight: Tensor, styles: Tensor, *, demodulate: bool, shift: Tensor | None, gain: float
) -> Tensor:
    """1x1 taps [o i]: every sample's own weight is small, and one matrix product per sample reads the features once."""
    own = weight * styles[:, None]  # [n o i], Eq. 1
    if demodulate:
        own = own * torch.rsqrt(own.square().sum(dim=2, keepdim=True) + DEMODULATION_EPS)  # Eq. 3
    own = (own * gain).to(x.dtype)
    if x.is_contiguous(memory_format=torch.channels_last):
        out = cast(Tensor, _PixelProduct.apply(own, x.permute(0, 2, 3, 1).flatten(1, 2)))
    else:
        out = own @ x.flatten(2)
    out = out.unflatten(2, x.shape[2:])
    return out if shift is None else out + shift


class _PixelProduct(torch.autograd.Function):
    """``own @ pixels.mT`` of [n, o, i] and [n, p, i], few o and many p, with products that BLAS is quick at.

    Autograd's own rules would give the derivatives of ``pixels`` channel by channel, in another memory layout than
    the layers below have, or those of ``own`` by a product nine times as slow.
    """

    @staticmethod
    def forward(own: Tensor, pixels: Tensor) -> Tensor:
        """[n, o, i] and [n, p, i] to [n, o, p]."""
        return own @ pixels.mT

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Tensor, Tensor], output: Tensor) -> None:
        """Keep both factors."""
        ctx.save_for_backward(*inputs)
        ctx.save_for_forward(*inputs)

    @staticmethod
    def backward(ctx: Any, *grad_outputs: Tensor) -> tuple[Tensor | None, Tensor | None]:
        """Derivatives of ``own`` and ``pixels``, in their layouts, from that of the product."""
        own, pixels = ctx.saved_tensors
        grad, wanted = grad_outputs[0].to(own.dtype), ctx.needs_input_grad  # of lower precision under autocast
        return grad @ pixels if wanted[0] else None, grad.mT @ own if wanted[1] else None

    @staticmethod
    def jvp(ctx: Any, *grad_inputs: Tensor) -> Tensor:
        """Derivative of the product along derivatives of both factors."""
        own, pixels = ctx.saved_tensors
        return grad_inputs[0] @ pixels.mT + own @ grad_inputs[1].mT


def _laid_out_as(x: Tensor, shift: Tensor) -> Tensor:
    """``shift`` in the layout of ``x``: addcmul's result takes its first operand's, and with it every later layer's.

    Noise [1, 1, h, w] or [1, o, h, w] in rows of pixels would turn channels-last features over.
    """
    shift = shift.to(x)
    last = x.is_contiguous(memory_format=torch.channels_last)
    return shift.contiguous(memory_format=torch.channels_last) if last else shift


def _low_pass(x: Tensor, f: Tensor, *, impl: Impl) -> Tensor:
    """Filter the (2h+1)-pixel output of the strided transpose down to 2h; gain 4 restores the inserted zeros."""
    total = f.numel() - 2
    first = (total + 1) // 2
    return upfirdn2d(x, f, padding=(first, total - first, first, total - first), gain=4.0, impl=impl)
