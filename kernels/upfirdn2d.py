"""Upsample, filter, downsample (Karras et al. 2020, appendix B). Letters: n sample, c channel, h w pixels."""

import torch
from jaxtyping import Float
from torch import Tensor
from torch.nn import functional as F

from kernels.impl import Impl, check_impl

Padding = tuple[int, int, int, int]


def binomial_filter(taps: tuple[float, ...] = (1, 3, 3, 1)) -> Float[Tensor, "k"]:
    """Separable low-pass filter with sum 1; (1, 3, 3, 1) is StyleGAN2's (Karras 2020, table 1, config E).

    On the CPU, also while a network is built without memory (``torch.device("meta")``): no file holds it.
    """
    f = torch.tensor(taps, dtype=torch.float32, device="cpu")
    return f / f.sum()


def upfirdn2d(
    x: Float[Tensor, "n c h w"],
    f: Float[Tensor, "k"],
    *,
    up: int = 1,
    down: int = 1,
    padding: Padding = (0, 0, 0, 0),
    gain: float = 1.0,
    impl: Impl = "auto",
) -> Float[Tensor, "n c h_out w_out"]:
    """Zero-upsample, pad, convolve with the separable filter, keep every ``down``-th pixel.

    1. insert ``up - 1`` zeros after each pixel, in both axes;
    2. pad with zeros (or crop, where negative) by ``padding`` = (left, right, top, bottom);
    3. convolve (true convolution: the filter is flipped) with ``gain * f[i] * f[j]``;
    4. keep every ``down``-th pixel.

    ``h_out = (h * up + top + bottom - k) // down + 1``, ``w_out`` likewise. ``gain = up ** 2`` keeps the
    mean of an upsampled image. scipy's ``upfirdn`` applied along both axes is the nearest known function.

    Args:
        x: images or features, any float dtype.
        f: 1-D filter, applied along rows and columns.
        up: integer factor >= 1.
        down: integer factor >= 1.
        padding: pixels (left, right, top, bottom) on the upsampled grid.
        gain: factor on the result.
        impl: see ``kernels``.
    Returns:
        the filtered tensor, dtype and device of ``x``; differentiable in ``x``.
    Raises:
        ValueError: if the filter is not 1-D, a factor is below 1, or the padded image is smaller than the filter.
    """
    check_impl(impl)
    if f.ndim != 1:
        raise ValueError(f"`f` must be a 1-D separable filter; got shape {tuple(f.shape)}.")
    if up < 1 or down < 1:
        raise ValueError(f"`up` and `down` must be at least 1; got up={up}, down={down}.")
    left, right, top, bottom = padding
    if min(x.shape[2] * up + top + bottom, x.shape[3] * up + left + right) < f.numel():
        raise ValueError(
            f"the padded image must be at least as large as the filter ({f.numel()} taps); "
            f"got {tuple(x.shape)} with up={up}, padding={padding}."
        )
    f = f.to(x)
    run = _upfirdn2d_ref if impl == "ref" else _upfirdn2d_fast
    return run(x, f, up=up, down=down, padding=padding, gain=gain)


def _upfirdn2d_ref(x: Tensor, f: Tensor, *, up: int, down: int, padding: Padding, gain: float) -> Tensor:
    """The four steps, one sum over all filter taps."""
    n, c, h, w = x.shape
    grid = x.new_zeros(n, c, h, up, w, up)
    grid[:, :, :, 0, :, 0] = x
    grid = F.pad(grid.reshape(n, c, h * up, w * up), list(padding))
    k = f.numel()
    h_out, w_out = grid.shape[2] - k + 1, grid.shape[3] - k + 1
    out = x.new_zeros(n, c, h_out, w_out)
    for i in range(k):
        for j in range(k):
            tap = gain * f[k - 1 - i] * f[k - 1 - j]
            out = out + tap * grid[:, :, i : i + h_out, j : j + w_out]
    return out[:, :, ::down, ::down]


def _upfirdn2d_fast(x: Tensor, f: Tensor, *, up: int, down: int, padding: Padding, gain: float) -> Tensor:
    """Without upsampling one depthwise convolution; with it rows, then columns, phase by phase."""
    left, right, top, bottom = padding
    if up == 1:
        symmetric = left == right >= 0 and top == bottom >= 0
        if not symmetric:
            x = F.pad(x, list(padding))
        taps = torch.outer(f, f).flip(0, 1).mul(gain).expand(x.shape[1], 1, -1, -1)
        return F.conv2d(x, taps, stride=down, padding=(top, left) if symmetric else 0, groups=x.shape[1])
    x = _upsample_axis(x, f * gain, axis=2, up=up, pad=(top, bottom))
    x = _upsample_axis(x, f, axis=3, up=up, pad=(left, right))
    return x[:, :, ::down, ::down]


def _upsample_axis(x: Tensor, f: Tensor, *, axis: int, up: int, pad: tuple[int, int]) -> Tensor:
    """One axis: output ``o`` is the sum over taps ``t`` of ``f[k-1-t] * grid[o + t]``.

    Grid pixel ``g`` is ``x[(g - pad) / up]`` where that is whole, else an inserted zero. All outputs of one phase
    ``o mod up`` read the same taps, so a phase is a few shifted, scaled slices added up and no zero is multiplied.
    """
    k = f.numel()
    size_out = x.shape[axis] * up + pad[0] + pad[1] - k + 1
    count = -(-size_out // up)
    phases = []
    for phase in range(up):
        total = torch.zeros((), dtype=x.dtype, device=x.device)
        for t in range(k):
            g = phase + t - pad[0]
            if g % up == 0:
                total = total + _shifted(x, axis, start=g // up, count=count) * f[k - 1 - t]
        shape = [count if i == axis else size for i, size in enumerate(x.shape)]
        phases.append(total.expand(shape))
    return torch.stack(phases, dim=axis + 1).flatten(axis, axis + 1).narrow(axis, 0, size_out)


def _shifted(x: Tensor, axis: int, *, start: int, count: int) -> Tensor:
    """``x[start : start + count]`` along ``axis``, zeros outside the image."""
    before, after = max(0, -start), max(0, start + count - x.shape[axis])
    if before or after:
        x = F.pad(x, [0, 0] * (x.ndim - 1 - axis) + [before, after])
    return x.narrow(axis, start + before, count)
