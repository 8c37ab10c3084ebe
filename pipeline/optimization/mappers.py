"""Training of latent mappers (StyleCLIP section 5), one per prompt, many prompts together.

The mappers' weights are stacked: one batched product a layer moves every latent of the batch for every prompt, and
one pass of generator and CLIP judges all the images. The optimiser works entry by entry, so that a mapper becomes
what it would have become alone, beyond float rounding. What the losses need of the unedited images is computed once
per latent. The batch of a step follows from the seed and the step alone: the step is the whole state of the sampling.

Letters: p prompt, n latent, b latent of a batch, x w_plus or styles, k loss term.
"""

from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass, field

import numpy as np
import torch
from jaxtyping import Float, Int
from safetensors.torch import load as load_safetensors
from safetensors.torch import save as save_safetensors
from torch import Tensor

from pipeline.config import MappersConfig
from pipeline.errors import PipelineError
from pipeline.machine.plans import synthesis_plan
from pipeline.models.mapper import LEVELS, MapperBank, MapperConfig, make_mapper
from pipeline.models.stylegan2 import Generator
from pipeline.optimization.edit_loss import EditLoss, SourceEmbeddings, TextTarget, direction_similarity, weight_rows
from pipeline.runs.progress import advance

BETAS, EPS = (0.95, 0.999), 1e-5  # the published optimiser's
LOOKAHEAD_ALPHA, LOOKAHEAD_STEPS = 0.5, 6
EMBED_BATCH = 32  # source images embedded at a time
VALIDATION_BATCH = 16  # images validated at a time, at least one latent with all prompts
VALIDATION_NUMBER = 2**32 - 1  # no training has so many updates
SPLITS = ("train", "validation")


@dataclass(frozen=True)
class Task:
    """One prompt to learn."""

    prompt_id: str
    text: TextTarget


@dataclass(frozen=True)
class Latents:
    """Latents of one split, in the mapper's space, with what the losses need of their images.

    Attributes:
        x: w_plus [n, l, d] or styles [n, s].
        spread: distance of each from the mean face, root mean square over its entries, [n].
        sources: embeddings of the unedited images, computed once.
    """

    x: Tensor
    spread: Float[Tensor, "n"]
    sources: SourceEmbeddings

    def rows(self, index: Int[Tensor, "b"] | slice) -> "Latents":
        """Some of the latents."""
        identity = None if self.sources.identity is None else self.sources.identity[index]
        return Latents(self.x[index], self.spread[index], SourceEmbeddings(self.sources.clip[index], identity))


@dataclass(frozen=True)
class TrainedMapper:
    """What training made of one prompt.

    Attributes:
        state: weights of the lowest validation loss, on the CPU; None where training failed.
        losses: that loss and its unweighted terms, [1 + k].
        best_step: updates made when it was taken.
        similarity: mean and standard deviation of the cosine between the moves of validation latents (Table 2).
        curve: rows of (split, step, loss, terms...).
        error: why training failed.
    """

    state: dict[str, Tensor] | None
    losses: list[float]
    best_step: int
    similarity: tuple[float, float]
    curve: list[tuple[str, int, list[float]]] = field(default_factory=list)
    error: str | None = None


def mapper_config(config: MappersConfig) -> MapperConfig:
    """The architecture that the settings name."""
    on = dict(zip(LEVELS, (config.coarse, config.medium, config.fine), strict=True))
    return MapperConfig(
        kind=config.kind,
        levels=tuple(level for level in LEVELS if on[level]) if config.kind == "levels" else LEVELS,
        norm_axis=config.norm_axis,
        residual_scale=config.residual_scale,
    )


def split_latents(num_latents: int, share: float, batch_size: int) -> tuple[range, range]:
    """Training and validation rows: the last ``share`` of the latents, at least one, is for validation.

    Raises:
        PipelineError: if fewer latents than a batch are left to train on.
    """
    held_out = max(1, round(num_latents * share))
    training = num_latents - held_out
    if training < batch_size:
        raise PipelineError(
            f"mapper training needs at least {batch_size} latents (`batch_size`) beside the {held_out} for validation; "
            f"got {num_latents} usable ones. Sample more latents."
        )
    return range(training), range(training, num_latents)


