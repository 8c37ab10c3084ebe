"""Flow ``report``: contact sheet and summary of a run."""

from typing import Annotated, Any

from prefect import flow, get_run_logger, task
from prefect.cache_policies import NO_CACHE
from pydantic import Field

from flows import parameters as p
from flows.runners import finish, open_run, report_dict, use_pack
from pipeline.config import ReportConfig
from pipeline.runs.shard import find_input
from pipeline.stages import report as stage


@task(name="draw-report", cache_policy=NO_CACHE)
def draw_report(config: ReportConfig, run: str, inputs: str | None, pack: str, device: str) -> dict[str, Any]:
    """Draw the contact sheet and write the summary."""
    store, other = open_run(run, inputs)
    return report_dict(
        stage.run_report(
            config,
            store,
            use_pack(pack, device),
            dataset=find_input("dataset", store, other),
            edited=find_input("edited_latents", store, other),
            scores=find_input("scores", store, other),
        )
    )


@flow(name="report")
def report(
    run: p.RunUri,
    inputs: p.InputsUri = None,
    pack: p.PackUri = "peeps",
    rows: Annotated[int, Field(ge=1, description="Latents on the contact sheet.")] = 8,
    columns: Annotated[int, Field(ge=1, description="Prompts on the contact sheet.")] = 10,
    device: p.Device = "auto",
) -> dict[str, Any]:
    """Draw RUN/contact_sheet.png and write RUN/summary.parquet. Needs score-edits."""
    config = ReportConfig(rows=rows, columns=columns)
    loaded = use_pack(pack, device)
    store, other = open_run(run, inputs)
    scores = find_input("scores", store, other)
    reports = [draw_report(config, run, inputs, pack, device)]
    config_hash = stage.report_hash(config, loaded, scores)
    closed = finish(
        reports, store, stage.STAGE, num_shards=1, config_hash=config_hash, config=config, pack=loaded, run=run
    )
    get_run_logger().info("contact sheet: %s/%s", store.uri, stage.CONTACT_SHEET)
    return closed
