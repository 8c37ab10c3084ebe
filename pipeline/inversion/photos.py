"""What a dataset keeps of the photos that its latents were inverted from: their rows, names and labels, and whole
photos with the edits pasted back.
"""

import hashlib
import io
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import pyarrow as pa
from jaxtyping import UInt8
from PIL import Image

import storage
from pipeline.inversion.crop import paste_back
from pipeline.inversion.frame import Frame, canvas_of
from pipeline.inversion.intake import ORIENTATION, Limits, RejectedImageError, check_background, decode_photo
from pipeline.inversion.reading import read_images
from pipeline.inversion.sources import ImageReference
from pipeline.prompts import ORIGINAL, PHOTO
from pipeline.rows import ImageRow
from pipeline.runs.shard import Input, find_input
from pipeline.schemas import IMAGE_LISTING, INVERTED_IMAGES, PASTED_PHOTOS

ANY_SIZE = Limits(most_bytes=2**40, most_pixels=2**40, least_side=1)  # they were taken in before
Rows = list[dict[str, Any]]
KEYS = ("image_id", "latent_id", "prompt_id", "strength", "source_path")  # of a pasted photo, from its edit


def load_photos(latents: Input, bounds: range) -> dict[str, dict[str, Any]]:
    """latent_id to its row of inverted_images, for a range of latents; empty where they are not of images."""
    if not latents.has(INVERTED_IMAGES.name):
        return {}
    rows = latents.slice_table(bounds.start, bounds.stop, folder=INVERTED_IMAGES.name).to_pylist()
    return {row["latent_id"]: row for row in rows}


def with_photos(rows: Sequence[ImageRow], photos: Mapping[str, Mapping[str, Any]]) -> list[ImageRow]:
    """Rows of a dataset with their photos' names and labels, and before each original the aligned photo itself."""
    found: list[ImageRow] = []
    for row in rows:
        photo = photos.get(row.latent_id)
        if photo is None:
            found.append(row)
            continue
        named = replace(row, source_path=photo["relative_path"], labels=photo["labels"])
        if row.prompt_id == ORIGINAL:
            image_id = f"{row.latent_id}__{PHOTO}"
            image = storage.image_struct(photo["aligned"]["bytes"], f"{image_id}.png")
            shown = replace(named, saturation=None, status="ok", error=None)
            found.append(replace(shown, prompt_id=PHOTO, image_id=image_id, image=image))
        found.append(named)
    return found


def paste_edits(
    rows: Sequence[ImageRow],
    photos: Mapping[str, Mapping[str, Any]],
    latents: Input,
    bounds: range,
    *,
    feather: float,
) -> pa.Table:
    """Whole photos with every edit in its place: the artifact pasted_photos.

    Photos are read again from where they were; one that is gone or has changed since makes failed rows.

    Args:
        rows: of the dataset, latent by latent.
        photos: from ``load_photos``.
        latents: of the photos; without any, the table is empty.
        bounds: of the latents.
        feather: see ``paste_back``.
    """
    edits: dict[str, list[ImageRow]] = {}
    for row in rows:
        if row.prompt_id not in (ORIGINAL, PHOTO) and row.image is not None and row.latent_id in photos:
            edits.setdefault(row.latent_id, []).append(row)
    pasted: Rows = []
    if edits:
        listing = find_input(IMAGE_LISTING.name, latents.store)
        references = [
            ImageReference.of_row(row)
            for row in listing.slice_table(bounds.start, bounds.stop).to_pylist()
            if row["latent_id"] in edits
        ]
        column = (storage.read_stage(latents.store, IMAGE_LISTING.name) or {})["config"]["image_column"]
        background = (storage.read_stage(latents.store, latents.stage) or {})["config"]["background"]
        for reference, data in read_images(references, column=column, most_bytes=ANY_SIZE.most_bytes):
            photo = photos[reference.latent_id]
            pasted += _pasted(edits[reference.latent_id], photo, data, background, feather)
    return PASTED_PHOTOS.table({c.name: [row[c.name] for row in pasted] for c in PASTED_PHOTOS.columns})


def _pasted(
    edits: Sequence[ImageRow],
    photo: Mapping[str, Any],
    data: bytes | RejectedImageError,
    background: str,
    feather: float,
) -> Rows:
    keys = [{key: getattr(row, key) for key in KEYS} for row in edits]
    try:
        pixels = _decoded(photo, data, background)
    except RejectedImageError as error:
        message = f"{photo['relative_path']}: {error}"
        return [key | {"image": None, "status": "failed", "error": message} for key in keys]
    frame = Frame.of_numbers(photo["frame"])
    found = []
    for key, row in zip(keys, edits, strict=True):
        assert row.image is not None
        picture = _cut(storage.decode_image(row.image["bytes"]), frame)
        whole = paste_back(pixels, picture, frame, feather=feather)
        image = storage.image_struct(_encoded(whole, photo["exif"]), f"{row.image_id}__pasted.png")
        found.append(key | {"image": image, "status": "ok", "error": None})
    return found


def _decoded(photo: Mapping[str, Any], data: bytes | RejectedImageError, background: str) -> UInt8[np.ndarray, "h w 3"]:
    if isinstance(data, RejectedImageError):
        raise data
    if hashlib.sha256(data).hexdigest() != photo["sha256"]:
        raise RejectedImageError("unreadable", "the photo must be the one that was inverted; it has changed since.")
    return decode_photo(data, ANY_SIZE, background=check_background(background)).pixels


def _cut(picture: UInt8[np.ndarray, "r r 3"], frame: Frame) -> UInt8[np.ndarray, "h w 3"]:
    """The photo's part of a square picture; the frame knows its aspect."""
    aspect = float(np.hypot(*frame.across) / np.hypot(*frame.down))
    resolution = len(picture)
    wide, high = (resolution, round(resolution / aspect)) if aspect > 1 else (round(resolution * aspect), resolution)
    return canvas_of(resolution, (wide, high)).cut(picture)


def _encoded(pixels: UInt8[np.ndarray, "h w 3"], exif: bytes | None) -> bytes:
    """PNG; with the photo's EXIF block where it was kept, now upright."""
    if exif is None:
        return storage.encode_png(pixels)
    block = Image.Exif()
    block.load(exif)
    block[ORIENTATION] = 1
    buffer = io.BytesIO()
    Image.fromarray(pixels).save(buffer, format="PNG", exif=block)
    return buffer.getvalue()
