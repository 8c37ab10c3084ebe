"""Image files of any kind to upright 8-bit sRGB, with bounds that are looked at before anything is decoded.

Letters: h row, w column.
"""

import io
import struct
import zlib
from dataclasses import dataclass

import numpy as np
from jaxtyping import UInt8
from PIL import Image, ImageCms, ImageColor

# Formats without interpreters: Pillow would start Ghostscript for EPS; JPEG includes MPO, as phones write it
FORMATS = ("JPEG", "PNG", "WEBP", "TIFF", "BMP", "GIF", "JPEG2000", "PPM", "AVIF", "TGA", "ICO")
MAGIC = {
    b"\xff\xd8\xff": "JPEG",
    b"\x89PNG": "PNG",
    b"GIF8": "GIF",
    b"BM": "BMP",
    b"II*\x00": "TIFF",
    b"MM\x00*": "TIFF",
    b"RIFF": "WebP",
    b"\x00\x00\x00\x0cjP": "JPEG 2000",
}
HEIC = (b"ftypheic", b"ftypheix", b"ftypmif1", b"ftypmsf1", b"ftyphevc")
AVIF = (b"ftypavif", b"ftypavis")
ORIENTATION = 0x0112  # EXIF tag
TURNS = {  # EXIF orientation to what makes it upright
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}
BOMBS = (Image.DecompressionBombError, Image.DecompressionBombWarning)
DECODE_ERRORS = (  # what Pillow's decoders raise on bytes that are cut or damaged
    OSError,
    SyntaxError,
    ValueError,
    TypeError,
    LookupError,
    EOFError,
    ArithmeticError,
    RuntimeError,
    MemoryError,
    struct.error,
    zlib.error,
    ImageCms.PyCMSError,
)


class RejectedImageError(Exception):
    """An image that is left out, which is no error of the run.

    Attributes:
        reason: one word of ``REASONS``.
    """

    def __init__(self, reason: str, message: str) -> None:
        super().__init__(message)
        assert reason in REASONS, reason
        self.reason = reason


REASONS = {
    "unreadable": "the file could not be read",
    "empty": "the file has no bytes",
    "not_an_image": "of no format that is read here",
    "truncated": "an image cut short or damaged",
    "too_large": "more bytes or pixels than allowed",
    "too_small": "a side shorter than allowed",
    "unsupported": "an image of numbers without a stated range",
    "no_face": "no face was found to align",
    "low_quality": "the reconstruction is below min_quality",
    "not_finite": "the encoder gave NaN or infinity",
}


@dataclass(frozen=True)
class Limits:
    """What an image may measure.

    Attributes:
        most_bytes: of the file.
        most_pixels: width times height.
        least_side: pixels of the shorter side.
    """

    most_bytes: int
    most_pixels: int
    least_side: int


@dataclass(frozen=True)
class Photo:
    """A decoded image.

    Attributes:
        pixels: upright sRGB.
        exif: the file's EXIF block, as it was; None where it has none.
    """

    pixels: UInt8[np.ndarray, "h w 3"]
    exif: bytes | None


def check_background(color: str) -> tuple[int, int, int]:
    """A colour as red, green and blue, 0 to 255.

    Raises:
        ValueError: if it is no colour.
    """
    return ImageColor.getrgb(color)[:3]


def decode_photo(data: bytes, limits: Limits, *, background: tuple[int, int, int]) -> Photo:
    """Decode one image.

    The EXIF orientation is applied; a colour profile (wide gamuts, CMYK, grey, Lab) is converted to sRGB, and one that
    cannot be read counts as sRGB; CMYK without a profile is inverted; 16 bits keep the upper 8; palettes become RGB;
    what is transparent shows ``background``; of an animation or a TIFF of several pages the first is taken.

    Args:
        data: the file's bytes; of one that is too large, at least one byte more than allowed.
        limits: looked at from the header, before the pixels are decoded.
        background: red, green and blue behind transparent pixels.
    Raises:
        RejectedImageError: with the reason.
    """
    if not data:
        raise RejectedImageError("empty", "an image must have bytes; the file is empty.")
    if len(data) > limits.most_bytes:
        raise RejectedImageError(
            "too_large", f"an image may have {limits.most_bytes} bytes; it has more. Raise `max_bytes` to take it."
        )
    try:
        with _opened(data) as image:
            _check_size(image.size, limits)
            exif = image.info.get("exif")
            return Photo(np.array(_upright(_srgb(image, background), _orientation(image))), exif)
    except RejectedImageError:
        raise
    except BOMBS as error:
        raise RejectedImageError("too_large", f"an image may have {limits.most_pixels} pixels; {error}") from error
    except DECODE_ERRORS as error:
        raise RejectedImageError(
            "truncated", f"an image must be whole; it is cut short or damaged ({len(data)} bytes): {error}"
        ) from error


