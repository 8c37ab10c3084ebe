"""A finished run of the tiny pack, and its export by the stages in order."""

from typing import Any

from pipeline.config import (
    DatasetConfig,
    EditedLatentsConfig,
    ExportedDatasetConfig,
    LatentsConfig,
    ScoresConfig,
    StageConfig,
    StyleDirectionsConfig,
)
from pipeline.export.rows import label_columns
from pipeline.packs.pack import Pack
from pipeline.prompts import check_prompts
from pipeline.runs.edits import load_edits
from pipeline.runs.shard import Input, close_stage, find_input
from pipeline.stages import dataset, dataset_card, edited_latents, exported_dataset, labels, latents, scores
from pipeline.stages import style_directions as directions
from storage import Store
from tests.pipeline.stages.test_style_directions import hand_table

NUM_LATENTS = 12
ROWS = [
    {"name": "dark", "target": "a dark shade", "neutral": "a face", "strengths": [2.0, 6.5]},
    {"name": "hat", "target": "a face with a hat", "neutral": "a face", "strengths": [4.0]},
]


def close(store: Store, stage: str, num_shards: int, config_hash: str, config: StageConfig, pack: Pack) -> Input:
    close_stage(store, stage, num_shards=num_shards, config_hash=config_hash, config=config, pack=pack)
    return find_input(stage, store)


def write_run(store: Store, pack: Pack, rows: list[dict[str, Any]] | None = None) -> None:
    """Twelve latents with two prompts, three edits each, or with the rows given, scored; three shards."""
    config: Any = LatentsConfig(num_latents=NUM_LATENTS)
    latents.run_latents_shard(config, store, pack, 0)
    found = close(store, "latents", 1, latents.latents_hash(config, pack), config, pack)
    prompts, table = check_prompts(rows or ROWS), hand_table()
    config = StyleDirectionsConfig(templates="none", num_channels=2)
    directions.run_style_directions_shard(config, store, pack, 0, prompts=prompts, channels=table)
    config_hash = directions.style_directions_hash(config, pack, table)
    moves = close(store, "style_directions", 1, config_hash, config, pack)
    config = EditedLatentsConfig(templates="none")
    edits = load_edits(config, pack, prompts, {"global": moves})
    edited_latents.run_edited_latents_shard(config, store, pack, 0, latents=found, edits=edits)
    config_hash = edited_latents.edited_latents_hash(config, pack, found)
    edited = close(store, "edited_latents", 1, config_hash, config, pack)
    config = DatasetConfig(images_per_shard=16)
    for shard in range(3):
        dataset.run_dataset_shard(config, store, pack, shard, latents=found, edited=edited, directions=moves)
    images = close(store, "dataset", 3, dataset.dataset_hash(config, pack, found, edited), config, pack)
    config = ScoresConfig(templates="none")
    for shard in range(3):
        scores.run_scores_shard(config, store, pack, shard, dataset=images, edited=edited)
    close(store, "scores", 3, scores.scores_hash(config, pack, images), config, pack)


def export(run: Store, to: Store, pack: Pack, config: ExportedDatasetConfig) -> list[bool]:
    """Labels, parts and card; for each part, whether an earlier export had made it."""
    images, scored, edited, found = (find_input(x, run) for x in ("dataset", "scores", "edited_latents", "latents"))
    facts = labels.load_run_facts(config, pack, edited, found)
    work = to.child("_work")
    for shard in range(images.num_shards):
        labels.run_labels_shard(config, work, pack, shard, facts=facts, dataset=images, scores=scored)
    config_hash = labels.labels_hash(config, pack, images, scored)
    labelled = close(work, "labels", images.num_shards, config_hash, config, pack)
    parts, columns = exported_dataset.plan_parts(config, labelled), label_columns(facts)
    reports = [
        exported_dataset.run_exported_dataset_shard(
            config, to, pack, shard, columns=columns, labels=labelled, dataset=images
        )
        for shard in range(len(parts))
    ]
    dataset_card.run_dataset_card(
        config,
        to,
        pack,
        pack_uri="tiny",
        columns=columns,
        parts=parts,
        facts=facts,
        labels=labelled,
        dataset=images,
        edited=edited,
    )
    return [report.skipped for report in reports]
