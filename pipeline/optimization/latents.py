"""Latent optimisation (StyleCLIP section 4), many (latent, prompt) pairs at a time.

Every pair has its own optimiser, schedule, weights, start and end. A batch only shares the passes through the
networks, whose samples do not touch each other: what a pair finds does not depend on the pairs beside it.

Letters: n pair in the batch, l row of w_plus, d w_dim, s style channel, x the optimised vector, k loss term.
"""

import hashlib
import math
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Literal

import numpy as np
import torch
from jaxtyping import Float, UInt8
from torch import Tensor

from pipeline.config import OptimizedLatentsConfig
from pipeline.models.stylegan2 import Generator
from pipeline.optimization.edit_loss import EditLoss, EditWeights, SourceEmbeddings, TextTarget, weight_rows
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


def learning_rate(step: int, num_steps: int, *, peak: float, rampup: float, rampdown: float) -> float:
    """``peak * (0.5 - 0.5 cos(pi min(1, (1 - t) / rampdown))) * min(1, t / rampup)`` with ``t = step / num_steps``.

    A linear rise from 0 over the first steps, a cosine fall over the last. Source: StyleCLIP's published code, which
    has it from the projector of StyleGAN2 (Karras et al. 2020).
    """
    t = step / num_steps
    fall = 0.5 - 0.5 * math.cos(math.pi * min(1.0, (1 - t) / rampdown))
    return peak * fall * min(1.0, t / rampup)


def squared_distance(moves: Float[Tensor, "n x"], reduction: Literal["sum", "mean"]) -> Float[Tensor, "n"]:
    """Squares of each row added up, or averaged."""
    return moves.square().sum(dim=1) if reduction == "sum" else moves.square().mean(dim=1)


def pair_seed(seed: int, latent_id: str, prompt_id: str) -> int:
    """Seed of a pair's start, from names alone: the same in every batch and on every machine."""
    digest = hashlib.sha256(f"{seed}\0{latent_id}\0{prompt_id}".encode()).digest()
    return int.from_bytes(digest[:8], "big") >> 1


class _Space:
    """The optimised vector of a space: where it starts, how it becomes styles, which entries may move."""

    def __init__(self, generator: Generator, config: OptimizedLatentsConfig) -> None:
        self.generator, self.config = generator, config
        with torch.no_grad():
            mean = generator.mapping.w_avg.expand(1, generator.space.num_ws, -1)
            self.mean = self.of_latent(mean)
        self.movable = torch.ones_like(self.mean)
        if config.space == "styles":
            for layer in generator.space.layers:
                self.movable[layer.slice] = float(not layer.is_torgb)

    def of_latent(self, w_plus: Float[Tensor, "1 l d"]) -> Float[Tensor, "x"]:
        """A latent as a flat vector of the space."""
        return (self.generator.styles(w_plus) if self.config.space == "styles" else w_plus).reshape(-1)

    def styles(self, vectors: Float[Tensor, "n x"]) -> Float[Tensor, "n s"]:
        """Vectors as style vectors."""
        if self.config.space == "styles":
            return vectors
        return self.generator.styles(vectors.view(len(vectors), self.generator.space.num_ws, -1))

    def tied(self, entries: Float[Tensor, "x"]) -> Float[Tensor, "x"]:
        """Entries as the space allows them: in w the first row's, for all rows."""
        if self.config.space != "w":
            return entries
        rows = entries.view(self.generator.space.num_ws, -1)
        return rows[:1].expand_as(rows).reshape(-1)

    def of_gradient(self, gradient: Float[Tensor, "x"]) -> Float[Tensor, "x"]:
        """A gradient as the space allows it: 0 where nothing may move; in w the sum over the rows, for all rows."""
        if self.config.space != "w":
            return gradient * self.movable
        rows = gradient.view(self.generator.space.num_ws, -1)
        return rows.sum(dim=0).expand_as(rows).reshape(-1)

    def start(self, source: Float[Tensor, "x"], rng: torch.Generator) -> Float[Tensor, "x"]:
        """Where a pair's search begins."""
        start = source if self.config.start == "latent" else self.mean
        if self.config.start_noise == 0:
            return start.clone()
        return start + self.config.start_noise * self.noise(source, rng)

    def noise(self, source: Float[Tensor, "x"], rng: torch.Generator) -> Float[Tensor, "x"]:
        """Noise within the space, of the source's distance from the mean, root mean square over the entries."""
        scale = (source - self.mean).square().mean().sqrt()
        return scale * self.tied(torch.randn(source.shape, generator=rng).to(source)) * self.movable


