"""Whole files on a local disk, written so that neither a crash nor a power cut leaves half of one."""

import os
import re
import uuid
from pathlib import Path
from typing import NoReturn

TEMPORARY = re.compile(r"\.[0-9a-f]{32}\.tmp")  # what a crash may leave of a write


def write_local(target: Path, data: bytes) -> None:
    """The whole file or nothing, on the disk when it returns."""
    target.parent.mkdir(parents=True, exist_ok=True)
    temporary = target.with_name(f".{uuid.uuid4().hex}.tmp")  # same folder: no rename is atomic across filesystems
    try:
        with temporary.open("xb") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        os.replace(temporary, target)
    finally:
        temporary.unlink(missing_ok=True)
    _sync_folder(target.parent)


def create_local(target: Path, data: bytes) -> None:
    """Whole or not at all, and not if it is there: a link is refused where its name is taken, on network disks too."""
    target.parent.mkdir(parents=True, exist_ok=True)
    temporary = target.with_name(f".{uuid.uuid4().hex}.tmp")
    try:
        temporary.write_bytes(data)
        try:
            os.link(temporary, target)
        except (PermissionError, NotImplementedError):  # a file system without links
            with target.open("xb") as file:
                file.write(data)
    finally:
        temporary.unlink(missing_ok=True)


def _sync_folder(folder: Path) -> None:
    """Make the rename itself survive a power cut."""
    if os.name != "posix":
        return
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def find_local(folder: str) -> list[str]:
    """Every file below a folder; unlike fsspec's find it raises where it may not look instead of leaving that out."""
    if not os.path.isdir(folder):
        return []
    walk = os.walk(folder, onerror=_reraise)
    return [Path(parent, name).as_posix() for parent, _, names in walk for name in names]


def _reraise(error: OSError) -> NoReturn:
    raise error
