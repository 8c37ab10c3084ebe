"""3x3 convolution with a quarter of the multiplications (Winograd). Letters: n sample, i o channels, p tap of 36."""

from functools import cache

import torch
from jaxtyping import Float
from torch import Tensor
from torch.nn import functional as F

from kernels.impl import Impl, check_impl

TILE = 4  # output pixels of a tile's side; it reads 6 x 6 of the input
BAND_BYTES = 3 * 2**20  # of transformed tiles at a time: they stay in the caches between the three products

# Lavin and Gray 2016, section 4.3: Y = A^T [(G g G^T) * (B^T d B)] A
_INPUT = (
    (4.0, 0.0, -5.0, 0.0, 1.0, 0.0),
    (0.0, -4.0, -4.0, 1.0, 1.0, 0.0),
    (0.0, 4.0, -4.0, -1.0, 1.0, 0.0),
    (0.0, -2.0, -1.0, 2.0, 1.0, 0.0),
    (0.0, 2.0, -1.0, -2.0, 1.0, 0.0),
    (0.0, 4.0, 0.0, -5.0, 0.0, 1.0),
)  # B^T
_WEIGHT = (
    (1 / 4, 0.0, 0.0),
    (-1 / 6, -1 / 6, -1 / 6),
    (-1 / 6, 1 / 6, -1 / 6),
    (1 / 24, 1 / 12, 1 / 6),
    (1 / 24, -1 / 12, 1 / 6),
    (0.0, 0.0, 1.0),
)  # G
_OUTPUT = (
    (1.0, 1.0, 1.0, 1.0, 1.0, 0.0),
    (0.0, 1.0, -1.0, 2.0, -2.0, 0.0),
    (0.0, 1.0, 1.0, 4.0, 4.0, 0.0),
    (0.0, 1.0, -1.0, 8.0, -8.0, 1.0),
)  # A^T


def winograd_taps(weight: Float[Tensor, "o i 3 3"]) -> Float[Tensor, "36 i o"]:
    """The weights that ``winograd_conv2d`` multiplies with, ``G g G^T`` of each 3x3 filter g: made once, used often.

    Args:
        weight: as torch's conv2d takes it.
    Returns:
        [36, i, o], four times the size of ``weight``, same dtype and device.
    Raises:
        ValueError: if the taps are not 3x3.
    Source:
        Lavin and Gray 2016, "Fast Algorithms for Convolutional Neural Networks", section 4.3, F(4x4, 3x3).
    """
    if weight.shape[2:] != (3, 3):
        raise ValueError(f"`weight` must have 3x3 taps; got {tuple(weight.shape)}.")
    num_out, num_in = weight.shape[:2]
    taps = _kron(_WEIGHT, weight.dtype, weight.device) @ weight.permute(2, 3, 1, 0).reshape(9, -1)
    return taps.view(36, num_in, num_out)


def winograd_conv2d(
    x: Float[Tensor, "n i h w"],
    weight: Float[Tensor, "o i 3 3"],
    *,
    scale_in: Float[Tensor, "n i"],
    scale_out: Float[Tensor, "n o"],
    shift: Float[Tensor, "#n #o #h #w"],
    taps: Float[Tensor, "36 i o"] | None = None,
    impl: Impl = "auto",
) -> Float[Tensor, "n o h w"]:
    """Scale, "same" convolution with 3x3 taps, scale and shift: ``conv2d(x * scale_in, weight) * scale_out + shift``.

    1. Overlapping 6x6 windows of the scaled input, one per 4x4 tile of the output, are transformed: ``B^T d B``.
    2. Each of the 36 values of a window is one product over the channels, with its own [i, o] matrix of ``taps``: 36
       multiplications per channel pair and tile instead of 144.
    3. The 36 products become 4x4 pixels, ``A^T m A``, and are scaled and shifted on their way out.

    Both transforms are one matrix product, as ``kron(B^T, B^T)`` on the flattened window. Tiles go through the steps
    a band of rows at a time, as many as ``BAND_BYTES`` hold, or as many bytes as ``taps`` has where those are more.

    In float32 it is some five times as far off as a direct convolution: about 5e-5 on results of order 1.

    Args:
        x: features, fastest in channels-last.
        weight: as torch's conv2d takes it.
        scale_in: per sample and input channel.
        scale_out: per sample and output channel.
        shift: added last.
        taps: ``winograd_taps(weight)``, where it is at hand.
        impl: see ``kernels``; ``"fast"`` needs sides that 4 divides and no gradient, ``"auto"`` convolves directly
            elsewhere.
    Returns:
        [n, o, h, w], channels-last on the fast path; not differentiable there.
    Raises:
        ValueError: if the taps are not 3x3 or, with ``"fast"``, 4 does not divide both sides or a gradient is asked
            for.
    Source:
        Lavin and Gray 2016, section 4.3, F(4x4, 3x3).
    """
    check_impl(impl)
    if weight.shape[2:] != (3, 3):
        raise ValueError(f"`weight` must have 3x3 taps; got {tuple(weight.shape)}.")
    divides = x.shape[2] % TILE == 0 and x.shape[3] % TILE == 0
    if impl == "fast" and not divides:
        raise ValueError(f'both sides must be multiples of {TILE}; got {tuple(x.shape[2:])}. Use `impl="auto"`.')
    inputs = (x, weight, scale_in, scale_out, shift, *(() if taps is None else (taps,)))
    needs_grad = torch.is_grad_enabled() and any(t.requires_grad for t in inputs)
    if impl == "fast" and needs_grad:
        raise ValueError('the fast path has no gradient; one is asked for. Use `impl="auto"`, or `torch.no_grad()`.')
    if impl == "ref" or not divides or needs_grad:
        return F.conv2d(x * scale_in[:, :, None, None], weight, padding=1) * scale_out[:, :, None, None] + shift
    return _winograd_conv2d_fast(
        x, winograd_taps(weight) if taps is None else taps, scale_in=scale_in, scale_out=scale_out, shift=shift
    )


