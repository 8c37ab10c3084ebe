"""The sheet of inversions: what was given, what the generator was shown, what it draws."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import UInt8
from PIL import Image, ImageDraw, ImageFont

HEADS = ("original", "aligned", "reconstruction")
GAP = 4
LINE = 16
LARGEST_CELL = 256


@dataclass(frozen=True)
class SheetRow:
    """One image of the sheet.

    Attributes:
        label: its latent's name.
        original: the photo, any size and aspect.
        aligned: what the generator was shown.
        reconstruction: what it draws.
    """

    label: str
    original: UInt8[np.ndarray, "h w 3"]
    aligned: UInt8[np.ndarray, "r r 3"]
    reconstruction: UInt8[np.ndarray, "r r 3"]


def thumbnail(photo: UInt8[np.ndarray, "h w 3"], cell: int) -> UInt8[np.ndarray, "h2 w2 3"]:
    """A photo small enough for a cell."""
    image = Image.fromarray(photo)
    image.thumbnail((cell, cell))
    return np.asarray(image)


def cell_size(resolution: int) -> int:
    """Side of a cell for pictures of a generator."""
    return min(LARGEST_CELL, max(64, resolution))


def draw_inversion_sheet(rows: Sequence[SheetRow], resolution: int) -> UInt8[np.ndarray, "h w 3"]:
    """The rows under each other, three cells each."""
    cell = cell_size(resolution)
    width, height = len(HEADS) * (cell + GAP) + GAP, LINE + GAP + len(rows) * (cell + LINE + GAP)
    sheet = Image.new("RGB", (width, height), "white")
    pen, font = ImageDraw.Draw(sheet), ImageFont.load_default(size=11)
    for column, head in enumerate(HEADS):
        pen.text((GAP + column * (cell + GAP), 2), head, fill="black", font=font)
    for number, row in enumerate(rows):
        top = LINE + GAP + number * (cell + LINE + GAP)
        for column, picture in enumerate((row.original, row.aligned, row.reconstruction)):
            small = thumbnail(picture, cell)
            left = GAP + column * (cell + GAP) + (cell - small.shape[1]) // 2
            sheet.paste(Image.fromarray(small), (left, top + (cell - small.shape[0]) // 2))
        pen.text((GAP, top + cell + 1), row.label.encode("ascii", "replace").decode(), fill="black", font=font)
    return np.asarray(sheet)
