"""Latent optimisation (StyleCLIP section 4), many (latent, prompt) pairs at a time.

Every pair has its own optimiser, schedule, weights, start and end. A batch only shares the passes through the
networks, whose samples do not touch each other: what a pair finds does not depend on the pairs beside it.

Letters: n pair in the batch, l row of w_plus, d w_dim, s style channel, x the optimised vector, k loss term.
"""

import hashlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal, Protocol, runtime_checkable

import numpy as np
import torch
from jaxtyping import Float, UInt8
from torch import Tensor

from pipeline.config import OptimizedLatentsConfig
from pipeline.machine.plans import synthesis_plan
from pipeline.models.stylegan2 import Generator
from pipeline.optimization.descent import Descent, Schedule, run_slots, update_all
from pipeline.optimization.edit_loss import EditLoss, EditWeights, SourceEmbeddings, TextTarget, weight_rows
from pipeline.optimization.space import LatentSpace
from pipeline.pixels import to_rgb_arrays
from pipeline.runs.progress import advance

FINITE = "must stay finite"


@dataclass(frozen=True)
class Pair:
    """One latent to be edited by one prompt.

    Attributes:
        latent_id: name of the latent.
        prompt_id: name of the prompt.
        w_plus: the source, [l, d].
        text: the prompt in CLIP space and its weights.
    """

    latent_id: str
    prompt_id: str
    w_plus: Float[Tensor, "l d"]
    text: TextTarget


@dataclass
class Outcome:
    """What became of a pair.

    Attributes:
        vector: the latent of the lowest loss, flat, on the CPU; None where the pair failed.
        curve: loss and its unweighted terms at every step, before the step's update, [steps, 1 + k].
        images: every k-th step and its image.
        best_step: step of the lowest loss.
        stop: steps (all done), flat (no gain for ``patience`` steps) or failed.
        error: why it failed.
    """

    vector: Float[np.ndarray, "x"] | None = None
    curve: list[list[float]] = field(default_factory=list)
    images: list[tuple[int, UInt8[np.ndarray, "r r 3"]]] = field(default_factory=list)
    best_step: int = 0
    stop: str = "steps"
    error: str | None = None


def squared_distance(moves: Float[Tensor, "n x"], reduction: Literal["sum", "mean"]) -> Float[Tensor, "n"]:
    """Squares of each row added up, or averaged."""
    return moves.square().sum(dim=1) if reduction == "sum" else moves.square().mean(dim=1)


def pair_seed(seed: int, latent_id: str, prompt_id: str) -> int:
    """Seed of a pair's start, from names alone: the same in every batch and on every machine."""
    digest = hashlib.sha256(f"{seed}\0{latent_id}\0{prompt_id}".encode()).digest()
    return int.from_bytes(digest[:8], "big") >> 1


def start_of(
    space: LatentSpace, source: Float[Tensor, "x"], rng: torch.Generator, config: OptimizedLatentsConfig
) -> Float[Tensor, "x"]:
    """Where a pair's search begins."""
    start = source if config.start == "latent" else space.mean
    return start.clone() if config.start_noise == 0 else start + config.start_noise * space.noise(source, rng)


class Slot:
    """A pair at work: what it starts from, and how far its descent is."""

    def __init__(self, number: int, pair: Pair, source: Tensor, descent: Descent, rng: torch.Generator) -> None:
        self.number, self.pair, self.source, self.descent, self.rng = number, pair, source, descent, rng
        self.embeddings: Any = None  # the objective's, of the unedited image
        self.outcome = Outcome()

    def record(self, loss: float, terms: list[float], *, noisy: bool) -> None:
        """Note a step's loss; one under noise is not the vector's own."""
        self.outcome.curve.append([loss, *terms])
        if not noisy:
            self.descent.record(loss)

    def fail(self, error: str) -> Outcome:
        """The pair ends without a vector; its curve stays."""
        self.outcome.stop, self.outcome.error = "failed", error
        return self.outcome

    def finish(self, stop: str) -> Outcome:
        """The pair ends with its best vector."""
        self.outcome.stop, self.outcome.vector = stop, self.descent.best.cpu().numpy()
        self.outcome.best_step = self.descent.best_step
        return self.outcome


