"""What the page shows, as scripts: a page opened from a disk may load a script beside it, but not a JSON file.

A face has one sprite, all its images in one file, the original first; a cell of the data names its tile.
"""

import json
import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from html import escape
from importlib.resources import files as package_files
from typing import Any

import numpy as np
from jaxtyping import UInt8

import storage

PAGE_FILES = ("gallery.css", "models.js", "grid.js", "gallery.js")
INDEX = "index.html"


@dataclass(frozen=True)
class Variant:
    """One prompt of the run as the page knows it.

    Attributes:
        prompt_id: its id.
        threshold: its relevance threshold; None where it has none.
        strengths: rendered ones, ascending.
        first: place of its first strength among a face's cells.
    """

    prompt_id: str
    threshold: float | None
    strengths: tuple[float, ...]
    first: int


@dataclass(frozen=True)
class GalleryColumn:
    """A column: prompts of one text and method, which differ in their threshold only."""

    id: str
    name: str
    target: str
    method: str
    variants: tuple[Variant, ...]


def compute_columns(prompts: Sequence[Mapping[str, Any]]) -> list[GalleryColumn]:
    """Columns in list order, from the run's usable prompts; each a threshold slider of its own where there are several.

    Args:
        prompts: rows of the run's edits with status ok.
    """
    groups: dict[tuple[str, str, str], list[Mapping[str, Any]]] = {}
    for row in prompts:
        groups.setdefault((row["target"], row["neutral"], row["method"]), []).append(row)
    columns, place = [], 0
    for (target, _, method), rows in groups.items():
        rows = _distinct(rows)
        apart = [r["relevance_threshold"] for r in rows]
        if len(rows) > 1 and (None in apart or len(set(apart)) < len(apart)):
            chunks = [[row] for row in rows]  # they differ in something else: a column each
        else:
            chunks = [sorted(rows, key=lambda r: r["relevance_threshold"] or 0.0)]
        for chunk in chunks:
            variants = []
            for row in chunk:
                strengths = tuple(sorted(row["strengths"]))
                threshold = row["relevance_threshold"] if len(chunk) > 1 else None
                variants.append(Variant(row["prompt_id"], threshold, strengths, place))
                place += len(strengths)
            name = chunk[0]["prompt"] if len(chunk) == 1 else _shared_name([row["prompt"] for row in chunk])
            columns.append(GalleryColumn(chunk[0]["prompt_id"], name, target, method, tuple(variants)))
    return columns


def _distinct(rows: list[Mapping[str, Any]]) -> list[Mapping[str, Any]]:
    """Of a study's prompts one for every direction: neighbouring thresholds may keep the same channels."""
    found = {(row["relevance_threshold"], row["num_channels"], *row["strengths"]): row for row in reversed(rows)}
    several = len({threshold for threshold, *_ in found}) > 1
    return [row for row in rows if row in found.values()] if several else rows


def cell_places(columns: Sequence[GalleryColumn]) -> dict[tuple[str, float], int]:
    """Place among a face's cells of every prompt and strength."""
    return {
        (variant.prompt_id, strength): variant.first + i
        for column in columns
        for variant in column.variants
        for i, strength in enumerate(variant.strengths)
    }


def compute_cell(row: Mapping[str, Any], tile: int) -> list[Any]:
    """One image as the page reads it: tile, four scores, hit, accept, reason, caption, verdict.

    Args:
        row: a row of the labels.
        tile: its place in the face's sprite.
    """
    verdict = None
    if row.get("judged_wanted") is not None:
        attribute = row["judged_attribute"].replace("_", " ")
        before, after = _words(row["judged_before"]), _words(row["judged_after"])
        verdict = f"Judge: {attribute} {after}, as before" if before == after else None
        verdict = verdict or f"Judge: {attribute} {before} \u2192 {after}"
    hit = None if row["hit"] is None else int(row["hit"])
    scores = [row["clip_gain"], row["kept"], row["identity_similarity"], row.get("judged_probability")]
    caption = row["captions"][0] if row["captions"] else None
    return [tile, *map(_short, scores), hit, int(row["accept"]), row["reject_reason"], caption, verdict]


def compute_sprite(images: Sequence[UInt8[np.ndarray, "r r 3"]], *, size: int) -> tuple[np.ndarray, int]:
    """All images of a face in one, about as many across as down, and how many there are across."""
    across = math.ceil(math.sqrt(len(images)))
    small = [storage.shrink_image(image, size) for image in images]
    height, width = small[0].shape[:2]
    sheet = np.zeros((math.ceil(len(images) / across) * height, across * width, 3), dtype=np.uint8)
    for i, image in enumerate(small):
        top, left = (i // across) * height, (i % across) * width
        sheet[top : top + height, left : left + width] = image
    return sheet, across


def rows_script(rows: Sequence[Mapping[str, Any]]) -> bytes:
    """Faces as a script that the page appends to its list."""
    return f"(window.GALLERY_ROWS ||= []).push(...{_json(rows)});\n".encode()


def data_script(data: Mapping[str, Any]) -> bytes:
    """What holds for the whole page, as a script."""
    return f"window.GALLERY = {_json(data)};\nwindow.GALLERY_ROWS ||= [];\n".encode()


def columns_data(columns: Sequence[GalleryColumn]) -> list[dict[str, Any]]:
    """The columns as the page reads them."""
    return [
        {
            "id": column.id,
            "name": column.name,
            "target": column.target,
            "method": column.method,
            "variants": [
                {"threshold": v.threshold, "strengths": list(v.strengths), "first": v.first} for v in column.variants
            ],
        }
        for column in columns
    ]


def page_files(title: str, chunks: Sequence[str]) -> Iterator[tuple[str, bytes]]:
    """The page itself: its index with the chunks of data in it, and what is the same in every gallery."""
    root = package_files("pipeline.gallery") / "page"
    index = (root / INDEX).read_text(encoding="utf-8")
    scripts = "\n".join(f'<script src="{escape(chunk)}"></script>' for chunk in chunks)
    yield INDEX, index.replace("{{title}}", escape(title)).replace("{{chunks}}", scripts).encode()
    for name in PAGE_FILES:
        yield name, (root / name).read_bytes()


def _json(value: Any) -> str:
    return json.dumps(value, ensure_ascii=True, allow_nan=False, separators=(",", ":"))


def _short(value: float | None) -> float | None:
    return None if value is None else round(value, 3)


def _words(category: str) -> str:
    return category.replace("_", " ")


def _shared_name(names: Sequence[str]) -> str:
    """What the names of a threshold study begin with: ``glasses`` of ``glasses 0.10`` and ``glasses 0.12``."""
    shared = names[0]
    for name in names[1:]:
        while shared and not name.startswith(shared):
            shared = shared[:-1]
    return shared.rstrip(" @.0123456789-_(=") or names[0]
