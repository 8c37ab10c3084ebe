"""Doubling and low-pass as one convolution on the small grid. Letters: n sample, o i channels, t taps, a b phase."""

import torch
from jaxtyping import Float
from torch import Tensor
from torch.nn import functional as F

from kernels.impl import Impl, check_impl
from kernels.upfirdn2d import upfirdn2d

LONGEST_FILTER = 4  # taps; a longer one reaches further than a 3x3 window of the small grid


def polyphase_weight(
    weight: Float[Tensor, "o i 3 3"], resample_filter: Float[Tensor, "t"]
) -> Float[Tensor, "4*o i 3 3"]:
    """One 3x3 filter for each of the four pixels that a pixel of the small grid becomes.

    A zero-upsampled image convolved with ``weight`` and low-passed by f is convolved with ``K = 4 weight * f f^T``,
    (t + 2) taps an axis. Output pixel 2 q + a reads input pixel q + d through tap ``a - 2 d + c`` of K, where c is
    the number of taps before the centre: for up to four filter taps these are d = -1, 0, 1, a 3x3 filter a phase.

    1. ``K`` by a full convolution of every 3x3 filter with the low-pass, on both axes;
    2. phase (a, b) takes every other tap of both axes, in reverse, as torch's conv2d correlates.

    Args:
        weight: convolved (taps flipped), as ``modulated_conv2d`` takes it with ``up=2``.
        resample_filter: 1-D low-pass of at most four taps.
    Returns:
        in the order (a, b, o), so that the channels of one output pixel lie side by side in channels-last; dtype and
        device of ``weight``; differentiable in ``weight``.
    Raises:
        ValueError: if the taps are not 3x3 or the filter has more than four.
    Source:
        the polyphase identity of multirate filters (Vaidyanathan 1993, section 4.2), on both axes.
    """
    if weight.shape[2:] != (3, 3):
        raise ValueError(f"`weight` must have 3x3 taps; got {tuple(weight.shape)}.")
    if resample_filter.ndim != 1 or not 1 <= len(resample_filter) <= LONGEST_FILTER:
        raise ValueError(
            f"`resample_filter` must be 1-D with 1 to {LONGEST_FILTER} taps; got {tuple(resample_filter.shape)}. "
            f"Use `modulated_conv2d`, which takes any filter."
        )
    f = resample_filter.to(weight)
    num_out, num_in = weight.shape[:2]
    t = len(f)
    low_pass = (4 * torch.outer(f, f))[None, None]
    flat = weight.reshape(num_out * num_in, 1, 3, 3)
    whole = F.conv2d(flat, low_pass.flip(2, 3), padding=t - 1).view(num_out, num_in, t + 2, t + 2)  # K
    centre = t - 1 - (t - 1) // 2  # of t + 2 taps, less what ``modulated_conv2d`` crops before the first pixel
    taps = whole.new_zeros(2, 2, num_out, num_in, 3, 3)
    reach = {(a, d): a - 2 * d + centre for a in (0, 1) for d in (-1, 0, 1) if 0 <= a - 2 * d + centre < t + 2}
    for (a, row), i in reach.items():
        for (b, column), j in reach.items():
            taps[a, b, :, :, row + 1, column + 1] = whole[:, :, i, j]
    return taps.flatten(0, 2)


def polyphase_conv2d(x: Float[Tensor, "n i h w"], taps: Float[Tensor, "four_o i 3 3"]) -> Float[Tensor, "n o 2*h 2*w"]:
    """Convolve on the small grid, then put the four phases of every pixel side by side.

    Args:
        x: features, any size; fastest in channels-last.
        taps: ``polyphase_weight``'s.
    Returns:
        channels-last, dtype and device of ``x``; differentiable in both.
    """
    n, _, h, w = x.shape
    phases = F.conv2d(x, taps, padding=1).permute(0, 2, 3, 1).unflatten(3, (2, 2, -1))  # [n h w a b o]
    return phases.permute(0, 1, 3, 2, 4, 5).reshape(n, 2 * h, 2 * w, -1).permute(0, 3, 1, 2)


def upsampling_conv2d(
    x: Float[Tensor, "n i h w"],
    weight: Float[Tensor, "o i 3 3"],
    resample_filter: Float[Tensor, "t"],
    *,
    impl: Impl = "auto",
) -> Float[Tensor, "n o 2*h 2*w"]:
    """Zero-upsample by two, convolve, low-pass with gain 4: ``modulated_conv2d(up=2)`` without modulation.

    The reference does the three steps one after another. The fast path is one convolution of the same reach on the
    small grid (``polyphase_weight``), exact but for rounding: four times the multiplications of the transposed
    convolution, and none of its two passes over the large grid.

    Args:
        x: features, any size.
        weight: convolved, as ``modulated_conv2d`` takes it with ``up=2``.
        resample_filter: 1-D low-pass; on the fast path of at most four taps.
        impl: see ``kernels``; ``"auto"`` takes the reference for longer filters.
    Returns:
        dtype and device of ``x``; differentiable in ``x`` and ``weight``.
    Raises:
        ValueError: if the taps are not 3x3, or, with ``"fast"``, the filter has more than four.
    Source:
        Karras et al. 2020, "Analyzing and Improving the Image Quality of StyleGAN", appendix B.
    """
    check_impl(impl)
    if weight.shape[2:] != (3, 3):
        raise ValueError(f"`weight` must have 3x3 taps; got {tuple(weight.shape)}.")
    if impl == "ref" or (impl == "auto" and len(resample_filter) > LONGEST_FILTER):
        total = len(resample_filter) - 2
        first = (total + 1) // 2
        out = F.conv_transpose2d(x, weight.transpose(0, 1), stride=2)
        padding = (first, total - first, first, total - first)
        return upfirdn2d(out, resample_filter, padding=padding, gain=4.0, impl="ref")
    return polyphase_conv2d(x, polyphase_weight(weight, resample_filter).to(x.dtype))
