"""How shards are run: as tasks, several at a time on threads, counted as they finish."""

from collections.abc import Iterator, Mapping
from dataclasses import asdict
from typing import Any

from prefect import get_run_logger
from prefect.futures import as_completed
from prefect.task_runners import ThreadPoolTaskRunner

from pipeline.config import StageConfig
from pipeline.machine.memory import keep_memory
from pipeline.packs.pack import Pack, load_pack
from pipeline.runs.shard import ShardReport, close_stage
from storage import Store


def open_run(run: str, inputs: str | None = None) -> tuple[Store, Store | None]:
    """The run's folder and, if named, the run to read from besides."""
    return Store(run), None if inputs is None else Store(inputs)


def use_pack(pack: str, device: str) -> Pack:
    """The pack, from this process's cache."""
    keep_memory()
    return load_pack(pack, device=device)


def warn_of_missing_identity(weight: float, pack: Pack) -> None:
    """A log line where the identity loss is weighed by default but the pack has no network to see it with."""
    if weight > 0 and pack.description.identity is None:
        get_run_logger().warning(
            "pack %r has no identity network: the identity loss (weight %g) is left out", pack.description.name, weight
        )


def report_dict(report: ShardReport) -> dict[str, Any]:
    """A shard's report as what may cross a task boundary."""
    return asdict(report)


def run_shards(task: Any, *, num_shards: int, workers: int, parameters: Mapping[str, Any]) -> list[dict[str, Any]]:
    """Run a shard task for every shard, ``workers`` at a time, and log each that finishes.

    A shard that fails does not stop the others; the first error is raised once all have ended.
    """
    logger = get_run_logger()
    reports: list[dict[str, Any]] = []
    errors: list[BaseException] = []
    every = [{**parameters, "shard": i} for i in range(num_shards)]
    for found in _results(task, every) if workers == 1 else _results_on_threads(task, every, workers):
        if isinstance(found, BaseException):
            errors.append(found)
            continue
        reports.append(found)
        logger.info(
            "%s: %d of %d shards, %d rows%s",
            found["stage"],
            len(reports),
            num_shards,
            found["rows"],
            " (already done)" if found["skipped"] else "",
        )
    if errors:
        raise errors[0]
    return reports


def _results(task: Any, every: list[dict[str, Any]]) -> Iterator[Any]:
    """In the flow's own thread: OpenMP counts a second thread's team as more threads than there are cores, and from
    then on every barrier sleeps instead of spinning; a backward pass on 2 cores takes a third longer.
    """
    for parameters in every:
        yield task(**parameters, return_state=True).result(raise_on_failure=False)


def _results_on_threads(task: Any, every: list[dict[str, Any]], workers: int) -> Iterator[Any]:
    with ThreadPoolTaskRunner(max_workers=workers) as runner:
        futures: list[Any] = [runner.submit(task, parameters=parameters) for parameters in every]
        for future in as_completed(futures):
            yield future.result(raise_on_failure=False)


def finish(
    reports: list[dict[str, Any]],
    store: Store,
    stage: str,
    *,
    num_shards: int,
    config_hash: str,
    config: StageConfig,
    pack: Pack,
    run: str,
) -> dict[str, Any]:
    """Close a stage and say in one line what was done; returns the closed stage's facts and how much was skipped."""
    closed = close_stage(store, stage, num_shards=num_shards, config_hash=config_hash, config=config, pack=pack)
    skipped = sum(report["skipped"] for report in reports)
    closed |= {"run": run, "shards_skipped": skipped}
    logger = get_run_logger()
    if skipped == len(reports):
        logger.info("%s: nothing to do, all %d shards were already done", closed["stage"], skipped)
    else:
        done = len(reports) - skipped
        logger.info("%s: made %d shards, %d were already done, %d rows", closed["stage"], done, skipped, closed["rows"])
    if closed["failures"]:
        logger.warning("%s: %d rows failed; their status column says so", closed["stage"], closed["failures"])
    return closed
