"""Screening a prompt list inside a flow: texts, slopes, rounds of measuring, the table; each step as tasks."""

from typing import Any

from prefect import task
from prefect.cache_policies import NO_CACHE

from flows.runners import finish, open_run, report_dict, run_shards, use_pack
from flows.style_statistics import style_statistics
from pipeline.config import ScreeningConfig
from pipeline.directions.statistics import find_statistics
from pipeline.packs.pack import Pack
from pipeline.prompts import Prompt
from pipeline.runs.shard import find_optional_input
from pipeline.stages.screened_directions import STAGE, Screening, accepts


def open_screening(
    config: ScreeningConfig, run: str, inputs: str | None, pack: Pack, prompts: list[Prompt]
) -> Screening:
    """The screening as every task sees it; goes on from the sums of ``inputs`` if those were measured alike."""
    store, other = open_run(run, inputs)
    statistics = find_statistics(pack, store, other)
    assert statistics is not None, "the flow sees to the statistics first"
    earlier = None if other is None else find_optional_input(STAGE, other)
    if earlier is not None and not accepts(earlier, config, pack, statistics):
        earlier = None
    return Screening(config, store, pack, prompts=prompts, statistics=statistics, earlier=earlier)


@task(name="screening-texts", cache_policy=NO_CACHE)
def screening_texts(
    config: ScreeningConfig, run: str, inputs: str | None, pack: str, device: str, prompts: list[Prompt]
) -> dict[str, Any]:
    """Text directions of all prompts."""
    return report_dict(open_screening(config, run, inputs, use_pack(pack, device), prompts).run_texts())


@task(name="channel-slopes-shard", cache_policy=NO_CACHE, task_run_name="channel slopes {shard}")
def channel_slopes_shard(
    config: ScreeningConfig, run: str, inputs: str | None, pack: str, device: str, prompts: list[Prompt], shard: int
) -> dict[str, Any]:
    """Slopes over one range of images."""
    return report_dict(open_screening(config, run, inputs, use_pack(pack, device), prompts).run_slopes_shard(shard))


@task(name="screening-plan", cache_policy=NO_CACHE, task_run_name="screening plan {number}")
def screening_plan(
    config: ScreeningConfig, run: str, inputs: str | None, pack: str, device: str, prompts: list[Prompt], number: int
) -> dict[str, Any]:
    """The channels of one round."""
    return report_dict(open_screening(config, run, inputs, use_pack(pack, device), prompts).run_plan(number))


@task(name="screening-sums-shard", cache_policy=NO_CACHE, task_run_name="screening round {number} shard {shard}")
def screening_sums_shard(
    config: ScreeningConfig,
    run: str,
    inputs: str | None,
    pack: str,
    device: str,
    prompts: list[Prompt],
    number: int,
    shard: int,
) -> dict[str, Any]:
    """Measure one range of a round's channels."""
    opened = open_screening(config, run, inputs, use_pack(pack, device), prompts)
    return report_dict(opened.run_sums_shard(number, shard))


@task(name="screened-directions", cache_policy=NO_CACHE)
def screened_directions(
    config: ScreeningConfig, run: str, inputs: str | None, pack: str, device: str, prompts: list[Prompt]
) -> dict[str, Any]:
    """The table of directions."""
    return report_dict(open_screening(config, run, inputs, use_pack(pack, device), prompts).run_directions())


def screen(
    config: ScreeningConfig,
    *,
    run: str,
    inputs: str | None,
    pack: str,
    device: str,
    prompts: list[Prompt],
    workers: int,
) -> dict[str, Any]:
    """Screen a prompt list into RUN/screened_directions; to be called inside a flow.

    Measures style statistics first where neither run nor pack has any.
    """
    loaded = use_pack(pack, device)
    if find_statistics(loaded, *open_run(run, inputs)) is None:
        style_statistics(run=run, pack=pack, psi=config.psi, workers=workers, device=device)
    shared: dict[str, Any] = {
        "config": config,
        "run": run,
        "inputs": inputs,
        "pack": pack,
        "device": device,
        "prompts": prompts,
    }
    opened = open_screening(config, run, inputs, loaded, prompts)
    reports = [screening_texts(**shared)]
    reports += run_shards(channel_slopes_shard, num_shards=opened.num_slopes_shards, workers=workers, parameters=shared)
    for number in range(opened.num_rounds):
        reports.append(screening_plan(**shared, number=number))
        reports += run_shards(
            screening_sums_shard,
            num_shards=opened.num_sums_shards(number),
            workers=workers,
            parameters={**shared, "number": number},
        )
    reports.append(screened_directions(**shared))
    return finish(
        reports, opened.store, STAGE, num_shards=1, config_hash=opened.config_hash, config=config, pack=loaded, run=run
    )
