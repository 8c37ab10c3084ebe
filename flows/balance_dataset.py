"""A dataset with given shares of attributes: tried out on a few faces, planned, rendered until met, exported."""

import math
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

from flows.commands import Request, command
from flows.edit_latents import STRENGTHS, edit_latents
from flows.engine import ENGINE
from flows.export_dataset import SETTINGS, TO, open_labels, read_settings, sum_up, write_export
from flows.global_directions import DIRECTIONS, global_directions
from flows.jobs import Job, Work
from flows.parameters import MODE, PROMPTS, REQUIRED, RUN, RUN_ON, WORKERS, Uri, settings_of
from flows.prompt_lists import load_prompts
from flows.render_dataset import render_dataset
from flows.sample_latents import sample_latents
from flows.score_edits import JUDGE, score_edits
from flows.shards import run_stage
from pipeline.config import BalancePlanConfig, ExportedDatasetConfig
from pipeline.errors import ParameterError, PipelineError

if TYPE_CHECKING:
    from pipeline.export.balance import Choice
    from pipeline.prompts import Prompt
    from pipeline.runs.shard import Input

PILOT, SURVEY, EXPORT = "pilot", "survey", "export"
WISH = replace(
    SETTINGS,
    annotation=Uri | dict[str, Any],
    default=REQUIRED,
    description="YAML or JSON file with the request, `balance`, and settings of the export; what it says wins over the "
    "options. In Prefect also the settings themselves.",
    shown=None,
)
EDITS = replace(
    PROMPTS,
    annotation=PROMPTS.annotation | None,
    default=None,
    description=f"Edits to draw on. {PROMPTS.description}",
    shown="one prompt for every category that is asked for",
)
WHERE = replace(TO, annotation=Uri | None, default=None, shown="the folder export in the run")


@dataclass(frozen=True)
class Wish:
    """A checked request: what is wanted, of whom, and by which edits."""

    request: Request
    config: ExportedDatasetConfig
    plan: BalancePlanConfig
    shares: Any
    prompts: "list[Prompt]"

    def folder(self, *names: str) -> str:
        """A folder in the run."""
        from storage import Store

        store = Store(self.request["run"])
        for name in names:
            store = store.child(name)
        return store.uri

    def job(self, run: str, **options: Any) -> Job:
        """A stage's job in a folder of the run."""
        return replace(self.request.job(self.config, **options), run=run, inputs=run)

    @property
    def most(self) -> int:
        """Faces that a round may look at."""
        assert self.config.balance is not None
        return self.plan.max_latents or 10 * self.config.balance.total


def open_surveyed_labels(job: Job) -> Work:
    """What unedited faces show, by the shards of their latents."""
    from pipeline.runs.shard import find_input
    from pipeline.stages import surveyed_labels as stage

    config, pack, latents = job.config, job.open_pack(), find_input("latents", job.store)
    return Work(
        stage=stage.STAGE,
        num_shards=latents.num_shards,
        config_hash=stage.surveyed_labels_hash(config, pack, latents),
        run_shard=lambda shard: stage.run_surveyed_labels_shard(config, job.store, pack, shard, latents=latents),
        total=latents.rows,
        unit="faces",
        facts={"latents": latents.config_hash},
    )


def open_edit_plan(job: Job) -> Work:
    """The plan of a round, in one piece; its options name the surveys and the runs that it is made from."""
    from pipeline.config import BalanceConfig
    from pipeline.runs.shard import find_input
    from pipeline.stages import edit_plan as stage
    from storage import Store

    config, pack = job.config, job.open_pack()
    surveys = [find_input("surveyed_labels", Store(uri)) for uri in job.options["surveys"]]
    labels = [find_input("labels", Store(uri)) for uri in job.options["runs"]]
    wanted = BalanceConfig.model_validate(job.options["request"])
    return Work(
        stage=stage.STAGE,
        num_shards=1,
        config_hash=stage.edit_plan_hash(config, pack, request=wanted, surveys=surveys, labels=labels),
        run_shard=lambda _: stage.run_edit_plan(
            config, job.store, pack, request=wanted, shares=job.options["shares"], surveys=surveys, labels=labels
        ),
        facts={"surveyed_labels": surveys[-1].config_hash, "labels": labels[-1].config_hash},
    )


