"""Which channels to measure for a prompt, and with how many images: the decisions of the screened mode.

Slopes (``pipeline.directions.slopes``) say how well every channel is aligned with the text; the best aligned are
measured with one +- 5 sigma difference each; round by round fewer of them, the best by the score that decides, get more
images, and in the end only those whose place among the kept is still open. What has been measured for one prompt serves
all later ones, because a channel's direction does not depend on the prompt.

Letters: c editable channel, d CLIP width, p prompt.
"""

from dataclasses import dataclass
from typing import NamedTuple

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from kernels import ChannelDirection, DirectionSums, pursuit_contest, unit_vectors
from pipeline.config import SelectionRule
from pipeline.directions.score import EFFECT_POWER, channel_score
from pipeline.directions.slopes import Slopes

CONTEST_GAIN = 0.03  # half of what pursuit asks of its last channel: what nearly was chosen has rivals too
CONTEST_STEPS = 8  # more wishes than prompts have


class Round(NamedTuple):
    """One round of measuring.

    Attributes:
        per_kept: candidates, in multiples of the channels that the prompt keeps.
        images: how many images each of them has been measured in after the round.
        only_open: leave out those whose place is settled.
    """

    per_kept: float
    images: int
    only_open: bool


@dataclass(frozen=True)
class ScreeningRule:
    """How much is measured; the studies are in ``docs/decisions/screened-directions.md``.

    Attributes:
        num_images: N, images a channel is measured in at most; a channel that has all of them forgets its slope.
        slope_reach: a slope foretells the effect of +- 5 sigma as a move by so many sigma; real ones saturate.
        slope_weight: the mean slope counts as this many measured images, less the more are measured.
        rounds: who is measured when; further rounds repeat the last. The first four and the images of the slopes come
            to 240 renders for a prompt that keeps 4 channels.
        spread: standard deviation across images of a unit difference along a text direction.
        open_within: a place is open while score and the edge differ by less than this many standard errors.
        score: what decides; see ``channel_score``. For ``pursuit`` it is ``pursuit_contest``.
        min_images: measured in fewer, a channel is left out of the table, unless all are.
    """

    num_images: int = 24
    slope_reach: float = 2.0
    slope_weight: float = 2.0
    rounds: tuple[Round, ...] = (
        Round(12, 1, False),
        Round(4, 2, False),
        Round(2, 4, False),
        Round(1.25, 10, False),
        Round(2, 14, True),
        Round(2, 24, True),
    )
    spread: float = 0.13
    open_within: float = 2.0
    score: SelectionRule = "effect"
    min_images: int = 1

    @classmethod
    def deciding_by(cls, score: SelectionRule, num_images: int) -> "ScreeningRule":
        """The rule for a score; pursuit fits all directions at once, so that what is badly known spoils the others."""
        if score == "pursuit":
            return cls(num_images=num_images, score=score, slope_weight=1.0, min_images=2)
        return cls(num_images=num_images, score=score)

    def round(self, number: int) -> Round:
        """What round ``number`` does, from 0."""
        found = self.rounds[min(number, len(self.rounds) - 1)]
        return found._replace(images=min(found.images, self.num_images))


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


def known_channels(sums: DirectionSums, rule: ScreeningRule) -> Bool[Tensor, "c"]:
    """Channels with a difference that were measured in ``min_images``; in fewer, if none was in so many."""
    measured = sums.count > 0
    enough = measured & (sums.seen >= rule.min_images)
    return enough if bool(enough.any()) else measured


def still_open(
    score: Float[Tensor, "k"], error: Float[Tensor, "k"], *, num_kept: int, within: float
) -> Bool[Tensor, "k"]:
    """Whether each candidate's place among the ``num_kept`` largest could change with more images.

    The edge lies half-way between the last kept and the first left out; a place is open while the score is within
    ``within`` errors of it. Nothing is open where all are kept.

    Args:
        score: not negative.
        error: standard error of each score.
        num_kept: how many are kept.
        within: in standard errors.
    """
    if len(score) <= num_kept:
        return torch.zeros(len(score), dtype=torch.bool)
    ordered = score.sort(descending=True).values
    edge = (ordered[num_kept - 1] + ordered[num_kept]) / 2
    return (score - edge).abs() < within * error


def plan_round(
    slopes: Slopes,
    sums: DirectionSums,
    text_directions: Float[Tensor, "p d"],
    num_kept: list[int],
    *,
    number: int,
    room: int,
    rule: ScreeningRule,
) -> Int[Tensor, "k"]:
    """Rows of the channels that get more images in a round, in rising order.

    Every prompt has a list, best first: in the first round the best aligned channels, ``mean |cos(slope, text)|``;
    later the measured ones of the largest score. Where all lists together cost more than there is room for,
    the first of every list go before the second of any.

    Args:
        slopes: of all editable channels, and how they are aligned with every text.
        sums: measured so far; ``seen`` says with how many images.
        text_directions: one unit vector per prompt; prompts are looked at one at a time.
        num_kept: channels each prompt keeps.
        number: of the round, from 0.
        room: pairs of renders at most.
        rule: see ``ScreeningRule``.
    """
    this = rule.round(number)
    found = measured_directions(slopes.sums, sums, rule)
    effects = measured_effects(slopes.sums, sums, rule)
    turn = torch.full((len(sums.seen),), torch.inf)
    for prompt, (text, kept) in enumerate(zip(text_directions, num_kept, strict=True)):
        score = slopes.aligned[:, prompt].double() if number == 0 else _score(found, effects, sums, text, rule)
        best = score.topk(min(round(this.per_kept * kept), int((score > 0).sum())))
        due = sums.seen[best.indices] < this.images
        if this.only_open:
            error = _standard_error(found, effects, sums, text, best.indices, rule)
            due &= still_open(best.values, error, num_kept=kept, within=rule.open_within)
        listed = best.indices[due]
        turn[listed] = torch.minimum(turn[listed], torch.arange(len(listed), dtype=turn.dtype))
    ordered = turn.sort(stable=True).indices[: int(turn.isfinite().sum())]
    cost = (this.images - sums.seen[ordered]).cumsum(0)
    return ordered[cost <= room].sort().values


def _score(
    found: ChannelDirection, effects: Tensor, sums: DirectionSums, text: Tensor, rule: ScreeningRule
) -> Float[Tensor, "c"]:
    """What decides who gets more images; 0 for what has none."""
    measured = (sums.seen > 0)[:, None]
    if rule.score == "pursuit":
        atoms = torch.where(measured, found.direction, 0.0)
        return pursuit_contest(atoms, text, smallest_gain=CONTEST_GAIN, max_chosen=CONTEST_STEPS)
    score = channel_score(found.direction, text, rule=rule.score, agreement=found.agreement, effect=effects).abs()
    return torch.where(measured[:, 0], score, 0.0)


def _standard_error(
    found: ChannelDirection,
    effects: Tensor,
    sums: DirectionSums,
    text: Tensor,
    rows: Tensor,
    rule: ScreeningRule,
) -> Float[Tensor, "k"]:
    """Of the score of some channels: ``spread / sqrt(k + w)``, scaled as the rule scales the mean relevance.

    A contest's scores are shares of the winner's relevance; of the largest here, so the error is rather too small.
    """
    error = rule.spread / (sums.seen[rows] + rule.slope_weight).sqrt()
    if rule.score != "agreement":
        error = error / found.agreement[rows].clamp_min(1e-3)
    if rule.score == "pursuit":
        return error / (found.direction[rows] @ text).abs().max().clamp_min(1e-3)
    return error * (effects[rows] @ text).abs() ** EFFECT_POWER if rule.score == "effect" else error
