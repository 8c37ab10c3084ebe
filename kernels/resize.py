"""CLIP's preprocessing as two fixed matrices: bicubic antialiased resize, then mean and standard deviation."""

from functools import lru_cache

import torch
from jaxtyping import Float
from torch import Tensor
from torch.nn import functional as F

from kernels.impl import Impl, check_impl

DENSE_PAYS_UP_TO = 128  # pixels, on a CPU
BICUBIC_A = -0.5  # Pillow's and Catmull-Rom's; torch uses it too when antialiasing


def bicubic_matrix(size_in: int, size_out: int) -> Float[Tensor, "out in"]:
    """The matrix A with ``A @ column`` = Pillow's bicubic antialiased resize of that column.

    Row o holds the Keys cubic with a = -0.5, centred on ``(o + 0.5) * size_in / size_out``, stretched by the scale
    when shrinking, cut at the image's edge and normalised to sum 1.

    Raises:
        ValueError: if a size is below 1.
    Source: Keys 1981; Pillow, "Resampling.BICUBIC".
    """
    if size_in < 1 or size_out < 1:
        raise ValueError(f"sizes must be at least 1; got {size_in} and {size_out}.")
    scale = size_in / size_out
    stretch = max(scale, 1.0)
    centre = (torch.arange(size_out, dtype=torch.float64) + 0.5) * scale
    pixel = torch.arange(size_in, dtype=torch.float64) + 0.5
    weight = _keys_cubic((pixel[None] - centre[:, None]) / stretch)
    return (weight / weight.sum(dim=1, keepdim=True)).float()


def _keys_cubic(x: Tensor) -> Tensor:
    x, a = x.abs(), BICUBIC_A
    near = (a + 2) * x**3 - (a + 3) * x**2 + 1
    far = a * (x**3 - 5 * x**2 + 8 * x - 4)
    return torch.where(x <= 1, near, torch.where(x < 2, far, torch.zeros_like(x)))


@lru_cache(maxsize=32)
def _matrices(height: int, width: int, size: int, device: torch.device, dtype: torch.dtype) -> tuple[Tensor, Tensor]:
    """Resize of the shorter side to ``size`` and centre crop, folded into one matrix per axis."""
    (full_h, full_w), (top, left) = _resize_and_crop(height, width, size)
    with torch.inference_mode(False):  # a cached inference tensor would break every later backward pass
        rows, columns = bicubic_matrix(height, full_h), bicubic_matrix(width, full_w)
        return rows[top : top + size].to(device, dtype), columns[left : left + size].to(device, dtype)


def _resize_and_crop(height: int, width: int, size: int) -> tuple[tuple[int, int], tuple[int, int]]:
    """Size after the resize, and top-left of the crop, rounded as torchvision's Resize and CenterCrop do."""
    short = min(height, width)
    full_h, full_w = int(size * height / short), int(size * width / short)
    return (full_h, full_w), (round((full_h - size) / 2), round((full_w - size) / 2))


def resize_normalize(
    images: Float[Tensor, "n 3 h w"],
    size: int,
    *,
    mean: tuple[float, float, float],
    std: tuple[float, float, float],
    impl: Impl = "auto",
) -> Float[Tensor, "n 3 size size"]:
    """Images in [-1, 1] to CLIP's input: shorter side to ``size`` (bicubic, antialiased), centre crop, normalise.

    ``out = (clamp(A X B^T, -1, 1) * 0.5 + 0.5 - mean) / std``. Values are clamped to the displayable range first,
    as a saved image would be, and again after the resize, which overshoots at edges as Pillow's 8-bit result cannot.

    Args:
        images: RGB, [-1, 1].
        size: CLIP's input size in pixels.
        mean: per channel, on [0, 1] RGB.
        std: per channel, on [0, 1] RGB.
        impl: the reference is torch's own antialiased bicubic interpolation; ``"auto"`` takes it for images above
            128 px on a CPU, where dense matrices cost more than they save (benchmarks/results.md).
    Returns:
        float, dtype and device of ``images``; differentiable.
    """
    check_impl(impl)
    x = images.clamp(-1, 1)
    height, width = x.shape[2:]
    dense_pays = x.device.type != "cpu" or min(height, width) <= DENSE_PAYS_UP_TO
    if impl == "ref" or (impl == "auto" and not dense_pays):
        full, (top, left) = _resize_and_crop(height, width, size)
        x = F.interpolate(x, size=full, mode="bicubic", antialias=True, align_corners=False)
        x = x[:, :, top : top + size, left : left + size]
    elif (height, width) != (size, size):
        rows, columns = _matrices(height, width, size, x.device, x.dtype)
        x = rows @ x @ columns.T
    x = x.clamp(-1, 1) * 0.5 + 0.5
    shift = torch.tensor(mean, device=x.device, dtype=x.dtype).reshape(1, 3, 1, 1)
    scale = torch.tensor(std, device=x.device, dtype=x.dtype).reshape(1, 3, 1, 1)
    return (x - shift) / scale