class _Slot:
    """A pair at work."""

    def __init__(self, number: int, pair: Pair, source: Tensor, start: Tensor, rng: torch.Generator) -> None:
        self.number, self.pair, self.source, self.rng = number, pair, source, rng
        self.vector = start.clone().requires_grad_()
        self.optimizer = torch.optim.Adam([self.vector], fused=True)
        self.embeddings: SourceEmbeddings
        self.outcome = Outcome()
        self.best, self.best_loss = start, math.inf
        self.flat_loss, self.flat_since = math.inf, 0
        self.step = 0

    def record(self, loss: float, terms: list[float], *, noisy: bool, tolerance: float) -> None:
        """Note a step's loss, and its vector where none was better; a loss under noise is not the vector's own."""
        self.outcome.curve.append([loss, *terms])
        if noisy:
            return
        if loss < self.best_loss:
            self.best, self.best_loss = self.vector.detach().clone(), loss
            self.outcome.best_step = self.step
        if loss < self.flat_loss - tolerance:
            self.flat_loss, self.flat_since = loss, self.step

    def fail(self, error: str) -> Outcome:
        """The pair ends without a vector; its curve stays."""
        self.outcome.stop, self.outcome.error = "failed", error
        return self.outcome

    def finish(self, stop: str) -> Outcome:
        """The pair ends with its best vector."""
        self.outcome.stop, self.outcome.vector = stop, self.best.cpu().numpy()
        return self.outcome


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
    space = _Space(generator, config)
    outcomes = [Outcome() for _ in pairs]
    waiting, slots = deque(enumerate(pairs)), list[_Slot]()
    while waiting or slots:
        fresh: list[_Slot] = []
        while waiting and len(slots) + len(fresh) < config.batch_size:
            number, pair = waiting.popleft()
            fresh += _seat(number, pair, space, config, outcomes, finished)
        _embed(fresh, space, loss)
        slots += fresh
        if slots:
            ended = _step(slots, space, loss, config)
            advance(len(slots))
            for slot, outcome in ended:
                outcomes[slot.number] = outcome
                finished(slot.number)
            gone = {slot.number for slot, _ in ended}
            slots = [slot for slot in slots if slot.number not in gone]
    return outcomes


def _seat(
    number: int,
    pair: Pair,
    space: _Space,
    config: OptimizedLatentsConfig,
    outcomes: list[Outcome],
    finished: Callable[[int], None],
) -> list[_Slot]:
    """A slot for the pair, or none where its latent is unusable."""
    if not bool(torch.isfinite(pair.w_plus).all()):
        outcomes[number] = Outcome(stop="failed", error=f"latent {pair.latent_id!r} must be finite; it holds NaN.")
        finished(number)
        return []
    with torch.no_grad():
        source = space.of_latent(pair.w_plus[None].to(space.mean.device))
    rng = torch.Generator().manual_seed(pair_seed(config.seed, pair.latent_id, pair.prompt_id))
    return [_Slot(number, pair, source, space.start(source, rng), rng)]


def _embed(slots: list[_Slot], space: _Space, loss: EditLoss) -> None:
    """Source embeddings of new slots, rendered together and once."""
    if not slots:
        return
    with torch.no_grad():
        images = space.generator.render(space.styles(torch.stack([slot.source for slot in slots])))
    found = loss.embed_sources(images)
    for i, slot in enumerate(slots):
        identity = None if found.identity is None else found.identity[i : i + 1]
        slot.embeddings = SourceEmbeddings(found.clip[i : i + 1], identity)


def _step(
    slots: list[_Slot], space: _Space, loss: EditLoss, config: OptimizedLatentsConfig
) -> list[tuple[_Slot, Outcome]]:
    """One step of every slot; the slots that ended."""
    vectors = torch.stack([slot.vector for slot in slots])
    sources = torch.stack([slot.source for slot in slots])
    noise = [0.0 if _is_last(slot, config) else config.search_noise for slot in slots]
    moved = [x + k * space.noise(s.source, s.rng) if k else x for x, s, k in zip(vectors, slots, noise, strict=True)]
    images = space.generator.render(space.styles(torch.stack(moved)))
    identity = [slot.embeddings.identity for slot in slots if slot.embeddings.identity is not None]
    terms = loss.terms(
        images,
        l2=squared_distance(vectors - sources, config.l2_reduction),
        sources=SourceEmbeddings(
            torch.cat([slot.embeddings.clip for slot in slots]), torch.cat(identity) if identity else None
        ),
        targets=torch.stack([slot.pair.text.target for slot in slots]),
        directions=torch.stack([slot.pair.text.direction for slot in slots]),
    )
    weights = weight_rows([pair_weights(slot.pair.text.weights, config) for slot in slots], terms.device)
    total = (terms * weights).sum(dim=1)
    (gradients,) = torch.autograd.grad(total.sum(), vectors)
    losses, rows = total.tolist(), terms.tolist()
    finite = (torch.isfinite(total) & torch.isfinite(gradients).all(dim=1)).tolist()
    ended: list[tuple[_Slot, Outcome]] = []
    for i, slot in enumerate(slots):
        if not finite[i]:
            error = f"the loss {FINITE}; it became {losses[i]} at step {slot.step}. Lower the learning rate or weights."
            ended.append((slot, slot.fail(error)))
            continue
        slot.record(losses[i], rows[i], noisy=noise[i] > 0, tolerance=config.tolerance)
        if config.image_interval and slot.step % config.image_interval == 0:
            slot.outcome.images.append((slot.step, _picture(images[i].detach())))
        stop = None if noise[i] else _stop(slot, config)
        if stop:
            ended.append((slot, slot.finish(stop)))
        else:
            _update(slot, space.of_gradient(gradients[i]), config)
    return ended


def _update(slot: _Slot, gradient: Float[Tensor, "x"], config: OptimizedLatentsConfig) -> None:
    slot.optimizer.param_groups[0]["lr"] = learning_rate(
        slot.step, config.num_steps, peak=config.learning_rate, rampup=config.rampup, rampdown=config.rampdown
    )
    slot.vector.grad = gradient
    slot.optimizer.step()
    slot.step += 1


def _is_last(slot: _Slot, config: OptimizedLatentsConfig) -> bool:
    return slot.step + 1 >= config.num_steps


def _stop(slot: _Slot, config: OptimizedLatentsConfig) -> str | None:
    if _is_last(slot, config):
        return "steps"
    if config.patience and slot.step - slot.flat_since >= config.patience:
        return "flat"
    return None


def _picture(image: Float[Tensor, "3 r r"]) -> UInt8[np.ndarray, "r r 3"]:
    return to_rgb_arrays(image[None])[0]
