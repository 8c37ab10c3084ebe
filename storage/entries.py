"""One name in a folder, with what the filesystem says of it."""

import posixpath
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any


@dataclass(frozen=True)
class Entry:
    """One name in a folder.

    Attributes:
        name: the last part of its path.
        is_folder: whether it is a folder.
        bytes: size of a file, 0 for a folder.
        modified: when it was last written, in UTC; None where the system does not say, as for a bucket's folders.
    """

    name: str
    is_folder: bool
    bytes: int
    modified: datetime | None


def entry_of(details: dict[str, Any]) -> Entry:
    """What a filesystem says of a name, in one form; each has a key of its own for the time."""
    stamp = details.get("mtime", details.get("LastModified", details.get("last_modified", details.get("updated"))))
    if stamp is None:
        stamp = details.get("created")
    if isinstance(stamp, int | float):
        stamp = datetime.fromtimestamp(stamp, UTC)
    elif isinstance(stamp, str):
        stamp = datetime.fromisoformat(stamp.replace("Z", "+00:00"))
    folder = details["type"] == "directory"
    name = posixpath.basename(details["name"].rstrip("/"))
    return Entry(name, folder, 0 if folder else int(details["size"] or 0), stamp)
