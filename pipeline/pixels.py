"""The one rounding between pixels in [-1, 1] and 8 bits, and the layouts on either side of it."""

import numpy as np
import torch
from jaxtyping import Float, UInt8
from torch import Tensor

from pipeline.config import Rounding


def to_uint8(images: Float[Tensor, "n 3 h w"], how: Rounding = "round") -> UInt8[Tensor, "n 3 h w"]:
    """Pixels in [-1, 1] to 8 bits: rounded to the nearest level, or shifted and cut as the published versions do.

    Args:
        images: [-1, 1]; what lies beyond is cut. Must be finite: NaN has no level.
        how: ``round`` is ``round((x + 1) * 127.5)``; ``+128`` (StyleCLIP's TensorFlow code) and ``+127.5`` (its PyTorch
            code) are ``x * 127.5`` plus that, cut towards 0.
    Raises:
        ValueError: if a colour is NaN.
    """
    if bool(torch.isnan(images).any()):
        raise ValueError("images must hold numbers to be rounded; got NaN.")
    if how == "round":
        return ((images + 1) * 127.5).round().clamp(0, 255).to(torch.uint8)
    return (images * 127.5 + float(how)).clamp(0, 255).to(torch.uint8)


def from_uint8(pixels: UInt8[Tensor, "n 3 h w"]) -> Float[Tensor, "n 3 h w"]:
    """8-bit pixels to [-1, 1]."""
    return pixels.float() / 127.5 - 1


def to_rgb_arrays(images: Float[Tensor, "n 3 h w"], how: Rounding = "round") -> UInt8[np.ndarray, "n h w 3"]:
    """As ``to_uint8``, in the layout of image files, on the CPU."""
    return to_uint8(images, how).permute(0, 2, 3, 1).cpu().numpy()


def from_rgb_arrays(arrays: UInt8[np.ndarray, "n h w 3"]) -> Float[Tensor, "n 3 h w"]:
    """Images in the layout of image files to [-1, 1], channels first."""
    return from_uint8(torch.from_numpy(arrays).permute(0, 3, 1, 2))
