"""Methods side by side: the same prompts and latents by every method, scored, compared, drawn."""

import json
import time
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Annotated, Any

from pydantic import Field

from flows.check_prompts import SAMPLES
from flows.commands import Request, command
from flows.edit_latents import edit_latents
from flows.engine import ENGINE
from flows.global_directions import global_directions
from flows.jobs import Job, Work
from flows.optimize_latents import optimize_latents
from flows.parameters import MODE, PROMPTS, RUN, RUN_ON, WORKERS, Parameter, settings_of
from flows.prompt_lists import load_prompts, prompt_contents
from flows.recommend_settings import write_list
from flows.render_dataset import render_dataset
from flows.sample_latents import sample_latents
from flows.score_edits import JUDGE, score_edits
from flows.shards import run_stage
from flows.summary import SECONDS
from flows.tedigan_latents import tedigan_latents
from flows.train_mappers import train_mappers
from pipeline.config import (
    ComparisonConfig,
    EditDatasetConfig,
    LatentsConfig,
    MappersConfig,
    OptimizedLatentsConfig,
    TediganLatentsConfig,
)
from pipeline.errors import ParameterError

if TYPE_CHECKING:
    from pipeline.packs.pack import Pack
    from pipeline.prompts import Method, Prompt
    from storage import Store

TRAINING_SEED = 3_000_000  # of the first latent that mappers are trained on
METHODS = Parameter(
    "methods",
    Annotated[str, Field(min_length=1)],
    "global,mapper,optimize,tedigan",
    "Methods to compare, with commas between.",
)
DOSES = Parameter(
    "doses",
    Annotated[tuple[float, ...], Field(min_length=1)],
    (0.25, 0.5, 0.75, 1.0, 1.5),
    "Strengths to render, as multiples of the usual: the pack's for global directions, the learnt move for all others.",
)


def open_comparison(job: Job) -> Work:
    """The comparison, in one piece."""
    from pipeline.runs.shard import find_input
    from pipeline.stages import comparison as stage

    config, pack, prompts = job.config, job.open_pack(), list(job.prompts)
    methods = []
    for method in job.options["methods"]:
        store = job.store.child(f"methods/{method}")
        methods.append(stage.Compared(method, find_input("dataset", store), find_input("scores", store)))
    contents = stage.comparison_contents(prompts, methods)
    return Work(
        stage=stage.STAGE,
        num_shards=1,
        config_hash=stage.comparison_hash(config, pack, methods),
        run_shard=lambda _: stage.run_comparison(config, job.store, pack, prompts=prompts, methods=methods),
        provisional=any(m.scores.is_partial for m in methods),
        facts={m.method: m.scores.config_hash for m in methods},
        contents={**prompt_contents(prompts), "methods": contents["methods"]},
        contents_of=lambda _: contents,
    )


@command(
    "Methods side by side on one prompt list: hits, what is kept, intervals, plots.",
    PROMPTS,
    RUN,
    *RUN_ON,
    METHODS,
    settings_of(LatentsConfig, only=["num_latents", "first_seed", "psi"], defaults={"first_seed": 5_000_000}),
    DOSES,
    MODE,
    settings_of(EditDatasetConfig),
    settings_of(MappersConfig, only=["num_steps"], names={"num_steps": "mapper_steps"}, method="mapper"),
    settings_of(
        OptimizedLatentsConfig, only=["num_steps"], names={"num_steps": "optimization_steps"}, method="optimize"
    ),
    settings_of(TediganLatentsConfig, only=["num_steps"], names={"num_steps": "tedigan_steps"}),
    settings_of(TediganLatentsConfig, only=["shard_size"]),
    SAMPLES,
    JUDGE,
    settings_of(ComparisonConfig),
    WORKERS,
)
def compare_methods(request: Request) -> dict[str, Any]:
    """Edit the same latents by every prompt and method at several strengths, score all, and compare.

    Writes RUN/comparison.md with the tables as Parquet, plots and a picture grid beside it; the methods' own runs are
    RUN/methods/METHOD. RUN/recommended_settings.csv is a prompt list with the best method and strength of each prompt;
    ``edit-dataset --settings-from RUN`` takes them over. Finished shards are kept: a run that was stopped goes on, and
    a longer one may be planned. The seconds of each method, to find its edits and to draw and score them, stand apart,
    in comparison_seconds.json, because they differ from run to run. Plots need matplotlib:
    pip install 'styleclip-pipeline[plots]'.
    """
    pack = request.job().open_pack()
    prompts = load_prompts(request["prompts"], neutral=pack.description.neutral)
    methods = _methods(request["methods"])
    where = request.where
    latents = {name: request[name] for name in ("num_latents", "first_seed", "psi")}
    sample_latents(**where, **latents)
    if "mapper" in methods:
        training = {**where, "run": _training(request)}
        sample_latents(**training, num_latents=request["mapper_latents"], first_seed=TRAINING_SEED, psi=request["psi"])
    missing = [
        one for method in methods for made in _run_method(method, request, prompts, pack) for one in made["missing"]
    ]
    config = request.config(ComparisonConfig)
    job = request.job(config, prompts=prompts, methods=methods)
    closed = run_stage(open_comparison, job)
    _recommend(job.store, prompts, kept=config.kept)
    _say_plots()
    return closed | {"missing": missing}


