"""Checkpoints in other wrappings: a known network under a prefix, in a dict within a dict, or both.

``DataParallel`` puts ``module.`` before every name, training frameworks put a state under ``state_dict``,
``params_ema`` or ``g`` and the networks of one state under ``generator.`` or ``decoder.``. What is inside is told by
its names, so any wrapping comes off that leaves names of a known format.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from pipeline.checkpoints.detect import detect_format
from pipeline.checkpoints.pickle_globals import as_tensor

DEEPEST = 4  # wrappings within wrappings
BESIDE = ("latent_avg", "opts", "init_kwargs")  # what the readers want that stands beside a state, at any level
AVERAGED = "ema"  # in a key's name: of several states the running average is the one to draw with


@dataclass(frozen=True)
class Unwrapped:
    """What a file holds once its wrapping is off.

    Attributes:
        tree: as the readers want it; the file's own tree where nothing was taken off or no known format is inside.
        wrapping: what was taken off, e.g. ``state_dict, module.``; None where nothing was.
        seen: for a message, how the names of an unknown network are wrapped; None where they are not.
    """

    tree: Any
    wrapping: str | None = None
    seen: str | None = None


@dataclass(frozen=True)
class _State:
    """A dict with tensors, and what had to be taken off to get to it."""

    entries: Mapping[str, Any]
    path: tuple[str, ...]

    @property
    def rank(self) -> tuple[bool, int]:
        """Averaged states first, then the least wrapped."""
        return (not any(AVERAGED in part.lower() for part in self.path), len(self.path))


def unwrap(tree: Any) -> Unwrapped:
    """A file's tree without its wrapping.

    Args:
        tree: from ``read_foreign_file``.
    """
    if not isinstance(tree, dict) or detect_format(tree) is not None:
        return Unwrapped(tree)
    beside = dict(_beside(tree))
    states = sorted(_states(tree, ()), key=lambda state: state.rank)
    for state in states:
        for made in ({"g_ema": state.entries}, {"G_ema": state.entries}, {"state_dict": state.entries}, state.entries):
            whole = {**beside, **made}
            if detect_format(whole) is not None:
                return Unwrapped(whole, ", ".join(state.path))
    wrapped = [state for state in states if state.path]
    if not wrapped:
        return Unwrapped(tree)
    largest = max(wrapped, key=lambda state: (len(state.entries), len(state.path)))
    names = ", ".join(list(largest.entries)[:3])
    return Unwrapped(tree, seen=f"{', '.join(largest.path)}, and in it {names}"[:200])


def _states(entries: Any, path: tuple[str, ...]) -> Iterator[_State]:
    """The dicts with tensors in a tree, as they are and without each first part of their names."""
    if not isinstance(entries, dict) or len(path) > DEEPEST:
        return
    tensors = {
        key: value
        for key, value in entries.items()
        if isinstance(key, str) and as_tensor(value) is not None and key.rpartition(".")[2] not in BESIDE
    }
    if tensors:
        yield _State(tensors, path)
    prefixes = dict.fromkeys(key.partition(".")[0] for key in tensors if "." in key)
    for prefix in prefixes:
        start = f"{prefix}."
        inner = {key.removeprefix(start): value for key, value in tensors.items() if key.startswith(start)}
        yield from _states(inner, (*path, start))
    for key, value in entries.items():
        yield from _states(value, (*path, str(key)))


def _beside(entries: Any, depth: int = 0) -> Iterator[tuple[str, Any]]:
    """What stands beside a state, the innermost first, so that the outermost of one name is kept."""
    if not isinstance(entries, dict) or depth > DEEPEST:
        return
    for key, value in entries.items():
        yield from _beside(value, depth + 1)
        name = str(key).rpartition(".")[2]
        if name in BESIDE:
            yield name, value
