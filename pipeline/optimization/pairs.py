"""Shards of (latent, prompt) pairs, whatever searches for them: pairs in, tables of outcomes out."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch

import storage
from pipeline.errors import PromptError
from pipeline.optimization.edit_loss import TextTarget
from pipeline.optimization.latents import Outcome, Pair, pair_seed
from pipeline.packs.pack import Pack
from pipeline.prompts import Prompt
from pipeline.runs.shard import Input, Made, part_path, shard_bounds
from pipeline.runs.tuned_packs import by_generator, delta_paths
from pipeline.schemas import Artifact, shape_of


@dataclass(frozen=True)
class PairTables:
    """Where outcomes go.

    Attributes:
        latents: one row per pair.
        curves: one row per pair and step.
        images: one row per pair and kept image.
        terms: columns of the loss terms, in the order of an outcome's curve.
        space: of the vectors, w_plus or styles.
        seed: that the pairs' own seeds are made from.
    """

    latents: Artifact
    curves: Artifact
    images: Artifact
    terms: Sequence[str]
    space: str
    seed: int


def make_pairs_shard(
    pack: Pack,
    prompts: Sequence[Prompt],
    latents: Input,
    *,
    shard: int,
    shard_size: int,
    texts: Mapping[str, TextTarget | PromptError],
    find: Callable[[Pack, list[Pair]], list[Outcome]],
    tables: PairTables,
) -> Made:
    """Search for one range of pairs, cut latent by latent, each with all prompts.

    A pair of a latent that failed upstream or of an unusable prompt becomes a failed row and is not searched for.
    ``find`` gets the pack that its pairs are drawn with: pairs of latents with a generator of their own come apart.
    """
    keys = [divmod(k, len(prompts)) for k in shard_bounds(latents.rows * len(prompts), shard_size, shard)]
    first = keys[0][0]
    table = latents.slice_table(first, keys[-1][0] + 1)
    w_plus = torch.from_numpy(storage.stack(table["w_plus"]).copy().reshape(table.num_rows, *shape_of(table, "w_plus")))
    facts = table.select(["latent_id", "status", "error"]).to_pylist()
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
    numbers, paths = list(pairs), delta_paths(table)
    for own, places in by_generator(pack, latents.store, [paths[keys[number][0] - first] for number in numbers]):
        found = find(own, [pairs[numbers[place]] for place in places])
        for place, outcome in zip(places, found, strict=True):
            outcomes[numbers[place]] = outcome
    names = [(facts[row - first]["latent_id"], prompts[column].prompt_id) for row, column in keys]
    return _made(names, outcomes, tables, shard)


def _made(names: list[tuple[str, str]], outcomes: list[Outcome], tables: PairTables, shard: int) -> Made:
    rows, curves, images = [], [], []
    for (latent_id, prompt_id), outcome in zip(names, outcomes, strict=True):
        key = {"latent_id": latent_id, "prompt_id": prompt_id}
        rows.append(key | _result(latent_id, prompt_id, outcome, tables))
        for step, losses in enumerate(outcome.curve):
            curves.append(key | {"step": step} | dict(zip(("loss", *tables.terms), losses, strict=True)))
        for step, image in outcome.images:
            name = f"{latent_id}__{prompt_id}__step-{step:05d}.png"
            images.append(key | {"step": step, "image": storage.image_struct(storage.encode_png(image), name)})
    files = {
        part_path(artifact.name, shard): storage.table_bytes(_table(artifact, found))
        for artifact, found in ((tables.latents, rows), (tables.curves, curves), (tables.images, images))
    }
    return Made(files, rows=len(rows), failures=sum(row["status"] == "failed" for row in rows))


def _result(latent_id: str, prompt_id: str, outcome: Outcome, tables: PairTables) -> dict[str, Any]:
    done = outcome.vector is not None
    losses = outcome.curve[outcome.best_step] if done else [None] * (1 + len(tables.terms))
    return {
        "space": tables.space,
        "vector": outcome.vector,
        "start_seed": pair_seed(tables.seed, latent_id, prompt_id),
        "steps": len(outcome.curve),
        "best_step": outcome.best_step if done else None,
        "stop": outcome.stop,
        **dict(zip(("loss", *tables.terms), losses, strict=True)),
        "status": "ok" if done else "failed",
        "error": outcome.error,
    }


def _table(artifact: Artifact, rows: list[dict[str, Any]]) -> Any:
    return artifact.table({column.name: [row[column.name] for row in rows] for column in artifact.columns})
