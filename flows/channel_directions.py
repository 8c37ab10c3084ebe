"""Flow ``channel-directions``: what every style channel does to CLIP's embedding."""

from typing import Annotated, Any

from prefect import flow, task
from prefect.cache_policies import NO_CACHE
from pydantic import Field

from flows import parameters as p
from flows.runners import finish, open_run, report_dict, run_shards, use_pack
from pipeline.config import ChannelDirectionsConfig
from pipeline.reference import reference_named
from pipeline.runs.shard import find_input
from pipeline.stages import channel_directions as stage


@task(name="channel-sums-shard", cache_policy=NO_CACHE, task_run_name="channel sums {shard}")
def channel_sums_shard(
    config: ChannelDirectionsConfig, run: str, inputs: str | None, pack: str, device: str, shard: int
) -> dict[str, Any]:
    """Measure one range of channels over one range of images."""
    store, other = open_run(run, inputs)
    statistics = find_input("style_statistics", store, other)
    return report_dict(
        stage.run_channel_sums_shard(config, store, use_pack(pack, device), shard, statistics=statistics)
    )


@task(name="channel-directions-shard", cache_policy=NO_CACHE, task_run_name="channel directions {shard}")
def channel_directions_shard(
    config: ChannelDirectionsConfig, run: str, inputs: str | None, pack: str, device: str, shard: int
) -> dict[str, Any]:
    """Merge one range of channels over all images."""
    store, other = open_run(run, inputs)
    statistics = find_input("style_statistics", store, other)
    return report_dict(
        stage.run_channel_directions_shard(config, store, use_pack(pack, device), shard, statistics=statistics)
    )


@flow(name="channel-directions")
def channel_directions(
    run: p.RunUri,
    inputs: p.InputsUri = None,
    pack: p.PackUri = "peeps",
    num_images: Annotated[int, Field(ge=1, description="Images each channel is moved in; the paper uses 100.")] = 24,
    first_seed: p.FirstSeed = 2_000_000,
    psi: p.Psi = 0.7,
    step: Annotated[float, Field(gt=0, description="Size of the move in standard deviations; the paper uses 5.")] = 5.0,
    reference: p.Reference = None,
    channels_per_shard: Annotated[int, Field(ge=1, description="Channels per shard.")] = 128,
    images_per_shard: Annotated[
        int, Field(ge=8, multiple_of=8, description="Images per shard; a multiple of 8.")
    ] = 128,
    batch_size: p.AutoBatchSize = None,
    workers: p.Workers = 1,
    device: p.Device = "auto",
) -> dict[str, Any]:
    """Measure what every style channel does to CLIP's embedding into RUN/channel_directions. Needs style-statistics."""
    config = ChannelDirectionsConfig(
        num_images=num_images,
        first_seed=first_seed,
        psi=psi,
        step=step,
        shard_size=channels_per_shard,
        images_per_shard=images_per_shard,
        batch_size=batch_size,
        **reference_named(reference).settings(stage.STAGE),
    )
    loaded = use_pack(pack, device)
    store, other = open_run(run, inputs)
    statistics = find_input("style_statistics", store, other)
    shared = {"config": config, "run": run, "inputs": inputs, "pack": pack, "device": device}
    measured = stage.channel_sums_num_shards(config, loaded)
    reports = run_shards(channel_sums_shard, num_shards=measured, workers=workers, parameters=shared)
    num_shards = stage.channel_directions_num_shards(config, loaded)
    reports += run_shards(channel_directions_shard, num_shards=num_shards, workers=workers, parameters=shared)
    config_hash = stage.channel_directions_hash(config, loaded, statistics)
    return finish(
        reports, store, stage.STAGE, num_shards=num_shards, config_hash=config_hash, config=config, pack=loaded, run=run
    )
