"""TediGAN's search for the latent of every pair of latent and prompt: a baseline."""

from typing import Any

from flows.commands import Request, command
from flows.jobs import Job, Work
from flows.parameters import INPUTS, PROMPTS, RUN, RUN_ON, WORKERS, settings_of
from flows.prompt_lists import load_prompts, prompt_contents, warn_of_missing_identity, warn_of_unknown_words
from flows.shards import run_stage
from pipeline.config import TediganLatentsConfig


def open_tedigan_latents(job: Job) -> Work:
    """Searches by ranges of pairs."""
    from pipeline.optimization.pairs import pairs_contents
    from pipeline.runs.shard import find_input, shard_bounds
    from pipeline.stages import tedigan_latents as stage

    config, pack, prompts = job.config, job.open_pack(), list(job.prompts)
    latents = find_input("latents", *job.stores)
    return Work(
        stage=stage.STAGE,
        num_shards=stage.tedigan_latents_num_shards(config, prompts, latents),
        config_hash=stage.tedigan_latents_hash(config, pack, latents),
        run_shard=lambda shard: stage.run_tedigan_latents_shard(
            config, job.store, pack, shard, prompts=prompts, latents=latents
        ),
        total=latents.rows * len(prompts) * config.num_steps,
        unit="steps",
        rows_in=lambda shard: len(shard_bounds(latents.rows * len(prompts), config.shard_size, shard)),
        provisional=latents.provisional,
        facts={"latents": latents.config_hash},
        contents={"latents": latents.state, **prompt_contents(prompts)},
        contents_of=lambda shard: pairs_contents(prompts, latents, shard=shard, shard_size=config.shard_size),
        takes_over=True,
    )


@command(
    "TediGAN's search for the latent of every pair of latent and prompt, a baseline.",
    PROMPTS,
    RUN,
    INPUTS,
    *RUN_ON,
    settings_of(TediganLatentsConfig),
    WORKERS,
)
def tedigan_latents(request: Request) -> dict[str, Any]:
    """Search as TediGAN does for every prompt of method tedigan into RUN/tedigan_latents. Needs sample-latents."""
    from pipeline.prompts import of_method

    pack, config = request.job().open_pack(), request.config(TediganLatentsConfig)
    prompts = of_method(load_prompts(request["prompts"], neutral=pack.description.neutral), "tedigan")

    def warn() -> None:
        warn_of_unknown_words(prompts, pack)
        warn_of_missing_identity(config.feature_weight, pack)

    return run_stage(
        open_tedigan_latents, request.job(config, prompts=prompts), workers=request["workers"], before=warn
    )
