"""Mappers: one small network per prompt of method ``mapper``, trained on the latents artifact."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import pyarrow.compute as pc
import torch
from safetensors.torch import save as save_safetensors

import storage
from pipeline.config import MappersConfig
from pipeline.errors import PromptError
from pipeline.models.mapper import recorded_config
from pipeline.optimization.edit_loss import TERMS, EditLoss, EditWeights, text_target
from pipeline.optimization.mappers import Task, TrainedMapper, curve_rows, mapper_config, train_mappers
from pipeline.packs.pack import Pack, mapper_file
from pipeline.prompts import Prompt
from pipeline.runs.contents import keys_of, same_keys
from pipeline.runs.growth import earlier_shards
from pipeline.runs.shard import (
    Contents,
    Input,
    Made,
    ShardReport,
    count_shards,
    part_path,
    run_shard,
    shard_bounds,
    stage_hash,
)
from pipeline.schemas import MAPPER_CURVES, MAPPERS, shape_of
from storage import MissingError, Store

STAGE = MAPPERS.name
WEIGHTS_FOLDER = "mapper_weights"
LOSSES = ("loss", *TERMS)


def to_train(config: MappersConfig, pack: Pack, prompts: Sequence[Prompt]) -> list[Prompt]:
    """The prompts whose mapper is not in the pack; ``reuse_mappers`` off: all."""
    return [p for p in prompts if not (config.reuse_mappers and pack.has(mapper_file(p.prompt_id)))]


def mappers_hash(config: MappersConfig, pack: Pack) -> str:
    """The config hash of the mappers, of whatever prompts."""
    return stage_hash(STAGE, config, pack)


def mapper_keys(
    config: MappersConfig, pack: Pack, prompts: Sequence[Prompt], latents: Input | None
) -> list[tuple[str, Any]]:
    """What the mapper of each prompt is made of: the prompt, and the latents that it is trained on.

    A mapper that is trained on more latents is another mapper; one that is in the pack depends on none.
    """
    trained = {p.prompt_id for p in to_train(config, pack, prompts)}
    state = None if latents is None else latents.state
    return [(p.prompt_id, [p.model_dump(mode="json"), state if p.prompt_id in trained else None]) for p in prompts]


def mappers_contents(
    config: MappersConfig, pack: Pack, prompts: Sequence[Prompt], latents: Input | None, *, shard: int
) -> Contents:
    """What a shard is made of: a range of prompts."""
    chosen = [prompts[i] for i in shard_bounds(len(prompts), config.shard_size, shard)]
    return {"prompts": keys_of(mapper_keys(config, pack, chosen, latents))}


def mappers_num_shards(config: MappersConfig, prompts: Sequence[Prompt]) -> int:
    """Shards of a run."""
    return count_shards(len(prompts), config.shard_size)


def default_weights(config: MappersConfig) -> EditWeights:
    """Weights of prompts that name none."""
    return EditWeights(config.clip_weight, config.direction_weight, config.l2_weight, config.identity_weight)


def checkpoint_path(config_hash: str, shard: int) -> str:
    """Where a training under way is kept; the hash keeps other settings out."""
    return f"_checkpoints/{STAGE}-{shard:05d}-{config_hash[:16]}.safetensors"


def run_mappers_shard(
    config: MappersConfig, store: Store, pack: Pack, shard: int, *, prompts: Sequence[Prompt], latents: Input | None
) -> ShardReport:
    """Train one range of prompts together, going on from the checkpoint of an interrupted run.

    A prompt whose mapper is in the pack, or was trained before the run grew, takes it as it is. A prompt that
    cannot be used or whose loss is not finite becomes a failed row. Latents that failed upstream or are not
    finite are left out.
    """
    config_hash = mappers_hash(config, pack)
    contents = mappers_contents(config, pack, prompts, latents, shard=shard)
    path = checkpoint_path(storage.config_hash({"config_hash": config_hash, **contents}), shard)

    def make() -> Made:
        chosen = [prompts[i] for i in shard_bounds(len(prompts), config.shard_size, shard)]
        earlier = _load_earlier(store, contents, config_hash=config_hash)
        tasks: dict[str, Task] = {}
        errors: dict[str, str] = {}
        wanted = [p for p in to_train(config, pack, chosen) if p.prompt_id not in earlier]
        for prompt in wanted:
            try:
                text = text_target(prompt, pack, default_weights(config), template_set=config.templates)
                tasks[prompt.prompt_id] = Task(prompt.prompt_id, text)
            except PromptError as error:
                errors[prompt.prompt_id] = str(error)
        trained: dict[str, TrainedMapper] = {}
        if tasks:
            assert latents is not None, "the flow sees to the latents first"
            loss = EditLoss.of_pack(
                pack,
                [task.text.weights for task in tasks.values()],
                preprocess=config.clip_preprocess,
                precision=config.precision,
            )
            found = train_mappers(
                pack.generator,
                loss,
                list(tasks.values()),
                _usable_latents(latents).to(pack.device),
                config,
                checkpoint=_read_checkpoint(store, path),
                save=lambda data: store.write_bytes(path, data),
            )
            trained = dict(zip(tasks, found, strict=True))
        others = [p for p in chosen if p not in wanted and p.prompt_id not in earlier]
        imported = {p.prompt_id: pack.read(mapper_file(p.prompt_id)) for p in others}
        return _made(chosen, trained, imported, errors, earlier, config, shard)

    report = run_shard(
        store,
        STAGE,
        shard,
        config_hash=config_hash,
        contents=contents,
        pack=pack,
        make=make,
        precision=config.precision,
    )
    if store.exists(path):
        store.delete(path)
    return report


@dataclass(frozen=True)
class _Earlier:
    """A mapper as an earlier shard of a run that has grown holds it."""

    row: dict[str, Any]
    curve: list[dict[str, Any]]
    weights: bytes | None


def _load_earlier(store: Store, contents: Contents, *, config_hash: str) -> dict[str, _Earlier]:
    """Mappers that earlier shards hold of a shard's prompts, by prompt_id."""
    found: dict[str, _Earlier] = {}
    for old, source, number in earlier_shards(store, STAGE, config_hash=config_hash):
        same = same_keys(old, contents, "prompts")
        if not same:
            continue
        curves = source.shard_table(number, folder=MAPPER_CURVES.name).to_pylist()
        for row in source.shard_table(number).to_pylist():
            if row["prompt_id"] in same:
                weights = None if row["weights_file"] is None else source.store.read_bytes(row["weights_file"])
                curve = [point for point in curves if point["prompt_id"] == row["prompt_id"]]
                found[row["prompt_id"]] = _Earlier(row, curve, weights)
    return found


