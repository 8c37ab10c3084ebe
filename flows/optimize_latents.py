"""Flow ``optimize-latents``: a search for the latent of every pair of latent and prompt."""

from typing import Annotated, Any, Literal

from prefect import flow, task
from prefect.cache_policies import NO_CACHE
from pydantic import Field

from flows import parameters as p
from flows.global_directions import load_prompts, warn_of_unknown_words
from flows.runners import finish, open_run, report_dict, run_shards, use_pack, warn_of_missing_identity
from pipeline.config import OptimizedLatentsConfig, recommended
from pipeline.prompts import Prompt, of_method
from pipeline.prompts import templates as check_templates
from pipeline.reference import reference_named
from pipeline.runs.shard import find_input
from pipeline.stages import optimized_latents as stage


@task(name="optimized-latents-shard", cache_policy=NO_CACHE, task_run_name="optimized latents {shard}")
def optimized_latents_shard(
    config: OptimizedLatentsConfig,
    run: str,
    inputs: str | None,
    pack: str,
    device: str,
    prompts: list[Prompt],
    shard: int,
) -> dict[str, Any]:
    """Optimise one range of pairs."""
    store, other = open_run(run, inputs)
    latents = find_input("latents", store, other)
    return report_dict(
        stage.run_optimized_latents_shard(
            config, store, use_pack(pack, device), shard, prompts=prompts, latents=latents
        )
    )


@flow(name="optimize-latents")
def optimize_latents(
    prompts: p.PromptList,
    run: p.RunUri,
    inputs: p.InputsUri = None,
    pack: p.PackUri = "peeps",
    mode: Annotated[
        Literal["edit", "free"] | None, Field(description="edit stays near the source latent; free follows the text.")
    ] = None,
    space: Annotated[Literal["w", "w_plus", "styles"] | None, Field(description="What is optimised.")] = None,
    start: Annotated[
        Literal["latent", "mean"] | None, Field(description="Start from the source latent or the mean face.")
    ] = None,
    start_noise: Annotated[
        float | None, Field(ge=0, le=10, description="Noise on the start, in parts of the distance from the mean face.")
    ] = None,
    search_noise: Annotated[
        float | None, Field(ge=0, le=100, description="Noise at every step but the last, in the same unit.")
    ] = None,
    seed: Annotated[int | None, Field(ge=0, description="Seed of both noises.")] = None,
    num_steps: p.Steps = None,
    learning_rate: p.LearningRate = None,
    clip_weight: p.ClipWeight = None,
    direction_weight: p.DirectionWeight = None,
    l2_weight: p.L2Weight = None,
    identity_weight: p.IdentityWeight = None,
    templates: p.TextForms = None,
    reference: p.Reference = None,
    tolerance: Annotated[float | None, Field(ge=0, description="A gain of the loss below this counts as none.")] = None,
    patience: Annotated[
        int | None, Field(ge=0, description="Stop a pair after so many steps without gain; 0 never does.")
    ] = None,
    image_interval: Annotated[
        int | None, Field(ge=0, description="Keep the image of every k-th step; 0 keeps none.")
    ] = None,
    batch_size: p.BatchSize = 16,
    pairs_per_shard: Annotated[int, Field(ge=1, description="Pairs per shard.")] = 64,
    workers: p.Workers = 1,
    device: p.Device = "auto",
) -> dict[str, Any]:
    """Optimise every latent for every prompt of method optimize into RUN/optimized_latents. Needs sample-latents.

    What is not given is the pack's recommendation, else the published value. Weights in the prompt list come first.
    """
    loaded = use_pack(pack, device)
    given: dict[str, Any] = {
        "mode": mode,
        "space": space,
        "start": start,
        "start_noise": start_noise,
        "search_noise": search_noise,
        "seed": seed,
        "num_steps": num_steps,
        "learning_rate": learning_rate,
        "clip_weight": clip_weight,
        "direction_weight": direction_weight,
        "l2_weight": l2_weight,
        "identity_weight": identity_weight,
        "templates": templates,
        "tolerance": tolerance,
        "patience": patience,
        "image_interval": image_interval,
        "batch_size": batch_size,
        "shard_size": pairs_per_shard,
    }
    given |= reference_named(reference).settings(stage.STAGE)
    config = recommended(OptimizedLatentsConfig, loaded.description.settings.get("optimize", {}), given)
    check_templates(config.templates)
    checked = of_method(load_prompts(prompts, loaded), "optimize")
    warn_of_unknown_words(checked, loaded)
    warn_of_missing_identity(config.identity_weight, loaded)
    store, other = open_run(run, inputs)
    latents = find_input("latents", store, other)
    num_shards = stage.optimized_latents_num_shards(config, checked, latents)
    reports = run_shards(
        optimized_latents_shard,
        num_shards=num_shards,
        workers=workers,
        parameters={
            "config": config,
            "run": run,
            "inputs": inputs,
            "pack": pack,
            "device": device,
            "prompts": checked,
        },
    )
    config_hash = stage.optimized_latents_hash(config, loaded, checked, latents)
    return finish(
        reports, store, stage.STAGE, num_shards=num_shards, config_hash=config_hash, config=config, pack=loaded, run=run
    )
