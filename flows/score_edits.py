"""Flow ``score-edits``: CLIP scores of every edited image."""

from typing import Any

from prefect import flow, task
from prefect.cache_policies import NO_CACHE

from flows import parameters as p
from flows.runners import finish, open_run, report_dict, run_shards, use_pack
from pipeline.config import ScoresConfig
from pipeline.prompts import templates as check_templates
from pipeline.runs.shard import find_input
from pipeline.stages import scores as stage


@task(name="scores-shard", cache_policy=NO_CACHE, task_run_name="scores {shard}")
def scores_shard(
    config: ScoresConfig, run: str, inputs: str | None, pack: str, device: str, shard: int
) -> dict[str, Any]:
    """Score one shard of the dataset."""
    store, other = open_run(run, inputs)
    dataset, edited = find_input("dataset", store, other), find_input("edited_latents", store, other)
    return report_dict(
        stage.run_scores_shard(config, store, use_pack(pack, device), shard, dataset=dataset, edited=edited)
    )


@flow(name="score-edits")
def score_edits(
    run: p.RunUri,
    inputs: p.InputsUri = None,
    pack: p.PackUri = "peeps",
    templates: p.Templates = "imagenet_79",
    batch_size: p.BatchSize = 32,
    workers: p.Workers = 1,
    device: p.Device = "auto",
) -> dict[str, Any]:
    """Score every edited image against its prompt and its original into RUN/scores. Needs render-dataset."""
    check_templates(templates)
    config = ScoresConfig(templates=templates, batch_size=batch_size)
    loaded = use_pack(pack, device)
    store, other = open_run(run, inputs)
    dataset = find_input("dataset", store, other)
    reports = run_shards(
        scores_shard,
        num_shards=dataset.num_shards,
        workers=workers,
        parameters={"config": config, "run": run, "inputs": inputs, "pack": pack, "device": device},
    )
    config_hash = stage.scores_hash(config, loaded, dataset)
    return finish(
        reports,
        store,
        stage.STAGE,
        num_shards=dataset.num_shards,
        config_hash=config_hash,
        config=config,
        pack=loaded,
        run=run,
    )
