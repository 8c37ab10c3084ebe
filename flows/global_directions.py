"""Prompts to directions in StyleSpace."""

from dataclasses import replace
from typing import TYPE_CHECKING, Any

from flows.commands import Request, command
from flows.engine import ENGINE
from flows.jobs import Job, Work
from flows.parameters import (
    INPUTS,
    MODE,
    NUM_CHANNELS_SHOWN,
    PROMPTS,
    REFERENCE,
    REUSE_DIRECTIONS,
    RUN,
    RUN_ON,
    WORKERS,
    settings_of,
)
from flows.prompt_lists import load_prompts, prompt_contents, warn_of_unknown_words
from flows.screened_directions import screen
from flows.settings_trials import SETTINGS, TRIALS, load_channels, settle
from flows.shards import run_stage
from flows.style_statistics import style_statistics
from pipeline.config import ScreeningConfig, SelectionRule, StyleDirectionsConfig

if TYPE_CHECKING:
    from pipeline.packs.pack import Pack
    from pipeline.prompts import Prompt

RULE = replace(
    settings_of(StyleDirectionsConfig, only=["rule"])[0],
    annotation=SelectionRule | None,
    default=None,
    shown="the pack's; else effect where the channels are screened, else paper",
)
DIRECTIONS = (
    *settings_of(StyleDirectionsConfig, only=["relevance_threshold"]),
    *settings_of(StyleDirectionsConfig, only=["num_channels"], shown={"num_channels": NUM_CHANNELS_SHOWN}),
    RULE,
    *settings_of(StyleDirectionsConfig, only=["templates"]),
)


def open_style_directions(job: Job) -> Work:
    """Directions by ranges of prompts."""
    from pipeline.stages import style_directions as stage

    config, pack, prompts = job.config, job.open_pack(), list(job.prompts)
    channels = load_channels(job)
    return Work(
        stage=stage.STAGE,
        num_shards=stage.style_directions_num_shards(config, prompts),
        config_hash=stage.style_directions_hash(config, pack, channels),
        run_shard=lambda shard: stage.run_style_directions_shard(
            config, job.store, pack, shard, prompts=prompts, channels=channels
        ),
        total=len(prompts),
        unit="prompts",
        rows_in=lambda _: 0,  # asked for by prompt, not by place
        facts={"channel_directions": channels.source},
        contents={"channel_directions": channels.state, **prompt_contents(prompts)},
        contents_of=lambda shard: stage.style_directions_contents(config, prompts, channels, shard=shard),
    )


@command(
    "Prompts to directions in StyleSpace.",
    PROMPTS,
    RUN,
    INPUTS,
    *RUN_ON,
    DIRECTIONS,
    SETTINGS,
    TRIALS,
    MODE,
    REUSE_DIRECTIONS,
    settings_of(ScreeningConfig),
    settings_of(StyleDirectionsConfig, only=["shard_size"]),
    REFERENCE,
    WORKERS,
)
def global_directions(request: Request) -> dict[str, Any]:
    """Turn the global prompts of a list into style directions in RUN/style_directions.

    Channel directions are the run's own, if ``channel-directions`` was run on it, else the pack's; where neither has
    any, the channels that these prompts need are measured first (mode screened). With settings auto, rule, channels
    and strength of each prompt are chosen by trial on a few latents and recorded in RUN/chosen_settings.
    """
    prompts, config, screened = prepare_directions(request)
    pack = request.job().open_pack()
    prompts = settle(request, prompts, config, screened=screened)
    closed = run_stage(
        open_style_directions,
        request.job(config, prompts=prompts, screened=screened),
        workers=request["workers"],
        before=lambda: warn_of_unknown_words(prompts, pack),
    )
    if closed["failures"] == len(prompts):
        ENGINE.get().log.error("no prompt has a direction; RUN/prompts says why for each")
    return closed


def prepare_directions(request: Request) -> "tuple[list[Prompt], StyleDirectionsConfig, bool]":
    """The list's global prompts, the settings of their directions, and whether their channels were screened for them.

    Measures the channels that they need where there is no table.
    """
    from pipeline.directions.table import check_measured_as, find_channel_table
    from pipeline.prompts import of_method
    from pipeline.reference import reference_named

    job, mode = request.job(), request["mode"]
    pack = job.open_pack()
    switches = reference_named(request["reference"])
    prompts = of_method(load_prompts(request["prompts"], neutral=pack.description.neutral), "global")
    reuse = mode == "screened" and request["reuse_directions"] and find_channel_table(pack, *job.stores) is not None
    screened = mode != "exact" and not reuse
    check_measured_as(switches, pack, *job.stores, screened=screened)
    rule = request["rule"] or _usual_rule(
        pack, measured=screened and mode == "screened", reference=request["reference"]
    )
    lowering = None if request["reference"] else pack.description.settings.get("global", {}).get("lowering")
    config = request.config(StyleDirectionsConfig, stage="style_directions", rule=rule, lowering=lowering)
    if screened:
        _screen(request, config, prompts)
    return prompts, config, screened


def _usual_rule(pack: "Pack", *, measured: bool, reference: str | None) -> SelectionRule:
    """The pack's rule; where it has none, screening decides by effect. A reference decides by the paper."""
    if reference is not None:
        return "paper"
    return pack.description.settings.get("global", {}).get("rule", "effect" if measured else "paper")


def _screen(request: Request, config: StyleDirectionsConfig, prompts: "list[Prompt]") -> None:
    """Measure what the prompts need; style statistics first, where neither run nor pack has any."""
    from pipeline.directions.statistics import find_statistics

    screening = request.config(
        ScreeningConfig,
        mode="gradient" if request["mode"] == "gradient" else "screened",
        num_channels=config.num_channels,
        templates=config.templates,
        rule=config.rule,
        by_control=config.rule == "pursuit",
    )
    job = request.job(screening, prompts=prompts)
    if find_statistics(job.open_pack(), *job.stores) is None:
        style_statistics(**request.where, psi=screening.psi)
    screen(job, workers=request["workers"])
