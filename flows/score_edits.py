"""Scores of every edited image."""

from typing import Any

from flows.commands import Request, command
from flows.engine import ENGINE
from flows.jobs import Job, Work
from flows.parameters import INPUTS, RUN, RUN_ON, WORKERS, settings_of
from flows.shards import run_stage
from pipeline.config import ScoresConfig

JUDGE_SHOWN = {"judge": "the pack's own, if it brings one"}
JUDGE = settings_of(ScoresConfig, only=["judge"], shown=JUDGE_SHOWN)


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
        rows_in=lambda _: 0,
        provisional=dataset.provisional,
        contents={**dataset.contents, "dataset": dataset.state},
        contents_of=lambda shard: dataset.receipt(shard).contents,
    )


def open_photo_scores(job: Job) -> Work:
    """Scores against photos, by the dataset's shards."""
    from pipeline.runs.shard import find_input
    from pipeline.stages import photo_scores as stage

    config, pack = job.config, job.open_pack()
    dataset = find_input("dataset", *job.stores)
    return Work(
        stage=stage.STAGE,
        num_shards=dataset.num_shards,
        config_hash=stage.photo_scores_hash(config, pack, dataset),
        run_shard=lambda shard: stage.run_photo_scores_shard(config, job.store, pack, shard, dataset=dataset),
        total=dataset.rows,
        unit="images",
        facts={"dataset": dataset.config_hash},
        rows_in=lambda _: 0,
        provisional=dataset.provisional,
        contents={**dataset.contents, "dataset": dataset.state},
        contents_of=lambda shard: dataset.receipt(shard).contents,
    )


@command(
    "Scores of every image: target reached, what is kept, CLIP's gain.",
    RUN,
    INPUTS,
    *RUN_ON,
    settings_of(ScoresConfig, shown=JUDGE_SHOWN),
    WORKERS,
)
def score_edits(request: Request) -> dict[str, Any]:
    """Score every edited image against its prompt and its original into RUN/scores. Needs render-dataset.

    Edits of photos are also scored against the photos themselves, into RUN/photo_scores.
    """
    from pipeline.runs.shard import find_optional_input
    from pipeline.schemas import INVERTED_IMAGES
    from pipeline.stages.scores import missing_judges

    job = request.job(request.config(ScoresConfig))
    latents = find_optional_input("latents", *job.stores)
    if latents is not None and latents.has(INVERTED_IMAGES.name):
        run_stage(open_photo_scores, job, workers=request["workers"])

    def say() -> None:
        for line in missing_judges(job.open_pack(), job.config):
            ENGINE.get().log.info("%s", line)

    return run_stage(open_scores, job, workers=request["workers"], before=say)
