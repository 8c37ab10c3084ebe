"""Flow ``style-statistics``: mean and standard deviation of every style channel."""

from typing import Annotated, Any

from prefect import flow, task
from prefect.cache_policies import NO_CACHE
from pydantic import Field

from flows import parameters as p
from flows.runners import finish, open_run, report_dict, run_shards, use_pack
from pipeline.config import StyleStatisticsConfig
from pipeline.reference import reference_named
from pipeline.stages import style_statistics as stage


@task(name="style-moments-shard", cache_policy=NO_CACHE, task_run_name="style moments {shard}")
def style_moments_shard(config: StyleStatisticsConfig, run: str, pack: str, device: str, shard: int) -> dict[str, Any]:
    """Moments over one shard of the samples."""
    store, _ = open_run(run)
    return report_dict(stage.run_style_moments_shard(config, store, use_pack(pack, device), shard))


@task(name="merge-style-statistics", cache_policy=NO_CACHE)
def merge_style_statistics(config: StyleStatisticsConfig, run: str, pack: str, device: str) -> dict[str, Any]:
    """Merge the moments of all shards."""
    store, _ = open_run(run)
    return report_dict(stage.run_style_statistics(config, store, use_pack(pack, device)))


@flow(name="style-statistics")
def style_statistics(
    run: p.RunUri,
    pack: p.PackUri = "peeps",
    num_samples: Annotated[
        int, Field(ge=2, description="Latents to take the moments over; the paper uses 100,000.")
    ] = 10_000,
    first_seed: p.FirstSeed = 1_000_000,
    psi: p.Psi = 0.7,
    cutoff: Annotated[int | None, Field(ge=0, description="Truncate only this many rows of w_plus; none: all.")] = None,
    ddof: Annotated[int, Field(ge=0, le=1, description="0: population deviation, as published; 1: sample.")] = 0,
    reference: p.Reference = None,
    samples_per_shard: Annotated[int, Field(ge=1, description="Samples per shard.")] = 2_500,
    workers: p.Workers = 1,
    device: p.Device = "auto",
) -> dict[str, Any]:
    """Measure mean and standard deviation of every style channel into RUN/style_statistics."""
    given: dict[str, Any] = {
        "num_samples": num_samples,
        "first_seed": first_seed,
        "psi": psi,
        "cutoff": cutoff,
        "ddof": ddof,
        "shard_size": samples_per_shard,
    }
    config = StyleStatisticsConfig(**{**given, **reference_named(reference).settings(stage.STAGE)})
    loaded = use_pack(pack, device)
    store, _ = open_run(run)
    shared = {"config": config, "run": run, "pack": pack, "device": device}
    reports = run_shards(
        style_moments_shard,
        num_shards=stage.style_statistics_num_shards(config),
        workers=workers,
        parameters=shared,
    )
    reports.append(merge_style_statistics(**shared))
    config_hash = stage.style_statistics_hash(config, loaded)
    return finish(
        reports, store, stage.STAGE, num_shards=1, config_hash=config_hash, config=config, pack=loaded, run=run
    )