def _winograd_conv2d_fast(
    x: Tensor, taps: Tensor, *, scale_in: Tensor, scale_out: Tensor, shift: Tensor
) -> Float[Tensor, "n o h w"]:
    """Band by band of tile rows, all samples together."""
    n, num_in, h, w = x.shape
    num_out, rows, columns = taps.shape[2], h // TILE, w // TILE
    into, back = (_kron(m, x.dtype, x.device) for m in (_INPUT, _OUTPUT))
    out = x.new_empty(n, rows, TILE, columns, TILE, num_out)
    shifts = shift.expand(-1, -1, h, w).permute(0, 2, 3, 1).unflatten(2, (columns, TILE)).unflatten(1, (rows, TILE))
    scales = scale_out[:, None, None, None, None]

    row_bytes = n * columns * 36 * (num_in + num_out) * x.element_size()
    fit = max(BAND_BYTES, taps.numel() * taps.element_size()) // row_bytes
    band = max((d for d in range(1, rows + 1) if rows % d == 0 and d <= fit), default=1)
    padded = x.new_zeros(n, TILE * band + 2, w + 2, num_in)
    windows = padded.unfold(1, 6, TILE).unfold(2, 6, TILE).permute(4, 5, 0, 1, 2, 3)  # [6 6 n rows columns i]
    num_tiles = n * band * columns
    tiles, transformed = (x.new_empty(36, num_tiles * num_in) for _ in range(2))
    products, pixels = (x.new_empty(p, num_tiles * num_out) for p in (36, TILE**2))
    x, scale_in = x.permute(0, 2, 3, 1), scale_in[:, None, None]
    for start in range(0, rows, band):
        _fill(padded, x, scale_in, TILE * start - 1)
        tiles.view(windows.shape).copy_(windows)
        torch.mm(into, tiles, out=transformed)
        torch.bmm(transformed.view(36, num_tiles, num_in), taps, out=products.view(36, num_tiles, num_out))
        torch.mm(back, products, out=pixels)
        there = pixels.view(TILE, TILE, n, band, columns, num_out).permute(2, 3, 0, 4, 1, 5)
        torch.addcmul(shifts[:, start : start + band], there, scales, out=out[:, start : start + band])
    return out.view(n, h, w, num_out).permute(0, 3, 1, 2)


def _fill(padded: Float[Tensor, "n rows w_padded i"], x: Float[Tensor, "n h w i"], scale: Tensor, first: int) -> None:
    """Put the scaled rows of ``x`` from number ``first`` on into the middle columns; zero beyond the edges."""
    num_rows, h = padded.shape[1], x.shape[1]
    start, stop = max(-first, 0), min(h - first, num_rows)
    padded[:, :start] = 0
    padded[:, stop:] = 0
    torch.mul(x[:, first + start : first + stop], scale, out=padded[:, start:stop, 1:-1])


@cache
def _kron(matrix: tuple[tuple[float, ...], ...], dtype: torch.dtype, device: torch.device) -> Tensor:
    """``kron(m, m)``: m on both axes of a flattened square."""
    m = torch.tensor(matrix, dtype=torch.float64)
    return torch.kron(m, m).to(dtype).to(device)
