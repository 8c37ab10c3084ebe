"""TediGAN's search for the latent of every pair of latent and prompt: a baseline."""

from typing import Any

from flows.commands import Request, command
from flows.jobs import Job, Work
from flows.pairs import pairs_work
from flows.parameters import INPUTS, PROMPTS, RUN, RUN_ON, WORKERS, settings_of
from flows.prompt_lists import load_prompts, warn_of_missing_identity, warn_of_unknown_words
from flows.shards import run_stage
from pipeline.config import TediganLatentsConfig


def open_tedigan_latents(job: Job) -> Work:
    """Searches by ranges of pairs."""
    from pipeline.stages import tedigan_latents as stage

    return pairs_work(
        job,
        stage.STAGE,
        num_shards_of=stage.tedigan_latents_num_shards,
        hash_of=stage.tedigan_latents_hash,
        run_shard_of=stage.run_tedigan_latents_shard,
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
