"""Exported datasets: a run's images and labels in the format of the training job, in parts of a stated size.

What a part holds follows from the labels alone, so parts are made in any order, and one that was cut off is made again.
"""

from collections import Counter
from collections.abc import Mapping, Sequence
from functools import lru_cache
from typing import Any

import pyarrow.compute as pc
import torch

import storage
from pipeline.config import ExportedDatasetConfig
from pipeline.errors import PipelineError
from pipeline.export.columns import ExportColumn
from pipeline.export.formats import Part, part_files
from pipeline.export.rows import REJECTED, SUBSET
from pipeline.export.splits import SPLITS
from pipeline.machine.cores import map_on_cores
from pipeline.packs.pack import Pack
from pipeline.runs.shard import Input, Made, ShardReport, count_shards, run_shard, shard_bounds, stage_hash
from storage import Store

STAGE = "exported_dataset"
WRITERS = 16  # files at a time; a part of an image folder is a thousand, each of which waits for the disk


def exported_dataset_hash(config: ExportedDatasetConfig, pack: Pack, labels: Input) -> str:
    """The config hash of the export of these settings."""
    return stage_hash(STAGE, config, pack, {"labels": labels.config_hash})


def plan_parts(config: ExportedDatasetConfig, labels: Input) -> list[Part]:
    """All parts of the export: subset by subset, each cut into pieces of ``images_per_shard`` rows.

    Raises:
        PipelineError: if nothing is left to export.
    """
    total: Counter[str] = sum(_subset_counts(labels), Counter())
    subsets = [*SPLITS, *([REJECTED] if config.keep_rejected else [])]
    parts = []
    for subset in subsets:
        count = count_shards(total[subset], config.images_per_shard)
        for index in range(count):
            bounds = shard_bounds(total[subset], config.images_per_shard, index)
            parts.append(Part(subset, index, count, bounds.start, len(bounds)))
    if not any(part.subset != REJECTED for part in parts):
        raise PipelineError(
            f"an export must have at least one accepted image; all {total[REJECTED]} were rejected. Loosen the "
            f"rules (require_hit, min_kept, ...)."
        )
    return parts


def run_exported_dataset_shard(
    config: ExportedDatasetConfig,
    store: Store,
    pack: Pack,
    shard: int,
    *,
    columns: Sequence[ExportColumn],
    labels: Input,
    dataset: Input,
) -> ShardReport:
    """Write one part: its rows from the labels, their images from the dataset, encoded on all cores.

    Args:
        config: settings of the export.
        store: where to.
        pack: whose run it is.
        shard: number of the part in ``plan_parts``.
        columns: of the labels.
        labels: the run's labels.
        dataset: the run's images.
    """

    def make() -> Made:
        part = plan_parts(config, labels)[shard]
        rows: list[dict[str, Any]] = []
        images: dict[str, bytes] = {}
        first = 0
        for source, counts in enumerate(_subset_counts(labels)):
            inside = counts[part.subset]
            low, high = max(part.first, first), min(part.first + part.rows, first + inside)
            if low < high:
                table = labels.shard_table(source)
                chosen = table.filter(pc.field(SUBSET) == part.subset).slice(low - first, high - low).to_pylist()
                images |= _encoded(config, dataset, source, chosen)
                rows += chosen
            first += inside
        return Made(part_files(config, part, columns, rows, images), rows=len(rows), writers=WRITERS)

    config_hash = exported_dataset_hash(config, pack, labels)
    return run_shard(
        store, STAGE, shard, config_hash=config_hash, contents={"labels": labels.state}, pack=pack, make=make
    )


def _encoded(
    config: ExportedDatasetConfig, dataset: Input, shard: int, rows: Sequence[Mapping[str, Any]]
) -> dict[str, bytes]:
    """Images by image_id in the export's format; PNG is what the dataset holds, byte for byte."""
    wanted = {row["image_id"] for row in rows}
    if config.layout == "pairs":
        wanted |= {row["original_id"] for row in rows}
    table = dataset.shard_table(shard).select(["image_id", "image"])
    found = {
        name: cell["bytes"].as_py()
        for name, cell in zip(table["image_id"].to_pylist(), table["image"], strict=True)
        if name in wanted
    }
    if config.image_format == "png":
        return found

    def encode(data: bytes) -> bytes:
        return storage.encode_image(storage.decode_image(data), config.image_format, quality=config.quality)

    encoded = map_on_cores(encode, found.values(), device=torch.device("cpu"))
    return dict(zip(found, encoded, strict=True))


@lru_cache(maxsize=8)
def _subset_counts(labels: Input) -> list[Counter[str]]:
    """Rows of every subset in each shard of the labels; read once per process, for all parts."""
    return [Counter(table[SUBSET].to_pylist()) for table in labels.shard_tables([SUBSET])]
