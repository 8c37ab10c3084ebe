"""Ctrl-C and SIGTERM: the shards at work are finished, no other is begun; a second signal stops at once."""

import signal
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from threading import Event
from types import FrameType
from typing import Any

SIGNALS = (signal.SIGINT, signal.SIGTERM)
_REQUESTED = Event()


class Stopped(KeyboardInterrupt):
    """The user, or the system, asked the run to stop."""


def check_stopped() -> None:
    """Nothing, unless a stop was asked for: then no further shard is begun.

    Raises:
        Stopped: if it was.
    """
    if _REQUESTED.is_set():
        raise Stopped


@contextmanager
def stopping_between_shards(told: Callable[[], None]) -> "Iterator[list[int]]":
    """In this context the first signal is kept for ``check_stopped``, the second raises at once.

    Only the main thread can be told of signals; elsewhere, nothing changes.

    Args:
        told: called at the first signal.
    Yields:
        the signals that came.
    """
    came: list[int] = []

    def note(number: int, frame: FrameType | None) -> None:
        came.append(number)
        if len(came) > 1:
            raise Stopped
        _REQUESTED.set()
        told()

    before: dict[int, Any] = {}
    try:
        for number in SIGNALS:
            before[number] = signal.signal(number, note)
    except ValueError:  # not the main thread
        pass
    try:
        yield came
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
        _REQUESTED.clear()
