"""Scores of every edited image."""

from typing import Any

from flows.commands import Request, command
from flows.jobs import Job, Work
from flows.parameters import INPUTS, RUN, RUN_ON, WORKERS, settings_of
from flows.shards import run_stage
from pipeline.config import ScoresConfig


def open_scores(job: Job) -> Work:
    """Scores by the dataset's shards."""
    from pipeline.runs.shard import find_input
    from pipeline.stages import scores as stage

    config, pack = job.config, job.open_pack()
    dataset, edited = find_input("dataset", *job.stores), find_input("edited_latents", *job.stores)
    return Work(
        stage=stage.STAGE,
        num_shards=dataset.num_shards,
        config_hash=stage.scores_hash(config, pack, dataset),
        run_shard=lambda shard: stage.run_scores_shard(config, job.store, pack, shard, dataset=dataset, edited=edited),
        total=dataset.rows,
        unit="images",
        facts={"dataset": dataset.config_hash},
    )


@command("CLIP scores of every edited image.", RUN, INPUTS, *RUN_ON, settings_of(ScoresConfig), WORKERS)
def score_edits(request: Request) -> dict[str, Any]:
    """Score every edited image against its prompt and its original into RUN/scores. Needs render-dataset."""
    return run_stage(open_scores, request.job(request.config(ScoresConfig)), workers=request["workers"])
