"""Shards of (latent, prompt) pairs, whatever searches for them: pairs in, tables of outcomes out."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch

import storage
from pipeline.errors import PromptError
from pipeline.optimization.edit_loss import TextTarget
from pipeline.optimization.latents import Outcome, Pair, pair_seed
from pipeline.packs.pack import Pack
from pipeline.prompts import Prompt
from pipeline.runs.contents import keys_of, latent_keys, same_keys
from pipeline.runs.growth import earlier_shards
from pipeline.runs.shard import Contents, Input, Made, part_path, shard_bounds
from pipeline.runs.tuned_packs import by_generator, delta_paths
from pipeline.schemas import Artifact, shape_of
from storage import Store

Key = tuple[str, str]  # latent_id and prompt_id
Rows = dict[str, list[dict[str, Any]]]  # by artifact


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


def pairs_contents(prompts: Sequence[Prompt], latents: Input, *, shard: int, shard_size: int) -> Contents:
    """What a shard is made of: its pairs by number, the latents that these touch, and all prompts."""
    bounds = shard_bounds(latents.rows * len(prompts), shard_size, shard)
    table = latents.slice_table(bounds.start // len(prompts), (bounds.stop - 1) // len(prompts) + 1)
    return {
        "pairs": [bounds.start, bounds.stop],
        "latents": latent_keys(table),
        "prompts": keys_of((p.prompt_id, p.model_dump(mode="json")) for p in prompts),
    }


def load_earlier_pairs(store: Store, tables: PairTables, contents: Contents, *, config_hash: str) -> dict[Key, Rows]:
    """What earlier shards of a run that has grown hold of a shard's pairs, by pair."""
    found: dict[Key, Rows] = {}
    for old, source, number in earlier_shards(store, tables.latents.name, config_hash=config_hash):
        same = same_keys(old, contents, "latents"), same_keys(old, contents, "prompts")
        if not all(same):
            continue
        for artifact in (tables.latents, tables.curves, tables.images):
            for row in source.shard_table(number, folder=artifact.name).to_pylist():
                key = (row["latent_id"], row["prompt_id"])
                if row.get("vector") is not None:
                    row["vector"] = np.asarray(row["vector"], np.float32)
                if key[0] in same[0] and key[1] in same[1]:
                    found.setdefault(key, {}).setdefault(artifact.name, []).append(row)
    return found


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
    earlier: Mapping[Key, Rows],
) -> Made:
    """Search for one range of pairs, cut latent by latent, each with all prompts.

    A pair of a latent that failed upstream or of an unusable prompt becomes a failed row and is not searched for; nor
    is one of ``earlier``, whose rows are taken over. ``find`` gets the pack that its pairs are drawn with: pairs of
    latents with a generator of their own come apart.
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
        if (latent["latent_id"], prompt.prompt_id) in earlier:
            continue
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
    return _made(names, outcomes, tables, shard, earlier)


def _made(
    names: list[Key], outcomes: list[Outcome], tables: PairTables, shard: int, earlier: Mapping[Key, Rows]
) -> Made:
    artifacts = (tables.latents, tables.curves, tables.images)
    rows: Rows = {artifact.name: [] for artifact in artifacts}
    for key, outcome in zip(names, outcomes, strict=True):
        of_pair = earlier[key] if key in earlier else _rows(key, outcome, tables)
        for artifact in artifacts:
            rows[artifact.name] += of_pair.get(artifact.name, [])
    files = {part_path(a.name, shard): storage.table_bytes(_table(a, rows[a.name])) for a in artifacts}
    found = rows[tables.latents.name]
    return Made(files, rows=len(found), failures=sum(row["status"] == "failed" for row in found))


def _rows(key: Key, outcome: Outcome, tables: PairTables) -> Rows:
    """What one search came to."""
    names = dict(zip(("latent_id", "prompt_id"), key, strict=True))
    images = []
    for step, image in outcome.images:
        name = f"{key[0]}__{key[1]}__step-{step:05d}.png"
        images.append(names | {"step": step, "image": storage.image_struct(storage.encode_png(image), name)})
    return {
        tables.latents.name: [names | _result(*key, outcome, tables)],
        tables.curves.name: [
            names | {"step": step} | dict(zip(("loss", *tables.terms), losses, strict=True))
            for step, losses in enumerate(outcome.curve)
        ],
        tables.images.name: images,
    }


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
