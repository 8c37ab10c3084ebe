"""How every style channel spreads."""

from typing import Any

from flows.commands import Request, command
from flows.jobs import Job, Work
from flows.parameters import REFERENCE, RUN, RUN_ON, WORKERS, settings_of
from flows.shards import run_shards, run_stage
from pipeline.config import StyleStatisticsConfig


def open_style_moments(job: Job) -> Work:
    """Moments by ranges of samples."""
    from pipeline.stages import style_statistics as stage

    config, pack = job.config, job.open_pack()
    return Work(
        stage=stage.MOMENTS_STAGE,
        num_shards=stage.style_statistics_num_shards(config),
        config_hash=stage.style_statistics_hash(config, pack),
        run_shard=lambda shard: stage.run_style_moments_shard(config, job.store, pack, shard),
        total=config.num_samples,
        unit="samples",
    )


def open_style_statistics(job: Job) -> Work:
    """The moments of all ranges, merged."""
    from pipeline.stages import style_statistics as stage

    config, pack = job.config, job.open_pack()
    return Work(
        stage=stage.STAGE,
        num_shards=1,
        config_hash=stage.style_statistics_hash(config, pack),
        run_shard=lambda _: stage.run_style_statistics(config, job.store, pack),
    )


@command(
    "Mean and standard deviation of every style channel.",
    RUN,
    *RUN_ON,
    settings_of(StyleStatisticsConfig),
    REFERENCE,
    WORKERS,
)
def style_statistics(request: Request) -> dict[str, Any]:
    """Measure mean and standard deviation of every style channel into RUN/style_statistics."""
    job = request.job(request.config(StyleStatisticsConfig, stage="style_statistics"))
    run_shards(open_style_moments, job, workers=request["workers"])
    return run_stage(open_style_statistics, job)
