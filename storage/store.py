"""Named bytes in a folder, the same on a disk, in memory and in a bucket."""

import builtins
import os
import posixpath
import re
import tempfile
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, NoReturn

import fsspec
from fsspec.core import url_to_fs
from fsspec.utils import get_protocol

from storage.errors import BadUriError, MissingError, StorageError

LOCAL_PROTOCOLS = ("file", "local")
BUCKET_PROTOCOLS = ("s3", "s3a", "gs", "gcs", "abfs", "az")

TEMPORARY = re.compile(r"\.[0-9a-f]{32}\.tmp")  # of a local write

# With its listing cache s3fs shows neither list() nor exists() what another process wrote after the first listing.
OPTIONS: dict[str, dict[str, Any]] = {
    "s3": {"use_listings_cache": False},
    "s3a": {"use_listings_cache": False},
}


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


class Store:
    """A folder of files at any fsspec URI; holds its URI and nothing else, so it can be pickled and shared.

    Paths are relative to the folder and '/'-separated; no part may be empty or start with a dot. Such names are left
    to temporary files, which no listing shows. S3 takes its endpoint, keys and region from the environment
    (``AWS_ENDPOINT_URL``, ``AWS_ACCESS_KEY_ID``, ...) and nowhere else. ``memory://`` lives in one process.

    Args:
        uri: a local path (made absolute), ``file://``, ``memory://``, ``s3://bucket/folder``, or any other fsspec URI
            whose package is installed. The folder need not exist.
    Raises:
        BadUriError: for an unknown protocol, a chain of filesystems (``a::b``), or a bucket protocol without a bucket.
    """

    def __init__(self, uri: str | os.PathLike[str]) -> None:
        self._uri = _normalized(os.fspath(uri))

    @classmethod
    def of_file(cls, uri: str | os.PathLike[str]) -> "tuple[Store, str]":
        """The store of the folder that a file is in, and the file's name there.

        Args:
            uri: path or URI of a file, as a store's.
        Raises:
            BadUriError: as for a store, or if the URI names no file.
        """
        protocol, mark, path = os.fspath(uri).rpartition("://")
        folder, name = posixpath.split(path)
        if not name:
            raise BadUriError(f"a file's URI must end in its name; got {os.fspath(uri)!r}.")
        return cls(f"{protocol}{mark}{folder}" or "."), name

    @property
    def uri(self) -> str:
        """Where the folder is: an absolute path if local, else ``protocol://path``; never with a trailing slash."""
        return self._uri

    def read_bytes(self, path: str) -> bytes:
        """The whole file.

        Raises:
            MissingError: if there is no such file.
        """
        filesystem, target = self._locate(path)
        with _wrapped("read", self._name(path)):
            return filesystem.cat_file(target)

    def write_bytes(self, path: str, data: bytes) -> None:
        """Write the whole file or nothing: a reader sees the old bytes or the new, also after a crash half-way.

        Local: temporary file in the same folder, fsync, rename; the folders above it are made. Elsewhere one
        ``pipe_file`` (S3: one PUT, or a multipart upload that shows only once complete). An open writer would do
        neither: fsspec commits it on an exception too, and a cut Parquet file can still be valid.

        Raises:
            MissingError: if the bucket does not exist.
            StorageError: if the system refuses (rights, space, a folder of that name).
        """
        filesystem, target = self._locate(path)
        with _wrapped("write", self._name(path)):
            if self._is_local:
                _write_local(Path(target), data)
            else:
                filesystem.pipe_file(target, data)

    def read_end(self, path: str, size: int) -> bytes:
        """The last ``size`` bytes of a file, all of it where it has fewer; no more than these cross the network.

        Raises:
            MissingError: if there is no such file.
            StorageError: if the system refuses.
        """
        filesystem, target = self._locate(path)
        with _wrapped("read", self._name(path)):
            total = filesystem.size(target)
            return filesystem.cat_file(target, start=max(0, total - size), end=total)

    def exists(self, path: str) -> bool:
        """Whether there is a file (not a folder) of that path."""
        filesystem, target = self._locate(path)
        try:
            with _wrapped("look up", self._name(path)):
                return filesystem.info(target)["type"] == "file"
        except MissingError:
            return False

    def list(self, prefix: str = "") -> list[str]:
        """Sorted paths of every file in the folder ``prefix`` and below, relative to the store; [] if it is absent.

        ``prefix`` is a folder, not the beginning of a name. Files and folders whose name starts with a dot are left
        out: temporary files of a crashed write, ``.DS_Store``, ``.ipynb_checkpoints``.
        """
        filesystem, root = self._root()
        folder = self._locate(prefix)[1] if prefix else root
        with _wrapped("list", self._name(prefix)):
            found = _find_local(folder) if self._is_local else _find_remote(filesystem, folder)
        start = posixpath.join(root, "")
        inside = posixpath.join(folder, "")
        paths = (name.removeprefix(start) for name in found if name.startswith(inside))
        return sorted(path for path in paths if not _is_hidden(path))

    def entries(self, prefix: str = "") -> "builtins.list[Entry]":
        """What is in the folder ``prefix`` itself, not below, by name; [] if it is absent. No hidden names."""
        return [entry for entry in self._entries(prefix) if not _is_hidden(entry.name)]

    def leftovers(self, prefix: str = "") -> "builtins.list[Entry]":
        """Temporary files in the folder ``prefix`` itself that a crashed write left; only local folders have any."""
        return [entry for entry in self._entries(prefix) if TEMPORARY.fullmatch(entry.name)]

    def delete_leftover(self, prefix: str, name: str) -> None:
        """Delete one of ``leftovers``, which ``delete`` cannot name."""
        if not TEMPORARY.fullmatch(name):
            raise ValueError(f"a leftover must be a temporary file of this package; got {name!r}.")
        with _wrapped("delete", self._name(prefix)):
            Path(self._locate(prefix)[1] if prefix else self._uri, name).unlink(missing_ok=True)

    def _entries(self, prefix: str) -> "builtins.list[Entry]":
        filesystem, root = self._root()
        folder = self._locate(prefix)[1] if prefix else root
        try:
            with _wrapped("list", self._name(prefix)):
                found = filesystem.ls(folder, detail=True)
        except MissingError:
            return []
        inside = posixpath.join(folder.rstrip("/"), "")
        entries = [_entry(details) for details in found if details["name"].rstrip("/") + "/" != inside]
        return sorted(entries, key=lambda entry: entry.name)

    def delete(self, path: str) -> None:
        """Delete the file; nothing happens if it is not there (S3 could not tell)."""
        if not self.exists(path):
            return
        filesystem, target = self._locate(path)
        with _wrapped("delete", self._name(path)):
            filesystem.rm_file(target)

    def check_writable(self) -> None:
        """Write a byte and take it back, so that a place that cannot be written is known before any work.

        Nothing is left behind: locally the byte goes to the nearest folder that exists, elsewhere to a file that is
        deleted at once. ``memory://`` is always writable.

        Raises:
            MissingError: if the bucket does not exist.
            StorageError: if the system refuses.
        """
        if self._is_local:
            folder = Path(self._uri)
            while not folder.exists():
                folder = folder.parent
            try:
                with tempfile.TemporaryFile(dir=folder) as file:
                    file.write(b"x")
            except OSError as error:
                raise StorageError(
                    f"the system must let us write {self._uri}; got: {error}. Check rights and space, or take another "
                    f"folder."
                ) from error
        elif get_protocol(self._uri) != "memory":
            probe = f"_probe-{uuid.uuid4().hex}"
            self.write_bytes(probe, b"x")
            self.delete(probe)

    def child(self, path: str) -> "Store":
        """The store at a folder of this one."""
        return Store(self._name(_checked(path)))

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Store) and other.uri == self.uri

    def __hash__(self) -> int:
        return hash(self._uri)

    def __repr__(self) -> str:
        return f"Store({self._uri!r})"

    @property
    def _is_local(self) -> bool:
        return get_protocol(self._uri) in LOCAL_PROTOCOLS

    def _name(self, path: str) -> str:
        """The full URI of a path, for messages and for children."""
        return posixpath.join(self._uri, path) if path else self._uri

    def _root(self) -> tuple[Any, str]:
        """Filesystem (fsspec keeps one per process and thread) and the folder's name in it."""
        filesystem, root = url_to_fs(self._uri, **OPTIONS.get(get_protocol(self._uri), {}))
        return filesystem, root or "/"  # the whole of memory://

    def _locate(self, path: str) -> tuple[Any, str]:
        """Filesystem and the file's name in it."""
        filesystem, root = self._root()
        return filesystem, posixpath.join(root, _checked(path))


