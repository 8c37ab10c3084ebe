"""The gallery: per shard of the dataset its faces' sprites and data, then the page that shows them."""

from collections.abc import Sequence
from functools import partial
from typing import Any

import torch

import storage
from pipeline.config import ExportedDatasetConfig, GalleryConfig
from pipeline.gallery.content import (
    GalleryColumn,
    cell_places,
    columns_data,
    compute_cell,
    compute_columns,
    compute_sprite,
    data_script,
    page_files,
    rows_script,
)
from pipeline.machine.cores import map_on_cores
from pipeline.packs.pack import Pack
from pipeline.prompts import ORIGINAL, PHOTO
from pipeline.runs.shard import Input, Made, ShardReport, run_shard, stage_hash
from pipeline.schemas import EDITS_FOLDER
from storage import Store

STAGE = "gallery"
PAGE_STAGE = "gallery_page"
WRITERS = 16  # files at a time


def labels_config(config: GalleryConfig) -> ExportedDatasetConfig:
    """Settings of the labels that the gallery shows: its own rules, one caption."""
    rules = {name: getattr(config, name) for name in type(config).__mro__[1].model_fields}
    return ExportedDatasetConfig(**rules, captions=1, photo_columns=False)


def gallery_hash(config: GalleryConfig, pack: Pack, labels: Input) -> str:
    """The config hash of the gallery of these settings."""
    return stage_hash(STAGE, config, pack, {"labels": labels.config_hash})


def load_columns(edited: Input) -> list[GalleryColumn]:
    """Columns of the page, from the run's prompts."""
    rows = edited.shard_table(0, folder=EDITS_FOLDER).drop_columns("text_direction").to_pylist()
    return compute_columns([row for row in rows if row["status"] == "ok"])


def chunk_path(shard: int) -> str:
    """Where the data of a shard's faces is, in the gallery's folder."""
    return f"faces/{shard:05d}.js"


def run_gallery_shard(
    config: GalleryConfig,
    store: Store,
    pack: Pack,
    shard: int,
    *,
    columns: Sequence[GalleryColumn],
    labels: Input,
    dataset: Input,
) -> ShardReport:
    """Write sprites, closer looks and data of the faces in one shard of the dataset."""

    def make() -> Made:
        places = cell_places(columns)
        labelled = {row["image_id"]: row for row in labels.shard_table(shard).to_pylist()}
        faces: dict[str, list[dict[str, Any]]] = {}
        images = dataset.shard_table(shard).select(["image_id", "image", "latent_id", "prompt_id", "strength"])
        for row in images.to_pylist():
            if row["image_id"] in labelled or row["prompt_id"] == PHOTO:  # failed rows have no image and no labels
                faces.setdefault(row["latent_id"], []).append(row)
        draw = partial(_draw_face, config, places, labelled)
        rows, files = [], {}
        for face, drawn in map_on_cores(draw, list(faces.items()), device=torch.device("cpu")):
            rows.append(face)
            files |= drawn
        files[chunk_path(shard)] = rows_script(rows)
        return Made(files, rows=len(rows), writers=WRITERS)

    config_hash = gallery_hash(config, pack, labels)
    contents = labels.receipt(shard).contents
    return run_shard(store, STAGE, shard, config_hash=config_hash, contents=contents, pack=pack, make=make)


def run_gallery_page(
    config: GalleryConfig,
    store: Store,
    pack: Pack,
    *,
    columns: Sequence[GalleryColumn],
    labels: Input,
    dataset: Input,
) -> ShardReport:
    """Write the page over all shards."""

    def make() -> Made:
        num_edits = num_rejected = 0
        for table in labels.shard_tables(["prompt_id", "accept"]):
            edits = [row["accept"] for row in table.to_pylist() if row["prompt_id"] != ORIGINAL]
            num_edits += len(edits)
            num_rejected += edits.count(False)
        about = pack.description
        data = {
            "title": f"Edits of {about.domain.split(',')[0]}",
            "edits": num_edits,
            "rejected": num_rejected,
            "strength": about.strength,
            "views": pack.generator.config.resolution > config.thumbnail_size,
            "columns": columns_data(columns),
            "about": f"Pack {about.name}, version {about.version}. {about.licence}",
        }
        chunks = [chunk_path(shard) for shard in labels.present]
        files = dict(page_files(data["title"], chunks)) | {"data.js": data_script(data)}
        return Made(files, rows=num_edits)

    config_hash = gallery_hash(config, pack, labels)
    contents = {"labels": labels.state}
    return run_shard(store, PAGE_STAGE, 0, config_hash=config_hash, contents=contents, pack=pack, make=make)


def _draw_face(
    config: GalleryConfig,
    places: dict[tuple[str, float], int],
    labelled: dict[str, dict[str, Any]],
    face: tuple[str, list[dict[str, Any]]],
) -> tuple[dict[str, Any], dict[str, bytes]]:
    """A face's data and files: its original first, then its edits, last the photo that the original reconstructs."""
    latent, rows = face
    rows = sorted(rows, key=lambda row: (row["prompt_id"] == PHOTO, row["prompt_id"] != ORIGINAL))
    images = [storage.decode_image(row["image"]["bytes"]) for row in rows]
    sheet, across = compute_sprite(images, size=config.thumbnail_size)
    name = storage.sample_name(latent)
    files = {f"sprites/{name}.webp": storage.encode_preview(sheet, quality=config.quality)}
    if images[0].shape[0] > config.thumbnail_size:
        for tile, image in enumerate(images):
            view = storage.shrink_image(image, config.view_size)
            files[f"views/{name}/{tile}.webp"] = storage.encode_preview(view, quality=config.quality)
    cells: list[Any] = [None] * len(places)
    for tile, row in enumerate(rows):
        if (row["prompt_id"], row["strength"]) in places:  # of a study one of those that are alike
            cells[places[row["prompt_id"], row["strength"]]] = compute_cell(labelled[row["image_id"]], tile)
    about: dict[str, Any] = {"id": latent, "sprite": f"{name}.webp", "across": across, "cells": cells}
    if rows[-1]["prompt_id"] == PHOTO:
        about["photo"] = len(rows) - 1
    return about, files