def schedule_of(config: OptimizedLatentsConfig) -> Schedule:
    """The part of the settings that every search has."""
    return Schedule(
        config.num_steps, config.learning_rate, config.rampup, config.rampdown, config.tolerance, config.patience
    )


@runtime_checkable
class Objective(Protocol):
    """What a search descends: terms per slot, each weighed; samples must not touch each other."""

    def embed(self, slots: Sequence[Slot], images: Float[Tensor, "n 3 r r"]) -> None:
        """Note, in every new slot, what the terms need of its unedited image."""

    def terms(
        self, slots: Sequence[Slot], vectors: Float[Tensor, "n x"], images: Float[Tensor, "n 3 r r"]
    ) -> Float[Tensor, "n k"]:
        """Unweighted terms; differentiable in ``vectors`` and ``images``."""
        ...

    def weights(self, slots: Sequence[Slot]) -> Float[Tensor, "n k"]:
        """The weight of every term."""
        ...


class _EditObjective:
    """StyleCLIP's: ``EditLoss`` and the squared distance to the source."""

    def __init__(self, loss: EditLoss, config: OptimizedLatentsConfig) -> None:
        self.loss, self.config = loss, config

    def embed(self, slots: Sequence[Slot], images: Float[Tensor, "n 3 r r"]) -> None:
        """Embeddings of CLIP and of the identity network."""
        found = self.loss.embed_sources(images)
        for i, slot in enumerate(slots):
            identity = None if found.identity is None else found.identity[i : i + 1]
            slot.embeddings = SourceEmbeddings(found.clip[i : i + 1], identity)

    def terms(self, slots: Sequence[Slot], vectors: Tensor, images: Tensor) -> Tensor:
        """In the order of ``TERMS``."""
        sources = torch.stack([slot.source for slot in slots])
        identity = [slot.embeddings.identity for slot in slots if slot.embeddings.identity is not None]
        return self.loss.terms(
            images,
            l2=squared_distance(vectors - sources, self.config.l2_reduction),
            sources=SourceEmbeddings(
                torch.cat([slot.embeddings.clip for slot in slots]), torch.cat(identity) if identity else None
            ),
            targets=torch.stack([slot.pair.text.target for slot in slots]),
            directions=torch.stack([slot.pair.text.direction for slot in slots]),
        )

    def weights(self, slots: Sequence[Slot]) -> Tensor:
        """Each pair's own."""
        rows = [pair_weights(slot.pair.text.weights, self.config) for slot in slots]
        return weight_rows(rows, slots[0].descent.vector.device)


def pair_weights(weights: EditWeights, config: OptimizedLatentsConfig) -> EditWeights:
    """The weights that count: free generation has no source to stay near."""
    return EditWeights(weights.clip, weights.direction) if config.mode == "free" else weights


def optimize(
    generator: Generator,
    loss: EditLoss,
    pairs: Sequence[Pair],
    config: OptimizedLatentsConfig,
    *,
    finished: Callable[[int], None] = lambda number: None,
) -> list[Outcome]:
    """Search for the latent of every pair.

    ``argmin_w clip * D(G(w), t) + l2 * ||w - w_s||^2 + identity * (1 - <R(G(w_s)), R(G(w))>)`` plus the directional
    loss where it has a weight; Adam; the squared distance is summed, as the published weight of 0.008 assumes. The
    vector of the lowest loss is kept, not the last. A pair whose loss or gradient is not finite ends alone, with an
    error; its slot goes to the next pair.

    Args:
        generator: its images are judged.
        loss: the judge.
        pairs: any mix of latents and prompts.
        config: settings; ``config.batch_size`` pairs are worked on at a time.
        finished: called with a pair's number when it ends.
    Returns:
        one outcome per pair, in order.
    """
    return search(generator, _EditObjective(loss, config), pairs, config, finished=finished)