def _methods(text: str) -> "list[Method]":
    from typing import get_args

    from pipeline.prompts import Method

    known: tuple[Method, ...] = get_args(Method)
    names = [name.strip() for name in text.split(",") if name.strip()]
    wrong = [name for name in names if name not in known]
    if wrong or not names or len(set(names)) < len(names):
        raise ParameterError(f"`methods` must be some of {', '.join(known)}, each once; got {text!r}.")
    return [known[known.index(name)] for name in names]


def _training(request: Request) -> str:
    return f"{request['run'].rstrip('/')}/mapper_training"


def prompts_of(method: "Method", prompts: "Sequence[Prompt]", doses: Sequence[float], *, strength: float) -> list[Any]:
    """The list as rows for one method: its strengths, without what the method does not read."""
    from pipeline.prompts import OF_GLOBAL, WEIGHTS

    unread = {"global": WEIGHTS, "tedigan": (*OF_GLOBAL, *WEIGHTS)}.get(method, OF_GLOBAL)
    unit = strength if method == "global" else 1.0
    changed = {"method": method, "strengths": [dose * unit for dose in doses]}
    return [{k: v for k, v in prompt.row().items() if k not in unread} | changed for prompt in prompts]


def _run_method(method: "Method", request: Request, prompts: "Sequence[Prompt]", pack: "Pack") -> list[dict[str, Any]]:
    """One method from prompts to scores, in a run of its own; what each step came to."""
    run = request["run"].rstrip("/")
    where = {**request.where, "run": f"{run}/methods/{method}"}
    rows = prompts_of(method, prompts, request["doses"], strength=pack.description.strength)
    find: dict[str, Callable[[], dict[str, Any]]] = {
        "global": lambda: global_directions(rows, **where, mode=request["mode"]),
        "mapper": lambda: train_mappers(rows, **where, training=_training(request), num_steps=request["mapper_steps"]),
        "optimize": lambda: optimize_latents(
            rows,
            **where,
            inputs=run,
            num_steps=request["optimization_steps"],
            pairs_per_shard=request["pairs_per_shard"],
            image_interval=0,
        ),
        "tedigan": lambda: tedigan_latents(
            rows,
            **where,
            inputs=run,
            num_steps=request["tedigan_steps"],
            pairs_per_shard=request["pairs_per_shard"],
        ),
    }
    drawing: list[Callable[[], dict[str, Any]]] = [
        lambda: edit_latents(rows, **where, inputs=run),
        lambda: render_dataset(**where, inputs=run),
        lambda: score_edits(**where, judge=request["judge"], judging_samples=request["judging_samples"]),
    ]
    ENGINE.get().log.info("compare-methods: %s", method)
    store = request.job().store
    return [_timed(store, method, "edits", find[method]), *(_timed(store, method, "images", step) for step in drawing)]


def _timed(store: "Store", method: str, part: str, step: "Callable[[], dict[str, Any]]") -> dict[str, Any]:
    """Run a step and add its seconds to what the method took before; one that finds all done says nothing of its cost.

    A step that fails or is stopped took time too: its finished shards are not made again.
    """
    start, closed = time.perf_counter(), None
    try:
        closed = step()
        return closed
    finally:
        if closed is None or closed["shards_skipped"] < closed["shards"]:
            known = json.loads(store.read_bytes(SECONDS)) if store.exists(SECONDS) else {}
            of_method = known.get(method, {})
            spent = round(of_method.get(part, 0.0) + time.perf_counter() - start, 1)
            found = known | {method: of_method | {part: spent}}
            store.write_bytes(SECONDS, (json.dumps(found, indent=2) + "\n").encode())


def _recommend(store: "Store", prompts: "Sequence[Prompt]", *, kept: float) -> None:
    """The best method and strength of every prompt as a prompt list, from the curves."""
    import storage
    from pipeline.scoring.recommended import CURVES, recommend_doses

    of = {prompt.name: prompt for prompt in prompts}
    rows = recommend_doses(storage.read_table(store, CURVES).to_pylist(), kept=kept)
    write_list(
        store,
        [{"target": of[r["prompt"]].target, "neutral": of[r["prompt"]].neutral, "status": "ok"} | r for r in rows],
    )


def _say_plots() -> None:
    from pipeline.scoring.plots import can_plot

    if not can_plot():
        ENGINE.get().log.warning("no plots: matplotlib is not installed (pip install 'styleclip-pipeline[plots]')")