def _read_checkpoint(store: Store, path: str) -> bytes | None:
    try:
        return store.read_bytes(path)
    except MissingError:
        return None


def _usable_latents(latents: Input) -> torch.Tensor:
    table = latents.table(["w_plus", "status"])
    shape = shape_of(table, "w_plus")
    table = table.filter(pc.field("status") == "ok")
    w_plus = torch.from_numpy(storage.stack(table["w_plus"]).copy()).reshape(table.num_rows, *shape)
    return w_plus[torch.isfinite(w_plus).flatten(1).all(dim=1)]


def _made(
    prompts: Sequence[Prompt],
    trained: dict[str, TrainedMapper],
    imported: dict[str, bytes],
    errors: dict[str, str],
    earlier: dict[str, _Earlier],
    config: MappersConfig,
    shard: int,
) -> Made:
    files: dict[str, bytes] = {}
    rows: list[dict[str, Any]] = []
    curves: list[Any] = []
    for prompt in prompts:
        if (before := earlier.get(prompt.prompt_id)) is not None:
            rows.append(before.row)
            curves += before.curve
            if before.weights is not None:
                files[before.row["weights_file"]] = before.weights
            continue
        mapper = trained.get(prompt.prompt_id)
        error = errors.get(prompt.prompt_id) if mapper is None else mapper.error
        row: dict[str, Any] = {column.name: None for column in MAPPERS.columns}
        row |= {
            "prompt_id": prompt.prompt_id,
            "prompt": prompt.name,
            "target": prompt.target,
            "neutral": prompt.neutral,
            "description": mapper_config(config).model_dump_json(),
            "status": "ok" if error is None else "failed",
            "error": error,
        }
        if prompt.prompt_id in imported:
            path = f"{WEIGHTS_FOLDER}/{prompt.prompt_id}.safetensors"
            files[path] = imported[prompt.prompt_id]
            row |= {"weights_file": path, "description": recorded_config(files[path])}
        if mapper is not None:
            curves += curve_rows(mapper, prompt.prompt_id, LOSSES)
            row["error"] = None if error is None else f"prompt {prompt.name!r}: {error}"
        if mapper is not None and mapper.state is not None:
            path = f"{WEIGHTS_FOLDER}/{prompt.prompt_id}.safetensors"
            files[path] = save_safetensors(mapper.state)
            row |= {"weights_file": path, "best_step": mapper.best_step}
            row |= dict(zip(LOSSES, mapper.losses, strict=True))
            row |= dict(zip(("similarity_mean", "similarity_std"), mapper.similarity, strict=True))
        rows.append(row)
    for artifact, found in ((MAPPERS, rows), (MAPPER_CURVES, curves)):
        table = artifact.table({c.name: [row[c.name] for row in found] for c in artifact.columns})
        files[part_path(artifact.name, shard)] = storage.table_bytes(table)
    return Made(files, rows=len(rows), failures=sum(row["status"] == "failed" for row in rows))
