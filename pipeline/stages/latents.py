"""Latents sampled from seeds."""

import numpy as np
from jaxtyping import Float
from torch import Tensor

import storage
from pipeline.config import LatentsConfig
from pipeline.models.sampling import sample_w_plus
from pipeline.models.stylegan2 import Generator
from pipeline.packs.pack import Pack
from pipeline.runs.progress import advance
from pipeline.runs.shard import Made, ShardReport, count_shards, part_path, run_shard, shard_bounds, stage_hash
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
    """The config hash of the latents."""
    return stage_hash(STAGE, config, pack)


def latents_num_shards(config: LatentsConfig) -> int:
    """Shards of a run."""
    return count_shards(config.num_latents, config.shard_size)


def run_latents_shard(config: LatentsConfig, store: Store, pack: Pack, shard: int) -> ShardReport:
    """Sample and write one shard of latents."""

    def make() -> Made:
        seeds = [config.first_seed + i for i in shard_bounds(config.num_latents, config.shard_size, shard)]
        w_plus = compute_latents(pack.generator, seeds, psi=config.psi, cutoff=config.cutoff).cpu().numpy()
        n = len(seeds)
        advance(n)
        finite: list[bool] = [bool(np.isfinite(w).all()) for w in w_plus]
        table = LATENTS.table(
            {
                "latent_id": [f"seed-{seed:08d}" for seed in seeds],
                "source": ["seed"] * n,
                "seed": seeds,
                "source_uri": [None] * n,
                "psi": [config.psi] * n,
                "w_plus": storage.vectors(w_plus),
                "inversion_error": [None] * n,
                "generator_delta": [None] * n,
                "status": ["ok" if good else "failed" for good in finite],
                "error": [None if good else NOT_FINITE for good in finite],
            },
            widths={"w_plus": w_plus[0].size},
            metadata={"w_plus_shape": w_plus.shape[1:]},
        )
        return Made({part_path(STAGE, shard): storage.table_bytes(table)}, rows=n, failures=finite.count(False))

    return run_shard(store, STAGE, shard, config_hash=latents_hash(config, pack), pack=pack, make=make)
