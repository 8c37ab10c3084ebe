"""Channel directions for a prompt list, measured only where the prompts need them: a part of ``global-directions``."""

from dataclasses import replace
from typing import TYPE_CHECKING, Any

from flows.jobs import Job, Work
from flows.prompt_lists import prompt_contents
from flows.shards import run_shards, run_stage

if TYPE_CHECKING:
    from pipeline.stages.screened_directions import Screening


def open_screening(job: Job) -> "Screening":
    """The screening as every shard sees it; goes on from the sums of ``inputs`` if those were measured alike."""
    from pipeline.directions.statistics import find_statistics
    from pipeline.runs.shard import find_optional_input
    from pipeline.stages.screened_directions import STAGE, Screening, accepts

    store, other = job.stores
    pack = job.open_pack()
    statistics = find_statistics(pack, store, other)
    assert statistics is not None, "the flow sees to the statistics first"
    earlier = None if other is None else find_optional_input(STAGE, other)
    if earlier is not None and not accepts(earlier, job.config, pack, statistics):
        earlier = None
    return Screening(job.config, store, pack, prompts=list(job.prompts), statistics=statistics, earlier=earlier)


def open_texts(job: Job) -> Work:
    """Text directions of all prompts."""
    from pipeline.stages.screened_directions import TEXTS_STAGE

    opened = open_screening(job)
    return Work(TEXTS_STAGE, 1, opened.config_hash, lambda _: opened.run_texts())


def open_slopes(job: Job) -> Work:
    """Slopes by ranges of images."""
    from pipeline.stages.screened_directions import SLOPES_STAGE

    opened = open_screening(job)
    return Work(
        SLOPES_STAGE,
        opened.num_slopes_shards,
        opened.config_hash,
        opened.run_slopes_shard,
        total=job.config.num_gradient_images,
        unit="images",
    )


def open_plan(job: Job) -> Work:
    """The channels of one round."""
    from pipeline.stages.screened_directions import PLAN_STAGE

    opened, number = open_screening(job), job.options["number"]
    return Work(PLAN_STAGE, 1, opened.config_hash, lambda _: opened.run_plan(number))


def open_sums(job: Job) -> Work:
    """One round of measuring, by ranges of its channels."""
    opened, number = open_screening(job), job.options["number"]
    return Work(
        opened.sums_stage(number),
        opened.num_sums_shards(number),
        opened.config_hash,
        lambda shard: opened.run_sums_shard(number, shard),
        total=opened.renders(number + 1) - opened.renders(number),
        unit="renders",
    )


def open_table(job: Job) -> Work:
    """The table of directions."""
    from pipeline.stages.screened_directions import STAGE

    opened = open_screening(job)
    return Work(
        STAGE,
        1,
        opened.config_hash,
        lambda _: opened.run_directions(),
        contents={**prompt_contents(job.prompts), "earlier": opened.contents["earlier"]},
        contents_of=lambda _: opened.contents,
    )


def screen(job: Job, *, workers: int) -> dict[str, Any]:
    """Screen a prompt list into RUN/screened_directions. Needs style statistics, of the run or of the pack."""
    opened = open_screening(job)
    run_shards(open_texts, job)
    run_shards(open_slopes, job, workers=workers)
    for number in range(opened.num_rounds):
        round_ = replace(job, options={"number": number})
        run_shards(open_plan, round_)
        run_shards(open_sums, round_, workers=workers)
    return run_stage(open_table, job)
