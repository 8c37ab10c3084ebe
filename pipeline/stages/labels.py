"""Labels: what every image of a run is, shows and scores, in which split it is and whether it is accepted."""

from collections.abc import Iterable, Mapping
from functools import lru_cache
from typing import Any

import numpy as np
import pyarrow.compute as pc

import storage
from pipeline.config import ExportedDatasetConfig
from pipeline.export.rows import (
    RunFacts,
    compute_label_rows,
    label_columns,
    labels_table,
    read_questions,
    shown_in,
)
from pipeline.export.seeing import Reader, Shown, open_reader
from pipeline.packs.pack import Pack
from pipeline.prompts import PHOTO
from pipeline.runs.shard import Input, Made, ShardReport, part_path, run_shard, stage_hash
from pipeline.schemas import EDITS_FOLDER, INVERTED_IMAGES
from storage import Store

STAGE = "labels"
DECODED = 256  # images whose pixels are in memory at a time, where they have to be read
# settings of the export that labels do not depend on
OF_FILES = ("format", "image_format", "quality", "images_per_shard", "keep_rejected", "batch_size", "balance")


def labels_hash(config: ExportedDatasetConfig, pack: Pack, dataset: Input, scores: Input) -> str:
    """The config hash of the labels of these settings."""
    usual = {name: ExportedDatasetConfig.model_fields[name].default for name in OF_FILES}
    settings = config.model_copy(update=usual)
    return stage_hash(STAGE, settings, pack, {"dataset": dataset.config_hash, "scores": scores.config_hash})


def load_run_facts(config: ExportedDatasetConfig, pack: Pack, edited: Input, latents: Input | None) -> RunFacts:
    """What the rows of the whole run share.

    Args:
        config: settings of the export.
        pack: for its judge.
        edited: for the prompts.
        latents: for the photos that latents come from, their names and labels; None where no row is made.
    Raises:
        PipelineError: if the settings name what is not there.
    """
    rows = edited.shard_table(0, folder=EDITS_FOLDER).to_pylist()
    prompts = {row["prompt_id"]: row for row in rows if row["status"] == "ok"}
    attributes = open_reader(config, pack).attributes
    sources, photo_labels = {}, None
    if latents is not None and latents.has(INVERTED_IMAGES.name):
        sources = _photo_sources(latents)
        photo_labels = _photo_labels(latents) if config.photo_columns else None
    questions = read_questions(config, list(prompts.values()), attributes)
    return RunFacts(attributes, prompts, questions, pack.description.neutral, sources, photo_labels)


@lru_cache(maxsize=1)
def _photo_sources(latents: Input) -> dict[str, str]:
    """latent_id to its photo. All latents are read for it, once a process: every shard asks for the same."""
    sources: dict[str, str] = {}
    for table in latents.shard_tables(["latent_id", "source", "source_uri"]):
        for row in table.to_pylist():
            if row["source"] == "image" and row["source_uri"]:
                sources[row["latent_id"]] = row["source_uri"]
    return sources


@lru_cache(maxsize=1)
def _photo_labels(latents: Input) -> tuple[str, ...]:
    """Names of the labels that any photo came with, in the order in which they appear."""
    names: dict[str, None] = {}
    for shard in latents.present:
        table = latents.shard_table(shard, folder=INVERTED_IMAGES.name, columns=["labels"])
        names |= dict.fromkeys(label["name"] for row in table["labels"].to_pylist() for label in row)
    return tuple(names)


def run_labels_shard(
    config: ExportedDatasetConfig,
    store: Store,
    pack: Pack,
    shard: int,
    *,
    facts: RunFacts,
    dataset: Input,
    scores: Input,
) -> ShardReport:
    """Label one shard of the dataset, from what the scores hold of the judge; where they hold too little, it reads."""

    def make() -> Made:
        table = dataset.shard_table(shard).filter(pc.field("status") == "ok")  # failed rows have no image
        table = table.filter(pc.field("prompt_id") != PHOTO)  # what is exported and shown is what was drawn
        found = {row["image_id"]: row for row in scores.shard_table(shard).to_pylist()}
        reader = open_reader(config, pack)
        seen = {name: shown_in(row, facts.attributes) for name, row in found.items()}
        if not _recorded(found.values(), reader):
            seen = read_images(config, reader, table.select(["image_id", "image"]).to_pylist())
        images = table.drop_columns("image").to_pylist()
        rows = list(compute_label_rows(config, facts, images, found, seen))
        labelled = labels_table(label_columns(facts), rows)
        return Made({part_path(STAGE, shard): storage.table_bytes(labelled)}, rows=len(rows))

    config_hash, contents = labels_hash(config, pack, dataset, scores), dataset.receipt(shard).contents
    return run_shard(store, STAGE, shard, config_hash=config_hash, contents=contents, pack=pack, make=make)


def read_images(config: ExportedDatasetConfig, reader: Reader, rows: list[dict[str, Any]]) -> Mapping[str, Shown]:
    """What the reader sees in images, by image_id, a few hundred at a time; empty where it can tell nothing."""
    if not reader.attributes:
        return {}
    seen: dict[str, Shown] = {}
    for start in range(0, len(rows), DECODED):
        part = rows[start : start + DECODED]
        images = np.stack([storage.decode_image(row["image"]["bytes"]) for row in part])
        shown = reader.read(images, batch_size=config.batch_size)
        seen |= {row["image_id"]: of for row, of in zip(part, shown, strict=True)}
    return seen


def _recorded(scores: Iterable[Mapping[str, Any]], reader: Reader) -> bool:
    """Whether the scores say with probabilities all that the reader could tell; older ones do not."""
    names = [f"after_{attribute}_probability" for attribute in reader.attributes]
    return not reader.choices and all(name in row for row in scores for name in names)
