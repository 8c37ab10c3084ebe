"""Files as photo collections hold them: one picture in many formats, sizes and depths, and files broken in ten ways.

Letters: r side of a picture.
"""

import io
import struct
import zlib
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from jaxtyping import UInt8
from PIL import Image

Picture = UInt8[np.ndarray, "r r 3"]
UPSIDE_DOWN, LYING = 3, 6  # EXIF orientations
ORIENTATION = 0x0112


def plain(image: Image.Image) -> Image.Image:
    """As it is."""
    return image


def transparent(image: Image.Image) -> Image.Image:
    """With a transparent corner; a reader fills it with its background."""
    alpha = np.full((image.height, image.width), 255, np.uint8)
    alpha[: image.height // 10, : image.width // 10] = 0
    image.putalpha(Image.fromarray(alpha))
    return image


def turned(orientation: int) -> Callable[[Image.Image], Image.Image]:
    """Saved as a camera held another way does: EXIF says how to turn it upright."""
    turns = {UPSIDE_DOWN: Image.Transpose.ROTATE_180, LYING: Image.Transpose.ROTATE_90}
    return lambda image: image.transpose(turns[orientation])


@dataclass(frozen=True)
class Way:
    """A way to write a picture.

    Attributes:
        name: what tables call it.
        kind: Pillow's name of the format, or ``PNG16``.
        size: width and height that the picture is resampled to.
        prepare: from RGB to what is saved.
        options: of Pillow's ``save``.
    """

    name: str
    kind: str
    size: tuple[int, int] = (128, 128)
    prepare: Callable[[Image.Image], Image.Image] = plain
    options: dict[str, Any] = field(default_factory=dict)

    @property
    def suffix(self) -> str:
        """Of the file's name."""
        return {"PNG16": "png", "JPEG": "jpg", "TIFF": "tif"}.get(self.kind, self.kind.lower())

    def write(self, picture: Picture) -> bytes:
        """The picture as a file."""
        image = Image.fromarray(picture)
        if image.size != self.size:
            image = image.resize(self.size, Image.Resampling.LANCZOS)
        if self.kind == "PNG16":
            return _deep_png(np.asarray(image))
        buffer = io.BytesIO()
        self.prepare(image).save(buffer, format=self.kind, **self.options)
        return buffer.getvalue()


def _exif(orientation: int) -> Image.Exif:
    exif = Image.Exif()
    exif[ORIENTATION] = orientation
    return exif


LOSSLESS = (
    *(Way("png", "PNG"), Way("webp lossless", "WEBP", options={"lossless": True})),
    *(Way("bmp", "BMP"), Way("tiff", "TIFF"), Way("png 16 bit", "PNG16")),
    Way("tiff lying, by exif", "TIFF", prepare=turned(LYING), options={"exif": _exif(LYING)}),
)
MIXED = (
    *(Way("png", "PNG"), Way("bmp", "BMP"), Way("tiff", "TIFF"), Way("png 16 bit", "PNG16")),
    *(Way("png 256 px", "PNG", (256, 256)), Way("png 512 px", "PNG", (512, 512)), Way("png 96 px", "PNG", (96, 96))),
    Way("png 160 x 128 px", "PNG", (160, 128)),
    Way("png palette", "PNG", prepare=lambda image: image.quantize(256)),
    Way("png corner transparent", "PNG", prepare=transparent),
    Way("grey 16 bit", "PNG", prepare=lambda image: Image.fromarray(np.asarray(image.convert("L")).astype("u2") * 257)),
    *(Way(f"jpeg quality {quality}", "JPEG", options={"quality": quality}) for quality in (95, 85, 75, 50)),
    Way("jpeg 300 px quality 85", "JPEG", (300, 300), options={"quality": 85}),
    Way("jpeg cmyk", "JPEG", prepare=lambda image: image.convert("CMYK"), options={"quality": 95}),
    Way("jpeg lying, by exif", "JPEG", prepare=turned(LYING), options={"quality": 95, "exif": _exif(LYING)}),
    Way("tiff upside down", "TIFF", prepare=turned(UPSIDE_DOWN), options={"exif": _exif(UPSIDE_DOWN)}),
    Way("webp quality 90", "WEBP", options={"quality": 90}),
    Way("webp 256 px quality 75", "WEBP", (256, 256), options={"quality": 75}),
    *(Way("gif", "GIF"), Way("gif 64 colours", "GIF", prepare=lambda image: image.quantize(64))),
)


def broken(data: bytes, way: int) -> bytes:
    """A file spoilt in one of ten ways; the seventh is a decompression bomb."""
    return (
        b"",
        data[: len(data) // 3],
        data[:20],
        b"this is a note, not an image",
        b"<html><body>404 Not Found</body></html>",
        b"%PDF-1.7\n" + bytes(500),
        _png(90_000, 90_000, depth=8, lines=bytes(10_000)),
        Way("tiny", "PNG", (4, 4)).write(np.zeros((4, 4, 3), np.uint8)),
        b"\x00\x00\x00\x18ftypheic\x00\x00\x00\x00mif1heic" + bytes(100),
        bytes(2_000),
    )[way % 10]


def _deep_png(pixels: UInt8[np.ndarray, "h w 3"]) -> bytes:
    """RGB with 16 bits a channel, which Pillow reads but does not write. Source: the PNG specification, section 11."""
    rows = (pixels.astype(">u2") * 257).reshape(len(pixels), -1).view(np.uint8).reshape(len(pixels), -1)
    lines = np.concatenate([np.zeros((len(rows), 1), np.uint8), rows], axis=1)  # 0: no filter
    return _png(pixels.shape[1], pixels.shape[0], depth=16, lines=lines.tobytes())


def _png(width: int, height: int, *, depth: int, lines: bytes) -> bytes:
    """A PNG of RGB: its header, and what it says are its lines."""
    size = struct.pack(">IIBBBBB", width, height, depth, 2, 0, 0, 0)
    chunks = ((b"IHDR", size), (b"IDAT", zlib.compress(lines)), (b"IEND", b""))
    return b"\x89PNG\r\n\x1a\n" + b"".join(
        struct.pack(">I", len(body)) + name + body + struct.pack(">I", zlib.crc32(name + body)) for name, body in chunks
    )
