"""Flow ``train-mappers``: one small network per prompt that edits any latent."""

from typing import Annotated, Any, Literal

from prefect import flow, get_run_logger, task
from prefect.cache_policies import NO_CACHE
from pydantic import Field

from flows import parameters as p
from flows.global_directions import load_prompts, warn_of_unknown_words
from flows.runners import finish, open_run, report_dict, run_shards, use_pack, warn_of_missing_identity
from pipeline.config import MappersConfig, recommended
from pipeline.packs.pack import Pack
from pipeline.prompts import Prompt, of_method
from pipeline.prompts import templates as check_templates
from pipeline.reference import reference_named
from pipeline.runs.shard import Input, find_input
from pipeline.stages import mappers as stage
from storage import Store


@task(name="mappers-shard", cache_policy=NO_CACHE, task_run_name="mappers {shard}")
def mappers_shard(
    config: MappersConfig, run: str, inputs: str | None, pack: str, device: str, prompts: list[Prompt], shard: int
) -> dict[str, Any]:
    """Train the mappers of one range of prompts."""
    store, other = open_run(run, inputs)
    latents = find_latents(config, store, other, use_pack(pack, device), prompts)
    return report_dict(
        stage.run_mappers_shard(config, store, use_pack(pack, device), shard, prompts=prompts, latents=latents)
    )


def find_latents(
    config: MappersConfig, store: Store, other: Store | None, pack: Pack, prompts: list[Prompt]
) -> Input | None:
    """The latents to train on; None where the pack holds every prompt's mapper."""
    return find_input("latents", other, store) if stage.to_train(config, pack, prompts) else None


def mapper_settings(pack: Pack, given: dict[str, Any]) -> MappersConfig:
    """What is given, else the pack's recommendation, else the published values."""
    return recommended(MappersConfig, pack.description.settings.get("mapper", {}), given)


@flow(name="train-mappers")
def train_mappers(
    prompts: p.PromptList,
    run: p.RunUri,
    training: Annotated[
        str | None, Field(description="Run with the latents to train on; none means the latents of this run.")
    ] = None,
    pack: p.PackUri = "peeps",
    kind: Annotated[
        Literal["levels", "single", "styles"] | None,
        Field(description="levels: networks for coarse, medium and fine rows of w_plus; single: one; styles."),
    ] = None,
    coarse: Annotated[bool | None, Field(description="Move the coarse rows of w_plus.")] = None,
    medium: Annotated[bool | None, Field(description="Move the medium rows of w_plus.")] = None,
    fine: Annotated[bool | None, Field(description="Move the fine rows of w_plus.")] = None,
    residual_scale: Annotated[
        float | None, Field(gt=0, le=100, description="Factor on the mapper's output; the paper's is 0.1.")
    ] = None,
    num_steps: p.Steps = None,
    latents_per_step: Annotated[int | None, Field(ge=1, description="Latents per update; the paper's is 2.")] = None,
    learning_rate: p.LearningRate = None,
    clip_weight: p.ClipWeight = None,
    direction_weight: p.DirectionWeight = None,
    l2_weight: p.L2Weight = None,
    identity_weight: p.IdentityWeight = None,
    search_noise: Annotated[
        float | None,
        Field(ge=0, le=100, description="Noise on the moved latents, in parts of the distance from the mean face."),
    ] = None,
    templates: p.TextForms = None,
    reference: p.Reference = None,
    validation_share: Annotated[
        float | None, Field(gt=0, lt=1, description="Share of the latents kept for validation.")
    ] = None,
    validation_interval: Annotated[int | None, Field(ge=1, description="Updates between validations.")] = None,
    reuse_mappers: Annotated[
        bool | None,
        Field(description="Take a prompt's mapper from the pack where one has the prompt's name; off trains."),
    ] = None,
    seed: Annotated[int | None, Field(ge=0, description="Seed of the first weights and of the batches.")] = None,
    mixed_precision: Annotated[bool | None, Field(description="bfloat16 where there is a GPU.")] = None,
    checkpoint_interval: Annotated[int, Field(ge=1, description="Updates between checkpoints.")] = 100,
    prompts_per_shard: Annotated[int, Field(ge=1, description="Prompts trained together.")] = 8,
    workers: p.Workers = 1,
    device: p.Device = "auto",
) -> dict[str, Any]:
    """Train a mapper for every prompt of method mapper into RUN/mappers. Needs sample-latents.

    A mapper that was imported into the pack under the prompt's name is taken as it is. An interrupted training goes on
    from its last checkpoint, to the same weights. What is not given is the pack's recommendation, else the published
    value. Weights in the prompt list come first.
    """
    loaded = use_pack(pack, device)
    given: dict[str, Any] = {
        "kind": kind,
        "coarse": coarse,
        "medium": medium,
        "fine": fine,
        "residual_scale": residual_scale,
        "num_steps": num_steps,
        "batch_size": latents_per_step,
        "learning_rate": learning_rate,
        "clip_weight": clip_weight,
        "direction_weight": direction_weight,
        "l2_weight": l2_weight,
        "identity_weight": identity_weight,
        "search_noise": search_noise,
        "templates": templates,
        "validation_share": validation_share,
        "validation_interval": validation_interval,
        "seed": seed,
        "reuse_mappers": reuse_mappers,
        "mixed_precision": mixed_precision,
        "checkpoint_interval": checkpoint_interval,
        "shard_size": prompts_per_shard,
    }
    given |= reference_named(reference).settings(stage.STAGE)
    config = mapper_settings(loaded, given)
    check_templates(config.templates)
    checked = of_method(load_prompts(prompts, loaded), "mapper")
    warn_of_unknown_words(checked, loaded)
    warn_of_missing_identity(config.identity_weight, loaded)
    store, other = open_run(run, training)
    latents = find_latents(config, store, other, loaded, checked)
    num_shards = stage.mappers_num_shards(config, checked)
    reports = run_shards(
        mappers_shard,
        num_shards=num_shards,
        workers=workers,
        parameters={
            "config": config,
            "run": run,
            "inputs": training,
            "pack": pack,
            "device": device,
            "prompts": checked,
        },
    )
    config_hash = stage.mappers_hash(config, loaded, checked, latents)
    closed = finish(
        reports, store, stage.STAGE, num_shards=num_shards, config_hash=config_hash, config=config, pack=loaded, run=run
    )
    log_mappers(store)
    return closed


def log_mappers(store: Store) -> None:
    """A log line for every mapper: how well it fits and how alike its moves are (Table 2 of the paper)."""
    for row in find_input(stage.STAGE, store).table().to_pylist():
        if row["status"] == "ok" and row["loss"] is None:
            get_run_logger().info("mapper %r: taken from the pack, not trained", row["prompt"])
        elif row["status"] == "ok":
            get_run_logger().info(
                "mapper %r: loss %.3f at update %d; cosine between the moves of different latents %.2f +- %.2f",
                row["prompt"],
                row["loss"],
                row["best_step"],
                row["similarity_mean"],
                row["similarity_std"],
            )
