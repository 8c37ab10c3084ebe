"""Contact sheet and summary of a run."""

from typing import Any

from flows.commands import Request, command
from flows.engine import ENGINE
from flows.jobs import Job, Work
from flows.parameters import INPUTS, RUN, RUN_ON, settings_of
from flows.shards import run_stage
from pipeline.config import ReportConfig


def open_report(job: Job) -> Work:
    """The report, in one piece."""
    from pipeline.runs.growth import check_made_of
    from pipeline.runs.shard import find_input
    from pipeline.stages import report as stage

    config, pack = job.config, job.open_pack()
    scores, dataset = find_input("scores", *job.stores), find_input("dataset", *job.stores)
    check_made_of(scores, dataset)
    return Work(
        stage=stage.STAGE,
        num_shards=1,
        config_hash=stage.report_hash(config, pack, scores),
        run_shard=lambda _: stage.run_report(
            config,
            job.store,
            pack,
            dataset=dataset,
            edited=find_input("edited_latents", *job.stores),
            scores=scores,
        ),
        provisional=scores.is_partial,
        facts={"scores": scores.config_hash},
        contents=stage.report_contents(scores),
        contents_of=lambda _: stage.report_contents(scores),
    )


@command("Contact sheet and summary of a run.", RUN, INPUTS, *RUN_ON, settings_of(ReportConfig))
def report(request: Request) -> dict[str, Any]:
    """Draw RUN/contact_sheet.png and write RUN/summary.parquet. Needs score-edits."""
    from pipeline.stages.report import CONTACT_SHEET

    job = request.job(request.config(ReportConfig))
    closed = run_stage(open_report, job)
    ENGINE.get().log.info("contact sheet: %s/%s", job.store.uri, CONTACT_SHEET)
    return closed
