"""Labels: what every image of a run is, shows and scores, in which split it is and whether it is accepted."""

from collections.abc import Mapping
from typing import Any

import pyarrow.compute as pc
import torch

import storage
from pipeline.config import ExportedDatasetConfig
from pipeline.export.rows import RunFacts, Shown, compute_label_rows, label_columns, labels_table, read_questions
from pipeline.machine.cores import map_on_cores
from pipeline.packs.pack import Pack
from pipeline.pixels import from_rgb_arrays
from pipeline.prompts import ORIGINAL, PHOTO
from pipeline.runs.shard import Input, Made, ShardReport, part_path, run_shard, stage_hash
from pipeline.schemas import EDITS_FOLDER
from storage import Store

STAGE = "labels"
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
        latents: for the photos that latents come from; None where they are not at hand.
    Raises:
        PipelineError: if the settings name what is not there.
    """
    rows = edited.table(folder=EDITS_FOLDER).to_pylist()
    prompts = {row["prompt_id"]: row for row in rows if row["status"] == "ok"}
    oracle = pack.description.oracle
    attributes = {} if oracle is None else oracle.attributes
    sources: dict[str, str] = {}
    if latents is not None:
        for row in latents.table(["latent_id", "source", "source_uri"]).to_pylist():
            if row["source"] == "image" and row["source_uri"]:
                sources[row["latent_id"]] = row["source_uri"]
    questions = read_questions(config, list(prompts.values()), attributes)
    return RunFacts(attributes, prompts, questions, pack.description.neutral, sources)


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
    """Label one shard of the dataset. The judge reads the originals; what it says of the edits, the scores hold."""

    def make() -> Made:
        table = dataset.shard_table(shard).filter(pc.field("status") == "ok")  # failed rows have no image
        table = table.filter(pc.field("prompt_id") != PHOTO)  # what is exported and shown is what was drawn
        found = {row["image_id"]: row for row in scores.shard_table(shard).to_pylist()}
        recorded = any(row.get("attributes") for row in found.values())
        to_read = table
        if recorded or not config.probabilities:
            to_read = table.filter(pc.field("prompt_id") == ORIGINAL)
        shown = read_images(config, pack, to_read.select(["image_id", "image"]).to_pylist())
        images = table.drop_columns("image").to_pylist()
        rows = list(compute_label_rows(config, facts, images, found, shown))
        labelled = labels_table(label_columns(facts), rows)
        return Made({part_path(STAGE, shard): storage.table_bytes(labelled)}, rows=len(rows))

    config_hash = labels_hash(config, pack, dataset, scores)
    return run_shard(store, STAGE, shard, config_hash=config_hash, pack=pack, make=make)


def read_images(config: ExportedDatasetConfig, pack: Pack, rows: list[dict[str, Any]]) -> Mapping[str, Shown]:
    """What the pack's judge sees in images, by image_id; empty where the pack has none."""
    if pack.description.oracle is None:
        return {}
    device = torch.device(pack.device)

    def read(start: int) -> dict[str, Shown]:
        batch = rows[start : start + config.batch_size]
        pixels = torch.stack([from_rgb_arrays(storage.decode_image(r["image"]["bytes"])[None])[0] for r in batch])
        with torch.no_grad():
            probabilities = pack.oracle.probabilities(pixels.to(device))
        shown: dict[str, dict[str, tuple[str, float]]] = {row["image_id"]: {} for row in batch}
        for attribute, categories in pack.oracle.config.attributes.items():
            largest, number = probabilities[attribute].max(dim=1)
            for row, p, k in zip(batch, largest.tolist(), number.tolist(), strict=True):
                shown[row["image_id"]][attribute] = (categories[k], p)
        return dict(shown)

    seen: dict[str, Shown] = {}
    for part in map_on_cores(read, range(0, len(rows), config.batch_size), device=device):
        seen |= part
    return seen
