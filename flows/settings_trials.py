"""Settings found by trial: chosen for this run (settings auto) or recommended for another, by the same loop."""

from typing import TYPE_CHECKING, Any, Literal

from flows.commands import Request
from flows.engine import ENGINE
from flows.jobs import Job, Work
from flows.parameters import Parameter, settings_of
from flows.prompt_lists import prompt_contents
from flows.shards import run_stage
from pipeline.config import StyleDirectionsConfig, TrialsConfig

if TYPE_CHECKING:
    from pipeline.directions.table import ChannelTable
    from pipeline.prompts import Prompt

SETTINGS = Parameter(
    "settings",
    Literal["default", "auto"],
    "default",
    "auto: rule, channels and strength of every global prompt, as far as they are not given, are chosen by trial on a "
    "few latents of their own; the column `settings` says it for single prompts.",
)
TRIALS = settings_of(
    TrialsConfig, only=["num_latents", "first_seed", "psi", "strengths", "identity_share", "margin", "batch_size"]
)


def load_channels(job: Job) -> "ChannelTable":
    """The run's own screened directions, or the whole table of the run or the pack."""
    from pipeline.directions.table import load_channel_table, load_screened_table

    load = load_screened_table if job.options["screened"] else load_channel_table
    return load(job.open_pack(), *job.stores)


def open_chosen_settings(job: Job) -> Work:
    """Trials by ranges of prompts."""
    from pipeline.stages import chosen_settings as stage

    config, pack, prompts = job.config, job.open_pack(), list(job.prompts)
    channels, directions = load_channels(job), StyleDirectionsConfig(**job.options["directions"])
    told = prompt_contents(prompts)["prompt"]
    return Work(
        stage=stage.stage_of(config),
        num_shards=stage.chosen_settings_num_shards(config, prompts),
        config_hash=stage.chosen_settings_hash(config, pack, prompts=prompts, channels=channels, directions=directions),
        run_shard=lambda shard: stage.run_chosen_settings_shard(
            config, job.store, pack, shard, prompts=prompts, channels=channels, directions=directions
        ),
        total=len(prompts),
        unit="prompts",
        facts={"channel_directions": channels.source, "directions": directions.identity(), "prompt": told},
    )


def run_trials(
    request: Request,
    config: TrialsConfig,
    prompts: "list[Prompt]",
    directions: StyleDirectionsConfig,
    *,
    screened: bool,
) -> tuple[dict[str, Any], list[dict[str, Any]]]:
    """Try settings for prompts; what the stage closed with, and a row per prompt."""
    from pipeline.runs.shard import find_input
    from pipeline.stages.chosen_settings import stage_of

    options = {"screened": screened, "directions": directions.model_dump(mode="json")}
    job = request.job(config, prompts=prompts, **options)
    closed = run_stage(open_chosen_settings, job, workers=request["workers"])
    return closed, find_input(stage_of(config), job.store).table().to_pylist()


def settle(
    request: Request, prompts: "list[Prompt]", directions: StyleDirectionsConfig, *, screened: bool
) -> "list[Prompt]":
    """The prompts with what was chosen written into those whose settings are auto."""
    asked = [p for p in prompts if (p.settings or request["settings"]) == "auto"]
    if not asked:
        return prompts
    _, rows = run_trials(request, request.config(TrialsConfig), asked, directions, screened=screened)
    found = {row["prompt_id"]: row for row in rows if row["status"] == "ok"}
    ENGINE.get().log.info("settings auto: %d renders for %d prompts", sum(row["renders"] for row in rows), len(rows))
    return [_settled(p, found[p.prompt_id]) if p.prompt_id in found else p for p in prompts]


def _settled(prompt: "Prompt", row: dict[str, Any]) -> "Prompt":
    chosen = {"rule": row["rule"], "num_channels": row["num_channels"]}
    return prompt.model_copy(update=chosen | {"strengths": prompt.strengths or (row["strength"],)})
