"""Scores of edits of real images against the photo itself; those of ``scores`` are against its reconstruction.

Letters: n image, d width of an embedding.
"""

from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from jaxtyping import Float, UInt8
from torch import Tensor

import storage
from kernels import unit_vectors
from pipeline.config import ScoresConfig
from pipeline.machine.cores import map_on_cores
from pipeline.packs.pack import Pack
from pipeline.pixels import from_rgb_arrays
from pipeline.prompts import ORIGINAL, PHOTO, templates
from pipeline.runs.shard import Input, Made, ShardReport, part_path, run_shard, stage_hash
from pipeline.schemas import PHOTO_SCORES
from storage import Store

STAGE = PHOTO_SCORES.name


def photo_scores_hash(config: ScoresConfig, pack: Pack, dataset: Input) -> str:
    """The config hash of the scores."""
    return stage_hash(STAGE, config, pack, {"dataset": dataset.config_hash})


def run_photo_scores_shard(
    config: ScoresConfig, store: Store, pack: Pack, shard: int, *, dataset: Input
) -> ShardReport:
    """Score one shard of a dataset of real images against the photos in it."""

    def make() -> Made:
        rows = [row for row in dataset.shard_table(shard).to_pylist() if row["image"] is not None]
        scored = compute_photo_scores(rows, pack, config) if rows else []
        table = PHOTO_SCORES.table({c.name: [row[c.name] for row in scored] for c in PHOTO_SCORES.columns})
        return Made({part_path(STAGE, shard): storage.table_bytes(table)}, rows=len(scored))

    config_hash, contents = photo_scores_hash(config, pack, dataset), dataset.receipt(shard).contents
    return run_shard(store, STAGE, shard, config_hash=config_hash, contents=contents, pack=pack, make=make)


def compute_photo_scores(rows: list[dict[str, Any]], pack: Pack, config: ScoresConfig) -> list[dict[str, Any]]:
    """Scores of every row whose photo is among the rows.

    gain = <E(edited), T> - <E(photo), T>; direction = cos(E(edited) - E(photo), T - N); both null for the
    reconstruction, which has no text.
    """
    images = np.stack([storage.decode_image(row["image"]["bytes"]) for row in rows])
    embedded = _embedded(pack.clip.encode_images, images, pack, config)
    has_identity = pack.description.identity is not None
    identity = _embedded(pack.identity.embed, images, pack, config) if has_identity else None
    photos = {row["latent_id"]: i for i, row in enumerate(rows) if row["prompt_id"] == PHOTO}
    forms = templates(config.templates)
    scored = []
    for i, row in enumerate(rows):
        photo = photos.get(row["latent_id"])
        if photo is None or i == photo:
            continue
        gain, direction = None, None
        if row["prompt_id"] != ORIGINAL:
            move = embedded[i] - embedded[photo]
            gain = float(move @ pack.clip.encode_prompt(row["target"], forms).cpu())
            direction = float(unit_vectors(move) @ pack.clip.text_direction(row["target"], row["neutral"], forms).cpu())
        scored.append(
            {key: row[key] for key in ("image_id", "latent_id", "prompt_id", "strength")}
            | {
                "photo_clip_gain": gain,
                "photo_clip_direction": direction,
                "photo_pixel_distance": _pixel_distance(images[i], images[photo]),
                "photo_identity_similarity": None if identity is None else float(identity[i] @ identity[photo]),
            }
        )
    return scored


def _pixel_distance(a: UInt8[np.ndarray, "r r 3"], b: UInt8[np.ndarray, "r r 3"]) -> float:
    return float(np.abs(a.astype(np.int16) - b.astype(np.int16)).mean()) / 255


def _embedded(
    embed: Callable[[Tensor], Tensor], images: UInt8[np.ndarray, "n r r 3"], pack: Pack, config: ScoresConfig
) -> Float[Tensor, "n d"]:
    def of_batch(start: int) -> Tensor:
        return embed(from_rgb_arrays(images[start : start + config.batch_size]).to(pack.device)).cpu()

    starts = range(0, len(images), config.batch_size)
    with torch.no_grad():
        return torch.cat(list(map_on_cores(of_batch, starts, device=torch.device(pack.device))))
