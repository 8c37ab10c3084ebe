"""Originals and edits as labelled images."""

from typing import TYPE_CHECKING, Any

from flows.commands import Request, command
from flows.jobs import Job, Work
from flows.parameters import INPUTS, REFERENCE, RUN, RUN_ON, WORKERS, settings_of
from flows.shards import run_stage
from pipeline.config import DatasetConfig

if TYPE_CHECKING:
    from pipeline.runs.shard import Contents


def open_dataset(job: Job) -> Work:
    """Images by ranges of latents, each with all its edits."""
    from pipeline.runs.shard import find_input, find_optional_input, shard_bounds
    from pipeline.stages import dataset as stage

    config, pack = job.config, job.open_pack()
    latents, edited = find_input("latents", *job.stores), find_input("edited_latents", *job.stores)
    directions = find_optional_input("style_directions", edited.store, *job.stores)

    def contents_of(shard: int) -> "Contents":
        size = stage.latents_per_shard(config, stage.edits_per_latent(latents, edited))
        bounds = shard_bounds(latents.rows, size, shard)
        return stage.dataset_contents(latents.slice_table(bounds.start, bounds.stop), edited, directions)

    return Work(
        stage=stage.STAGE,
        num_shards=stage.dataset_num_shards(config, latents, edited),
        config_hash=stage.dataset_hash(config, pack, latents, edited),
        run_shard=lambda shard: stage.run_dataset_shard(
            config, job.store, pack, shard, latents=latents, edited=edited, directions=directions
        ),
        total=latents.rows + edited.rows,
        unit="images",
        facts={"latents": latents.config_hash, "edited_latents": edited.config_hash},
        rows_in=lambda _: 0,
        provisional=latents.provisional or edited.provisional,
        contents={
            **edited.contents,
            "latents": latents.state,
            "edited_latents": edited.state,
            "directions": None if directions is None else directions.state,
        },
        contents_of=contents_of,
        takes_over=True,
    )


@command(
    "Originals and edits as labelled images.", RUN, INPUTS, *RUN_ON, settings_of(DatasetConfig), REFERENCE, WORKERS
)
def render_dataset(request: Request) -> dict[str, Any]:
    """Render every latent with every edit into RUN/dataset. Needs sample-latents and edit-latents."""
    return run_stage(
        open_dataset, request.job(request.config(DatasetConfig, stage="dataset")), workers=request["workers"]
    )
