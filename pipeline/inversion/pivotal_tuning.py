"""Pivotal tuning: the latent stays where it is, and the generator is changed a little until it draws the picture.

Letters: n sample, l row of w_plus, d w_dim, r resolution, k loss term.
"""

from dataclasses import astuple, dataclass, field
from itertools import cycle, islice

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.func import functional_call

from pipeline.inversion.likeness import TERMS as LIKENESS_TERMS
from pipeline.inversion.likeness import Likeness, Seen
from pipeline.models.generator_delta import GeneratorDelta, TunedGenerator, tuned_generator
from pipeline.models.sampling import sample_w_plus
from pipeline.models.stylegan2 import Generator
from pipeline.models.synthesis import Synthesis
from pipeline.models.synthesis_plan import DirectPlan
from pipeline.optimization.adam import AdamMoments, adam_step
from pipeline.optimization.descent import learning_rate

TERMS = (*LIKENESS_TERMS, "locality_loss")
NEIGHBOURS = 8  # images of the locality term
NEIGHBOUR_SHARE = 0.5  # how far towards a random latent each lies
SEED = 0  # of the neighbours and of the factors at the start: the same for every image
AWAY = 1.5  # a loss so many times the lowest is no noise: the search goes back to the best, at half the rate
RAMPUP, RAMPDOWN = 0.05, 0.25  # shares of the steps, as in refinement


@dataclass(frozen=True)
class TuningWeights:
    """Weights of the loss terms, each at least 0; see ``Likeness.terms``.

    Attributes:
        pixel: of the mean absolute difference.
        perceptual: of the distance of features.
        identity: of 1 less the cosine of identities.
        locality: of pixel and perceptual difference, weighed as above, to the pack's generator at latents around.
    """

    pixel: float
    perceptual: float
    identity: float
    locality: float


@dataclass
class Tuned:
    """What became of a picture.

    Attributes:
        delta: the change of lowest loss; None where the search failed.
        curve: loss and its unweighted terms at every step, before its update, [steps, 1 + k].
        stop: steps (all done), target (near enough) or failed (a loss that was not finite).
    """

    delta: GeneratorDelta | None
    curve: list[list[float]] = field(default_factory=list)
    stop: str = "steps"


def tune(
    generator: Generator,
    likeness: Likeness,
    picture: Float[Tensor, "1 3 r r"],
    pivot: Float[Tensor, "l d"],
    *,
    weights: TuningWeights,
    num_steps: int,
    rate: float,
    rank: int,
    target: float,
) -> Tuned:
    """Search for the change of a generator's weights that makes it draw a picture from a latent.

    ``argmin_theta pixel |x - G_theta(w)| + perceptual D(x, G_theta(w)) + identity (1 - <R(x), R(G_theta(w))>) +
    locality L(G_theta(w_r), G(w_r))`` with ``w_r = w + a (w_z - w)`` for random latents ``w_z``, which keeps the
    generator what it was around the latent. Adam on the delta's parts; the best is kept, and where the search runs
    away it goes on from there at half the rate.

    Args:
        generator: the pack's; not changed.
        likeness: judges.
        picture: in [-1, 1].
        pivot: the latent, which does not move.
        weights: of the terms.
        num_steps: from 2, as the first has learning rate 0.
        rate: largest learning rate.
        rank: of the change, see ``GeneratorDelta.zero``.
        target: a pixel loss at which the search has done enough; 0 for never.
    Source: Roich et al. 2021, "Pivotal Tuning for Latent-based Editing of Real Images", Eq. 2 to 5. Theirs tunes all
        weights with LPIPS and a squared difference, and goes a fixed way (alpha = 30) towards random latents.
    """
    delta = GeneratorDelta.zero(generator, rank, rng=torch.Generator().manual_seed(SEED))
    parts = {name: part.requires_grad_() for name, part in delta.parts.items()}
    moments = [AdamMoments.of(part) for part in parts.values()]
    drawing = _Drawing(tuned_generator(generator, delta))
    with torch.no_grad():
        wanted = likeness.see(picture)
        styles = generator.styles(pivot[None])
        around = cycle(_neighbours(generator, likeness, pivot) if weights.locality else [])
    best, best_loss, curve = delta.copied(), float("inf"), list[list[float]]()
    for step in range(num_steps):
        changed = {f"synthesis.{name}": tensor for name, tensor in delta.changed(generator).items()}
        terms = likeness.terms(likeness.see(functional_call(drawing, changed, (styles,))), wanted)[0]
        locality = terms.new_zeros(1)
        for there, known in islice(around, 1):
            seen = likeness.see(functional_call(drawing, changed, (there,)))
            locality = likeness.terms(seen, known)[:, :2] @ terms.new_tensor([weights.pixel, weights.perceptual])
        terms = torch.cat([terms, locality])
        total = terms @ torch.tensor(astuple(weights), device=terms.device)
        gradients = torch.autograd.grad(total, list(parts.values()))
        loss, row = total.item(), terms.tolist()
        curve.append([loss, *row])
        if not (torch.isfinite(total) and all(bool(torch.isfinite(g).all()) for g in gradients)):
            return Tuned(None, curve, "failed")
        if loss < best_loss:
            best, best_loss = delta.copied(), loss
        elif loss > AWAY * best_loss:  # the rate is too large for these weights
            rate /= 2
            moments = [AdamMoments.of(part) for part in parts.values()]
            with torch.no_grad():
                for name, part in parts.items():
                    part.copy_(best.parts[name])
            continue
        if row[0] <= target:
            return Tuned(delta.copied(), curve, "target")
        now = learning_rate(step, num_steps, peak=rate, rampup=RAMPUP, rampdown=RAMPDOWN)
        adam_step(list(parts.values()), gradients, moments, rate=now)
    return Tuned(best, curve)


class _Drawing(nn.Module):
    """A generator's render as the call of a module, so that its tensors can be given with the call.

    Args:
        generator: its own, as its tensors are swapped while it is called.
    """

    synthesis: Synthesis

    def __init__(self, generator: TunedGenerator) -> None:
        super().__init__()
        self.synthesis = generator.synthesis
        self.render = generator.render

    def forward(self, styles: Float[Tensor, "n s"]) -> Float[Tensor, "n 3 r r"]:
        """Style vectors to images."""
        return self.render(styles, plan=DirectPlan(self.synthesis))


def _neighbours(
    generator: Generator, likeness: Likeness, pivot: Float[Tensor, "l d"]
) -> list[tuple[Float[Tensor, "1 s"], Seen]]:
    """Style vectors around the pivot, and what the pack's generator draws from them."""
    random = sample_w_plus(generator, list(range(SEED, SEED + NEIGHBOURS)), psi=1.0)
    found = []
    for w_plus in pivot + NEIGHBOUR_SHARE * (random - pivot):
        styles = generator.styles(w_plus[None])
        found.append((styles, likeness.see(generator.render(styles, plan=DirectPlan(generator.synthesis)))))
    return found
