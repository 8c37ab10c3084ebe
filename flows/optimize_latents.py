"""A search for the latent of every pair of latent and prompt."""

from typing import Any

from flows.commands import Request, command
from flows.jobs import Job, Work
from flows.pairs import pairs_work
from flows.parameters import INPUTS, PROMPTS, REFERENCE, RUN, RUN_ON, WORKERS, settings_of
from flows.prompt_lists import load_prompts, warn_of_missing_identity, warn_of_unknown_words
from flows.shards import run_stage
from pipeline.config import OptimizedLatentsConfig


def open_optimized_latents(job: Job) -> Work:
    """Searches by ranges of pairs."""
    from pipeline.stages import optimized_latents as stage

    return pairs_work(
        job,
        stage.STAGE,
        num_shards_of=stage.optimized_latents_num_shards,
        hash_of=stage.optimized_latents_hash,
        run_shard_of=stage.run_optimized_latents_shard,
    )


@command(
    "A search for the latent of every pair of latent and prompt.",
    PROMPTS,
    RUN,
    INPUTS,
    *RUN_ON,
    settings_of(OptimizedLatentsConfig, method="optimize"),
    REFERENCE,
    WORKERS,
)
def optimize_latents(request: Request) -> dict[str, Any]:
    """Optimise every latent for every prompt of method optimize into RUN/optimized_latents. Needs sample-latents.

    What is not given is the pack's recommendation, else the published value. Weights in the prompt list come first.
    """
    from pipeline.prompts import of_method

    pack = request.job().open_pack()
    config = request.recommended_config(OptimizedLatentsConfig, pack, "optimize", stage="optimized_latents")
    prompts = of_method(load_prompts(request["prompts"], neutral=pack.description.neutral), "optimize")

    def warn() -> None:
        warn_of_unknown_words(prompts, pack)
        warn_of_missing_identity(config.identity_weight, pack)

    job = request.job(config, prompts=prompts)
    return run_stage(open_optimized_latents, job, workers=request["workers"], before=warn)
