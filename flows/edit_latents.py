"""Flow ``edit-latents``: every latent with every edit, whichever method found it."""

from typing import Any

from prefect import flow, get_run_logger, task
from prefect.cache_policies import NO_CACHE

from flows import parameters as p
from flows.global_directions import load_prompts
from flows.runners import finish, open_run, report_dict, run_shards, use_pack
from pipeline.config import EditedLatentsConfig
from pipeline.prompts import Method, Prompt
from pipeline.prompts import templates as check_templates
from pipeline.runs.shard import Input, find_input
from pipeline.stages import edited_latents as stage
from storage import Store


def _sources(prompts: list[Prompt], store: Store, other: Store | None) -> tuple[Input, dict[Method, Input]]:
    methods: set[Method] = {prompt.method for prompt in prompts}
    sources: dict[Method, Input] = {method: find_input(stage.SOURCES[method], store, other) for method in methods}
    return find_input("latents", store, other), sources


@task(name="edited-latents-shard", cache_policy=NO_CACHE, task_run_name="edited latents {shard}")
def edited_latents_shard(
    config: EditedLatentsConfig,
    run: str,
    inputs: str | None,
    pack: str,
    device: str,
    prompts: list[Prompt],
    shard: int,
) -> dict[str, Any]:
    """Edit one range of latents."""
    store, other = open_run(run, inputs)
    loaded = use_pack(pack, device)
    latents, sources = _sources(prompts, store, other)
    edits = stage.load_edits(config, loaded, prompts, sources)
    return report_dict(
        stage.run_edited_latents_shard(config, store, loaded, shard, prompts=prompts, latents=latents, edits=edits)
    )


@flow(name="edit-latents")
def edit_latents(
    prompts: p.PromptList,
    run: p.RunUri,
    inputs: p.InputsUri = None,
    pack: p.PackUri = "peeps",
    strengths: p.Strengths = None,
    templates: p.Templates = "imagenet_79",
    latents_per_shard: p.LatentsPerShard = 64,
    workers: p.Workers = 1,
    device: p.Device = "auto",
) -> dict[str, Any]:
    """Write every latent with every edit of a prompt list into RUN/edited_latents.

    Needs sample-latents and, for the methods in the list, global-directions, train-mappers or optimize-latents.
    """
    check_templates(templates)
    config = EditedLatentsConfig(
        strengths=None if strengths is None else tuple(strengths), templates=templates, shard_size=latents_per_shard
    )
    loaded = use_pack(pack, device)
    checked = load_prompts(prompts, loaded)
    store, other = open_run(run, inputs)
    latents, sources = _sources(checked, store, other)
    edits = stage.load_edits(config, loaded, checked, sources)
    num_shards = stage.edited_latents_num_shards(config, latents)
    reports = run_shards(
        edited_latents_shard,
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
    config_hash = stage.edited_latents_hash(config, loaded, checked, latents, sources)
    closed = finish(
        reports, store, stage.STAGE, num_shards=num_shards, config_hash=config_hash, config=config, pack=loaded, run=run
    )
    failed = [row for row in edits.rows if row["status"] != "ok"]
    for row in failed:
        get_run_logger().warning("%s", row["error"])
    return closed | {"failed_prompts": len(failed)}
