"""What every step does: run a stage's shards, close the stage, say in one line what was done."""

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from flows.engine import ENGINE
from flows.jobs import Job, OpenWork, Work, config_of

if TYPE_CHECKING:
    from pipeline.runs.shard import ShardReport


def run_shards(opener: OpenWork, job: Job, *, workers: int = 1) -> "list[ShardReport]":
    """Run every shard of a job. One that fails does not stop the others; the first error is raised at the end."""
    return _run(opener, job, opener(job), workers)


def run_stage(
    opener: OpenWork, job: Job, *, workers: int = 1, before: Callable[[], None] | None = None
) -> dict[str, Any]:
    """Run every shard of a job and close its stage.

    Args:
        opener: opens the job in the process that runs a shard.
        job: what to work on.
        workers: shards at a time.
        before: called unless the stage is already closed with the same settings, for warnings that cost time.
    Returns:
        the closed stage's facts, with ``run`` and ``shards_skipped``.
    Raises:
        storage.ConflictError: if the run holds this stage made with other settings; names them.
    """
    from pipeline.runs.conflicts import check_same_settings, is_closed
    from pipeline.runs.shard import close_stage

    work, config, pack = opener(job), config_of(job), job.open_pack()
    check_same_settings(job.store, work.stage, config_hash=work.config_hash, config=config, pack=pack, facts=work.facts)
    if before is not None and not is_closed(job.store, work.stage, config_hash=work.config_hash):
        before()
    reports = _run(opener, job, work, workers)
    closed = close_stage(
        job.store,
        work.stage,
        num_shards=work.num_shards,
        config_hash=work.config_hash,
        config=config,
        pack=pack,
        facts=work.facts,
    )
    return _said(closed | {"run": job.run}, reports)


def _run(opener: OpenWork, job: Job, work: Work, workers: int) -> "list[ShardReport]":
    log = ENGINE.get().log
    reports: list[ShardReport] = []
    errors: list[BaseException] = []
    for outcome in ENGINE.get().shards(opener, job, work, workers=workers):
        if isinstance(outcome, BaseException):
            errors.append(outcome)
            continue
        reports.append(outcome)
        again = " (already done)" if outcome.skipped else ""
        log.info("%s: %d of %d shards, %d rows%s", work.stage, len(reports), work.num_shards, outcome.rows, again)
    if errors:
        raise errors[0]
    return reports


def _said(closed: dict[str, Any], reports: "list[ShardReport]") -> dict[str, Any]:
    """The facts of a closed stage with how much was skipped; says it, and what failed."""
    log, stage = ENGINE.get().log, closed["stage"]
    skipped = sum(report.skipped for report in reports)
    if skipped == len(reports):
        log.info("%s: nothing to do, all %d shards were already done", stage, skipped)
    else:
        log.info(
            "%s: made %d shards, %d were already done, %d rows", stage, len(reports) - skipped, skipped, closed["rows"]
        )
    if closed["failures"]:
        log.warning("%s: %d rows failed; their status column says so", stage, closed["failures"])
    return closed | {"shards_skipped": skipped}
