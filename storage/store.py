"""Named bytes in a folder, the same on a disk, in memory and in a bucket."""

import builtins
import os
import posixpath
import tempfile
import uuid
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any, TypeVar

from fsspec.implementations.local import LocalFileSystem
from fsspec.utils import get_protocol

from storage.entries import Entry, entry_of
from storage.errors import BadUriError, MissingError, RefusedError
from storage.filesystems import open_filesystem, wrapped
from storage.local_files import TEMPORARY, create_local, find_local, write_local
from storage.places import LOCAL_PROTOCOLS, checked_path, is_hidden, normalized
from storage.retries import call_again, impatient

_T = TypeVar("_T")

ONE_REQUEST = 2**26  # bytes; a client reads larger files in parallel


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
        self._uri = normalized(os.fspath(uri))

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
        return self._call("read", path, lambda: _read_whole(filesystem, target))

    def write_bytes(self, path: str, data: bytes) -> None:
        """Write the whole file or nothing: a reader sees the old bytes or the new, also after a crash half-way.

        Local: temporary file in the same folder, fsync, rename; the folders above it are made. Elsewhere one
        ``pipe_file`` (S3: one PUT, or a multipart upload that shows only once complete). An open writer would do
        neither: fsspec commits it on an exception too, and a cut Parquet file can still be valid.

        Raises:
            MissingError: if the bucket does not exist.
            RefusedError: if the system refuses (rights, space).
            StorageError: if there is a folder of that name.
        """
        filesystem, target = self._locate(path)
        write = (
            (lambda: write_local(Path(target), data))
            if self._is_local
            else (lambda: filesystem.pipe_file(target, data))
        )
        self._call("write", path, write)

    def create_bytes(self, path: str, data: bytes) -> bool:
        """Write the file unless there is one; of several who try at once one succeeds, where the store can tell.

        Disks, memory, S3 and Google's storage can. Where a store cannot, the answer rests on a look before.

        Args:
            path: the file, relative to the store.
            data: its content.
        Returns:
            whether it was written; False also where a try that seemed to fail had written it, so compare the content.
        """
        filesystem, target = self._locate(path)

        def create() -> bool:
            try:
                if self._is_local:
                    create_local(Path(target), data)
                else:
                    filesystem.pipe_file(target, data, mode="create")
            except FileExistsError:
                return False
            except (NotImplementedError, TypeError):  # the client knows no such mode
                if filesystem.exists(target):
                    return False
                filesystem.pipe_file(target, data)
            return True

        return self._call("write", path, create)

    def read_end(self, path: str, size: int) -> bytes:
        """The last ``size`` bytes of a file, all of it where it has fewer; no more than these cross the network.

        Raises:
            MissingError: if there is no such file.
            StorageError: if the system refuses.
        """
        filesystem, target = self._locate(path)

        def read() -> bytes:
            total = filesystem.size(target)
            return _read_part(filesystem, target, max(0, total - size), total)

        return self._call("read", path, read)

    def exists(self, path: str) -> bool:
        """Whether there is a file (not a folder) of that path."""
        filesystem, target = self._locate(path)
        try:
            return self._call("look up", path, lambda: filesystem.info(target)["type"] == "file")
        except MissingError:
            return False

    def list(self, prefix: str = "") -> list[str]:
        """Sorted paths of every file in the folder ``prefix`` and below, relative to the store; [] if it is absent.

        ``prefix`` is a folder, not the beginning of a name. Files and folders whose name starts with a dot are left
        out: temporary files of a crashed write, ``.DS_Store``, ``.ipynb_checkpoints``.
        """
        filesystem, root = self._root()
        folder = self._locate(prefix)[1] if prefix else root
        find = (lambda: find_local(folder)) if self._is_local else (lambda: _find_remote(filesystem, folder))
        found = self._call("list", prefix, find)
        start = posixpath.join(root, "")
        inside = posixpath.join(folder, "")
        paths = (name.removeprefix(start) for name in found if name.startswith(inside))
        return sorted(path for path in paths if not is_hidden(path))

    def entries(self, prefix: str = "") -> "builtins.list[Entry]":
        """What is in the folder ``prefix`` itself, not below, by name; [] if it is absent. No hidden names."""
        return [entry for entry in self._entries(prefix) if not is_hidden(entry.name)]

    def leftovers(self, prefix: str = "") -> "builtins.list[Entry]":
        """Temporary files in the folder ``prefix`` itself that a crashed write left; only local folders have any."""
        return [entry for entry in self._entries(prefix) if TEMPORARY.fullmatch(entry.name)]

    def delete_leftover(self, prefix: str, name: str) -> None:
        """Delete one of ``leftovers``, which ``delete`` cannot name."""
        if not TEMPORARY.fullmatch(name):
            raise ValueError(f"a leftover must be a temporary file of this package; got {name!r}.")
        with wrapped("delete", self._name(prefix)):
            Path(self._locate(prefix)[1] if prefix else self._uri, name).unlink(missing_ok=True)

    def _entries(self, prefix: str) -> "builtins.list[Entry]":
        filesystem, root = self._root()
        folder = self._locate(prefix)[1] if prefix else root
        try:
            found = self._call("list", prefix, lambda: filesystem.ls(folder, detail=True))
        except MissingError:
            return []
        inside = posixpath.join(folder.rstrip("/"), "")
        entries = [entry_of(details) for details in found if details["name"].rstrip("/") + "/" != inside]
        return sorted(entries, key=lambda entry: entry.name)

    def delete(self, path: str) -> None:
        """Delete the file; nothing happens if it is not there (S3 could not tell)."""
        if not self.exists(path):
            return
        filesystem, target = self._locate(path)

        def remove() -> None:
            with suppress(FileNotFoundError):  # gone by a try of ours whose answer was lost, or by another's
                filesystem.rm_file(target)

        self._call("delete", path, remove)

    def check_writable(self) -> None:
        """Write a byte and take it back, so that a place that cannot be written is known before any work.

        Nothing is left behind: locally the byte goes to the nearest folder that exists, elsewhere to a file that is
        deleted at once. ``memory://`` is always writable. A store that does not answer is not waited for.

        Raises:
            MissingError: if the bucket does not exist.
            RefusedError: if the system refuses.
            UnavailableError: if a remote store does not answer.
        """
        if self._is_local:
            folder = Path(self._uri)
            while not folder.exists():
                folder = folder.parent
            try:
                with tempfile.TemporaryFile(dir=folder) as file:
                    file.write(b"x")
            except OSError as error:
                raise RefusedError(
                    f"the system must let us write {self._uri}; got: {error}. Check rights and space, or take another "
                    f"folder."
                ) from error
        elif get_protocol(self._uri) != "memory":
            probe = f"_probe-{uuid.uuid4().hex}"
            with impatient():
                self.write_bytes(probe, b"x")
                self.delete(probe)

    def child(self, path: str) -> "Store":
        """The store at a folder of this one."""
        return Store(self._name(checked_path(path)))

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
        filesystem, root = open_filesystem(self._uri)
        return filesystem, root or "/"  # the whole of memory://

    def _call(self, action: str, path: str, call: Callable[[], _T]) -> _T:
        """What the filesystem answers, with errors of ours; a remote one is asked again where that may help."""
        name = self._name(path)
        with wrapped(action, name):
            return call() if self._is_local else call_again(call, what=f"{action} {name}")

    def _locate(self, path: str) -> tuple[Any, str]:
        """Filesystem and the file's name in it."""
        filesystem, root = self._root()
        return filesystem, posixpath.join(root, checked_path(path))


def _read_whole(filesystem: Any, target: str) -> bytes:
    """A file, all of it: a remote one of ordinary size in one request for as many bytes as its entry says."""
    if isinstance(filesystem, LocalFileSystem):
        return Path(target).read_bytes()
    facts = filesystem.info(target)
    size = facts.get("size")
    if facts["type"] != "file" or size is None:
        return filesystem.cat_file(target)
    if size <= ONE_REQUEST:
        return _read_part(filesystem, target, 0, size)
    return _checked_length(filesystem.cat_file(target), size)


def _read_part(filesystem: Any, target: str, start: int, end: int) -> bytes:
    return _checked_length(filesystem.cat_file(target, start=start, end=end), end - start) if start < end else b""


def _checked_length(data: bytes, size: int) -> bytes:
    """The data; a body cut short without a word, as by a proxy that dropped its length, is a cut connection."""
    if len(data) != size:
        raise ConnectionError(f"the answer must have {size} bytes; got {len(data)}")
    return data


def _find_remote(filesystem: Any, folder: str) -> list[str]:
    try:
        return filesystem.find(folder)
    except FileNotFoundError:
        return []
