"""What every step does: run a stage's shards, close the stage, say in one line what was done."""

import time
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from flows.engine import ENGINE
from flows.failures import Missing, missing_shards, shortfall, stops_the_run
from flows.jobs import Job, OpenWork, Work, config_of, open_work
from flows.stopping import check_stopped
from pipeline.errors import IncompleteError

if TYPE_CHECKING:
    from pipeline.runs.shard import ShardReport


def run_shards(opener: OpenWork, job: Job, *, workers: int = 1) -> "list[ShardReport]":
    """Run every shard of a job, all of which the next step needs.

    One that fails does not stop the others, unless no other could do better.

    Raises:
        IncompleteError: at the end, if some shards failed, naming them; where all failed, the first error itself.
    """
    work = open_work(opener, job)
    reports, missing = _run(opener, job, work, workers)
    if missing:
        raise _incomplete(work, missing)
    return reports


def run_stage(
    opener: OpenWork, job: Job, *, workers: int = 1, before: Callable[[], None] | None = None
) -> dict[str, Any]:
    """Run every shard of a job and close its stage, also without those that failed where the next stage can do so.

    Args:
        opener: opens the job in the process that runs a shard.
        job: what to work on.
        workers: shards at a time.
        before: called unless the stage is already closed with the same settings, for warnings that cost time.
    Returns:
        the closed stage's facts, with ``run``, ``shards_skipped``, and the shards that are ``missing``.
    Raises:
        IncompleteError: if shards failed and the next stage needs them all.
        storage.ConflictError: if the run holds this stage made with other settings, or of more; names what differs.
    """
    from pipeline.runs.conflicts import check_same_settings, is_closed
    from pipeline.runs.growth import forget_earlier, open_again
    from pipeline.runs.shard import close_stage

    work, config, pack = open_work(opener, job), config_of(job), job.open_pack()
    check_same_settings(
        job.store,
        work.stage,
        config_hash=work.config_hash,
        config=config,
        pack=pack,
        facts=work.facts,
        contents=work.contents,
    )
    if before is not None and not is_closed(
        job.store, work.stage, config_hash=work.config_hash, contents=work.contents
    ):
        before()
    open_again(
        job.store,
        work.stage,
        num_shards=work.num_shards,
        config_hash=work.config_hash,
        contents=work.contents,
        contents_of=work.contents_of,
        keep=work.takes_over,
    )
    reports, missing = _run(opener, job, work, workers)
    if missing and (work.rows_in is None or not reports):
        raise _incomplete(work, missing)
    closed = close_stage(
        job.store,
        work.stage,
        num_shards=work.num_shards,
        config_hash=work.config_hash,
        config=config,
        pack=pack,
        facts=work.facts,
        contents=work.contents,
        set_aside={one.shard: one.reason for one in missing},
        rows_in=work.rows_in,
        provisional=work.provisional,
    )
    if not missing:  # else a rerun takes over what is kept of them
        forget_earlier(job.store, work.stage)
    return _said(closed | {"run": job.run, "missing": missing}, reports)


def _incomplete(work: Work, missing: list[Missing]) -> IncompleteError:
    count = f"{len(missing)} of {work.num_shards}"
    return IncompleteError(
        f"{work.stage} must be whole for what comes next; {count} shards failed: {'; '.join(shortfall(missing))}. "
        f"The others are kept: run the same command again to do only these."
    )


def _run(opener: OpenWork, job: Job, work: Work, workers: int) -> "tuple[list[ShardReport], list[Missing]]":
    """What was made, and what failed and was set aside; if nothing could be made, the first error is raised."""
    log = ENGINE.get().log
    reports: list[ShardReport] = []
    errors: list[BaseException] = []
    start = time.monotonic()
    check_stopped()
    for outcome in ENGINE.get().shards(opener, job, work, workers=workers):
        if isinstance(outcome, BaseException):
            if stops_the_run(outcome):
                raise outcome
            log.info("set aside: %s", outcome)
            errors.append(outcome)
            continue
        reports.append(outcome)
        text = "%s: %d of %d shards, %d rows%s"
        rest = " (already done)" if outcome.skipped else _pace(reports, work.num_shards, time.monotonic() - start)
        where = {"stage": work.stage, "shard": outcome.shard}
        log.info(text, work.stage, len(reports), work.num_shards, outcome.rows, rest, extra=where)
    missing = missing_shards(work.stage, errors)
    if errors and not reports and not missing[0].waits:
        raise errors[0].__cause__ or errors[0]
    return reports, missing


def _pace(reports: "list[ShardReport]", num_shards: int, seconds: float) -> str:
    """Rows a second of the shards made now, and the time left at that pace; empty where there is nothing to say."""
    made = [report for report in reports if not report.skipped]
    left = num_shards - len(reports)
    if not left or seconds <= 0:
        return ""
    rate = sum(report.rows for report in made) / seconds
    return f", {rate:,.1f} rows/s, {seconds / len(made) * left:,.0f} s left"


def _said(closed: dict[str, Any], reports: "list[ShardReport]") -> dict[str, Any]:
    """The facts of a closed stage with how much was skipped; says it, and what failed."""
    log, stage = ENGINE.get().log, closed["stage"]
    skipped = sum(report.skipped for report in reports)
    if skipped == len(reports):
        log.info("%s: nothing to do, all %d shards were already done", stage, skipped, extra={"stage": stage})
    else:
        text = "%s: made %d shards, %d were already done, %d rows"
        log.info(text, stage, len(reports) - skipped, skipped, closed["rows"], extra={"stage": stage})
    if closed["failures"]:
        log.warning(
            "%s: %d rows failed; their status column says so", stage, closed["failures"], extra={"stage": stage}
        )
    return closed | {"shards_skipped": skipped}
