"""The one switch every kernel shares."""

from typing import Literal, get_args

Impl = Literal["auto", "fast", "ref"]


def check_impl(impl: str) -> None:
    """Raise ValueError unless ``impl`` is one of ``"auto"``, ``"fast"``, ``"ref"``."""
    if impl not in get_args(Impl):
        raise ValueError(f"`impl` must be one of {', '.join(get_args(Impl))}; got {impl!r}.")