def _opened(data: bytes) -> Image.Image:
    Image.init()  # all plug-ins: Pillow looks for formats among those it has loaded
    try:
        return Image.open(io.BytesIO(data), formats=FORMATS)
    except BOMBS:
        raise
    except DECODE_ERRORS as error:
        if data[4:12] in HEIC:
            raise RejectedImageError("not_an_image", "HEIC is not read; save the photo as JPEG or PNG.") from error
        kind = next((name for magic, name in MAGIC.items() if data.startswith(magic)), None)
        kind = "AVIF" if data[4:12] in AVIF else kind
        if kind is not None:
            raise RejectedImageError(
                "truncated", f"a {kind} file must be whole; it is cut short or damaged ({len(data)} bytes)."
            ) from error
        raise RejectedImageError(
            "not_an_image",
            f"an image must be JPEG, PNG, WebP, TIFF, BMP, GIF, JPEG 2000 or AVIF; the {len(data)} bytes are none.",
        ) from error


def _check_size(size: tuple[int, int], limits: Limits) -> None:
    width, height = size
    if width * height > limits.most_pixels:
        raise RejectedImageError(
            "too_large",
            f"an image may have {limits.most_pixels} pixels; it is {width} x {height}. Raise `max_pixels` to take it.",
        )
    if min(size) < limits.least_side:
        raise RejectedImageError(
            "too_small",
            f"an image's sides must have {limits.least_side} px; it is {width} x {height}. Lower `min_side`.",
        )


def _orientation(image: Image.Image) -> int:
    """As EXIF says; 1 where it says nothing that makes sense."""
    try:
        found = image.getexif().get(ORIENTATION, 1)
    except (*DECODE_ERRORS, Warning):  # Pillow warns of damaged EXIF
        return 1
    return found if isinstance(found, int) else 1


def _upright(image: Image.Image, orientation: int) -> Image.Image:
    return image.transpose(TURNS[orientation]) if orientation in TURNS else image


def _srgb(image: Image.Image, background: tuple[int, int, int]) -> Image.Image:
    """The image's pixels as 8-bit sRGB over the background."""
    profile = image.info.get("icc_profile")
    image.load()
    if image.mode == "F" or image.mode.startswith("I"):
        image = _eight_bits(image)
    if image.mode in ("PA", "RGBa", "La") or (image.mode in ("P", "L", "RGB", "1") and "transparency" in image.info):
        image = image.convert("RGBA")
    elif image.mode == "P":
        image = image.convert("RGB")
    alpha = image.getchannel("A") if image.mode in ("RGBA", "LA") else None
    colors = _without_profile(image, profile)
    if alpha is None:
        return colors
    below = Image.new("RGB", colors.size, background)
    below.paste(colors, mask=alpha)
    return below


def _eight_bits(image: Image.Image) -> Image.Image:
    """Grey of 16 bits by its upper 8."""
    values = np.asarray(image)
    if image.mode == "F" or values.min() < 0 or values.max() > 65_535:
        raise RejectedImageError(
            "unsupported",
            f"an image must have 8 or 16 bits a channel; mode {image.mode!r} has no stated range. Save it with 8.",
        )
    return Image.fromarray((values.astype(np.uint16) >> 8).astype(np.uint8))


def _without_profile(image: Image.Image, profile: bytes | None) -> Image.Image:
    """Colours as sRGB, alpha dropped."""
    bare = {"RGBA": "RGB", "LA": "L", "1": "L"}.get(image.mode)
    image = image.convert(bare) if bare else image
    if profile and image.mode in ("RGB", "L", "CMYK", "LAB"):
        try:
            return _converted(image, ImageCms.ImageCmsProfile(io.BytesIO(profile)))
        except (ImageCms.PyCMSError, OSError, ValueError, TypeError):
            pass  # a damaged profile, or one of other channels than the pixels'
    if image.mode == "LAB":
        return _converted(image, ImageCms.createProfile("LAB"))
    return image.convert("RGB")


def _converted(image: Image.Image, profile: object) -> Image.Image:
    found = ImageCms.profileToProfile(image, profile, ImageCms.createProfile("sRGB"), outputMode="RGB")  # pyright: ignore[reportArgumentType]
    assert found is not None
    return found
