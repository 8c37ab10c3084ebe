"""The one switch every kernel shares."""

from typing import Literal, get_args

Impl = Literal["auto", "fast", "ref"]
_IMPLS: tuple[str, ...] = get_args(Impl)


def check_impl(impl: str) -> None:
    """Raise ValueError unless ``impl`` is one of ``"auto"``, ``"fast"``, ``"ref"``."""
    if impl not in _IMPLS:
        raise ValueError(f"`impl` must be one of {', '.join(_IMPLS)}; got {impl!r}.")
