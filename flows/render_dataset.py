"""Flow ``render-dataset``: originals and edits as labelled images."""

from typing import Any

from prefect import flow, task
from prefect.cache_policies import NO_CACHE

from flows import parameters as p
from flows.runners import finish, open_run, report_dict, run_shards, use_pack
from pipeline.config import DatasetConfig
from pipeline.reference import reference_named
from pipeline.runs.shard import Input, find_input, find_optional_input
from pipeline.stages import dataset as stage
from storage import Store


def _sources(store: Store, other: Store | None) -> tuple[Input, Input]:
    return find_input("latents", store, other), find_input("edited_latents", store, other)


@task(name="dataset-shard", cache_policy=NO_CACHE, task_run_name="dataset {shard}")
def dataset_shard(
    config: DatasetConfig, run: str, inputs: str | None, pack: str, device: str, shard: int
) -> dict[str, Any]:
    """Render one range of latents with all edits."""
    store, other = open_run(run, inputs)
    latents, edited = _sources(store, other)
    directions = find_optional_input("style_directions", edited.store, store, other)
    return report_dict(
        stage.run_dataset_shard(
            config, store, use_pack(pack, device), shard, latents=latents, edited=edited, directions=directions
        )
    )


@flow(name="render-dataset")
def render_dataset(
    run: p.RunUri,
    inputs: p.InputsUri = None,
    pack: p.PackUri = "peeps",
    reference: p.Reference = None,
    images_per_shard: p.ImagesPerShard = 1_024,
    batch_size: p.BatchSize = 16,
    workers: p.Workers = 1,
    device: p.Device = "auto",
) -> dict[str, Any]:
    """Render every latent with every edit into RUN/dataset. Needs sample-latents and edit-latents."""
    config = DatasetConfig(
        images_per_shard=images_per_shard, batch_size=batch_size, **reference_named(reference).settings(stage.STAGE)
    )
    loaded = use_pack(pack, device)
    store, other = open_run(run, inputs)
    latents, edited = _sources(store, other)
    num_shards = stage.dataset_num_shards(config, latents, edited)
    reports = run_shards(
        dataset_shard,
        num_shards=num_shards,
        workers=workers,
        parameters={"config": config, "run": run, "inputs": inputs, "pack": pack, "device": device},
    )
    config_hash = stage.dataset_hash(config, loaded, latents, edited)
    return finish(
        reports, store, stage.STAGE, num_shards=num_shards, config_hash=config_hash, config=config, pack=loaded, run=run
    )