def search(
    generator: Generator,
    objective: Objective,
    pairs: Sequence[Pair],
    config: OptimizedLatentsConfig,
    *,
    finished: Callable[[int], None] = lambda number: None,
) -> list[Outcome]:
    """The search itself, whatever it descends; see ``optimize``. ``config`` gives space, start, noises and schedule."""
    space = LatentSpace(generator, config.space, plan=synthesis_plan(generator, config.precision))
    outcomes = [Outcome() for _ in pairs]

    def end(number: int, outcome: Outcome) -> None:
        outcomes[number] = outcome
        finished(number)

    def seat(numbered: list[tuple[int, Pair]]) -> list[Slot]:
        slots = [slot for number, pair in numbered if (slot := _seat(number, pair, space, config, end))]
        _embed(slots, space, objective)
        return slots

    def step(slots: list[Slot]) -> list[Slot]:
        ended = _step(slots, space, objective, config)
        advance(len(slots))
        for slot, outcome in ended:
            end(slot.number, outcome)
        return [slot for slot, _ in ended]

    run_slots(pairs, seat=seat, step=step, batch_size=config.batch_size)
    return outcomes


def _seat(
    number: int, pair: Pair, space: LatentSpace, config: OptimizedLatentsConfig, end: Callable[[int, Outcome], None]
) -> Slot | None:
    """A slot for the pair, or none where its latent is unusable."""
    if not bool(torch.isfinite(pair.w_plus).all()):
        end(number, Outcome(stop="failed", error=f"latent {pair.latent_id!r} must be finite; it holds NaN."))
        return None
    with torch.no_grad():
        source = space.of_latent(pair.w_plus[None].to(space.mean.device))
    rng = torch.Generator().manual_seed(pair_seed(config.seed, pair.latent_id, pair.prompt_id))
    return Slot(number, pair, source, Descent(start_of(space, source, rng, config), schedule_of(config)), rng)


def _embed(slots: list[Slot], space: LatentSpace, objective: Objective) -> None:
    """What the objective needs of the sources of new slots, rendered together and once."""
    if not slots:
        return
    with torch.no_grad():
        images = space.generator.render(space.styles(torch.stack([slot.source for slot in slots])), plan=space.plan)
        objective.embed(slots, images)


def _step(
    slots: list[Slot], space: LatentSpace, objective: Objective, config: OptimizedLatentsConfig
) -> list[tuple[Slot, Outcome]]:
    """One step of every slot; the slots that ended."""
    vectors = torch.stack([slot.descent.vector for slot in slots])
    noise = [0.0 if slot.descent.is_last else config.search_noise for slot in slots]
    moved = [x + k * space.noise(s.source, s.rng) if k else x for x, s, k in zip(vectors, slots, noise, strict=True)]
    images = space.generator.render(space.styles(torch.stack(moved)), plan=space.plan)
    terms = objective.terms(slots, vectors, images)
    weights = objective.weights(slots)
    total = (terms * weights).sum(dim=1)
    (gradients,) = torch.autograd.grad(total.sum(), vectors)
    losses, rows = total.tolist(), terms.tolist()
    finite = (torch.isfinite(total) & torch.isfinite(gradients).all(dim=1)).tolist()
    ended: list[tuple[Slot, Outcome]] = []
    going: list[tuple[Descent, Tensor]] = []
    for i, slot in enumerate(slots):
        if not finite[i]:
            step = slot.descent.step
            error = f"the loss {FINITE}; it became {losses[i]} at step {step}. Lower the learning rate or weights."
            ended.append((slot, slot.fail(error)))
            continue
        slot.record(losses[i], rows[i], noisy=noise[i] > 0)
        if config.image_interval and slot.descent.step % config.image_interval == 0:
            slot.outcome.images.append((slot.descent.step, _picture(images[i].detach())))
        stop = None if noise[i] else slot.descent.stop
        if stop:
            ended.append((slot, slot.finish(stop)))
        else:
            going.append((slot.descent, space.of_gradient(gradients[i])))
    update_all(going)
    return ended


def _picture(image: Float[Tensor, "3 r r"]) -> UInt8[np.ndarray, "r r 3"]:
    return to_rgb_arrays(image[None])[0]
