"""Flow ``sample-latents``: latents from seeds."""

from typing import Any

from prefect import flow, task
from prefect.cache_policies import NO_CACHE

from flows import parameters as p
from flows.runners import finish, open_run, report_dict, run_shards, use_pack
from pipeline.config import LatentsConfig
from pipeline.stages import latents


@task(name="latents-shard", cache_policy=NO_CACHE, task_run_name="latents {shard}")
def latents_shard(config: LatentsConfig, run: str, pack: str, device: str, shard: int) -> dict[str, Any]:
    """Sample one shard of latents."""
    store, _ = open_run(run)
    return report_dict(latents.run_latents_shard(config, store, use_pack(pack, device), shard))


@flow(name="sample-latents")
def sample_latents(
    run: p.RunUri,
    pack: p.PackUri = "peeps",
    num_latents: p.NumLatents = 16,
    first_seed: p.FirstSeed = 0,
    psi: p.Psi = 0.7,
    latents_per_shard: p.LatentsPerShard = 64,
    workers: p.Workers = 1,
    device: p.Device = "auto",
) -> dict[str, Any]:
    """Sample latents from seeds into RUN/latents."""
    config = LatentsConfig(num_latents=num_latents, first_seed=first_seed, psi=psi, shard_size=latents_per_shard)
    loaded = use_pack(pack, device)
    store, _ = open_run(run)
    num_shards = latents.latents_num_shards(config)
    reports = run_shards(
        latents_shard,
        num_shards=num_shards,
        workers=workers,
        parameters={"config": config, "run": run, "pack": pack, "device": device},
    )
    config_hash = latents.latents_hash(config, loaded)
    return finish(
        reports,
        store,
        latents.STAGE,
        num_shards=num_shards,
        config_hash=config_hash,
        config=config,
        pack=loaded,
        run=run,
    )
