"""Refinement of inverted latents by descent: nearer to the picture, not far from the encoder's code.

Letters: n picture, r resolution, l row of w_plus, d w_dim, x the optimised vector, k loss term.
"""

from collections.abc import Sequence
from dataclasses import astuple, dataclass, field
from typing import Literal

import numpy as np
import torch
from jaxtyping import Float, UInt8
from torch import Tensor

from pipeline.inversion.likeness import TERMS as LIKENESS_TERMS
from pipeline.inversion.likeness import Likeness, Seen
from pipeline.models.stylegan2 import Generator
from pipeline.models.synthesis_plan import SynthesisPlan
from pipeline.optimization.descent import Descent, Schedule, run_slots, update_all
from pipeline.optimization.space import LatentSpace
from pipeline.pixels import from_rgb_arrays

TERMS = (*LIKENESS_TERMS, "code_loss", "spread_loss")


@dataclass(frozen=True)
class RefineWeights:
    """Weights of the loss terms, each at least 0; see ``Likeness.terms``.

    Attributes:
        pixel: of the mean absolute difference.
        perceptual: of the distance of features.
        identity: of 1 less the cosine of identities.
        code: of the mean squared distance to the code that the search starts from.
        spread: of the mean squared difference between the moves of single rows and the move that all share. Edits work
            best near w, where all rows are one (Tov et al. 2021, "Designing an Encoder", section 3.2); what moves
            them apart is also what follows the noise of a file.
    """

    pixel: float
    perceptual: float
    identity: float
    code: float
    spread: float


@dataclass
class Refined:
    """What became of a latent.

    Attributes:
        w_plus: the latent of the lowest loss; the start where the search failed.
        curve: loss and its unweighted terms at every step, before its update, [steps, 1 + k].
        best_step: step of the lowest loss.
        stop: steps (all done), flat (no more gain), target (near enough) or failed (a loss that was not finite).
    """

    w_plus: Float[Tensor, "l d"]
    curve: list[list[float]] = field(default_factory=list)
    best_step: int = 0
    stop: str = "steps"


class _Slot:
    """A latent at work."""

    def __init__(self, number: int, start: Float[Tensor, "x"], wanted: Seen, schedule: Schedule) -> None:
        self.number, self.start, self.wanted = number, start, wanted
        self.descent = Descent(start, schedule)
        self.curve: list[list[float]] = []


def refine(
    generator: Generator,
    likeness: Likeness,
    pictures: UInt8[np.ndarray, "n r r 3"],
    codes: Float[Tensor, "n l d"],
    *,
    space: Literal["w", "w_plus"],
    weights: RefineWeights,
    schedule: Schedule,
    target: float,
    batch_size: int,
    plan: SynthesisPlan | None = None,
) -> list[Refined]:
    """Search for the latent of every picture from its code.

    ``argmin_w pixel |x - G(w)| + perceptual D(x, G(w)) + identity (1 - <R(x), R(G(w))>) + code |m|^2 +
    spread |m - m'|^2`` with the move ``m = w - w_0`` and ``m'`` its mean over the rows, each term a mean; Adam, with
    latents that share nothing but the passes through the networks. The best vector is kept, not the last. One whose
    loss is not finite keeps its code.

    Args:
        generator: draws.
        likeness: judges.
        pictures: 8-bit RGB; only those at work are held in [-1, 1].
        codes: where the searches start, and what they are pulled towards.
        space: w moves all rows alike.
        weights: of the terms.
        schedule: of each search.
        target: a pixel loss at which a search has done enough; 0 for never.
        batch_size: latents at a time; does not change the result beyond rounding.
        plan: how latents are rendered; None runs the generator's modules as they are.
    """
    latents = LatentSpace(generator, space, plan=plan)
    refined = [Refined(code) for code in codes]
    shape = codes.shape[1:]

    def seat(numbered: list[tuple[int, Tensor]]) -> list[_Slot]:
        with torch.no_grad():
            wanted = likeness.see(from_rgb_arrays(pictures[[number for number, _ in numbered]]).to(codes.device))
            starts = [latents.of_latent(code[None]) for _, code in numbered]
        return [_Slot(n, s, wanted.at(i), schedule) for i, ((n, _), s) in enumerate(zip(numbered, starts, strict=True))]

    def step(slots: list[_Slot]) -> list[_Slot]:
        ended = _step(slots, latents, likeness, weights, target)
        for slot, stop in ended:
            refined[slot.number] = Refined(_result(slot, stop).view(shape), slot.curve, slot.descent.best_step, stop)
        return [slot for slot, _ in ended]

    run_slots(codes, seat=seat, step=step, batch_size=batch_size)
    return refined


def _result(slot: _Slot, stop: str) -> Float[Tensor, "x"]:
    if stop == "target":
        return slot.descent.vector.detach()
    return slot.start if stop == "failed" else slot.descent.best


def _step(
    slots: Sequence[_Slot], space: LatentSpace, likeness: Likeness, weights: RefineWeights, target: float
) -> list[tuple[_Slot, str]]:
    """One step of every slot; those that ended, and why."""
    vectors = torch.stack([slot.descent.vector for slot in slots])
    starts = torch.stack([slot.start for slot in slots])
    seen = likeness.see(space.generator.render(space.styles(vectors), plan=space.plan))
    near = likeness.terms(seen, Seen.joined([slot.wanted for slot in slots]))
    moves = (vectors - starts).view(len(slots), space.generator.space.num_ws, -1)
    apart = moves - moves.mean(dim=1, keepdim=True)
    far = torch.stack([moves.square().mean(dim=(1, 2)), apart.square().mean(dim=(1, 2))], dim=1)
    terms = torch.cat([near, far], dim=1)
    total = terms @ torch.tensor(astuple(weights), device=terms.device)
    (gradients,) = torch.autograd.grad(total.sum(), vectors)
    finite = (torch.isfinite(total) & torch.isfinite(gradients).all(dim=1)).tolist()
    ended: list[tuple[_Slot, str]] = []
    going: list[tuple[Descent, torch.Tensor]] = []
    for slot, loss, row, gradient, is_finite in zip(
        slots, total.tolist(), terms.tolist(), gradients, finite, strict=True
    ):
        slot.curve.append([loss, *row])
        if not is_finite:
            ended.append((slot, "failed"))
            continue
        slot.descent.record(loss)
        stop = "target" if row[0] <= target else slot.descent.stop
        if stop:
            ended.append((slot, stop))
        else:
            going.append((slot.descent, space.of_gradient(gradient)))
    update_all(going)
    return ended
