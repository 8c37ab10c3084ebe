"""Which channels to measure for a prompt, and with how many images: the decisions of the screened mode.

Slopes (``pipeline.slopes``) guess every channel's relevance; the likeliest are measured with a few +- 5 sigma
differences; only channels whose place among the kept is still open get more images. What has been measured for one
prompt serves all later ones, because a channel's direction does not depend on the prompt.

Letters: c editable channel, d CLIP width, p prompt.
"""

from dataclasses import dataclass

import torch
from jaxtyping import Float, Int
from torch import Tensor

from kernels import ChannelDirection, DirectionSums, unit_vectors


@dataclass(frozen=True)
class ScreeningRule:
    """How much is measured; the defaults are those of ``benchmarks/screening_study.py``.

    Attributes:
        num_images: N, images a channel is measured in at most; a channel that has all of them forgets its slope.
        slope_reach: a slope foretells the effect of +- 5 sigma as a move by so many sigma; real ones saturate.
        slope_weight: the mean slope counts as this many measured images, less the more are measured.
        effect_power: candidates are ranked by mean relevance of the slope times |effect| to this power.
        candidates_per_kept: candidates of a prompt, in multiples of the channels it keeps.
        open_per_kept: at most so many candidates get more images in one round, in multiples of the channels it keeps.
        images_per_round: images a channel is given at a time.
        spread: standard deviation across images of a unit difference along a text direction.
        open_within: a place is open while relevance and the edge differ by less than this many standard errors.
    """

    num_images: int = 24
    slope_reach: float = 2.0
    slope_weight: float = 2.0
    effect_power: float = 1.0
    candidates_per_kept: float = 3.0
    open_per_kept: float = 1.5
    images_per_round: int = 2
    spread: float = 0.13
    open_within: float = 2.0


def measured_directions(slopes: DirectionSums, sums: DirectionSums, rule: ScreeningRule) -> ChannelDirection:
    """Directions from the differences measured so far, steadied by the slope.

    ``u(sum of unit differences + w (1 - k / N) * mean unit slope)``, k images measured of N: a channel with all N is
    exactly its row of the exact table; one with none is its slope.

    Args:
        slopes: of all editable channels.
        sums: of the same channels.
        rule: w and N.
    Returns:
        direction and agreement as ``DirectionSums.direction`` gives them; count is that of the differences.
    """
    prior = slopes.unit_sum() / slopes.count.clamp_min(1)[:, None]
    weight = rule.slope_weight * (1 - sums.seen / rule.num_images).clamp_min(0)
    weight = torch.where(slopes.count > 0, weight, torch.zeros_like(weight))
    mean = sums.unit_sum() + weight[:, None] * prior
    mean = mean / (sums.count + weight).clamp_min(1e-9)[:, None]
    agreement = torch.linalg.vector_norm(mean, dim=1).clamp(max=1.0)
    return ChannelDirection(unit_vectors(mean).float(), agreement.float(), sums.count.float())


def measured_effects(slopes: DirectionSums, sums: DirectionSums, rule: ScreeningRule) -> Float[Tensor, "c d"]:
    """Mean differences measured so far, steadied by the slopes in the same measure as the directions."""
    weight = rule.slope_weight * (1 - sums.seen / rule.num_images).clamp_min(0)
    measured = sums.mean_effect() * sums.seen[:, None]
    foretold = slopes.mean_effect() * rule.slope_reach * weight[:, None]
    return ((measured + foretold) / (sums.seen + weight).clamp_min(1e-9)[:, None]).float()


def mean_relevance(found: ChannelDirection, text_direction: Float[Tensor, "d"]) -> Float[Tensor, "c"]:
    """Mean over images of ``<unit difference, text>``: relevance times agreement, unbiased with however few images."""
    return (found.direction @ text_direction) * found.agreement


