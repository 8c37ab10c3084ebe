"""The whole chain: prompts and seeds or photos in, a scored dataset of edited images out."""

from dataclasses import replace
from typing import TYPE_CHECKING, Any

from flows.check_prompts import SAMPLES, UNREACHABLE, choose_reachable
from flows.commands import Request, command
from flows.edit_latents import STRENGTHS, edit_latents
from flows.engine import ENGINE
from flows.gallery import gallery, is_current
from flows.global_directions import DIRECTIONS, global_directions
from flows.import_latents import FILE, import_latents
from flows.invert_images import IMAGES, invert_images
from flows.optimize_latents import optimize_latents
from flows.parameters import MODE, PROMPTS, REFERENCE, RUN, RUN_ON, WORKERS, Uri, settings_of
from flows.prompt_lists import load_prompts, prompt_contents
from flows.recommend_settings import SETTINGS_FROM, take_over
from flows.render_dataset import render_dataset
from flows.report import report
from flows.sample_latents import sample_latents
from flows.score_edits import JUDGE, score_edits
from flows.settings_trials import SETTINGS, TRIALS
from flows.tedigan_latents import tedigan_latents
from flows.train_mappers import train_mappers
from pipeline.config import (
    DatasetConfig,
    EditDatasetConfig,
    InvertedLatentsConfig,
    LatentsConfig,
    MappersConfig,
    OptimizedLatentsConfig,
    ScreeningConfig,
    TediganLatentsConfig,
)
from pipeline.errors import ParameterError, PipelineError

if TYPE_CHECKING:
    from pipeline.packs.pack import Pack
    from pipeline.prompts import Prompt

MAPPER_SEED = 3_000_000  # of the first latent that mappers are trained on
LATENTS = replace(
    FILE,
    name="latents",
    annotation=Uri | None,
    default=None,
    description=f"Edit these instead of seeds: {FILE.description}",
    shown="seeds",
)

PHOTOS = replace(
    IMAGES,
    annotation=Uri | None,
    default=None,
    description=f"Edit these instead of seeds. {IMAGES.description}",
    shown="seeds",
)


OF_PHOTOS = (  # the weights of refinement and tuning are options of invert-images alone
    *("image_column", "align", "landmarks_model", "background", "min_side", "max_pixels", "max_bytes", "start"),
    *("encoder_steps", "refine", "pivotal_tuning", "min_quality", "below_quality", "keep_exif"),
)


@command(
    "The whole chain: prompts and seeds or photos to a scored dataset of edited images.",
    PROMPTS,
    RUN,
    *RUN_ON,
    PHOTOS,
    settings_of(InvertedLatentsConfig, only=OF_PHOTOS),
    LATENTS,
    settings_of(LatentsConfig, only=["num_latents", "first_seed", "psi"]),
    STRENGTHS,
    DIRECTIONS,
    SETTINGS,
    SETTINGS_FROM,
    TRIALS,
    MODE,
    settings_of(ScreeningConfig, only=["renders_per_prompt", "batch_size"]),
    REFERENCE,
    settings_of(LatentsConfig, only=["shard_size"]),
    settings_of(DatasetConfig, only=["precision", "images_per_shard", "paste_back"]),
    settings_of(EditDatasetConfig),
    settings_of(MappersConfig, only=["num_steps"], names={"num_steps": "mapper_steps"}, method="mapper"),
    settings_of(
        OptimizedLatentsConfig, only=["num_steps"], names={"num_steps": "optimization_steps"}, method="optimize"
    ),
    settings_of(TediganLatentsConfig, only=["num_steps"], names={"num_steps": "tedigan_steps"}),
    UNREACHABLE,
    SAMPLES,
    JUDGE,
    WORKERS,
)
def edit_dataset(request: Request) -> dict[str, Any]:
    """Latents from seeds, photos or a file, edited by each prompt's method; all edits rendered and scored; a report.

    A prompt's method is global (a direction in StyleSpace, the default), mapper (a trained network), optimize (a search
    per latent) or tedigan (a baseline's search). Channel directions come from the run, if ``channel-directions`` was
    run on it, else from the pack; where neither has any, those that the prompts need are measured. A rerun with the
    same parameters does nothing but check.
    """
    from pipeline.machine.precision import check_precision
    from pipeline.reference import reference_named
    from pipeline.threshold_study import threshold_rows

    if request["images"] is not None and request["latents"] is not None:
        raise ParameterError("`images` and `latents` cannot be given both: a run edits one set of latents.")
    pack = request.job().open_pack()
    check_precision(request["precision"], pack.device)
    prompts = load_prompts(request["prompts"], neutral=pack.description.neutral)  # a bad list stops before any cost
    if request["settings_from"] is not None:
        prompts = _take_over(prompts, request["settings_from"])
    if any(prompt.method == "global" for prompt in prompts):
        _check_directions(request, pack)
    if request["thresholds"] is None:  # which makes several prompts of one
        _check_grows(request, prompts)
    if request["unreachable"] != "keep" or pack.description.oracle is not None:  # its samples are drawn anyway
        store, choice = request.job().store, request["unreachable"]
        prompts = choose_reachable(prompts, pack, store, num_samples=request["judging_samples"], unreachable=choice)
    if request["thresholds"] is not None:
        rows = threshold_rows(prompts, request["thresholds"], usual=pack.description.num_channels)
        prompts = load_prompts(rows, neutral=pack.description.neutral)
        if request["rule"] is None and pack.description.settings.get("global", {}).get("rule") == "pursuit":
            # which finds the number of channels by itself: all thresholds would give one direction
            request = replace(request, values={**request.values, "rule": "paper"})
    methods = {prompt.method for prompt in prompts}
    switched = reference_named(request["reference"]).settings("scores")
    request = replace(request, values={**request.values, **switched, "prompts": [p.row() for p in prompts]})
    _check_grows(request, prompts)

    stages = [_latents(request)]
    if "global" in methods:
        stages.append(global_directions(**request.shared_with(global_directions)))
    if "mapper" in methods:
        stages += _mappers(request, pack, prompts)
    if "optimize" in methods:
        shared = request.shared_with(optimize_latents)
        own = {"num_steps": request["optimization_steps"], "precision": request["precision"]}
        stages.append(optimize_latents(**shared, **own))
    if "tedigan" in methods:
        shared = request.shared_with(tedigan_latents)
        stages.append(tedigan_latents(**shared, num_steps=request["tedigan_steps"]))
    edited = edit_latents(**request.shared_with(edit_latents, without=("latents_per_shard",)))
    rendered = render_dataset(**request.shared_with(render_dataset))
    scored = score_edits(**request.shared_with(score_edits))
    stages += [edited, rendered, scored, report(**request.shared_with(report))]
    if not is_current(request["run"]):  # one with rules of the user's own stays
        stages.append(gallery(**request.shared_with(gallery)))
    uri = request.job().store.uri
    ENGINE.get().log.info(
        "edit-dataset: %d images in %s/dataset, %d prompts failed; contact sheet and gallery/index.html beside it",
        rendered["rows"],
        uri,
        edited["failed_prompts"],
    )
    if all(closed["shards_skipped"] >= closed["shards"] for closed in stages):
        ENGINE.get().log.info("edit-dataset: nothing to do, %s is complete and unchanged", request["run"])
    missing = [one for closed in stages for one in closed["missing"]]
    originals = stages[0]["rows"] - stages[0]["failures"]  # of every latent
    return {
        "run": request["run"],
        "images": rendered["rows"],
        "edits": _count_edits(request) if missing else scored["rows"] - originals,
        "missing": missing,
        "failed_prompts": edited["failed_prompts"],
        "shards": sum(closed["shards"] for closed in stages),
        "shards_skipped": sum(closed["shards_skipped"] for closed in stages),
    }


