"""Latents sampled from seeds."""

import numpy as np
import pyarrow as pa
from jaxtyping import Float
from torch import Tensor

import storage
from pipeline.config import LatentsConfig
from pipeline.models.sampling import sample_w_plus
from pipeline.models.stylegan2 import Generator
from pipeline.packs.pack import Pack
from pipeline.runs.growth import earlier_shards
from pipeline.runs.progress import advance
from pipeline.runs.shard import (
    Contents,
    Made,
    ShardReport,
    count_shards,
    part_path,
    run_shard,
    shard_bounds,
    stage_hash,
)
from pipeline.schemas import LATENTS
from storage import Store

STAGE = LATENTS.name
NOT_FINITE = "w_plus must be finite; the mapping network gives NaN or infinity for this seed. Check the pack's weights."


def compute_latents(
    generator: Generator, seeds: list[int], *, psi: float, cutoff: int | None
) -> Float[Tensor, "n l d"]:
    """w_plus of each seed, [n, num_ws, w_dim]."""
    return sample_w_plus(generator, seeds, psi=psi, cutoff=cutoff)


def latents_hash(config: LatentsConfig, pack: Pack) -> str:
    """The config hash of the latents, however many."""
    return stage_hash(STAGE, config, pack)


def latents_num_shards(config: LatentsConfig) -> int:
    """Shards of a run."""
    return count_shards(config.num_latents, config.shard_size)


def latents_contents(config: LatentsConfig, shard: int) -> Contents:
    """What a shard is made of: its first seed, and how many."""
    bounds = shard_bounds(config.num_latents, config.shard_size, shard)
    return {"first_seed": config.first_seed + bounds.start, "seeds": len(bounds)}


def run_latents_shard(config: LatentsConfig, store: Store, pack: Pack, shard: int) -> ShardReport:
    """Sample and write one shard of latents. Those that a smaller run had made already stay, bit for bit."""
    config_hash, contents = latents_hash(config, pack), latents_contents(config, shard)

    def make() -> Made:
        seeds = [config.first_seed + i for i in shard_bounds(config.num_latents, config.shard_size, shard)]
        table = _load_earlier(store, contents, config_hash=config_hash)
        first = 0 if table is None else table.num_rows
        if first < len(seeds):
            w_plus = compute_latents(pack.generator, seeds[first:], psi=config.psi, cutoff=config.cutoff).cpu().numpy()
            new = _table(seeds[first:], w_plus, psi=config.psi)
            table = new if table is None else pa.concat_tables([table, new])
        assert table is not None, "a shard has at least one seed"
        advance(len(seeds))
        failures = table["status"].to_pylist().count("failed")
        return Made({part_path(STAGE, shard): storage.table_bytes(table)}, rows=table.num_rows, failures=failures)

    return run_shard(store, STAGE, shard, config_hash=config_hash, contents=contents, pack=pack, make=make)


def _load_earlier(store: Store, contents: Contents, *, config_hash: str) -> pa.Table | None:
    """The longest beginning of a shard that an earlier, smaller run had made."""
    found: pa.Table | None = None
    for old, source, number in earlier_shards(store, STAGE, config_hash=config_hash):
        if old.get("first_seed") == contents["first_seed"] and old["seeds"] <= contents["seeds"]:
            table = source.shard_table(number)
            found = table if found is None or table.num_rows > found.num_rows else found
    return found


def _table(seeds: list[int], w_plus: Float[np.ndarray, "n l d"], *, psi: float) -> pa.Table:
    n = len(seeds)
    finite = [bool(np.isfinite(w).all()) for w in w_plus]
    return LATENTS.table(
        {
            "latent_id": [f"seed-{seed:08d}" for seed in seeds],
            "source": ["seed"] * n,
            "seed": seeds,
            "source_uri": [None] * n,
            "psi": [psi] * n,
            "w_plus": storage.vectors(w_plus),
            "inversion_error": [None] * n,
            "generator_delta": [None] * n,
            "status": ["ok" if good else "failed" for good in finite],
            "error": [None if good else NOT_FINITE for good in finite],
        },
        widths={"w_plus": w_plus[0].size},
        metadata={"w_plus_shape": w_plus.shape[1:]},
    )