def open_planned_latents(job: Job) -> Work:
    """The faces that a plan renders, by the shards of the survey."""
    from pipeline.runs.shard import find_input
    from pipeline.stages import planned_latents as stage

    config, pack = job.config, job.open_pack()
    surveyed, plan = find_input("latents", job.store.child(SURVEY)), find_input("edit_plan", job.store)
    return Work(
        stage=stage.STAGE,
        num_shards=surveyed.num_shards,
        config_hash=stage.planned_latents_hash(config, pack, surveyed, plan),
        run_shard=lambda shard: stage.run_planned_latents_shard(
            config, job.store, pack, shard, surveyed=surveyed, plan=plan
        ),
        facts={"edit_plan": plan.config_hash},
    )


@command(
    "A dataset with given shares of attributes, rendered until they are met.",
    *(RUN, WISH, EDITS, WHERE, *RUN_ON, settings_of(BalancePlanConfig), STRENGTHS, DIRECTIONS, MODE, JUDGE),
    *(settings_of(ExportedDatasetConfig), WORKERS),
)
def balance_dataset(request: Request) -> dict[str, Any]:
    """Render what a balanced request needs and export it: so many images, with given shares of attributes.

    A survey of unedited faces and a pilot of all prompts on a few say what can be had: a request that cannot be met is
    refused then, with the numbers. Else faces are looked at, each gets the edit that the plan has for it, and rounds
    go on until the request is met.
    """
    wish = _checked(request)
    wanted = wish.config.balance
    assert wanted is not None
    stages = _survey(
        wish, wish.folder(SURVEY), wish.plan.first_seed + wish.plan.pilot_latents, wish.plan.survey_latents
    )
    stages += _pilot(wish)
    runs, surveys = [wish.folder(PILOT)], [wish.folder(SURVEY)]
    for number in range(wish.plan.rounds):
        choice = _choose(wish, runs)
        if not choice.missing:
            break
        stages += _round(wish, number, runs, surveys, choice)
    choice = _choose(wish, runs)
    if choice.missing:
        raise PipelineError(
            f"{wanted.total} balanced images must come of {wish.plan.rounds} rounds; they lack: "
            f"{'; '.join(choice.missing)}. Give the same command with more rounds: it goes on from here."
        )
    job = wish.job(request["to"] or wish.folder(EXPORT), runs=runs, made_by=_again(request))
    job = replace(job, inputs=runs[0])
    return sum_up([*stages, *write_export(job, workers=request["workers"])], job)


def _checked(request: Request) -> Wish:
    from pipeline.export.balance import wanted_shares
    from pipeline.export.seeing import open_reader

    config = read_settings(request["settings"], request.config(ExportedDatasetConfig))
    if config.balance is None:
        raise ParameterError(f"`settings` must hold `balance`, the request; {request['settings']} does not.")
    pack = request.job().open_pack()
    attributes = open_reader(config, pack).attributes
    if not attributes:
        raise ParameterError(
            f"a balanced request needs someone to tell attributes; pack {pack.description.name!r} has no oracle. Name "
            f"them in the settings file, as in 'alternatives: {{eyes: [none, glasses]}}'."
        )
    shares, neutral = wanted_shares(config.balance, attributes), pack.description.neutral
    rows = request["prompts"]
    prompts = load_prompts(_prompt_rows(config, shares, neutral) if rows is None else rows, neutral=neutral)
    searched = [prompt.name for prompt in prompts if prompt.method != "global"]
    if searched:
        raise ParameterError(
            f"a balanced request draws on prompts of method global, which edit any face at once; got {searched[0]!r} "
            f"of another. Leave it out."
        )
    return Wish(request, config, request.config(BalancePlanConfig), shares, prompts)


def _prompt_rows(config: ExportedDatasetConfig, shares: Any, neutral: str) -> list[dict[str, Any]]:
    """A prompt for every category that is asked for and can be named."""
    from pipeline.export.captions import phrases_of

    rows = []
    for attribute, of in shares.items():
        for category, share in of.items():
            words = phrases_of(config, attribute, category)
            if share > 0 and words:
                rows.append({"name": f"{attribute} {category}", "target": f"{neutral} with {words[0]}"})
    if not rows:
        raise ParameterError("`prompts` must be given: the request names no category that has words.")
    return rows


def _survey(wish: Wish, run: str, first_seed: int, num_latents: int) -> list[dict[str, Any]]:
    shared = wish.request.shared_with(sample_latents)
    sampled = sample_latents(**shared | {"run": run, "first_seed": first_seed, "num_latents": num_latents})
    return [sampled, run_stage(open_surveyed_labels, wish.job(run), workers=wish.request["workers"])]


