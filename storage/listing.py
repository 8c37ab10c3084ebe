"""Files of a folder, a pattern or a bucket, one at a time: a listing as a stream, however many there are."""

import os
import posixpath
import re
import stat
from collections.abc import Iterator
from dataclasses import dataclass
from functools import partial
from typing import Any
from urllib.parse import unquote

from fsspec.utils import get_protocol, glob_translate

from storage.errors import MissingError
from storage.filesystems import S3_PROTOCOLS, open_filesystem, wrapped
from storage.manifest import SHARDS_FOLDER
from storage.places import LOCAL_PROTOCOLS
from storage.retries import call_again

READ_AT_ONCE = 2**20  # bytes
WILDCARD = re.compile(r"[*?\[]")


@dataclass(frozen=True)
class FoundFile:
    """A file that a listing found.

    Attributes:
        uri: where it is; an absolute path if local.
        path: its path below the folder that was listed, '/'-separated.
        size: its bytes; None where the backend does not say, or it is no regular file.
        version: what changes when the file does: its time of change or its entity tag; empty where unknown.
    """

    uri: str
    path: str
    size: int | None
    version: str


def iter_files(uri: str, *, without: str | None = None) -> Iterator[FoundFile]:
    """Every file below a folder, or that a pattern names, or the one file, in no particular order.

    Local folders are walked and S3 is read page by page, so the memory does not grow with the number of files; other
    filesystems give one folder's names at a time. Names that start with a dot are left out, in patterns too. Folders
    behind symbolic links are entered, unless they hold themselves. Local runs below the folder are left out: their
    images are results.

    Args:
        uri: a folder or file at any fsspec URI, or a pattern with ``*``, ``?``, ``[...]`` or ``**``; a folder that is
            really called so wins.
        without: a folder below it that is left out, spelled as ``Store.uri`` is.
    Raises:
        MissingError: if there is no such folder or file, or the pattern has no beginning.
        StorageError: if a folder cannot be read.
    """
    pattern = None
    if WILDCARD.search(uri) and not (_is_local(uri) and os.path.exists(_local(uri))):
        pattern, uri = _split_pattern(uri)
    with wrapped("list", uri):
        for found in _iter_local(_local(uri)) if _is_local(uri) else _iter_remote(uri):
            if without is not None and found.uri.startswith(f"{without}/"):
                continue
            if pattern is None or pattern.match(found.path):
                yield found


def read_file(uri: str, *, most: int) -> bytes:
    """A file's content, of which no more than ``most`` + 1 bytes are read: a longer result says that it is too large.

    Raises:
        MissingError: if there is no such file, or it is a folder.
        StorageError: if it cannot be read, or is no regular file.
    """
    with wrapped("read", uri):
        if _is_local(uri):
            path = _local(uri)
            if not stat.S_ISREG(os.stat(path).st_mode):  # to open a pipe would wait for its writer
                raise MissingError(f"{path} must be a regular file; it is a folder, a pipe or a device.")
            with open(path, "rb") as file:
                return file.read(min(most, os.fstat(file.fileno()).st_size) + 1)  # no larger a buffer than needed
        filesystem, target = open_filesystem(uri)

        def read() -> bytes:
            size = filesystem.info(target).get("size")
            if size is None:  # a web server that does not say; it may not take ranges either
                with filesystem.open(target, "rb") as file:
                    return _read_some(file, most + 1)
            return filesystem.cat_file(target, **({} if size <= most else {"start": 0, "end": most + 1}))

        return call_again(read, what=f"read {uri}")


def _read_some(file: Any, count: int) -> bytes:
    """The first bytes of a stream, which may give fewer at a time than asked for."""
    parts = list[bytes]()
    while count > 0 and (part := file.read(min(count, READ_AT_ONCE))):
        parts.append(part)
        count -= len(part)
    return b"".join(parts)


def join_uri(folder: str, path: str) -> str:
    """The URI that ``path`` names as seen from ``folder``; a URI or an absolute path stands for itself."""
    if "://" in path or os.path.isabs(path):
        return path
    return posixpath.normpath(posixpath.join(folder, path)) if _is_local(folder) else posixpath.join(folder, path)


def _split_pattern(uri: str) -> tuple[re.Pattern[str], str]:
    """A pattern's expression, for paths below the folder in front of its first wildcard, and that folder."""
    head = uri[: WILDCARD.search(uri).start()]  # pyright: ignore[reportOptionalMemberAccess]
    folder, slash, _ = head.rpartition("/")
    if not slash and not _is_local(uri):
        raise MissingError(f"a pattern must name a folder before its first wildcard; got {uri!r}.")
    return re.compile(glob_translate(uri[len(folder) + len(slash) :])), folder + slash if slash else "."


def _is_local(uri: str) -> bool:
    return get_protocol(uri) in LOCAL_PROTOCOLS


