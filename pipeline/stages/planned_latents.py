"""Planned latents: of the faces that were surveyed those that a plan renders; the artifact ``latents``."""

import pyarrow as pa

import storage
from pipeline.config import BalancePlanConfig
from pipeline.packs.pack import Pack
from pipeline.runs.shard import Input, Made, ShardReport, part_path, run_shard, stage_hash
from pipeline.schemas import LATENTS
from storage import Store

STAGE = LATENTS.name


def planned_latents_hash(config: BalancePlanConfig, pack: Pack, surveyed: Input, plan: Input) -> str:
    """The config hash of the latents of a plan."""
    return stage_hash(STAGE, config, pack, {"latents": surveyed.state, "edit_plan": plan.state})


def run_planned_latents_shard(
    config: BalancePlanConfig, store: Store, pack: Pack, shard: int, *, surveyed: Input, plan: Input
) -> ShardReport:
    """Write those latents of one surveyed shard that the plan names."""

    def make() -> Made:
        named = set(plan.table(["latent_id"])["latent_id"].to_pylist())
        table = surveyed.shard_table(shard)
        chosen = table.filter(pa.array([latent in named for latent in table["latent_id"].to_pylist()]))
        return Made({part_path(STAGE, shard): storage.table_bytes(chosen)}, rows=chosen.num_rows)

    config_hash = planned_latents_hash(config, pack, surveyed, plan)
    return run_shard(store, STAGE, shard, config_hash=config_hash, pack=pack, make=make)
