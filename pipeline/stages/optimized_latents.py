"""Optimised latents: every latent with every prompt of method ``optimize``, found by gradient descent."""

from collections.abc import Sequence
from typing import Any

import torch

import storage
from pipeline.config import OptimizedLatentsConfig
from pipeline.errors import PromptError
from pipeline.optimization.edit_loss import TERMS, EditLoss, EditWeights, TextTarget, text_target
from pipeline.optimization.latents import Outcome, Pair, optimize, pair_seed, pair_weights
from pipeline.packs.pack import Pack
from pipeline.prompts import Prompt
from pipeline.runs.shard import Input, Made, ShardReport, count_shards, part_path, run_shard, shard_bounds, stage_hash
from pipeline.schemas import OPTIMIZATION_CURVES, OPTIMIZATION_IMAGES, OPTIMIZED_LATENTS, Artifact, shape_of
from storage import Store

STAGE = OPTIMIZED_LATENTS.name


def optimized_latents_hash(
    config: OptimizedLatentsConfig, pack: Pack, prompts: Sequence[Prompt], latents: Input
) -> str:
    """What the optimised latents of these prompts are known by."""
    listed = [p.model_dump(mode="json") for p in prompts]
    return stage_hash(STAGE, config, pack, {"prompts": listed, "latents": latents.config_hash})


def optimized_latents_num_shards(config: OptimizedLatentsConfig, prompts: Sequence[Prompt], latents: Input) -> int:
    """Shards of a run: pairs are cut latent by latent, each with all prompts."""
    return count_shards(latents.rows * len(prompts), config.shard_size)


def default_weights(config: OptimizedLatentsConfig) -> EditWeights:
    """Weights of prompts that name none."""
    return EditWeights(config.clip_weight, config.direction_weight, config.l2_weight, config.identity_weight)


def load_texts(
    config: OptimizedLatentsConfig, pack: Pack, prompts: Sequence[Prompt]
) -> dict[str, TextTarget | PromptError]:
    """prompt_id to its place in CLIP space, or why it has none."""
    texts: dict[str, TextTarget | PromptError] = {}
    for prompt in prompts:
        try:
            texts[prompt.prompt_id] = text_target(prompt, pack, default_weights(config), template_set=config.templates)
        except PromptError as error:
            texts[prompt.prompt_id] = error
    return texts


def compute_optimized_latents(pack: Pack, pairs: Sequence[Pair], config: OptimizedLatentsConfig) -> list[Outcome]:
    """Outcomes of pairs, in order; see ``pipeline.optimization.latents.optimize``."""
    loss = EditLoss.of_pack(
        pack,
        [pair_weights(pair.text.weights, config) for pair in pairs],
        preprocess=config.clip_preprocess,
        precision=config.precision,
    )
    return optimize(pack.generator, loss, pairs, config)


def run_optimized_latents_shard(
    config: OptimizedLatentsConfig,
    store: Store,
    pack: Pack,
    shard: int,
    *,
    prompts: Sequence[Prompt],
    latents: Input,
) -> ShardReport:
    """Optimise one range of pairs.

    A pair of a latent that failed upstream, of an unusable prompt, or whose loss is not finite becomes a failed row.
    """

    def make() -> Made:
        keys = [divmod(k, len(prompts)) for k in shard_bounds(latents.rows * len(prompts), config.shard_size, shard)]
        first = keys[0][0]
        table = latents.slice_table(first, keys[-1][0] + 1)
        w_plus = torch.from_numpy(
            storage.stack(table["w_plus"]).copy().reshape(table.num_rows, *shape_of(table, "w_plus"))
        )
        facts = table.select(["latent_id", "status", "error"]).to_pylist()
        texts = load_texts(config, pack, prompts)
        outcomes: list[Outcome] = []
        pairs: dict[int, Pair] = {}
        for number, (row, column) in enumerate(keys):
            latent, prompt = facts[row - first], prompts[column]
            text = texts[prompt.prompt_id]
            outcomes.append(Outcome(stop="failed"))
            if isinstance(text, PromptError):
                outcomes[number].error = str(text)
            elif latent["status"] != "ok":
                outcomes[number].error = f"latent {latent['latent_id']!r} failed: {latent['error']}"
            else:
                pairs[number] = Pair(latent["latent_id"], prompt.prompt_id, w_plus[row - first].to(pack.device), text)
        found = compute_optimized_latents(pack, list(pairs.values()), config)
        for number, outcome in zip(pairs, found, strict=True):
            outcomes[number] = outcome
        names = [(facts[row - first]["latent_id"], prompts[column].prompt_id) for row, column in keys]
        return _made(names, outcomes, config, shard)

    config_hash = optimized_latents_hash(config, pack, prompts, latents)
    return run_shard(store, STAGE, shard, config_hash=config_hash, pack=pack, make=make, precision=config.precision)


def _made(names: list[tuple[str, str]], outcomes: list[Outcome], config: OptimizedLatentsConfig, shard: int) -> Made:
    rows, curves, images = [], [], []
    for (latent_id, prompt_id), outcome in zip(names, outcomes, strict=True):
        key = {"latent_id": latent_id, "prompt_id": prompt_id}
        rows.append(key | _result(latent_id, prompt_id, outcome, config))
        for step, losses in enumerate(outcome.curve):
            curves.append(key | {"step": step} | dict(zip(("loss", *TERMS), losses, strict=True)))
        for step, image in outcome.images:
            name = f"{latent_id}__{prompt_id}__step-{step:05d}.png"
            images.append(key | {"step": step, "image": storage.image_struct(storage.encode_png(image), name)})
    files = {
        part_path(artifact.name, shard): storage.table_bytes(_table(artifact, found))
        for artifact, found in (
            (OPTIMIZED_LATENTS, rows),
            (OPTIMIZATION_CURVES, curves),
            (OPTIMIZATION_IMAGES, images),
        )
    }
    return Made(files, rows=len(rows), failures=sum(row["status"] == "failed" for row in rows))


def _result(latent_id: str, prompt_id: str, outcome: Outcome, config: OptimizedLatentsConfig) -> dict[str, Any]:
    done = outcome.vector is not None
    losses = outcome.curve[outcome.best_step] if done else [None] * (1 + len(TERMS))
    return {
        "space": "styles" if config.space == "styles" else "w_plus",  # a move in w is one in w_plus
        "vector": outcome.vector,
        "start_seed": pair_seed(config.seed, latent_id, prompt_id),
        "steps": len(outcome.curve),
        "best_step": outcome.best_step if done else None,
        "stop": outcome.stop,
        **dict(zip(("loss", *TERMS), losses, strict=True)),
        "status": "ok" if done else "failed",
        "error": outcome.error,
    }


def _table(artifact: Artifact, rows: list[dict[str, Any]]) -> Any:
    return artifact.table({column.name: [row[column.name] for row in rows] for column in artifact.columns})