def _pilot(wish: Wish) -> list[dict[str, Any]]:
    """Every prompt on a few faces."""
    request, run = wish.request, wish.folder(PILOT)
    rows = [prompt.row() for prompt in wish.prompts]
    shared = request.shared_with(sample_latents)
    sampled = sample_latents(**shared | {"run": run, "num_latents": wish.plan.pilot_latents})
    directions = global_directions(**request.shared_with(global_directions) | {"run": run, "prompts": rows})
    return [sampled, directions, *_rendered(wish, run)]


def _rendered(wish: Wish, run: str) -> list[dict[str, Any]]:
    """Edits, images, scores and labels of a run's latents."""
    request, inputs = wish.request, wish.folder(PILOT)
    rows = [prompt.row() for prompt in wish.prompts]
    shared = {name: request[name] for name in ("pack", "device", "workers")} | {"run": run, "inputs": inputs}
    return [
        edit_latents(rows, **request.shared_with(edit_latents) | shared),
        render_dataset(**shared),
        score_edits(**shared, judge=request["judge"]),
        run_stage(open_labels, wish.job(run), workers=request["workers"]),
    ]


def _round(wish: Wish, number: int, runs: list[str], surveys: list[str], choice: "Choice") -> list[dict[str, Any]]:
    """Look at new faces, plan, render; adds its run and survey to the lists."""
    assert wish.config.balance is not None
    run = wish.folder(f"round-{number:02d}")
    survey, workers = wish.folder(f"round-{number:02d}", SURVEY), wish.request["workers"]
    seed = wish.plan.first_seed + wish.plan.pilot_latents + wish.plan.survey_latents + number * wish.most
    stages = _survey(wish, survey, seed, _num_faces(wish, survey, runs, surveys, choice))
    surveys.append(survey)
    options = {"surveys": list(surveys), "runs": list(runs), "shares": wish.shares}
    job = replace(wish.job(run, request=wish.config.balance.model_dump(mode="json"), **options), config=wish.plan)
    stages += [run_stage(open_edit_plan, job), run_stage(open_planned_latents, job, workers=workers)]
    runs.append(run)
    return stages + _rendered(wish, run)


def _num_faces(wish: Wish, survey: str, runs: list[str], surveys: list[str], choice: "Choice") -> int:
    """How many faces a round looks at; one that has begun keeps its number."""
    import storage
    from pipeline.export.candidates import load_yields
    from pipeline.export.planning import SAFETY, plan_faces

    assert wish.config.balance is not None
    begun = storage.read_stage(storage.Store(survey), "latents")
    if begun is not None:
        return begun["config"]["num_latents"]
    yields = load_yields(wish.shares, _found("surveyed_labels", surveys), _found("labels", runs))
    plan = plan_faces(wish.config.balance, yields, spare=wish.plan.spare, most=wish.most, there=choice.cells)
    faces = min(math.ceil(SAFETY * plan.faces) + 8, wish.most)
    ENGINE.get().log.info(
        "balance-dataset: to look at %d faces; about %d edits expected to bring %d images in all, %d are there",
        *(faces, round(plan.edits), round(sum(plan.images.values())), choice.cells.total()),
    )
    return faces


def _choose(wish: Wish, runs: list[str]) -> "Choice":
    from pipeline.export.balance import choose_balanced
    from pipeline.export.candidates import load_options

    assert wish.config.balance is not None
    options = load_options(wish.config.balance, wish.shares, _found("labels", runs))
    return choose_balanced(wish.config.balance, wish.shares, options)


def _found(stage: str, runs: list[str]) -> "list[Input]":
    from pipeline.runs.shard import find_input
    from storage import Store

    return [find_input(stage, Store(run)) for run in runs]


def _again(request: Request) -> str:
    """The command that makes it again, with what was not left at its default."""
    import shlex

    words = ["styleclip", "balance-dataset"]
    for parameter in request.command.parameters:
        value = request[parameter.name]
        if value == parameter.default or parameter.name in ("device", "workers"):
            continue
        flag = f"--{parameter.name.replace('_', '-')}"
        if isinstance(value, bool):
            words.append(flag if value else f"--no-{flag[2:]}")
        else:
            words += [flag, "prompts.csv" if isinstance(value, list) and parameter.name == "prompts" else str(value)]
    return shlex.join(words)
