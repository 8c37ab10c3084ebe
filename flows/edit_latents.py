"""Every latent with every edit, whichever method found it."""

from typing import TYPE_CHECKING, Any

from flows.commands import Request, command
from flows.engine import ENGINE
from flows.jobs import Job, Work
from flows.parameters import INPUTS, PROMPTS, RUN, RUN_ON, STRENGTHS_SHOWN, WORKERS, settings_of
from flows.prompt_lists import load_prompts, prompt_contents
from flows.shards import run_stage
from pipeline.config import EditedLatentsConfig

if TYPE_CHECKING:
    from pipeline.prompts import Method
    from pipeline.runs.shard import Contents, Input

STRENGTHS = settings_of(EditedLatentsConfig, only=["strengths"], shown={"strengths": STRENGTHS_SHOWN})


def find_sources(job: Job) -> "tuple[Input, dict[Method, Input]]":
    """The latents, and for each method in the list what it left."""
    from pipeline.runs.edits import SOURCES
    from pipeline.runs.shard import find_input

    methods: set[Method] = {prompt.method for prompt in job.prompts}
    sources: dict[Method, Input] = {method: find_input(SOURCES[method], *job.stores) for method in methods}
    return find_input("latents", *job.stores), sources


def open_edited_latents(job: Job) -> Work:
    """Edited latents by ranges of latents."""
    from pipeline.runs.contents import digest
    from pipeline.runs.edits import SOURCES, is_provisional, load_edits
    from pipeline.runs.growth import check_made_of
    from pipeline.runs.shard import find_optional_input, shard_bounds
    from pipeline.stages import edited_latents as stage

    config, pack, prompts = job.config, job.open_pack(), list(job.prompts)
    latents, sources = find_sources(job)
    for method in stage.SEARCHED:
        if method in sources:
            check_made_of(sources[method], latents)
    edits, plan = load_edits(config, pack, prompts, sources), find_optional_input("edit_plan", job.store)

    def contents_of(shard: int) -> "Contents":
        bounds = shard_bounds(latents.rows, config.shard_size, shard)
        return stage.edited_latents_contents(latents.slice_table(bounds.start, bounds.stop), edits)

    return Work(
        stage=stage.STAGE,
        num_shards=stage.edited_latents_num_shards(config, latents),
        config_hash=stage.edited_latents_hash(config, pack, latents, plan),
        run_shard=lambda shard: stage.run_edited_latents_shard(
            config, job.store, pack, shard, latents=latents, edits=edits, plan=plan
        ),
        total=latents.rows,
        unit="latents",
        facts={"latents": latents.config_hash, **({} if plan is None else {"edit_plan": plan.config_hash})},
        contents={
            **latents.contents,
            **prompt_contents(prompts),
            "latents": latents.state,
            "settings": {SOURCES[method]: source.config_hash for method, source in sources.items()},
            "sources": digest({SOURCES[method]: source.state for method, source in sources.items()}),
        },
        rows_in=(lambda shard: edits.per_latent * len(shard_bounds(latents.rows, config.shard_size, shard)))
        if plan is None  # which may leave pairs out
        else None,
        provisional=latents.provisional or is_provisional(prompts, sources),
        contents_of=contents_of,
    )


@command(
    "Every latent with every edit, from the prompts' methods.",
    PROMPTS,
    RUN,
    INPUTS,
    *RUN_ON,
    STRENGTHS,
    settings_of(EditedLatentsConfig, only=["templates", "shard_size"]),
    WORKERS,
)
def edit_latents(request: Request) -> dict[str, Any]:
    """Write every latent with every edit of a prompt list into RUN/edited_latents.

    Needs sample-latents and, for the methods in the list, global-directions, train-mappers or optimize-latents.
    """
    from pipeline.runs.edits import load_edits

    pack, config = request.job().open_pack(), request.config(EditedLatentsConfig)
    prompts = load_prompts(request["prompts"], neutral=pack.description.neutral)
    job = request.job(config, prompts=prompts)
    closed = run_stage(open_edited_latents, job, workers=request["workers"])
    failed = [row for row in load_edits(config, pack, prompts, find_sources(job)[1]).rows if row.status != "ok"]
    for row in failed:
        ENGINE.get().log.warning("%s", row.error)
    return closed | {"failed_prompts": len(failed)}
