"""Rule pursuit: the few controls that together make a text direction, and how far each is raised or lowered.

``docs/decisions/2026-11-27-pursuit.md`` and ``2026-11-27-negations.md`` have the studies behind the constants.
"""

from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor

from kernels import matching_pursuit, unit_vectors
from pipeline.directions.groups import Controls
from pipeline.directions.table import ChannelTable

SMALLEST_GAIN = 0.06  # of what the first control explains
MAX_CHOSEN = 32
GONE = 0.4  # coefficient, in parts of the largest, from which a control is lowered all the way


@dataclass(frozen=True)
class Pursued:
    """What pursuit makes of a text direction, per row of the channel table.

    Attributes:
        coefficient: in standard deviations, the largest 1 in size; 0 for rows that stay, [c].
        limit: raw style towards which a lowered row moves, at most twice as far as it is away; NaN: no bound, [c].
    """

    coefficient: Float[Tensor, "c"]
    limit: Float[Tensor, "c"]


def pursue(
    channels: ChannelTable,
    text_direction: Float[Tensor, "d"],
    *,
    usable: Float[Tensor, "c"],
    max_chosen: int | None,
    lowering: float | None,
    controls: Controls | None,
) -> Pursued:
    """Matching pursuit among controls, then without what only makes up for others.

    1. Coefficients of the controls by matching pursuit; those against a control's own relevance are dropped: they only
       take back what another one overdoes.
    2. Of controls that exclude each other, the weaker is not raised. "No glasses" is explained a little by an
       eyepatch, since where glasses are no eyepatch is; it is no wish for one.
    3. What is lowered goes by ``lowering`` times as far, wholly from a coefficient of 0.4 on, where that is given, and
       in no image more than twice as far as it is above the least value of random samples: where it is absent, next to
       nothing moves.

    Args:
        channels: directions of every row.
        text_direction: unit vector.
        usable: 1 for rows that may be taken, 0 for the others.
        max_chosen: at most so many controls; None sets no bound but 32.
        lowering: as a share of a raise; None lowers by the coefficient, without a bound where ``controls`` is None.
        controls: rows that move together; None takes each by itself, and knows of no ranges nor exclusions.
    """
    limit = min(max_chosen or MAX_CHOSEN, MAX_CHOSEN)
    if controls is None:
        atoms = channels.direction * usable[:, None]
    else:  # a control's direction is the sum of what its channels do, each as far as it does it
        effect = channels.direction if channels.effect is None else channels.effect
        atoms = unit_vectors(controls.groups.total(effect * usable[:, None]))
    found = matching_pursuit(atoms, text_direction, smallest_gain=SMALLEST_GAIN, max_chosen=limit)
    own = torch.where(found * (atoms @ text_direction) > 0, found, 0.0)
    found = own if bool(own.any()) else found
    if controls is not None:
        found = _without_weaker(found, controls)
    found = found / found.abs().max()
    if lowering is not None:
        found = torch.where(found < 0, lowering * (found / GONE).clamp(min=-1.0), found)
    if controls is None:
        return Pursued(found, torch.full_like(found, torch.nan))
    coefficient = controls.groups.spread(found) * usable
    ends = torch.where(coefficient < 0, controls.lowest, controls.highest)
    lowered = (found < 0)[controls.groups.group] & (coefficient != 0)
    return Pursued(coefficient, torch.where(lowered, ends, torch.nan))


def _without_weaker(found: Float[Tensor, "g"], controls: Controls) -> Float[Tensor, "g"]:
    """Coefficients without raises of controls that a stronger one excludes."""
    chosen = torch.nonzero(found).flatten()
    sizes = found[chosen].abs()
    beaten = (controls.exclusive(chosen.tolist()) & (sizes[None, :] > sizes[:, None])).any(dim=1)
    kept = found.clone()
    kept[chosen[beaten & (found[chosen] > 0)]] = 0.0
    return kept
