"""What becomes of a shard that fails: tried again, set aside, or the end of the run.

| what failed                                             | then                                               |
|---------------------------------------------------------|----------------------------------------------------|
| what may pass: a cut file, memory taken by another      | the shard is tried again, then set aside           |
| a bug, input that no stage knows how to take            | set aside at once; the other shards go on          |
| where results go: full, read-only, away for long        | the run stops; every other shard would fail too    |
| what all shards share: pack, device, another run's data | the run stops                                      |
"""

import logging
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from tenacity import Retrying, before_sleep_log, retry_if_exception, stop_after_attempt, wait_random_exponential

from flows.stopping import check_stopped
from pipeline.errors import DeviceError, MissingInputError, PackError, SetAsideError, ShardError

if TYPE_CHECKING:
    from pipeline.runs.shard import ShardReport

LONGEST_WAIT = 10.0  # seconds between two tries of a shard
SHOWN = 300  # characters of a reason
PASSING = ("OutOfMemoryError",)  # by name: torch's, which need not be imported to know it

log = logging.getLogger("styleclip")


@dataclass(frozen=True)
class Missing:
    """A shard that is not there at the end of its stage.

    Attributes:
        stage: name of the stage.
        shard: number of the shard.
        reason: why, in one line.
        waits: whether it only waits for one further up that failed.
    """

    stage: str
    shard: int
    reason: str
    waits: bool

    def __str__(self) -> str:
        return f"{self.stage} shard {self.shard}: {self.reason}"


def attempt(stage: str, shard: int, run: "Callable[[int], ShardReport]", *, tries: int) -> "ShardReport":
    """Run a shard, again where that can help.

    Args:
        stage: name of the stage.
        shard: number of the shard.
        run: makes it.
        tries: how often, at most.
    Raises:
        ShardError: if it failed and the others may go on.
        Exception: what stops the whole run, as it was raised (``stops_the_run``).
    """
    check_stopped()
    again = Retrying(
        retry=retry_if_exception(_may_pass),
        stop=stop_after_attempt(tries),
        wait=wait_random_exponential(max=LONGEST_WAIT),
        before_sleep=before_sleep_log(log, logging.INFO),
        reraise=True,
    )
    try:
        return again(run, shard)
    except Exception as error:
        if stops_the_run(error):
            raise
        raise ShardError(stage, shard, reason_of(error)) from error


def stops_the_run(error: BaseException) -> bool:
    """Whether no other shard could do better."""
    from storage import ConflictError, RefusedError, UnavailableError

    if isinstance(error, SetAsideError | ShardError):
        return False
    shared = (ConflictError, RefusedError, UnavailableError, DeviceError, PackError, MissingInputError)
    return isinstance(error, shared) or not isinstance(error, Exception)


def _may_pass(error: BaseException) -> bool:
    from storage import CorruptError

    return isinstance(error, CorruptError) or type(error).__name__ in PASSING


def reason_of(error: BaseException) -> str:
    """An error in one line, with its type where that says more than its words."""
    from pipeline.errors import PipelineError
    from storage import StorageError, without_secrets

    text = " ".join(str(error).split())
    if not isinstance(error, PipelineError | StorageError):
        text = f"{type(error).__name__}: {text}" if text else type(error).__name__
    return without_secrets(text)[:SHOWN]


def missing_shards(stage: str, errors: Sequence[BaseException]) -> list[Missing]:
    """The shards behind a stage's errors, by number.

    Raises:
        BaseException: the first error of which nobody knows the shard: whoever ran it died.
    """
    found = []
    for error in errors:
        if not isinstance(error, ShardError):
            raise error
        found.append(Missing(stage, error.shard, error.reason, isinstance(error.__cause__, SetAsideError)))
    return sorted(found, key=lambda missing: missing.shard)


def shortfall(missing: Sequence[Missing]) -> list[str]:
    """What failed, a line each, and how many shards only wait for those."""
    failed = [str(one) for one in missing if not one.waits]
    waiting = sum(one.waits for one in missing)
    return failed + ([f"{waiting} further shards wait for these"] if waiting else [])
