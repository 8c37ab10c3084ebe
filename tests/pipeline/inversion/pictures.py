"""Pictures for the tests of inversion."""

import io
from typing import Any

import numpy as np
from PIL import Image


def smooth_picture(height: int, width: int) -> np.ndarray:
    """Soft gradients, different in each channel and direction, [height, width, 3] uint8."""
    y, x = np.mgrid[:height, :width] / np.array([[[height]], [[width]]])
    waves = [np.sin(6 * x + 2 * y), np.cos(5 * y), np.sin(3 * x - 7 * y + 1)]
    return np.rint(127.5 + 120 * np.stack(waves, axis=-1)).astype(np.uint8)


def saved(pixels: np.ndarray, kind: str, **options: Any) -> bytes:
    """The picture as a file of a format."""
    buffer = io.BytesIO()
    Image.fromarray(np.ascontiguousarray(pixels)).save(buffer, format=kind, **options)
    return buffer.getvalue()