def candidates(
    guess: ChannelDirection,
    effect: Float[Tensor, "c d"],
    text_direction: Float[Tensor, "d"],
    *,
    num_kept: int,
    rule: ScreeningRule,
) -> Int[Tensor, "m"]:
    """Rows of the channels likeliest to be kept, best first: ``|mean relevance of the slope| * |effect|^power``.

    Args:
        guess: direction of every editable channel's slope.
        effect: mean derivative of every editable channel.
        text_direction: unit vector.
        num_kept: channels the style direction is to keep.
        rule: how many, and the power.
    """
    score = mean_relevance(guess, text_direction).abs() * (effect @ text_direction).abs() ** rule.effect_power
    number = min(round(rule.candidates_per_kept * num_kept), int((score > 0).sum()))
    return score.topk(number).indices


def still_open(
    directions: ChannelDirection,
    effects: Float[Tensor, "c d"],
    seen: Int[Tensor, "c"],
    chosen: Int[Tensor, "m"],
    text_direction: Float[Tensor, "d"],
    *,
    num_kept: int,
    rule: ScreeningRule,
) -> Int[Tensor, "k"]:
    """Candidates whose place among the kept could change with more images, the most doubtful first.

    Channels are kept by their score, mean relevance times ``sqrt|effect along the text|``. The edge lies half-way
    between the last kept and the first left out. A candidate is open while its score is within
    ``open_within * spread / sqrt(k + w) * sqrt|effect|`` of the edge and it has images left.

    Args:
        directions: of all editable channels, as measured so far.
        effects: of the same.
        seen: images measured per channel.
        chosen: rows of the prompt's candidates.
        text_direction: unit vector.
        num_kept: channels the style direction is to keep.
        rule: see ``ScreeningRule``.
    """
    if len(chosen) <= num_kept:
        return chosen[:0]
    weight = (effects[chosen] @ text_direction).abs().sqrt()
    found = mean_relevance(directions, text_direction)[chosen].abs() * weight
    ordered = found.sort(descending=True).values
    edge = (ordered[num_kept - 1] + ordered[num_kept]) / 2
    error = rule.spread / (seen[chosen] + rule.slope_weight).sqrt() * weight.clamp_min(1e-9)
    doubt = (found - edge).abs() / error
    doubt = torch.where(seen[chosen] < rule.num_images, doubt, torch.inf)
    number = min(len(chosen), round(rule.open_per_kept * num_kept))
    picked = doubt.topk(number, largest=False)
    return chosen[picked.indices[picked.values < rule.open_within]]


def plan_round(
    slopes: DirectionSums,
    sums: DirectionSums,
    text_directions: Float[Tensor, "p d"],
    num_kept: list[int],
    *,
    first: bool,
    room: int,
    rule: ScreeningRule,
) -> Int[Tensor, "k"]:
    """Rows of the channels that get ``images_per_round`` more images, in rising order.

    Every prompt has a list: its candidates in the first round, those still open later. Where all of them together
    are more than there is room for, the first of every list go before the second of any.

    Args:
        slopes: of all editable channels.
        sums: measured so far; ``seen`` says with how many images.
        text_directions: one unit vector per prompt; prompts are looked at one at a time.
        num_kept: channels each prompt keeps.
        first: True gives images to candidates that have none yet, False to those still open.
        room: channels at most.
        rule: see ``ScreeningRule``.
    """
    directions = measured_directions(slopes, sums, rule)
    effects = measured_effects(slopes, sums, rule)
    guess, effect = slopes.direction(), slopes.mean_effect()
    turn = torch.full((len(sums.seen),), torch.inf)
    for text, kept in zip(text_directions, num_kept, strict=True):
        chosen = candidates(guess, effect, text, num_kept=kept, rule=rule)
        if first:
            listed = chosen[sums.seen[chosen] < rule.images_per_round]
        else:
            listed = still_open(directions, effects, sums.seen, chosen, text, num_kept=kept, rule=rule)
        turn[listed] = torch.minimum(turn[listed], torch.arange(len(listed), dtype=turn.dtype))
    wanted = int(turn.isfinite().sum())
    return turn.sort(stable=True).indices[: max(0, min(wanted, room))].sort().values
