"""Scores of edits: how much closer CLIP finds the image to the prompt, how much of the picture and who it shows
changed, and, where the pack has an oracle, what the image shows.

Letters: n image, d CLIP width.
"""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import pyarrow.compute as pc
import torch
from jaxtyping import Float, UInt8
from torch import Tensor

import storage
from kernels import unit_vectors
from pipeline.config import ScoresConfig
from pipeline.machine.cores import map_on_cores
from pipeline.models.oracle import Oracle
from pipeline.packs.pack import Pack
from pipeline.pixels import from_rgb_arrays
from pipeline.prompts import ORIGINAL, PHOTO, templates
from pipeline.render_checks import SATURATED_SHARE
from pipeline.rows import ImageRow, PromptRow, ScoreRow, artifact_table, rows_of
from pipeline.runs.progress import advance
from pipeline.runs.shard import Input, Made, ShardReport, part_path, run_shard, stage_hash
from pipeline.schemas import EDITS_FOLDER, SCORES
from storage import Store

STAGE = SCORES.name


@dataclass(frozen=True)
class PromptEmbedding:
    """A prompt in CLIP space: the target text and the direction from neutral to target, both unit vectors [d]."""

    target: Float[Tensor, "d"]
    direction: Float[Tensor, "d"]


@dataclass(frozen=True)
class EditScores:
    """One edit's scores in CLIP space and pixels; see the scores artifact."""

    clip_similarity: float
    clip_gain: float
    clip_direction: float
    pixel_distance: float


def compute_scores(
    original: Float[Tensor, "d"], edited: Float[Tensor, "d"], prompt: PromptEmbedding, *, pixel_distance: float
) -> EditScores:
    """Scores of one edit from unit embeddings.

    similarity = <E(edited), T>; gain = similarity - <E(original), T>; direction = cos(E(edited) - E(original),
    T - N), 0 where the image did not change.
    """
    similarity = float(edited @ prompt.target)
    return EditScores(
        clip_similarity=similarity,
        clip_gain=similarity - float(original @ prompt.target),
        clip_direction=float(unit_vectors(edited - original) @ prompt.direction),
        pixel_distance=pixel_distance,
    )


def compute_embeddings(
    embed: Callable[[Tensor], Tensor], images: UInt8[np.ndarray, "n r r 3"], *, batch_size: int, device: str
) -> Float[Tensor, "n d"]:
    """What a network on ``device`` makes of 8-bit RGB images, given to it in [-1, 1], in batches without gradients."""

    def of_batch(start: int) -> Tensor:
        return embed(from_rgb_arrays(images[start : start + batch_size]).to(device)).cpu()

    with torch.no_grad():
        return torch.cat(list(map_on_cores(of_batch, range(0, len(images), batch_size), device=torch.device(device))))


def name_attributes(oracle: Oracle, probabilities: Float[Tensor, "n k"]) -> list[list[dict[str, object]]]:
    """The likeliest category of every attribute, per image; ``probabilities`` of all attributes side by side."""
    named: list[list[dict[str, object]]] = [[] for _ in range(len(probabilities))]
    parts = probabilities.split(oracle.sizes, dim=1)
    for (attribute, categories), part in zip(oracle.config.attributes.items(), parts, strict=True):
        largest, number = part.max(dim=1)
        for row, p, k in zip(named, largest.tolist(), number.tolist(), strict=True):
            row.append({"attribute": attribute, "category": categories[k], "probability": p})
    return named


def scores_hash(config: ScoresConfig, pack: Pack, dataset: Input) -> str:
    """What the scores of this config are known by."""
    return stage_hash(STAGE, config, pack, {"dataset": dataset.config_hash})