def batch_rows(seed: int, step: int, num_latents: int, batch_size: int) -> Int[Tensor, "b"]:
    """Latents of a step: every epoch a new order, from seed and epoch; what is left over at its end is dropped."""
    epoch, place = divmod(step, num_latents // batch_size)
    generator = torch.Generator().manual_seed((seed + epoch) % 2**63)
    return torch.randperm(num_latents, generator=generator)[place * batch_size : (place + 1) * batch_size]


def noise_seed(seed: int, number: int) -> int:
    """Seed of a draw of search noise; updates count from 0, ``VALIDATION_NUMBER`` is the validation's only draw."""
    return int(np.random.SeedSequence([seed, number]).generate_state(1, np.uint64)[0]) >> 1


def prepare_latents(
    generator: Generator, loss: EditLoss, w_plus: Float[Tensor, "n l d"], config: MappersConfig
) -> Latents:
    """Latents with the embeddings of their images, rendered once."""
    plan = synthesis_plan(generator, config.precision)
    clip, identity, x = [], [], []
    for part in w_plus.split(EMBED_BATCH):
        with torch.no_grad():
            styles = generator.styles(part)
            found = loss.embed_sources(generator.render(styles, plan=plan))
        x.append(styles if config.kind == "styles" else part)
        clip.append(found.clip)
        identity += [] if found.identity is None else [found.identity]
    found, w_avg = torch.cat(x), generator.mapping.w_avg.expand(1, generator.space.num_ws, -1)
    with torch.no_grad():
        mean = generator.styles(w_avg) if config.kind == "styles" else w_avg
        spread = (found - mean).flatten(1).square().mean(dim=1).sqrt()
    return Latents(found, spread, SourceEmbeddings(torch.cat(clip), torch.cat(identity) if identity else None))


class MapperTraining:
    """A training under way; ``state`` and ``restore`` make it survive an interruption to the bit.

    Args:
        generator: its images are judged.
        loss: the judge.
        tasks: the prompts, each with its weights.
        config: settings.
        train: latents to learn from.
        validation: latents to choose the best weights by.
    """

    def __init__(
        self,
        generator: Generator,
        loss: EditLoss,
        tasks: Sequence[Task],
        config: MappersConfig,
        *,
        train: Latents,
        validation: Latents,
    ) -> None:
        self.generator, self.loss, self.tasks, self.config = generator, loss, tasks, config
        self.train, self.validation = train, validation
        self.plan = synthesis_plan(generator, config.precision)
        self.device = train.x.device
        self.validation_noise = self.noise(validation, seed=noise_seed(config.seed, VALIDATION_NUMBER))
        self.bank = MapperBank(_fresh_mappers(generator, tasks, config))
        self.bank.parameters = {k: v.detach().to(self.device).requires_grad_() for k, v in self.bank.parameters.items()}
        leaves = list(self.bank.parameters.values())
        from timm.optim.lookahead import Lookahead  # here: timm takes a second, and only training needs it

        adam = torch.optim.RAdam(leaves, lr=config.learning_rate, betas=BETAS, eps=EPS)
        self.optimizer = Lookahead(adam, alpha=LOOKAHEAD_ALPHA, k=LOOKAHEAD_STEPS)
        self.targets = torch.stack([task.text.target for task in tasks]).to(self.device)
        self.directions = torch.stack([task.text.direction for task in tasks]).to(self.device)
        self.weights = weight_rows([task.text.weights for task in tasks], self.device)
        self.best = {k: v.detach().clone() for k, v in self.bank.parameters.items()}
        num_terms = self.weights.shape[1]
        self.best_losses = torch.full((len(tasks), 1 + num_terms), torch.inf, dtype=torch.float64)
        self.best_step = torch.zeros(len(tasks), dtype=torch.int64)
        self.failed_step = torch.full((len(tasks),), -1, dtype=torch.int64)
        self.curve: list[list[float]] = []  # prompt, split, step, loss, terms
        self.step = 0

    def run(self, *, save: Callable[[bytes], None] = lambda data: None) -> list[TrainedMapper]:
        """Train to the last step; ``save`` gets a checkpoint every ``checkpoint_interval`` updates."""
        with _deterministic(self.device):
            if self.step == 0:
                self._validate()
            while self.step < self.config.num_steps and bool((self.failed_step < 0).any()):
                self._update()
                advance()
                if self.step % self.config.validation_interval == 0 or self.step == self.config.num_steps:
                    self._validate()
                if self.step % self.config.checkpoint_interval == 0 and self.step < self.config.num_steps:
                    save(self.state())
        return [self._result(i) for i in range(len(self.tasks))]

    def judge(
        self, latents: Latents, noise: Tensor | None = None
    ) -> tuple[Float[Tensor, "p b"], Float[Tensor, "p b k"]]:
        """Loss and unweighted terms of every prompt on every latent; differentiable in the mappers' weights.

        ``noise``, shaped as the latents, is added to the moved latents of every prompt.
        ``l2`` is the mean over a latent's entries, for styles the sum over layers of each layer's mean, as the
        published weight of 0.8 assumes.
        """
        num_prompts, num_latents = len(self.tasks), len(latents.x)
        with torch.autocast(self.device.type, torch.bfloat16, enabled=self._autocast):
            delta = self.config.residual_scale * self.bank.moves(latents.x)
            moved = (latents.x + delta if noise is None else latents.x + delta + noise).flatten(0, 1)
            styles = moved if self.config.kind == "styles" else self.generator.styles(moved)
            images = self.generator.render(styles, plan=self.plan)
            identity = latents.sources.identity
            terms = self.loss.terms(
                images.float(),
                l2=self._l2(delta.flatten(0, 1).float()),
                sources=SourceEmbeddings(
                    latents.sources.clip.repeat(num_prompts, 1),
                    None if identity is None else identity.repeat(num_prompts, 1),
                ),
                targets=self.targets.repeat_interleave(num_latents, dim=0),
                directions=self.directions.repeat_interleave(num_latents, dim=0),
            )
        terms = terms.float().unflatten(0, (num_prompts, num_latents))
        return (terms * self.weights[:, None]).sum(dim=2), terms

    def noise(self, latents: Latents, *, seed: int) -> Tensor | None:
        """Search noise for latents, from the seed alone; None where there is none. ToRGB layers get none."""
        if self.config.search_noise == 0:
            return None
        draw = torch.randn(latents.x.shape, generator=torch.Generator().manual_seed(seed)).to(self.device)
        if self.config.kind == "styles":
            for layer in self.generator.space.layers:
                draw[:, layer.slice] *= float(not layer.is_torgb)
        return self.config.search_noise * latents.spread.view(-1, *[1] * (draw.ndim - 1)) * draw

    @property
    def _autocast(self) -> bool:
        return self.config.mixed_precision and self.device.type == "cuda"

    def _l2(self, delta: Tensor) -> Float[Tensor, "n"]:
        if self.config.l2_reduction == "sum":
            return delta.square().flatten(1).sum(dim=1)
        if self.config.kind != "styles":
            return delta.square().flatten(1).mean(dim=1)
        return torch.stack([part.square().mean(dim=1) for part in self.generator.space.split(delta)]).sum(dim=0)

    def _update(self) -> None:
        rows = batch_rows(self.config.seed, self.step, len(self.train.x), self.config.batch_size)
        batch = self.train.rows(rows.to(self.device))
        losses, terms = self.judge(batch, self.noise(batch, seed=noise_seed(self.config.seed, self.step)))
        parameters = list(self.bank.parameters.values())
        gradients = torch.autograd.grad(losses.mean(dim=1).sum(), parameters)
        self._drop_failed(losses.detach().mean(dim=1), gradients)
        alive = (self.failed_step < 0).to(self.device)
        for parameter, gradient in zip(parameters, gradients, strict=True):
            parameter.grad = torch.where(alive.view(-1, *[1] * (gradient.ndim - 1)), gradient, 0.0)
        if self.step % self.config.log_interval == 0:
            self._log(0, losses.detach().mean(dim=1), terms.detach().mean(dim=1))
        self.optimizer.step()
        self.step += 1

    def _drop_failed(self, losses: Float[Tensor, "p"], gradients: Sequence[Tensor]) -> None:
        """A prompt whose loss or gradient is not finite learns no more; the others do not notice."""
        finite = torch.isfinite(losses)
        for gradient in gradients:
            finite &= torch.isfinite(gradient).flatten(1).all(dim=1)
        self.failed_step = torch.where((self.failed_step < 0) & ~finite.cpu(), self.step, self.failed_step)

    def _validate(self) -> None:
        step = max(1, VALIDATION_BATCH // len(self.tasks))
        parts = []
        for start in range(0, len(self.validation.x), step):
            part = slice(start, start + step)
            noise = None if self.validation_noise is None else self.validation_noise[part]
            with torch.no_grad():
                parts.append(self.judge(self.validation.rows(part), noise))
        losses = torch.cat([part[0] for part in parts], dim=1).mean(dim=1)
        terms = torch.cat([part[1] for part in parts], dim=1).mean(dim=1)
        self._log(1, losses, terms)
        both = torch.cat([losses[:, None], terms], dim=1).double().cpu()
        better = (both[:, 0] < self.best_losses[:, 0]) & (self.failed_step < 0)
        self.best_losses = torch.where(better[:, None], both, self.best_losses)
        self.best_step = torch.where(better, self.step, self.best_step)
        mask = better.to(self.device)
        for name, value in self.bank.parameters.items():
            chosen = mask.view(-1, *[1] * (value.ndim - 1))
            self.best[name] = torch.where(chosen, value.detach(), self.best[name])

    def _log(self, split: int, losses: Float[Tensor, "p"], terms: Float[Tensor, "p k"]) -> None:
        for i, (loss, row) in enumerate(zip(losses.tolist(), terms.tolist(), strict=True)):
            if self.failed_step[i] < 0:
                self.curve.append([i, split, self.step, loss, *row])

    def _result(self, index: int) -> TrainedMapper:
        curve = [(SPLITS[int(row[1])], int(row[2]), row[3:]) for row in self.curve if row[0] == index]
        losses, best_step = self.best_losses[index].tolist(), int(self.best_step[index])
        failed = int(self.failed_step[index])
        if failed >= 0 or not np.isfinite(losses[0]):
            error = (
                f"the loss must stay finite; it did not at update {max(failed, 0)}. Lower the learning rate or weights."
            )
            return TrainedMapper(None, losses, best_step, (0.0, 0.0), curve, error)
        best = MapperBank.__new__(MapperBank)
        best.base, best.parameters = self.bank.base, {k: v[index : index + 1] for k, v in self.best.items()}
        with torch.no_grad():
            moves = best.moves(self.validation.x)[0].flatten(1)
        state = {k: v.detach().cpu().contiguous() for k, v in self.bank.of(index, self.best).items()}
        return TrainedMapper(state, losses, best_step, direction_similarity(moves), curve)

    def state(self) -> bytes:
        """All that the rest of the training depends on, as safetensors: weights, optimiser, best, step, curve."""
        tensors = {f"weights.{k}": v.detach() for k, v in self.bank.parameters.items()}
        tensors |= {f"best.{k}": v for k, v in self.best.items()}
        for number, values in self.optimizer.state_dict()["state"].items():
            tensors |= {f"optimizer.{number}.{k}": torch.as_tensor(v) for k, v in values.items()}
        tensors |= {
            "best_losses": self.best_losses,
            "best_step": self.best_step,
            "failed_step": self.failed_step,
            "step": torch.tensor(self.step),
            "curve": torch.tensor(self.curve, dtype=torch.float64),
        }
        return save_safetensors({k: v.cpu().contiguous() for k, v in tensors.items()})

    def restore(self, data: bytes) -> None:
        """Go on from a checkpoint of the same training."""
        tensors = load_safetensors(data)
        with torch.no_grad():
            for name, value in self.bank.parameters.items():
                value.copy_(tensors[f"weights.{name}"])
        self.best = {k: tensors[f"best.{k}"].to(self.device) for k in self.best}
        self.best_losses, self.best_step = tensors["best_losses"], tensors["best_step"]
        self.failed_step = tensors["failed_step"]
        self.step = int(tensors["step"])
        self.curve = tensors["curve"].tolist()
        state: dict[int, dict[str, Tensor]] = {}
        for name, value in tensors.items():
            if name.startswith("optimizer."):
                _, number, key = name.split(".", 2)
                state.setdefault(int(number), {})[key] = value
        described = self.optimizer.state_dict()
        groups = [{**group, "lookahead_step": self.step} for group in described["param_groups"]]
        self.optimizer.load_state_dict({"state": state, "param_groups": groups})


def _fresh_mappers(generator: Generator, tasks: Sequence[Task], config: MappersConfig) -> list:
    """A mapper per prompt, all from the same first weights: a mapper does not depend on those beside it."""
    mappers = []
    for _ in tasks:
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(config.seed)
            mappers.append(make_mapper(mapper_config(config), generator.config))
    return mappers


def _deterministic(device: torch.device) -> AbstractContextManager[None]:
    """Convolutions that repeat to the bit, where the device has a choice."""
    return torch.backends.cudnn.flags(  # its own default would turn TF32 on
        enabled=torch.backends.cudnn.enabled,
        benchmark=False,
        deterministic=device.type == "cuda",
        allow_tf32=torch.backends.cudnn.allow_tf32,
    )


def train_mappers(
    generator: Generator,
    loss: EditLoss,
    tasks: Sequence[Task],
    w_plus: Float[Tensor, "n l d"],
    config: MappersConfig,
    *,
    checkpoint: bytes | None = None,
    save: Callable[[bytes], None] = lambda data: None,
) -> list[TrainedMapper]:
    """Train one mapper per prompt.

    ``clip * (1 - <E(G(w_hat)), t>) + l2 * mean((w_hat - w)^2) + identity * (1 - <R(G(w_hat)), R(G(w))>)`` plus the
    directional loss where it has a weight, ``w_hat = w + residual_scale * M(w)``; RAdam with Lookahead (Ranger
    without its centralised gradients, which neither torch nor timm has).

    With search noise the expected loss of ``w_hat + noise`` is minimised instead; validation has a draw of its own.

    Args:
        generator: its images are judged.
        loss: the judge.
        tasks: the prompts.
        w_plus: finite latents; the last ``validation_share`` are for validation.
        config: settings.
        checkpoint: where to go on from, if an earlier run was interrupted.
        save: gets a checkpoint now and then.
    Returns:
        one result per prompt, in order.
    Raises:
        PipelineError: if there are too few latents.
    Source: Patashnik et al. 2021, section 5; schedule, optimiser and reductions as in its published code.
    """
    split = split_latents(len(w_plus), config.validation_share, config.batch_size)
    train, validation = (prepare_latents(generator, loss, w_plus[r.start : r.stop], config) for r in split)
    training = MapperTraining(generator, loss, tasks, config, train=train, validation=validation)
    if checkpoint is not None:
        training.restore(checkpoint)
    return training.run(save=save)


def curve_rows(mapper: TrainedMapper, prompt_id: str, names: Sequence[str]) -> list[Mapping[str, object]]:
    """A training curve as table rows; ``names`` of the loss and its terms."""
    return [
        {"prompt_id": prompt_id, "split": split, "step": step, **dict(zip(names, losses, strict=True))}
        for split, step, losses in mapper.curve
    ]
