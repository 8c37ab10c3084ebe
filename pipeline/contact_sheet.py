"""Contact sheets: labelled grids of pictures."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import UInt8
from PIL import Image, ImageDraw, ImageFont

_LABEL_HEIGHT = 34
_GAP = 4


@dataclass(frozen=True)
class Cell:
    """One column head or picture of the contact sheet."""

    label: str
    images: Sequence[UInt8[np.ndarray, "r r 3"] | None]


def compute_contact_sheet(
    columns: Sequence[Cell], row_labels: Sequence[str], *, note: str = ""
) -> UInt8[np.ndarray, "h w 3"]:
    """A grid of pictures: one row per latent, one column per edit, labels on top and under each row's first picture.

    Args:
        columns: heads and pictures.
        row_labels: one per row.
        note: a line at the bottom; none where empty.
    """
    size = max((image.shape[0] for column in columns for image in column.images if image is not None), default=128)
    rows_end = _LABEL_HEIGHT + len(row_labels) * (size + _GAP)
    height = rows_end + (_LABEL_HEIGHT // 2 if note else 0)
    sheet = Image.new("RGB", (len(columns) * (size + _GAP) + _GAP, height), "white")
    pen = ImageDraw.Draw(sheet)
    font = ImageFont.load_default(size=max(11, size // 11))
    for x, column in enumerate(columns):
        left = _GAP + x * (size + _GAP)
        pen.multiline_text((left + 2, 2), _wrap(column.label, size, font), fill="black", font=font, spacing=1)
        for y, image in enumerate(column.images):
            top = _LABEL_HEIGHT + y * (size + _GAP)
            if image is not None:
                sheet.paste(Image.fromarray(image), (left, top))
            else:
                pen.text((left + 2, top + size // 2), "no image", fill="firebrick", font=font)
    small = ImageFont.load_default(size=10)
    for y, label in enumerate(row_labels):
        top = _LABEL_HEIGHT + y * (size + _GAP) + size - 13
        pen.text((_GAP + 2, top), label, fill="black", font=small, stroke_width=2, stroke_fill="white")
    pen.text((_GAP + 2, rows_end), note, fill="black", font=small)
    return np.asarray(sheet)


def _wrap(text: str, width: int, font: ImageFont.FreeTypeFont | ImageFont.ImageFont) -> str:
    """At most two lines of at most ``width`` pixels; what does not fit ends in dots."""
    lines: list[str] = [""]
    for word in text.split():
        longer = f"{lines[-1]} {word}".strip()
        if font.getlength(longer) <= width or not lines[-1]:
            lines[-1] = longer
        elif len(lines) < 2:
            lines.append(word)
        else:
            lines[-1] += "..."
            break
    return "\n".join(lines)
