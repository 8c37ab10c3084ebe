"""Images as bytes: PNG, lossless WebP or JPEG out, anything Pillow opens in. Letters: h row, w column."""

import io
import struct
import zlib
from typing import Any, Literal

import numpy as np
import pyarrow as pa
from PIL import Image, ImageOps

from storage.errors import CorruptError

IMAGE_TYPE = pa.struct([("bytes", pa.binary()), ("path", pa.string())])
"""The Arrow type of an image cell, as Hugging Face datasets reads it."""

ImageFormat = Literal["png", "webp", "jpeg"]
EXTENSIONS: dict[ImageFormat, str] = {"png": "png", "webp": "webp", "jpeg": "jpg"}
# Of lossless WebP; 0.89 of a PNG's size in 3 ms at 128 px, where the default method takes 53 ms for 0.77
WEBP_METHOD, WEBP_EFFORT = 0, 25

# What Pillow's decoders raise on bytes that are no image, or a cut or damaged one.
DECODE_ERRORS = (
    OSError,
    SyntaxError,
    ValueError,
    TypeError,
    LookupError,
    EOFError,
    ArithmeticError,
    RuntimeError,
    struct.error,
    zlib.error,
    Image.DecompressionBombError,
)
UNSCALED_MODES = ("I", "F")  # 32-bit numbers without a stated range: Pillow would clip them to 0..255


def encode_png(array: np.ndarray) -> bytes:
    """The image as PNG; the same array gives the same bytes.

    Args:
        array: [h, w, 3] uint8, RGB.
    Raises:
        ValueError: if the shape or type is another.
    """
    return encode_image(array, "png")


def encode_image(array: np.ndarray, kind: ImageFormat, *, quality: int = 95) -> bytes:
    """The image as a file; the same array gives the same bytes. PNG and WebP keep every bit, JPEG does not.

    Args:
        array: [h, w, 3] uint8, RGB.
        kind: format of the file.
        quality: of a JPEG, 1 to 100; colours are kept at full resolution. The others ignore it.
    Raises:
        ValueError: if the shape or type is another.
    """
    if array.dtype != np.uint8 or array.ndim != 3 or array.shape[2] != 3 or array.size == 0:
        raise ValueError(
            f"an image must be uint8 [h, w, 3] and not empty; got {array.dtype} {list(array.shape)}. "
            f"Scale to 0..255, round, and put the channels last."
        )
    options: dict[ImageFormat, dict[str, Any]] = {
        "png": {},
        "webp": {"lossless": True, "quality": WEBP_EFFORT, "method": WEBP_METHOD, "exact": True},
        "jpeg": {"quality": quality, "subsampling": 0},
    }
    buffer = io.BytesIO()
    Image.fromarray(np.ascontiguousarray(array)).save(buffer, format=kind.upper(), **options[kind])
    return buffer.getvalue()


def encode_preview(array: np.ndarray, *, quality: int) -> bytes:
    """The image as lossy WebP, small, for looking at only.

    Args:
        array: [h, w, 3] uint8, RGB.
        quality: 1 to 100.
    """
    buffer = io.BytesIO()
    Image.fromarray(np.ascontiguousarray(array)).save(buffer, format="WEBP", quality=quality, method=2)
    return buffer.getvalue()


def shrink_image(array: np.ndarray, size: int) -> np.ndarray:
    """The image at ``size`` pixels of its longer side, by area; as it is if it has no more than that.

    Args:
        array: [h, w, 3] uint8, RGB.
        size: pixels.
    """
    image = Image.fromarray(array)
    if max(image.size) <= size:
        return array
    image.thumbnail((size, size), Image.Resampling.BOX if max(image.size) % size == 0 else Image.Resampling.LANCZOS)
    return np.asarray(image)


def decode_image(data: bytes) -> np.ndarray:
    """Decode an image of any format that Pillow opens, upright.

    The EXIF orientation is applied, greyscale and palettes become RGB, transparency is dropped, 16-bit grey keeps its
    upper 8 bits, of an animation the first frame is taken.

    Args:
        data: the file's bytes.
    Returns:
        [h, w, 3] uint8, RGB; writable.
    Raises:
        CorruptError: if the bytes are no image, a cut or damaged one, too large for Pillow, or of 32-bit numbers.
    """
    try:
        with Image.open(io.BytesIO(data)) as image:
            return np.array(_rgb(ImageOps.exif_transpose(image)))
    except DECODE_ERRORS as error:
        raise CorruptError(
            f"an image must be of a format that Pillow opens, and whole; got {len(data)} bytes: {error}. "
            f"Open the file in a viewer, and replace it or leave it out."
        ) from error


def image_struct(data: bytes, path: str) -> dict[str, bytes | str]:
    """A cell of type ``IMAGE_TYPE``.

    Args:
        data: the encoded image.
        path: the name that the image goes by outside the table, for example ``seed-00000042.png``.
    """
    return {"bytes": data, "path": path}


def _rgb(image: Image.Image) -> Image.Image:
    if image.mode in UNSCALED_MODES:
        raise ValueError(f"its mode {image.mode!r} has no stated range; save it with 8 bits a channel")
    if image.mode.startswith("I;16"):
        image = Image.fromarray((np.asarray(image) >> 8).astype(np.uint8))
    return image.convert("RGB")