def _local(uri: str) -> str:
    """A local URI as a path; '#' and '?' are letters of a name; so is '%', unless there is only what it stands for."""
    path = uri
    for protocol in LOCAL_PROTOCOLS:
        path = path.removeprefix(f"{protocol}://")
    if path != uri and "%" in path and not os.path.lexists(path) and os.path.lexists(unquote(path)):
        path = unquote(path)
    return os.path.abspath(os.path.expanduser(path))


def _iter_local(root: str) -> Iterator[FoundFile]:
    if not os.path.isdir(root):
        yield _local_file(root, posixpath.basename(root))
        return
    yield from _walk(root, "", frozenset())


def _walk(folder: str, inside: str, above: frozenset[tuple[int, int]]) -> Iterator[FoundFile]:
    facts = os.stat(folder)
    if (facts.st_dev, facts.st_ino) in above:  # a link to a folder that it stands in
        return
    if above and os.path.isdir(os.path.join(folder, SHARDS_FOLDER)):
        return
    above |= {(facts.st_dev, facts.st_ino)}
    folders: list[str] = []
    with os.scandir(folder) as entries:
        for entry in entries:
            if entry.name.startswith("."):
                continue
            if _is_folder(entry):
                folders.append(entry.name)
            else:
                yield _local_file(entry.path, f"{inside}{_text(entry.name)}")
    for name in folders:
        yield from _walk(os.path.join(folder, name), f"{inside}{_text(name)}/", above)


def _is_folder(entry: os.DirEntry[str]) -> bool:
    try:
        return entry.is_dir()
    except OSError:  # a link to itself, or one that leads where nobody may look
        return False


def _local_file(path: str, shown: str) -> FoundFile:
    """A broken link or a pipe is listed too: whoever reads it learns what it is."""
    try:
        facts = os.stat(path)
    except OSError:
        if not os.path.islink(path):
            raise
        return FoundFile(_text(path), shown, None, "")
    return FoundFile(_text(path), shown, facts.st_size if stat.S_ISREG(facts.st_mode) else None, str(facts.st_mtime_ns))


def _text(name: str) -> str:
    """A name as text that any file can hold; bytes that are not UTF-8 are spelled out (such a file cannot be read)."""
    return os.fsencode(name).decode("utf-8", "backslashreplace")


def _iter_remote(uri: str) -> Iterator[FoundFile]:
    filesystem, root = open_filesystem(uri)
    protocol = get_protocol(uri)
    inside = posixpath.join(root, "")
    pages = _s3_pages(filesystem, root, inside) if protocol in S3_PROTOCOLS else _folders(filesystem, root)
    count = 0
    for name, size, version in pages:
        path = name.removeprefix(inside) if name != root else posixpath.basename(root)
        if name.startswith(inside) or name == root:
            count += 1
            if not any(part.startswith(".") for part in path.split("/")):
                yield FoundFile(f"{protocol}://{name.lstrip('/')}", path, size, version)
    if not count and _facts(filesystem, root) is None:
        raise MissingError(f"{uri} must be there to list it; there is no such folder or file. Check the URI.")


def _s3_pages(filesystem: Any, root: str, inside: str) -> Iterator[tuple[str, int | None, str]]:
    """Objects of a bucket, a thousand at a time; a name that ends in a slash only stands for a folder."""
    if "/" in root and _is_file(_facts(filesystem, root)):
        yield from _folders(filesystem, root)
        return
    bucket, _, prefix = inside.partition("/")
    more: dict[str, str] = {}
    while True:
        ask = partial(filesystem.call_s3, "list_objects_v2", Bucket=bucket, Prefix=prefix, **more)
        page = call_again(ask, what=f"list {bucket}/{prefix}")
        for item in page.get("Contents", ()):
            if not item["Key"].endswith("/"):
                yield f"{bucket}/{item['Key']}", item["Size"], item["ETag"].strip('"')
        if not page.get("IsTruncated"):
            return
        more = {"ContinuationToken": page["NextContinuationToken"]}


def _folders(filesystem: Any, root: str) -> Iterator[tuple[str, int | None, str]]:
    facts = _facts(filesystem, root)
    if facts is not None and _is_file(facts):
        yield root, facts.get("size"), _version(facts)
        return
    for folder, _, files in filesystem.walk(root, detail=True):
        for name, facts in files.items():
            yield posixpath.join(folder, name), facts.get("size"), _version(facts)


def _facts(filesystem: Any, path: str) -> dict[str, Any] | None:
    """What the backend says of a path, None if there is none; fsspec's own ``isfile`` takes any error for a no."""
    try:
        return call_again(lambda: filesystem.info(path), what=f"look up {path}")
    except FileNotFoundError:
        return None


def _is_file(facts: dict[str, Any] | None) -> bool:
    return facts is not None and facts["type"] == "file"


def _version(facts: dict[str, Any]) -> str:
    for key in ("ETag", "etag", "md5Hash", "mtime", "last_modified", "LastModified", "created"):
        if facts.get(key) is not None:
            return str(facts[key])
    return ""
