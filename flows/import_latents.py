"""Flow ``import-latents``: latents from a file of w_plus that other tools wrote."""

from typing import Annotated, Any

from prefect import flow, task
from prefect.cache_policies import NO_CACHE
from pydantic import Field

from flows import parameters as p
from flows.runners import finish, open_run, report_dict, run_shards, use_pack
from pipeline.config import ImportedLatentsConfig
from pipeline.stages import imported_latents as stage


@task(name="imported-latents-shard", cache_policy=NO_CACHE, task_run_name="imported latents {shard}")
def imported_latents_shard(
    config: ImportedLatentsConfig, file: str, run: str, pack: str, device: str, shard: int
) -> dict[str, Any]:
    """Read one range of a file's latents."""
    store, _ = open_run(run)
    return report_dict(stage.run_imported_latents_shard(config, store, use_pack(pack, device), shard, file=file))


@flow(name="import-latents")
def import_latents(
    file: Annotated[str, Field(min_length=1, description="w_plus latents: a local .npy, .pt or .pth, [n, rows, 512].")],
    run: p.RunUri,
    pack: p.PackUri = "peeps",
    latents_per_shard: p.LatentsPerShard = 64,
    workers: p.Workers = 1,
    device: p.Device = "auto",
) -> dict[str, Any]:
    """Read w_plus latents, as e4e and the published StyleCLIP write them, into RUN/latents. Nothing in the file is run.

    They stand where sample-latents' would, for every later step. A latent that is not finite is a failed row.
    """
    loaded = use_pack(pack, device)
    config, num_latents = stage.describe_latents(file, loaded, shard_size=latents_per_shard)
    store, _ = open_run(run)
    num_shards = stage.imported_latents_num_shards(config, num_latents)
    reports = run_shards(
        imported_latents_shard,
        num_shards=num_shards,
        workers=workers,
        parameters={"config": config, "file": file, "run": run, "pack": pack, "device": device},
    )
    config_hash = stage.imported_latents_hash(config, loaded)
    return finish(
        reports, store, stage.STAGE, num_shards=num_shards, config_hash=config_hash, config=config, pack=loaded, run=run
    )