def run_scores_shard(
    config: ScoresConfig, store: Store, pack: Pack, shard: int, *, dataset: Input, edited: Input
) -> ShardReport:
    """Score one shard of the dataset against the prompts that made it."""

    def make() -> Made:
        prompts = {
            row.prompt_id: PromptEmbedding(
                pack.clip.encode_prompt(row.target, templates(config.templates)).cpu(),
                pack.clip.text_direction(row.target, row.neutral, templates(config.templates)).cpu(),
            )
            for row in rows_of(PromptRow, edited.shard_table(0, folder=EDITS_FOLDER))
            if row.status == "ok"
        }
        rows = rows_of(ImageRow, dataset.shard_table(shard).filter(pc.field("prompt_id") != PHOTO))
        scored = _score_rows(rows, prompts, config, pack)
        advance(len(rows))
        table = artifact_table(SCORES, scored)
        failures = sum(row.status == "failed" for row in scored)
        return Made({part_path(STAGE, shard): storage.table_bytes(table)}, rows=len(scored), failures=failures)

    return run_shard(store, STAGE, shard, config_hash=scores_hash(config, pack, dataset), pack=pack, make=make)


def _score_rows(
    rows: list[ImageRow], prompts: dict[str, PromptEmbedding], config: ScoresConfig, pack: Pack
) -> list[ScoreRow]:
    """Scores of the edited rows; each latent's original stands in the same shard. What has no image has no scores."""
    scores = {row.image_id: row for row in _score_drawn(rows, prompts, config, pack)}
    originals = {row.latent_id: row for row in rows if row.prompt_id == ORIGINAL}
    scored = []
    for row in rows:
        if row.prompt_id == ORIGINAL:
            continue
        original = originals[row.latent_id]
        error = row.error if row.status != "ok" else f"the unedited image failed: {original.error}"
        failed = ScoreRow(
            image_id=row.image_id,
            latent_id=row.latent_id,
            prompt_id=row.prompt_id,
            strength=row.strength,
            status="failed",
            error=error,
        )
        scored.append(scores.get(row.image_id, failed))
    return scored


def _score_drawn(
    rows: list[ImageRow], prompts: dict[str, PromptEmbedding], config: ScoresConfig, pack: Pack
) -> list[ScoreRow]:
    """Scores of edited rows with images, of latents whose original has one."""
    encoded = [(row, row.image["bytes"]) for row in rows if row.image is not None]
    if not encoded:
        return []
    rows, images = [row for row, _ in encoded], np.stack([storage.decode_image(data) for _, data in encoded])
    embedded = compute_embeddings(pack.clip.encode_images, images, batch_size=config.batch_size, device=pack.device)
    identity = _identity(pack, images, config.batch_size)
    attributes = _attributes(pack, images, config.batch_size)
    original = {row.latent_id: i for i, row in enumerate(rows) if row.prompt_id == ORIGINAL}
    scored = []
    for i, row in enumerate(rows):
        if row.prompt_id == ORIGINAL or row.latent_id not in original:
            continue
        base = original[row.latent_id]
        distance = float(np.abs(images[i].astype(np.int16) - images[base].astype(np.int16)).mean()) / 255
        scores = compute_scores(embedded[base], embedded[i], prompts[row.prompt_id], pixel_distance=distance)
        scored.append(
            ScoreRow(
                image_id=row.image_id,
                latent_id=row.latent_id,
                prompt_id=row.prompt_id,
                strength=row.strength,
                clip_similarity=scores.clip_similarity,
                clip_gain=scores.clip_gain,
                clip_direction=scores.clip_direction,
                pixel_distance=scores.pixel_distance,
                identity_similarity=None if identity is None else float(identity[base] @ identity[i]),
                attributes=attributes[i],
                saturated=(row.saturation or 0.0) > SATURATED_SHARE,
            )
        )
    return scored


def _identity(pack: Pack, images: UInt8[np.ndarray, "n r r 3"], batch_size: int) -> Tensor | None:
    if pack.description.identity is None:
        return None
    return compute_embeddings(pack.identity.embed, images, batch_size=batch_size, device=pack.device)


def _attributes(
    pack: Pack, images: UInt8[np.ndarray, "n r r 3"], batch_size: int
) -> list[list[dict[str, object]]] | list[None]:
    if pack.description.oracle is None:
        return [None] * len(images)
    probabilities = compute_embeddings(
        lambda x: torch.cat(list(pack.oracle.probabilities(x).values()), dim=1),
        images,
        batch_size=batch_size,
        device=pack.device,
    )
    return name_attributes(pack.oracle, probabilities)