def _entry(details: dict[str, Any]) -> Entry:
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


def _normalized(uri: str) -> str:
    """One spelling per place: local paths absolute and without protocol, no trailing slash and no doubled one."""
    if not uri or "::" in uri:
        raise BadUriError(
            f"a store's URI must be one path or protocol://path; got {uri!r}. Name a folder, without '::'."
        )
    protocol = get_protocol(uri)
    _check_protocol(protocol, uri)
    if protocol in LOCAL_PROTOCOLS:
        path = os.path.abspath(url_to_fs(uri)[1])
        return Path(re.sub(r"^//+", "/", path)).as_posix()  # POSIX lets "//" at the start be another place
    path = re.sub(r"/{2,}", "/", uri.split("://", 1)[1]).strip("/")
    if not path and protocol in BUCKET_PROTOCOLS:
        raise BadUriError(f"a {protocol} URI must name a bucket; got {uri!r}. Write {protocol}://bucket/folder.")
    return f"{protocol}://{path}"


def _check_protocol(protocol: str, uri: str) -> None:
    try:
        fsspec.get_filesystem_class(protocol)
    except ValueError as error:
        raise BadUriError(
            f"the protocol of a store must be one that fsspec knows; got {protocol!r} in {uri!r}. "
            f"Use a local path, file://, memory:// or s3://."
        ) from error
    except ImportError as error:
        raise BadUriError(f"{uri!r} must have its filesystem installed; got: {error}. Install that package.") from error


