"""Latents from a file of w_plus that other tools wrote: the artifact ``latents``, as if sampled here."""

import hashlib
from functools import lru_cache
from pathlib import Path
from typing import Any

import torch

import storage
from pipeline.checkpoints.foreign_file import read_foreign_bytes, read_foreign_file
from pipeline.checkpoints.foreign_tensor import ForeignTensor
from pipeline.checkpoints.official import check_w_plus
from pipeline.config import ImportedLatentsConfig
from pipeline.errors import CheckpointError
from pipeline.packs.pack import Pack
from pipeline.prompt_ids import slug
from pipeline.runs.progress import advance
from pipeline.runs.shard import Made, ShardReport, count_shards, part_path, run_shard, shard_bounds, stage_hash
from pipeline.schemas import LATENTS
from storage import Store

STAGE = LATENTS.name
NOT_FINITE = "w_plus must be finite; it holds NaN or infinity. Invert or sample this latent again."


def describe_latents(file: str, pack: Pack, *, shard_size: int) -> tuple[ImportedLatentsConfig, int]:
    """Settings of an import, which name the file by its contents, and how many latents it holds.

    Args:
        file: path or fsspec URI.
        pack: whose generator the latents are for.
        shard_size: latents in a shard.
    Raises:
        CheckpointError: if the file is missing, no array, or not of this pack's shape.
        storage.StorageError: if a file elsewhere is missing or cannot be read.
    """
    local, name = _local_file(file)
    if local is None:
        data = _fetched(file)
        latents, digest = _checked(read_foreign_bytes(data, name=name), name, pack), hashlib.sha256(data).hexdigest()
    else:
        latents = _checked(read_foreign_file(local), name, pack)
        with local.open("rb") as handle:
            digest = hashlib.file_digest(handle, "sha256").hexdigest()
    return ImportedLatentsConfig(name=name, sha256=digest, shard_size=shard_size), latents.shape[0]


def open_latents(file: str, pack: Pack, *, sha256: str) -> ForeignTensor:
    """The file's latents, [n, num_ws, w_dim], not yet read; of a file elsewhere the last one is kept in memory.

    Raises:
        CheckpointError: see ``describe_latents``; or if the file elsewhere has changed since.
    """
    local, name = _local_file(file)
    if local is not None:
        return _checked(read_foreign_file(local), name, pack)
    return _checked(read_foreign_bytes(_fetched_as(file, sha256), name=name), name, pack)


def _local_file(file: str) -> tuple[Path | None, str]:
    """The file on this machine, None if it is elsewhere; and its name."""
    store, name = Store.of_file(file)
    return None if "://" in store.uri else Path(store.uri) / name, name


def _fetched(file: str) -> bytes:
    store, name = Store.of_file(file)
    return store.read_bytes(name)


@lru_cache(maxsize=1)
def _fetched_as(file: str, sha256: str) -> bytes:
    """Every shard reads its rows from the whole file."""
    data = _fetched(file)
    found = hashlib.sha256(data).hexdigest()
    if found != sha256:
        raise CheckpointError(
            f"{file}: must stay as it is while it is imported; its sha256 was {sha256[:12]}... and now is "
            f"{found[:12]}.... Import it again, into another run."
        )
    return data


def _checked(tree: Any, name: str, pack: Pack) -> ForeignTensor:
    return check_w_plus(tree, source=name, num_ws=pack.generator.space.num_ws, w_dim=pack.generator.config.w_dim)


def imported_latents_hash(config: ImportedLatentsConfig, pack: Pack) -> str:
    """The config hash of the latents."""
    return stage_hash(STAGE, config, pack)


def imported_latents_num_shards(config: ImportedLatentsConfig, num_latents: int) -> int:
    """Shards of a run."""
    return count_shards(num_latents, config.shard_size)


def run_imported_latents_shard(
    config: ImportedLatentsConfig, store: Store, pack: Pack, shard: int, *, file: str
) -> ShardReport:
    """Read and write one range of the file's latents. One that is not finite becomes a failed row."""

    def make() -> Made:
        latents = open_latents(file, pack, sha256=config.sha256)
        bounds = shard_bounds(latents.shape[0], config.shard_size, shard)
        w_plus = latents.rows(bounds.start, bounds.stop).load().float()
        finite = torch.isfinite(w_plus).flatten(1).all(dim=1).tolist()
        n = len(finite)
        advance(n)
        stem = slug(Path(config.name).stem) or "latent"
        columns: dict[str, Any] = {
            "latent_id": [f"{stem}-{i:05d}" for i in bounds],
            "source": ["file"] * n,
            "seed": [None] * n,
            "source_uri": [config.name] * n,
            "psi": [None] * n,
            "w_plus": storage.vectors(w_plus.numpy()),
            "inversion_error": [None] * n,
            "generator_delta": [None] * n,
            "status": ["ok" if good else "failed" for good in finite],
            "error": [None if good else NOT_FINITE for good in finite],
        }
        table = LATENTS.table(
            columns, widths={"w_plus": w_plus[0].numel()}, metadata={"w_plus_shape": tuple(w_plus.shape[1:])}
        )
        return Made({part_path(STAGE, shard): storage.table_bytes(table)}, rows=n, failures=finite.count(False))

    return run_shard(store, STAGE, shard, config_hash=imported_latents_hash(config, pack), pack=pack, make=make)
