"""What every style channel does to CLIP's embedding."""

from typing import Any

from flows.commands import Request, command
from flows.jobs import Job, Work
from flows.parameters import INPUTS, REFERENCE, RUN, RUN_ON, WORKERS, settings_of
from flows.shards import run_shards, run_stage
from pipeline.config import ChannelDirectionsConfig


def open_channel_sums(job: Job) -> Work:
    """Sums of differences by ranges of channels times ranges of images."""
    from pipeline.runs.shard import find_input
    from pipeline.stages import channel_directions as stage

    config, pack = job.config, job.open_pack()
    statistics = find_input("style_statistics", *job.stores)
    num_shards = stage.channel_sums_num_shards(config, pack)
    return Work(
        stage=stage.SUMS_STAGE,
        num_shards=num_shards,
        config_hash=stage.channel_directions_hash(config, pack, statistics),
        run_shard=lambda shard: stage.run_channel_sums_shard(config, job.store, pack, shard, statistics=statistics),
        total=stage.count_renders(config, pack, statistics),
        unit="renders",
    )


def open_channel_directions(job: Job) -> Work:
    """Directions by ranges of channels, over all images."""
    from pipeline.runs.shard import find_input
    from pipeline.stages import channel_directions as stage

    config, pack = job.config, job.open_pack()
    statistics = find_input("style_statistics", *job.stores)
    return Work(
        stage=stage.STAGE,
        num_shards=stage.channel_directions_num_shards(config, pack),
        config_hash=stage.channel_directions_hash(config, pack, statistics),
        run_shard=lambda shard: stage.run_channel_directions_shard(
            config, job.store, pack, shard, statistics=statistics
        ),
        facts={"style_statistics": statistics.config_hash},
    )


@command(
    "What every style channel does to CLIP's embedding.",
    RUN,
    INPUTS,
    *RUN_ON,
    settings_of(ChannelDirectionsConfig),
    REFERENCE,
    WORKERS,
)
def channel_directions(request: Request) -> dict[str, Any]:
    """Measure what every style channel does to CLIP's embedding into RUN/channel_directions. Needs style-statistics."""
    job = request.job(request.config(ChannelDirectionsConfig, stage="channel_directions"))
    run_shards(open_channel_sums, job, workers=request["workers"])
    return run_stage(open_channel_directions, job, workers=request["workers"])
