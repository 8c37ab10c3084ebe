"""Flow ``global-directions``: prompts to directions in StyleSpace."""

from typing import Any

from prefect import flow, get_run_logger, task
from prefect.cache_policies import NO_CACHE

from flows import parameters as p
from flows.runners import finish, open_run, report_dict, run_shards, use_pack
from flows.screening import screen
from pipeline.config import ScreeningConfig, StyleDirectionsConfig
from pipeline.directions.table import (
    ChannelTable,
    check_measured_as,
    find_channel_table,
    load_channel_table,
    load_screened_table,
)
from pipeline.packs.pack import Pack
from pipeline.prompts import Prompt, check_prompts, of_method, read_prompts
from pipeline.prompts import templates as check_templates
from pipeline.reference import reference_named
from pipeline.stages import style_directions as stage


def load_prompts(prompts: str | list[dict[str, Any]], pack: Pack) -> list[Prompt]:
    """Checked prompts from a URI or from rows; the pack gives the neutral text where a row has none."""
    if isinstance(prompts, str):
        return read_prompts(prompts, default_neutral=pack.description.neutral)
    return check_prompts(prompts, default_neutral=pack.description.neutral)


def warn_of_unknown_words(prompts: list[Prompt], pack: Pack) -> None:
    """A log line for every prompt with words that the pack's CLIP never saw: they move the edit at random."""
    for prompt in prompts:
        words = [*pack.clip.unknown_words(prompt.target), *pack.clip.unknown_words(prompt.neutral)]
        if words:
            get_run_logger().warning(
                "prompt %r: CLIP of pack %r does not know %s; choose other words or expect them to do nothing",
                prompt.name,
                pack.description.name,
                ", ".join(repr(word) for word in dict.fromkeys(words)),
            )


@task(name="style-directions-shard", cache_policy=NO_CACHE, task_run_name="style directions {shard}")
def style_directions_shard(
    config: StyleDirectionsConfig,
    run: str,
    inputs: str | None,
    pack: str,
    device: str,
    prompts: list[Prompt],
    screened: bool,
    shard: int,
) -> dict[str, Any]:
    """Directions of one range of prompts."""
    loaded = use_pack(pack, device)
    channels = load_channels(run, inputs, loaded, screened=screened)
    store, _ = open_run(run)
    return report_dict(
        stage.run_style_directions_shard(config, store, loaded, shard, prompts=prompts, channels=channels)
    )


def load_channels(run: str, inputs: str | None, pack: Pack, *, screened: bool) -> ChannelTable:
    """The run's own screened directions, or the whole table of the run or the pack."""
    store, other = open_run(run, inputs)
    if screened:
        return load_screened_table(pack, store, other)
    return load_channel_table(pack, store, other)


def has_table(run: str, inputs: str | None, pack: Pack) -> bool:
    """Whether a whole table of channel directions is at hand."""
    return find_channel_table(pack, *open_run(run, inputs)) is not None


@flow(name="global-directions")
def global_directions(
    prompts: p.PromptList,
    run: p.RunUri,
    inputs: p.InputsUri = None,
    pack: p.PackUri = "peeps",
    relevance_threshold: p.Threshold = None,
    num_channels: p.NumChannels = None,
    templates: p.Templates = "imagenet_79",
    mode: p.DirectionsMode = "screened",
    reuse_directions: p.ReuseDirections = True,
    renders_per_prompt: p.RendersPerPrompt = None,
    screening_batch_size: p.ScreeningBatchSize = None,
    rule: p.Rule = None,
    reference: p.Reference = None,
    workers: p.Workers = 1,
    device: p.Device = "auto",
) -> dict[str, Any]:
    """Turn the global prompts of a list into style directions in RUN/style_directions.

    Channel directions are the run's own, if ``channel-directions`` was run on it, else the pack's; where neither has
    any, the channels that these prompts need are measured first (mode screened).
    """
    switches = reference_named(reference)
    templates = switches.settings(stage.STAGE).get("templates", templates)
    check_templates(templates)
    loaded = use_pack(pack, device)
    checked = of_method(load_prompts(prompts, loaded), "global")
    warn_of_unknown_words(checked, loaded)
    store, _ = open_run(run)
    reuse = mode == "screened" and reuse_directions and has_table(run, inputs, loaded)
    screened = mode != "exact" and not reuse
    check_measured_as(switches, loaded, *open_run(run, inputs), screened=screened)
    scored_by = rule or ("effect" if screened and mode == "screened" else "paper")
    if screened:
        screening = ScreeningConfig(
            mode="gradient" if mode == "gradient" else "screened",
            num_channels=num_channels,
            templates=templates,
            renders_per_prompt=renders_per_prompt,
            batch_size=screening_batch_size,
            rule=scored_by,
        )
        screen(screening, run=run, inputs=inputs, pack=pack, device=device, prompts=checked, workers=workers)
    given: dict[str, Any] = {
        "relevance_threshold": relevance_threshold,
        "num_channels": num_channels,
        "templates": templates,
        "rule": scored_by,
    }
    config = StyleDirectionsConfig(**{**given, **switches.settings(stage.STAGE)})
    channels = load_channels(run, inputs, loaded, screened=screened)
    num_shards = stage.style_directions_num_shards(config, checked)
    reports = run_shards(
        style_directions_shard,
        num_shards=num_shards,
        workers=workers,
        parameters={
            "config": config,
            "run": run,
            "inputs": inputs,
            "pack": pack,
            "device": device,
            "prompts": checked,
            "screened": screened,
        },
    )
    config_hash = stage.style_directions_hash(config, loaded, checked, channels)
    closed = finish(
        reports, store, stage.STAGE, num_shards=num_shards, config_hash=config_hash, config=config, pack=loaded, run=run
    )
    if closed["failures"] == len(checked):
        get_run_logger().error("no prompt has a direction; RUN/prompts says why for each")
    return closed
