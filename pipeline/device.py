"""The device that models run on: checked by name, before anything is loaded onto it."""

import torch

from pipeline.errors import DeviceError


def resolve_device(name: str) -> str:
    """The torch device of a name.

    Args:
        name: ``auto`` (a GPU where there is one), ``cpu``, ``cuda``, or one GPU of several, as ``cuda:1``.
    Raises:
        DeviceError: if there is no such device here; names those that are.
    """
    if name == "auto":
        return "cuda" if torch.cuda.is_available() else "cpu"
    count = torch.cuda.device_count() if torch.cuda.is_available() else 0
    there = ["cpu", *(["cuda"] if count else []), *(f"cuda:{i}" for i in range(count))]
    if name not in there:
        reason = "torch finds no GPU here" if not count else f"torch finds {count} GPU{'s' if count > 1 else ''} here"
        raise DeviceError(
            f"`device` must be one of {', '.join(there)} or auto; got {name!r}, and {reason}. "
            f"Take --device auto, which uses a GPU where there is one."
        )
    return name
