"""A prompt's style direction: which channels of the table it moves, and how far each (StyleCLIP section 6)."""

from dataclasses import dataclass, replace
from typing import Literal

import numpy as np
import torch
from jaxtyping import Bool, Float
from torch import Tensor

from kernels import normalize_relevance, relevance, select_channels, threshold_for_count
from pipeline.config import SelectionRule
from pipeline.directions.groups import Controls
from pipeline.directions.pursuit import MAX_CHOSEN, pursue
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
        limit: raw style towards which a lowered channel moves, at most twice as far as it is away; NaN: no bound.
    """

    rows: np.ndarray
    relevance: np.ndarray
    value: np.ndarray
    threshold: float
    max_relevance: float
    limit: np.ndarray


def compute_style_direction(
    channels: ChannelTable,
    text_direction: Float[Tensor, "d"],
    *,
    relevance_threshold: float | None = None,
    num_channels: int | None = 20,
    rule: SelectionRule = "paper",
    guard: Guard = "error",
    controls: Controls | None = None,
    lowering: float | None = None,
) -> StyleDirection:
    """``ds_c = S_c sigma_c / max|S|`` of the kept; the paper's score S is R_c = <direction_c, text_direction>.

    Args:
        channels: directions and standard deviations.
        text_direction: unit vector from neutral to target text.
        relevance_threshold: the paper's beta, keeps ``|R_c| >= beta``; None keeps the ``num_channels`` of largest
            ``|S_c|`` and, by the paper's rule, every channel that ties with the last of them.
        num_channels: used where no threshold is given. Pursuit finds the number; there it is the most that are taken
            (a control counts once), and None sets no bound.
        rule: see ``channel_score``; ``pursuit`` is no score of single channels but ``pursue`` among those that pass
            the threshold, with S its coefficients.
        controls: for pursuit, channels that move together, and how far they go; None takes each by itself.
        lowering: for pursuit, how far channels are moved against their direction, as a share of along it: taking
            something away may need less than putting it on. None goes by the coefficient.
        guard: what comes of a threshold that no channel reaches: an error, or with ``zeros`` a direction without
            channels, which moves nothing. (The published code divides by zero there.)
    Raises:
        ValueError: if no channel passes the threshold, or the rule needs effects and the table has none.
    """
    found = relevance(channels.direction, text_direction)
    if rule == "pursuit":
        return _pursue(channels, text_direction, found, relevance_threshold, num_channels, guard, controls, lowering)
    score = channel_score(
        channels.direction, text_direction, rule=rule, agreement=channels.agreement, effect=channels.effect
    )
    if guard == "zeros" and relevance_threshold is not None and not bool((found.abs() >= relevance_threshold).any()):
        return _no_direction(found, relevance_threshold)
    if relevance_threshold is None:
        keep = select_channels(score, threshold_for_count(score, num_channels or MAX_CHOSEN))
    else:
        keep = select_channels(found, relevance_threshold)
    return _direction(channels, found, score, keep, relevance_threshold)


def _pursue(
    channels: ChannelTable,
    text_direction: Float[Tensor, "d"],
    found: Float[Tensor, "c"],
    relevance_threshold: float | None,
    num_channels: int | None,
    guard: Guard,
    controls: Controls | None,
    lowering: float | None,
) -> StyleDirection:
    usable = torch.ones_like(found)
    if relevance_threshold is not None:
        if guard == "zeros" and not bool((found.abs() >= relevance_threshold).any()):
            return _no_direction(found, relevance_threshold)
        usable = select_channels(found, relevance_threshold).to(found)
    made = pursue(
        channels, text_direction, usable=usable, max_chosen=num_channels, lowering=lowering, controls=controls
    )
    keep = made.coefficient != 0
    direction = _direction(channels, found, made.coefficient, keep, relevance_threshold, rescale=False)
    return replace(direction, limit=made.limit[keep].numpy())


def _direction(
    channels: ChannelTable,
    found: Float[Tensor, "c"],
    score: Float[Tensor, "c"],
    keep: Bool[Tensor, "c"],
    relevance_threshold: float | None,
    *,
    rescale: bool = True,
) -> StyleDirection:
    value = (normalize_relevance(score, keep) if rescale else score) * channels.std
    rows = torch.nonzero(keep).flatten()
    smallest = float(found[rows].abs().min())
    return StyleDirection(
        rows=rows.numpy(),
        relevance=found[rows].numpy(),
        value=value[rows].numpy(),
        threshold=smallest if relevance_threshold is None else relevance_threshold,
        max_relevance=float(found.abs().max()),
        limit=np.full(len(rows), np.nan, np.float32),
    )


def _no_direction(found: Float[Tensor, "c"], threshold: float) -> StyleDirection:
    none = np.zeros(0, np.float32)
    return StyleDirection(none.astype(np.int64), none, none, threshold, float(found.abs().max()), none)
