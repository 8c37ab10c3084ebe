"""Flow ``edit-dataset``: the whole chain, prompts and seeds in, a scored dataset of edited images out."""

from typing import Any

from prefect import flow, get_run_logger

from flows import parameters as p
from flows.global_directions import global_directions, load_prompts
from flows.render_dataset import render_dataset
from flows.report import report
from flows.runners import open_run, use_pack
from flows.sample_latents import sample_latents
from flows.score_edits import score_edits
from pipeline.stages.style_directions import load_channel_table


@flow(name="edit-dataset")
def edit_dataset(
    prompts: p.PromptList,
    run: p.RunUri,
    pack: p.PackUri = "peeps",
    num_latents: p.NumLatents = 16,
    first_seed: p.FirstSeed = 0,
    psi: p.Psi = 0.7,
    strengths: p.Strengths = None,
    relevance_threshold: p.Threshold = None,
    num_channels: p.NumChannels = None,
    templates: p.Templates = "imagenet_79",
    mode: p.DirectionsMode = "screened",
    rule: p.Rule = "auto",
    latents_per_shard: p.LatentsPerShard = 64,
    images_per_shard: p.ImagesPerShard = 1_024,
    workers: p.Workers = 1,
    device: p.Device = "auto",
) -> dict[str, Any]:
    """Sample latents, find a direction for every prompt, render and score all edits, draw the report.

    Channel directions come from the run, if ``channel-directions`` was run on it, else from the pack; where neither
    has any, those that the prompts need are measured. A rerun with the same parameters does nothing but check.
    """
    loaded = use_pack(pack, device)
    load_prompts(prompts, loaded)  # a bad list stops the run before it costs anything
    if mode == "exact":
        load_channel_table(loaded, open_run(run)[0])
    shared: dict[str, Any] = {"run": run, "pack": pack, "device": device}
    stages: list[Any] = [
        sample_latents(
            **shared,
            num_latents=num_latents,
            first_seed=first_seed,
            psi=psi,
            latents_per_shard=latents_per_shard,
            workers=workers,
        ),
        global_directions(
            prompts,
            **shared,
            relevance_threshold=relevance_threshold,
            num_channels=num_channels,
            templates=templates,
            mode=mode,
            rule=rule,
            workers=workers,
        ),
        render_dataset(**shared, strengths=strengths, images_per_shard=images_per_shard, workers=workers),
        score_edits(**shared, templates=templates, workers=workers),
        report(**shared),
    ]
    if all(closed["shards_skipped"] >= closed["shards"] for closed in stages):
        get_run_logger().info("edit-dataset: nothing to do, %s is complete and unchanged", run)
    return {
        "run": run,
        "images": stages[2]["rows"],
        "edits": stages[3]["rows"],
        "failed_prompts": stages[1]["failures"],
        "shards": sum(closed["shards"] for closed in stages),
        "shards_skipped": sum(closed["shards_skipped"] for closed in stages),
    }
