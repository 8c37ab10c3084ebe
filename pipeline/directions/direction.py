"""A prompt's style direction: which channels of the table it moves, and how far each (StyleCLIP section 6)."""

from dataclasses import dataclass
from typing import Literal

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from kernels import normalize_relevance, relevance, select_channels, threshold_for_count
from pipeline.config import Rule
from pipeline.directions.score import channel_score
from pipeline.directions.table import ChannelTable

Guard = Literal["error", "zeros"]


@dataclass(frozen=True)
class StyleDirection:
    """A prompt's direction: the kept channels only.

    Attributes:
        rows: row numbers into the channel table.
        relevance: cosine of channel and text direction, per kept channel.
        value: move of the raw style at strength 1.
        threshold: smallest absolute relevance kept.
        max_relevance: largest absolute relevance of all channels.
    """

    rows: np.ndarray
    relevance: np.ndarray
    value: np.ndarray
    threshold: float
    max_relevance: float


def compute_style_direction(
    channels: ChannelTable,
    text_direction: Float[Tensor, "d"],
    *,
    relevance_threshold: float | None = None,
    num_channels: int = 20,
    rule: Rule = "paper",
    guard: Guard = "error",
) -> StyleDirection:
    """``ds_c = S_c sigma_c / max|S|`` of the kept; the paper's score S is R_c = <direction_c, text_direction>.

    Args:
        channels: directions and standard deviations.
        text_direction: unit vector from neutral to target text.
        relevance_threshold: the paper's beta, keeps ``|R_c| >= beta``; None keeps the ``num_channels`` of largest
            ``|S_c|`` and, by the paper's rule, every channel that ties with the last of them.
        num_channels: used where no threshold is given.
        rule: see ``channel_score``.
        guard: what comes of a threshold that no channel reaches: an error, or with ``zeros`` a direction without
            channels, which moves nothing. (The published code divides by zero there.)
    Raises:
        ValueError: if no channel passes the threshold, or the rule needs effects and the table has none.
    """
    found = relevance(channels.direction, text_direction)
    score = channel_score(
        channels.direction, text_direction, rule=rule, agreement=channels.agreement, effect=channels.effect
    )
    if guard == "zeros" and relevance_threshold is not None and not bool((found.abs() >= relevance_threshold).any()):
        none = np.zeros(0, np.float32)
        return StyleDirection(none.astype(np.int64), none, none, relevance_threshold, float(found.abs().max()))
    if relevance_threshold is None:
        keep = select_channels(score, threshold_for_count(score, num_channels))
    else:
        keep = select_channels(found, relevance_threshold)
    value = normalize_relevance(score, keep) * channels.std
    rows = torch.nonzero(keep).flatten()
    smallest = float(found[rows].abs().min())
    return StyleDirection(
        rows=rows.numpy(),
        relevance=found[rows].numpy(),
        value=value[rows].numpy(),
        threshold=smallest if relevance_threshold is None else relevance_threshold,
        max_relevance=float(found.abs().max()),
    )
