"""Flow ``edit-dataset``: the whole chain, prompts and seeds in, a scored dataset of edited images out."""

from typing import Annotated, Any

from prefect import flow, get_run_logger
from pydantic import Field

from flows import parameters as p
from flows.edit_latents import edit_latents
from flows.global_directions import global_directions, load_prompts
from flows.import_latents import import_latents
from flows.optimize_latents import optimize_latents
from flows.render_dataset import render_dataset
from flows.report import report
from flows.runners import open_run, use_pack
from flows.sample_latents import sample_latents
from flows.score_edits import score_edits
from flows.train_mappers import mapper_settings, train_mappers
from pipeline.directions.table import check_measured_as, load_channel_table
from pipeline.prompts import of_method
from pipeline.reference import reference_named
from pipeline.stages import mappers

MAPPER_SEED = 3_000_000  # of the first latent that mappers are trained on


@flow(name="edit-dataset")
def edit_dataset(
    prompts: p.PromptList,
    run: p.RunUri,
    pack: p.PackUri = "peeps",
    latents: Annotated[
        str | None, Field(description="File of w_plus latents (.npy, .pt, .pth) to edit instead of seeds; none: seeds.")
    ] = None,
    num_latents: p.NumLatents = 16,
    first_seed: p.FirstSeed = 0,
    psi: p.Psi = 0.7,
    strengths: p.Strengths = None,
    relevance_threshold: p.Threshold = None,
    num_channels: p.NumChannels = None,
    templates: p.Templates = "imagenet_79",
    mode: p.DirectionsMode = "screened",
    renders_per_prompt: p.RendersPerPrompt = None,
    screening_batch_size: p.ScreeningBatchSize = None,
    rule: p.Rule = None,
    reference: p.Reference = None,
    latents_per_shard: p.LatentsPerShard = 64,
    images_per_shard: p.ImagesPerShard = 1_024,
    mapper_latents: Annotated[int, Field(ge=2, description="Latents that mappers are trained on.")] = 1_000,
    mapper_steps: p.Steps = None,
    optimization_steps: p.Steps = None,
    workers: p.Workers = 1,
    device: p.Device = "auto",
) -> dict[str, Any]:
    """Sample or import latents, edit them by each prompt's method, render and score all edits, draw the report.

    A prompt's method is global (a direction in StyleSpace, the default), mapper (a trained network) or optimize (a
    search per latent). Channel directions come from the run, if ``channel-directions`` was run on it, else from the
    pack; where neither has any, those that the prompts need are measured. A rerun with the same parameters does
    nothing but check.
    """
    loaded = use_pack(pack, device)
    checked = load_prompts(prompts, loaded)  # a bad list stops the run before it costs anything
    methods = {prompt.method for prompt in checked}
    switches = reference_named(reference)
    templates = switches.settings("scores").get("templates", templates)
    if "global" in methods:
        check_measured_as(switches, loaded, open_run(run)[0])
    if "global" in methods and mode == "exact":
        load_channel_table(loaded, open_run(run)[0])
    shared: dict[str, Any] = {"run": run, "pack": pack, "device": device}
    stages: list[Any] = []
    if latents is not None:
        stages.append(import_latents(latents, **shared, latents_per_shard=latents_per_shard, workers=workers))
    else:
        sampled = sample_latents(
            **shared,
            num_latents=num_latents,
            first_seed=first_seed,
            psi=psi,
            latents_per_shard=latents_per_shard,
            workers=workers,
        )
        stages.append(sampled)
    if "global" in methods:
        directions = global_directions(
            prompts,
            **shared,
            relevance_threshold=relevance_threshold,
            num_channels=num_channels,
            templates=templates,
            mode=mode,
            renders_per_prompt=renders_per_prompt,
            screening_batch_size=screening_batch_size,
            rule=rule,
            reference=reference,
            workers=workers,
        )
        stages.append(directions)
    if "mapper" in methods:
        training = f"{run.rstrip('/')}/mapper_training"  # latents of its own: a mapper must fit faces it never saw
        settings = mapper_settings(loaded, {})
        if mappers.to_train(settings, loaded, of_method(checked, "mapper")):  # the others are in the pack
            sampled = sample_latents(
                training,
                pack=pack,
                device=device,
                num_latents=mapper_latents,
                first_seed=MAPPER_SEED,
                psi=psi,
                workers=workers,
            )
            stages.append(sampled)
        stages.append(
            train_mappers(
                prompts, **shared, training=training, num_steps=mapper_steps, reference=reference, workers=workers
            )
        )
    if "optimize" in methods:
        stages.append(
            optimize_latents(prompts, **shared, num_steps=optimization_steps, reference=reference, workers=workers)
        )
    edited: Any = edit_latents(prompts, **shared, strengths=strengths, templates=templates, workers=workers)
    rendered: Any = render_dataset(**shared, reference=reference, images_per_shard=images_per_shard, workers=workers)
    scored: Any = score_edits(**shared, templates=templates, workers=workers)
    stages += [edited, rendered, scored, report(**shared)]
    if all(closed["shards_skipped"] >= closed["shards"] for closed in stages):
        get_run_logger().info("edit-dataset: nothing to do, %s is complete and unchanged", run)
    return {
        "run": run,
        "images": rendered["rows"],
        "edits": scored["rows"],
        "failed_prompts": edited["failed_prompts"],
        "shards": sum(closed["shards"] for closed in stages),
        "shards_skipped": sum(closed["shards_skipped"] for closed in stages),
    }
