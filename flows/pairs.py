"""What the stages have in common that search for the latent of every pair of latent and prompt."""

from collections.abc import Callable
from typing import Any

from flows.jobs import Job, Work
from flows.prompt_lists import prompt_contents


def pairs_work(
    job: Job,
    stage: str,
    *,
    num_shards_of: Callable[..., int],
    hash_of: Callable[..., str],
    run_shard_of: Callable[..., Any],
) -> Work:
    """Searches by ranges of pairs: latent by latent, each with all prompts.

    Args:
        job: with prompts.
        stage: its name.
        num_shards_of: the stage's number of shards of (config, prompts, latents).
        hash_of: the stage's config hash of (config, pack, latents).
        run_shard_of: the stage's function that runs a shard.
    """
    from pipeline.optimization.pairs import pairs_contents
    from pipeline.runs.shard import find_input, shard_bounds

    config, pack, prompts = job.config, job.open_pack(), list(job.prompts)
    latents = find_input("latents", *job.stores)
    num_pairs = latents.rows * len(prompts)
    return Work(
        stage=stage,
        num_shards=num_shards_of(config, prompts, latents),
        config_hash=hash_of(config, pack, latents),
        run_shard=lambda shard: run_shard_of(config, job.store, pack, shard, prompts=prompts, latents=latents),
        total=num_pairs * config.num_steps,
        unit="steps",
        rows_in=lambda shard: len(shard_bounds(num_pairs, config.shard_size, shard)),
        provisional=latents.provisional,
        facts={"latents": latents.config_hash},
        contents={"latents": latents.state, **prompt_contents(prompts)},
        contents_of=lambda shard: pairs_contents(prompts, latents, shard=shard, shard_size=config.shard_size),
        takes_over=True,
    )
