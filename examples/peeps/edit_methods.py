"""Mapper and optimisation on prompts in free wording: every prompt on the same faces, judged by the oracle.

The mappers are trained together, on faces of their own; both methods go by the pack's settings unless told otherwise.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from examples.peeps.free_wording import FIRST_SEED, Result, share_spared
from examples.peeps.judge import read_labels
from examples.peeps.wishes import FreePrompt, judge_wishes
from pipeline.config import MappersConfig, OptimizedLatentsConfig, recommended
from pipeline.models.mapper import make_mapper, moved_latents
from pipeline.models.sampling import sample_w_plus
from pipeline.optimization.edit_loss import EditLoss, EditWeights, TextTarget, text_target
from pipeline.optimization.latents import Pair, optimize
from pipeline.optimization.mappers import Task, mapper_config, train_mappers
from pipeline.packs.pack import Pack
from pipeline.prompts import check_prompts

METHODS = ("mapper", "optimize")
TRAINING_SEED = 3_000_000  # of the latents that mappers are trained on
TRAINING_LATENTS = 256
RENDER_BATCH = 50


def render(pack: Pack, x: Tensor, space: str) -> Float[Tensor, "n 3 r r"]:
    """Images of latents in either space."""
    with torch.no_grad():
        parts = x.split(RENDER_BATCH)
        return torch.cat([pack.generator.render(p if space == "styles" else pack.generator.styles(p)) for p in parts])


def load_texts(
    pack: Pack, config: OptimizedLatentsConfig | MappersConfig, prompts: Sequence[FreePrompt]
) -> list[TextTarget]:
    """Prompts in CLIP space, with the setting's weights."""
    weights = EditWeights(config.clip_weight, config.direction_weight, config.l2_weight, config.identity_weight)
    rows = [{"name": p.name, "target": p.target, "neutral": p.neutral} for p in prompts]
    return [text_target(prompt, pack, weights, template_set=config.templates) for prompt in check_prompts(rows)]


def at_default_strength(pack: Pack, method: str, w: Tensor, x: Tensor, space: str) -> Tensor:
    """Edited latents at the strength that the pack has its datasets at: so much of the way from the source."""
    source = pack.generator.styles(w) if space == "styles" else w
    return source + pack.description.move_strengths.get(method, 1.0) * (x - source)


@dataclass(frozen=True)
class Edited:
    """Edited latents of one prompt [n, ...], their loss, and the similarity of mapper moves."""

    x: Tensor
    loss: float
    similarity: tuple[float, float] | None = None


def run_optimization(
    pack: Pack, w: Tensor, setting: dict[str, Any], prompts: Sequence[FreePrompt]
) -> tuple[str, list[Edited]]:
    """Every prompt on every latent."""
    given = {"image_interval": 0, **setting}
    config = recommended(OptimizedLatentsConfig, pack.description.settings.get("optimize", {}), given)
    texts = load_texts(pack, config, prompts)
    pairs = [
        Pair(f"{i}", prompt.name, w[i], text)
        for prompt, text in zip(prompts, texts, strict=True)
        for i in range(len(w))
    ]
    outcomes = optimize(pack.generator, EditLoss.of_pack(pack, [t.weights for t in texts]), pairs, config)
    edited = []
    for k in range(len(prompts)):
        part = outcomes[k * len(w) : (k + 1) * len(w)]
        assert all(o.vector is not None for o in part), "a pair failed; see its error"
        x = torch.stack([torch.from_numpy(o.vector) for o in part if o.vector is not None]).to(w)
        shaped = x if config.space == "styles" else x.view_as(w)
        edited.append(Edited(shaped, float(np.mean([o.curve[o.best_step][0] for o in part]))))
    return config.space, edited


def run_mappers(
    pack: Pack, w: Tensor, setting: dict[str, Any], prompts: Sequence[FreePrompt], *, num_training: int
) -> tuple[str, list[Edited]]:
    """Every prompt's mapper, trained on latents of its own, on every latent."""
    config = recommended(MappersConfig, pack.description.settings.get("mapper", {}), setting)
    texts = load_texts(pack, config, prompts)
    training = sample_w_plus(pack.generator, range(TRAINING_SEED, TRAINING_SEED + num_training), psi=0.7)
    loss = EditLoss.of_pack(pack, [t.weights for t in texts])
    edited, space = [], "w_plus"
    every = [Task(prompt.name, text) for prompt, text in zip(prompts, texts, strict=True)]
    for start in range(0, len(every), config.shard_size):
        tasks = every[start : start + config.shard_size]
        for trained in train_mappers(pack.generator, loss, tasks, training, config):
            assert trained.state is not None, trained.error
            mapper = make_mapper(mapper_config(config), pack.generator.config)
            mapper.load_state_dict(trained.state)
            mapper.requires_grad_(False).to(w.device)
            space = mapper.space_name
            edited.append(Edited(moved_latents(mapper, pack.generator, w), trained.losses[0], trained.similarity))
    return space, edited


def measure(
    pack: Pack, method: str, prompts: Sequence[FreePrompt], faces: int, setting: dict[str, Any] | None = None
) -> list[Result]:
    """Every prompt's edit on the same faces; prompts that all of them show already are left out.

    ``setting`` overrides the pack's.
    """
    w = sample_w_plus(pack.generator, range(FIRST_SEED, FIRST_SEED + faces), psi=0.7)
    before = read_labels(pack.oracle, render(pack, w, "w_plus"))
    if method == "optimize":
        space, edited = run_optimization(pack, w, setting or {}, prompts)
    else:
        space, edited = run_mappers(pack, w, setting or {}, prompts, num_training=TRAINING_LATENTS)
    found = []
    for prompt, edit in zip(prompts, edited, strict=True):
        x = at_default_strength(pack, method, w, edit.x, space)
        after = read_labels(pack.oracle, render(pack, x, space))
        verdict = judge_wishes(before, after, prompt.wishes)
        if len(verdict.hit):
            hit, kept = float(verdict.hit.mean()), float(verdict.kept.mean())
            found.append(Result(prompt, hit, kept, len(verdict.hit), 0, share_spared(before, after, prompt)))
    return found
