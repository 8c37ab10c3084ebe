"""Rendered datasets: every latent's original and its edits, as labelled PNG images in Parquet."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow.compute as pc
import torch
from jaxtyping import Float, UInt8
from torch import Tensor

import storage
from pipeline.config import DatasetConfig
from pipeline.errors import PipelineError
from pipeline.models.stylegan2 import Generator
from pipeline.pack import Pack
from pipeline.prompts import ORIGINAL
from pipeline.sampling import count_shards, shard_bounds
from pipeline.schemas import DATASET, PROMPTS, shape_of
from pipeline.shard import Input, Made, ShardReport, part_path, run_shard, stage_hash
from pipeline.style_space import StyleSpace
from storage import Store

STAGE = DATASET.name


@dataclass(frozen=True)
class Edit:
    """One prompt at one strength.

    Attributes:
        prompt: row of the prompts artifact.
        strength: standard deviations of the top channel.
        offset: added to the style vector, [s].
    """

    prompt: Mapping[str, Any]
    strength: float
    offset: Float[Tensor, "s"]


def compute_images(
    generator: Generator, styles: Float[Tensor, "n s"], *, batch_size: int
) -> Iterator[UInt8[np.ndarray, "r r 3"]]:
    """Render style vectors to 8-bit RGB, ``round((x + 1) * 127.5)``, ``batch_size`` at a time."""
    for part in styles.split(batch_size):
        with torch.no_grad():
            images = generator.render(part)
        pixels = ((images + 1) * 127.5).round().clamp(0, 255).to(torch.uint8)
        yield from pixels.permute(0, 2, 3, 1).cpu().numpy()


def load_edits(directions: Input, space: StyleSpace, *, default_strengths: tuple[float, ...]) -> list[Edit]:
    """All edits of a run: usable prompts in list order, each at its strengths, as offsets in StyleSpace."""
    prompts = directions.table(folder=PROMPTS.name).to_pylist()
    offsets = {row["prompt_id"]: torch.zeros(space.num_channels) for row in prompts}
    for row in directions.table(["prompt_id", "layer", "channel", "value"]).to_pylist():
        offsets[row["prompt_id"]][space.position(row["layer"], row["channel"])] = row["value"]
    return [
        Edit(row, strength, strength * offsets[row["prompt_id"]])
        for row in prompts
        if row["status"] == "ok"
        for strength in (row["strengths"] or default_strengths)
    ]


def dataset_hash(config: DatasetConfig, pack: Pack, latents: Input, directions: Input) -> str:
    """What the dataset of this config is known by."""
    inputs = {"latents": latents.config_hash, "style_directions": directions.config_hash}
    return stage_hash(STAGE, config, pack, inputs)


def latents_per_shard(config: DatasetConfig, edits: list[Edit]) -> int:
    """Whole latents, about ``images_per_shard`` images."""
    return max(1, config.images_per_shard // (1 + len(edits)))


def dataset_num_shards(config: DatasetConfig, latents: Input, edits: list[Edit]) -> int:
    """Shards of a run."""
    return count_shards(latents.rows, latents_per_shard(config, edits))


def check_edits(edits: list[Edit], directions: Input) -> None:
    """Stop before the cost where no prompt is usable.

    Raises:
        PipelineError: with the first prompt's error.
    """
    if not edits:
        failed = directions.table(["error"], folder=PROMPTS.name)["error"].to_pylist()
        raise PipelineError(
            f"rendering needs at least one usable prompt; all {len(failed)} failed, the first: {failed[0]}"
        )


def run_dataset_shard(
    config: DatasetConfig,
    store: Store,
    pack: Pack,
    shard: int,
    *,
    latents: Input,
    directions: Input,
    edits: list[Edit],
) -> ShardReport:
    """Render and write one range of latents with all their edits.

    Latents that failed upstream are counted, not drawn.
    """

    def make() -> Made:
        bounds = shard_bounds(latents.rows, latents_per_shard(config, edits), shard)
        table = latents.table().slice(bounds.start, len(bounds))
        usable = table.filter(pc.field("status") == "ok")
        rows: list[dict[str, Any]] = []
        if usable.num_rows:
            w_plus = storage.stack(usable["w_plus"]).reshape(usable.num_rows, *shape_of(table, "w_plus"))
            with torch.no_grad():
                styles = pack.generator.styles(torch.from_numpy(w_plus.copy()).to(pack.device))
            for latent_id, style in zip(usable["latent_id"].to_pylist(), styles, strict=True):
                rows += _render_latent(latent_id, style, edits, config, pack)
        columns = {column.name: [row[column.name] for row in rows] for column in DATASET.columns}
        rendered = DATASET.table(columns)
        files = {part_path(STAGE, shard): storage.table_bytes(rendered)}
        return Made(files, rows=len(rows), failures=table.num_rows - usable.num_rows)

    config_hash = dataset_hash(config, pack, latents, directions)
    return run_shard(store, STAGE, shard, config_hash=config_hash, pack=pack, make=make)


def _render_latent(
    latent_id: str, style: Float[Tensor, "s"], edits: list[Edit], config: DatasetConfig, pack: Pack
) -> list[dict[str, Any]]:
    """Rows of one latent: the original, then every edit."""
    offsets = [torch.zeros_like(style), *(edit.offset.to(style) for edit in edits)]
    styles = style + torch.stack(offsets)
    original = {"prompt_id": ORIGINAL, "prompt": None, "target": None, "neutral": None, "method": None}
    labels = [(original, 0.0), *((edit.prompt, edit.strength) for edit in edits)]
    rows = []
    images = compute_images(pack.generator, styles, batch_size=config.batch_size)
    for (prompt, strength), image in zip(labels, images, strict=True):
        image_id = image_name(latent_id, prompt["prompt_id"], strength)
        rows.append(
            {
                "image_id": image_id,
                "image": storage.image_struct(storage.encode_png(image), f"{image_id}.png"),
                "latent_id": latent_id,
                **{key: prompt[key] for key in original},
                "strength": strength,
            }
        )
    return rows


def image_name(latent_id: str, prompt_id: str, strength: float) -> str:
    """``seed-00000042__glasses__8``; the original has no strength."""
    return f"{latent_id}__{prompt_id}" if prompt_id == ORIGINAL else f"{latent_id}__{prompt_id}__{strength:g}"
