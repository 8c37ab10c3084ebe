"""One small network per prompt that edits any latent."""

from typing import TYPE_CHECKING, Any

from flows.commands import Request, command
from flows.engine import ENGINE
from flows.jobs import Job, Work
from flows.parameters import PROMPTS, REFERENCE, RUN, RUN_ON, WORKERS, Parameter, Uri, settings_of
from flows.prompt_lists import load_prompts, prompt_contents, warn_of_missing_identity, warn_of_unknown_words
from flows.shards import run_stage
from pipeline.config import MappersConfig

if TYPE_CHECKING:
    from pipeline.runs.shard import Input
    from storage import Store

TRAINING = Parameter(
    "training",
    Uri | None,
    None,
    "Run with the latents to train on.",
    shown="the latents of this run",
    place=True,
)


def find_training_latents(job: Job) -> "Input | None":
    """The latents to train on; None where the pack holds every prompt's mapper."""
    from pipeline.runs.shard import find_input
    from pipeline.stages import mappers as stage

    store, training = job.stores
    needed = stage.to_train(job.config, job.open_pack(), list(job.prompts))
    return find_input("latents", training, store) if needed else None


def open_mappers(job: Job) -> Work:
    """Mappers by ranges of prompts."""
    from pipeline.runs.shard import shard_bounds
    from pipeline.stages import mappers as stage

    config, pack, prompts = job.config, job.open_pack(), list(job.prompts)
    latents = find_training_latents(job)
    if latents is not None:
        latents.check_whole()
    num_shards = stage.mappers_num_shards(config, prompts)
    return Work(
        stage=stage.STAGE,
        num_shards=num_shards,
        config_hash=stage.mappers_hash(config, pack),
        run_shard=lambda shard: stage.run_mappers_shard(
            config, job.store, pack, shard, prompts=prompts, latents=latents
        ),
        total=num_shards * config.num_steps,
        unit="updates",
        rows_in=lambda shard: len(shard_bounds(len(prompts), config.shard_size, shard)),
        contents={
            **prompt_contents(prompts),
            "training": {} if latents is None else {"latents": latents.rows, "state": latents.state},
        },
        contents_of=lambda shard: stage.mappers_contents(config, pack, prompts, latents, shard=shard),
        takes_over=True,
    )


@command(
    "One small network per prompt that edits any latent.",
    PROMPTS,
    RUN,
    TRAINING,
    *RUN_ON,
    settings_of(MappersConfig, method="mapper"),
    REFERENCE,
    WORKERS,
)
def train_mappers(request: Request) -> dict[str, Any]:
    """Train a mapper for every prompt of method mapper into RUN/mappers. Needs sample-latents.

    A mapper that was imported into the pack under the prompt's name is taken as it is. An interrupted training goes on
    from its last checkpoint, to the same weights. What is not given is the pack's recommendation, else the published
    value. Weights in the prompt list come first.
    """
    from pipeline.prompts import of_method

    pack = request.job().open_pack()
    config = request.recommended_config(MappersConfig, pack, "mapper", stage="mappers")
    prompts = of_method(load_prompts(request["prompts"], neutral=pack.description.neutral), "mapper")

    def warn() -> None:
        warn_of_unknown_words(prompts, pack)
        warn_of_missing_identity(config.identity_weight, pack)

    job = request.job(config, prompts=prompts, inputs=request["training"])
    closed = run_stage(open_mappers, job, workers=request["workers"], before=warn)
    log_mappers(job.store)
    return closed


def log_mappers(store: "Store") -> None:
    """A log line for every mapper: how well it fits and how alike its moves are (Table 2 of the paper)."""
    from pipeline.runs.shard import find_input

    log = ENGINE.get().log
    for row in find_input("mappers", store).table().to_pylist():
        if row["status"] == "ok" and row["loss"] is None:
            log.info("mapper %r: taken from the pack, not trained", row["prompt"])
        elif row["status"] == "ok":
            log.info(
                "mapper %r: loss %.3f at update %d; cosine between the moves of different latents %.2f +- %.2f",
                row["prompt"],
                row["loss"],
                row["best_step"],
                row["similarity_mean"],
                row["similarity_std"],
            )