def _count_edits(request: Request) -> int:
    from pipeline.prompts import ORIGINAL
    from pipeline.runs.shard import find_input

    scored = find_input("scores", request.job().store).table(["prompt_id"])["prompt_id"].to_pylist()
    return len(scored) - scored.count(ORIGINAL)


def _take_over(prompts: "list[Prompt]", run: str) -> "list[Prompt]":
    taken, unknown = take_over(prompts, run)
    if unknown:
        ENGINE.get().log.warning("%s recommends nothing for %s; they keep their settings", run, ", ".join(unknown))
    return taken


def _check_grows(request: Request, prompts: "list[Prompt]") -> None:
    """Stops before anything is made where the run would lose a prompt or a latent: what exists must stay."""
    from pipeline.runs.conflicts import check_grows

    sampled = request["images"] is None and request["latents"] is None
    latents = {"num_latents": request["num_latents"]} if sampled else {}
    check_grows(request.job().store, "latents", latents)
    check_grows(request.job().store, "edited_latents", {**latents, **prompt_contents(prompts)})


def _check_directions(request: Request, pack: "Pack") -> None:
    """Stops before anything is written where the directions that are asked for cannot be had."""
    from pipeline.directions.table import check_measured_as, load_channel_table
    from pipeline.reference import reference_named

    store = request.job().store
    check_measured_as(reference_named(request["reference"]), pack, store)
    if request["mode"] == "exact":
        load_channel_table(pack, store)


def _latents(request: Request) -> dict[str, Any]:
    if request["images"] is not None:
        return _photos(request)
    if request["latents"] is not None:
        return import_latents(request["latents"], **request.shared_with(import_latents))
    return sample_latents(**request.shared_with(sample_latents))


def _photos(request: Request) -> dict[str, Any]:
    closed = invert_images(request["images"], **request.shared_with(invert_images))
    if closed["failures"] == closed["rows"]:
        raise PipelineError(
            f"at least one image must be fit for editing; of the {closed['rows']} at {request['images']} none is. "
            f"{request['run']}/inverted_images says why of each."
        )
    return closed


def _check_training(request: Request) -> None:
    """Stops before latents are added to those that the run's mappers are trained on: these would be other mappers."""
    from pipeline.runs.growth import read_last_stage
    from storage import ConflictError

    store = request.job().store
    known = (read_last_stage(store, "mappers") or {}).get("contents", {}).get("training", {}).get("latents")
    if known not in (None, request["mapper_latents"]):
        raise ConflictError(
            f"{store.uri} may grow, but its mappers must stay; they were trained with other settings: "
            f"mapper_latents: {known} -> {request['mapper_latents']}. Choose another run folder, or take the former."
        )


def _mappers(request: Request, pack: "Pack", prompts: "list[Prompt]") -> list[dict[str, Any]]:
    """Mappers, on latents of their own: a mapper must fit faces that it never saw."""
    from pipeline.config import recommended
    from pipeline.prompts import of_method
    from pipeline.stages.mappers import to_train

    training = f"{request['run'].rstrip('/')}/mapper_training"
    settings = recommended(MappersConfig, pack.description.settings.get("mapper", {}), {})
    stages = []
    _check_training(request)
    if to_train(settings, pack, of_method(prompts, "mapper")):  # the others are in the pack
        where = {**request.where, "run": training}
        latents = {"num_latents": request["mapper_latents"], "first_seed": MAPPER_SEED, "psi": request["psi"]}
        stages.append(sample_latents(**where, **latents))
    shared = request.shared_with(train_mappers)
    own = {"num_steps": request["mapper_steps"], "precision": request["precision"]}
    stages.append(train_mappers(**shared, training=training, **own))
    return stages
