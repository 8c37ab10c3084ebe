"""Rows that travel from the edited latents to the report, typed: the fields of each are its artifact's columns.

``artifact_table`` writes rows as their artifact's table; ``rows_of`` reads them back. A table of an older run may lack
a column that has a default.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields
from typing import Any, TypeVar

import numpy as np
import pyarrow as pa

from pipeline.prompts import Prompt
from pipeline.schemas import Artifact, vectors_of


@dataclass(frozen=True)
class PromptRow:
    """One prompt and what came of it: a row of ``PROMPTS``, in a run's prompts and in its edits."""

    prompt_id: str
    prompt: str
    target: str
    neutral: str
    method: str
    strengths: Sequence[float]
    status: str
    error: str | None
    wants: str | None = None
    rule: str | None = None
    relevance_threshold: float | None = None
    num_channels: int | None = None
    max_relevance: float | None = None
    channel_counts: Sequence[int] | None = None
    text_direction: Sequence[float] | None = None

    @classmethod
    def of(cls, prompt: Prompt, *, strengths: Sequence[float], status: str, error: str | None) -> "PromptRow":
        """A prompt as it was asked for, with what came of it."""
        return cls(
            prompt_id=prompt.prompt_id,
            prompt=prompt.name,
            target=prompt.target,
            neutral=prompt.neutral,
            method=prompt.method,
            wants=prompt.wants,
            strengths=strengths,
            status=status,
            error=error,
        )


@dataclass(frozen=True)
class EditedLatentRow:
    """One latent with one prompt at one strength: a row of ``EDITED_LATENTS``."""

    latent_id: str
    edit_id: str
    strength: float
    space: str
    vector: np.ndarray | None
    direction: str | None
    status: str
    error: str | None


@dataclass(frozen=True)
class ImageRow:
    """One rendered image with its labels: a row of ``DATASET``. The labels of an original are None.

    Where the render failed there is an ``error`` and no ``image``.
    A photo that a latent was inverted from has a row too, and its path and its own labels stand in all rows of it.
    """

    image_id: str
    image: Mapping[str, Any] | None
    latent_id: str
    prompt_id: str
    prompt: str | None
    target: str | None
    neutral: str | None
    method: str | None
    strength: float
    rule: str | None = None
    num_channels: int | None = None
    saturation: float | None = None
    status: str = "ok"
    error: str | None = None
    source_path: str | None = None
    labels: Sequence[Mapping[str, str]] | None = None


@dataclass(frozen=True)
class ScoreRow:
    """The scores of one image: a row of ``scores_artifact``; None where there is no prompt or no such network.

    The oracle's answers, whose columns are named after its attributes, stand apart: read them off the table.
    """

    image_id: str
    latent_id: str
    prompt_id: str
    strength: float
    pixel_distance: float | None = None
    perceptual_distance: float | None = None
    clip_similarity: float | None = None
    clip_gain: float | None = None
    clip_direction: float | None = None
    wants: str | None = None
    hit_by: str | None = None
    reachable: bool | None = None
    already: bool | None = None
    hit: bool | None = None
    target_score: float | None = None
    target_gain: float | None = None
    identity_similarity: float | None = None
    judge_similarity: float | None = None
    judge_gain: float | None = None
    judge_direction: float | None = None
    kept: float | None = None
    outside_change: float | None = None
    saturated: bool | None = None
    status: str = "ok"
    error: str | None = None


@dataclass(frozen=True)
class SummaryRow:
    """Scores of one prompt at one strength, summed up: a row of ``SUMMARY``."""

    prompt: str
    method: str | None
    strength: float | None
    images: int
    status: str
    error: str | None
    verdict: str
    mean_clip_gain: float | None = None
    mean_clip_direction: float | None = None
    mean_pixel_distance: float | None = None
    mean_perceptual_distance: float | None = None
    mean_identity_similarity: float | None = None
    mean_judge_gain: float | None = None
    mean_kept: float | None = None
    mean_outside_change: float | None = None
    hits: int | None = None
    judged: int | None = None
    already: int | None = None
    disputed: int | None = None
    wants: str | None = None
    hit_by: str | None = None
    reachable: bool | None = None
    failed: int = 0
    saturated: int = 0
    unknown_words: Sequence[str] = ()


Row = TypeVar("Row", PromptRow, EditedLatentRow, ImageRow, ScoreRow, SummaryRow)


def artifact_table(
    artifact: Artifact,
    rows: Sequence[Row],
    *,
    widths: Mapping[str, int] | None = None,
    metadata: Mapping[str, object] | None = None,
) -> pa.Table:
    """Rows as their artifact's table; ``widths`` and ``metadata`` as for ``Artifact.table``."""
    columns = {column.name: [getattr(row, column.name) for row in rows] for column in artifact.columns}
    return artifact.table(columns, widths=widths, metadata=metadata)


def rows_of(kind: type[Row], table: pa.Table) -> list[Row]:
    """A table's rows in order; vectors are arrays that share the table's memory, None where null."""
    present = [field.name for field in fields(kind) if field.name in table.column_names]
    columns = {name: vectors_of(table[name]) if name == "vector" else table[name].to_pylist() for name in present}
    return [kind(**dict(zip(present, values, strict=True))) for values in zip(*columns.values(), strict=True)]
