"""How far a shard is: stages say what they have done, whoever runs them may listen.

A stage calls ``advance`` in the thread that runs its shard; by itself that costs a look at a context variable.
"""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar

_LISTENER: ContextVar[Callable[[int], None] | None] = ContextVar("listener", default=None)


def advance(amount: int = 1) -> None:
    """Say that so many more units (images, steps, renders: the stage's own) are done."""
    listener = _LISTENER.get()
    if listener is not None:
        listener(amount)


@contextmanager
def listening(listener: Callable[[int], None]) -> Iterator[None]:
    """Have ``listener`` told of every ``advance`` in this context."""
    token = _LISTENER.set(listener)
    try:
        yield
    finally:
        _LISTENER.reset(token)
