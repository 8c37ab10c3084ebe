"""Latents, one seed each."""

from typing import Any

from flows.commands import Request, command
from flows.jobs import Job, Work
from flows.parameters import RUN, RUN_ON, WORKERS, settings_of
from flows.shards import run_stage
from pipeline.config import LatentsConfig


def open_latents(job: Job) -> Work:
    """Latents by ranges of seeds."""
    from pipeline.runs.shard import shard_bounds
    from pipeline.stages import latents as stage

    config, pack = job.config, job.open_pack()
    return Work(
        stage=stage.STAGE,
        num_shards=stage.latents_num_shards(config),
        config_hash=stage.latents_hash(config, pack),
        run_shard=lambda shard: stage.run_latents_shard(config, job.store, pack, shard),
        total=config.num_latents,
        unit="latents",
        rows_in=lambda shard: len(shard_bounds(config.num_latents, config.shard_size, shard)),
        contents={"num_latents": config.num_latents},
        contents_of=lambda shard: stage.latents_contents(config, shard),
        takes_over=True,
    )


@command("Latents from seeds.", RUN, *RUN_ON, settings_of(LatentsConfig), WORKERS)
def sample_latents(request: Request) -> dict[str, Any]:
    """Sample latents from seeds into RUN/latents."""
    return run_stage(open_latents, request.job(request.config(LatentsConfig)), workers=request["workers"])