def _checked(path: str) -> str:
    if any(not part or part.startswith(".") for part in path.split("/")):
        raise BadUriError(
            f"a path must be relative, '/'-separated, and have no empty part and none that starts with a dot; "
            f"got {path!r}. Give the path below the store's folder, or open another store."
        )
    return path


def _is_hidden(path: str) -> bool:
    return any(part.startswith(".") for part in path.split("/"))


@contextmanager
def _wrapped(action: str, name: str) -> Iterator[None]:
    """Turn what the system raises into this package's errors."""
    try:
        yield
    except FileNotFoundError as error:
        raise MissingError(
            f"{name} must be there to {action} it; got: {error}. Check the URI, or run what writes it."
        ) from error
    except (IsADirectoryError, NotADirectoryError) as error:
        kind = StorageError if action == "write" else MissingError
        raise kind(f"{name} must be a file to {action} it; got: {error}. Check the path.") from error
    except OSError as error:
        raise StorageError(
            f"the system must let us {action} {name}; got: {error}. Check rights, space, network."
        ) from error


def _write_local(target: Path, data: bytes) -> None:
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


def _sync_folder(folder: Path) -> None:
    """Make the rename itself survive a power cut."""
    if os.name != "posix":
        return
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _find_local(folder: str) -> list[str]:
    """Every file below a folder; unlike fsspec's find it raises where it may not look instead of leaving that out."""
    if not os.path.isdir(folder):
        return []
    walk = os.walk(folder, onerror=_reraise)
    return [Path(parent, name).as_posix() for parent, _, names in walk for name in names]


def _find_remote(filesystem: Any, folder: str) -> list[str]:
    try:
        return filesystem.find(folder)
    except FileNotFoundError:
        return []


def _reraise(error: OSError) -> NoReturn:
    raise error
