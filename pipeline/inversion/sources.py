"""Where images come from: a folder, a pattern or a table that names them, as one ordered stream of named references.

Every image gets an id that speaks: its path below the folder, made safe for file names. Ids that would be one, also to
a file system that ignores case, get the beginning of a digest.
"""

import hashlib
import json
import posixpath
import re
import unicodedata
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

from pipeline.errors import PipelineError
from pipeline.inversion.image_tables import TABLE_SUFFIXES, iter_table
from storage import SortedRecords, has_credentials, iter_files, sample_name, without_secrets

LONGEST_ID = 80  # characters
MOST_BYTES = 120  # as a file's name spells them, so that with a prompt's id and a strength it stays below 255
DIGEST_LENGTH = 12  # a hundred thousand rows may share one name
DIGEST_MARK = "~"  # in no name of a path, so that none can pass for one with a digest
SIZE_UNKNOWN = ""
OTHER_LISTS = (".txt", ".json", ".yaml", ".yml", ".xlsx", ".xls", ".ods", ".arrow", ".feather", ".zip", ".tar", ".pdf")


@dataclass(frozen=True)
class ImageReference:
    """One image to be read.

    Attributes:
        latent_id: the name of its latent.
        uri: where its bytes are; a table's URI where they stand in it; empty where a row names none. May hold what
            opens a signed address: for reading only, see ``shown_uri``.
        relative_path: its path below what was listed, or as its table spells it; empty where a row gives none.
        row: its row in the table that holds its bytes; None for a file.
        size: its bytes, if known.
        version: what changes when the file does; see ``storage.FoundFile``.
        labels: the other columns of its table, as text.
    """

    latent_id: str
    uri: str
    relative_path: str
    row: int | None
    size: int | None
    version: str
    labels: tuple[tuple[str, str], ...]

    @classmethod
    def of_row(cls, row: Mapping[str, Any]) -> "ImageReference":
        """From a row of the artifact image_listing."""
        return cls(**{**row, "labels": tuple((label["name"], label["value"]) for label in row["labels"])})


@contextmanager
def list_images(images: str, *, column: str | None = None, run: str | None = None) -> Iterator["ImageListing"]:
    """The images that a URI names, ready to be read through as often as needed; sorted on the disk, not in memory.

    Args:
        images: a folder, a pattern, one image, or a table (or a pattern of tables): .parquet, .csv, .tsv or .jsonl.
        column: the table's column of URIs or images; None guesses by name.
        run: URI of the run's folder, which may lie below the images' and is no part of them.
    Raises:
        MissingError: if there is nothing of that name.
        PipelineError: if a table has no such column, or there are no images.
    """
    is_table = posixpath.splitext(images)[1].lower() in TABLE_SUFFIXES
    found = _from_tables(images, column) if is_table else _from_files(images, run)
    with SortedRecords(found) as by_name, SortedRecords(_with_ids(by_name)) as listed:
        if not listed.count:
            outside = "" if run is None else f", the run's own folder {run} left out"
            raise PipelineError(
                f"`images` must name at least one image; there is none at {images!r}{outside}. Check the URI."
            )
        yield ImageListing(listed)


class ImageListing:
    """Images in order: of a folder by path, of tables row by row."""

    def __init__(self, records: SortedRecords) -> None:
        self._records = records
        self.count = records.count

    def __iter__(self) -> Iterator[ImageReference]:
        for _, latent_id, uri, path, row, size, version, labels in self._records:
            yield ImageReference(
                latent_id=latent_id,
                uri=uri,
                relative_path=path,
                row=int(row) if row else None,
                size=int(size) if size != SIZE_UNKNOWN else None,
                version=version,
                labels=tuple((name, value) for name, value in json.loads(labels)),
            )

    def digest(self) -> str:
        """SHA-256 over every reference: another file, size, change or label is another digest."""
        found = hashlib.sha256()
        for record in self._records:
            found.update(json.dumps(record[1:]).encode() + b"\n")
        return found.hexdigest()


def shown_uri(uri: str) -> str:
    """A URI as it may stand in datasets: without a password or the signature of a signed address."""
    return without_secrets(uri) if has_credentials(uri) else uri


def safe_name(path: str) -> str:
    """A path as a name for files: no suffix, letters and digits of any script kept, the rest made dashes.

    Never a double underscore, which separates the parts of an image's name; "image" where nothing is left. One that
    is too long keeps its end, after a digest of the whole.
    """
    stem = unicodedata.normalize("NFC", posixpath.splitext(path)[0])
    kept = "".join(c if c.isalnum() or c in "-_." else "-" for c in stem)
    kept = re.sub(r"_{2,}", "_", re.sub(r"-{2,}", "-", kept)).strip("-_.") or "image"
    if _fits(kept):
        return kept
    start, kept = f"{_digest(path)}{DIGEST_MARK}", kept[-LONGEST_ID:]
    while not _fits(start + kept):
        kept = kept[1:]
    return start + kept.lstrip("-_.")


def _fits(name: str) -> bool:
    return len(name) <= LONGEST_ID and len(sample_name(name).encode()) <= MOST_BYTES


def _digest(path: str) -> str:
    return hashlib.sha256(path.encode()).hexdigest()[:DIGEST_LENGTH]


def _from_files(images: str, run: str | None) -> Iterator[tuple[str, ...]]:
    suffix = posixpath.splitext(images)[1].lower()
    for found in iter_files(images, without=run):
        if suffix in OTHER_LISTS and found.path == posixpath.basename(images):
            raise PipelineError(
                f"`images` must be images, or a table in {', '.join(TABLE_SUFFIXES)}; got {images!r}. Save the list "
                f"so, with a column named image."
            )
        name = safe_name(found.path)
        size = SIZE_UNKNOWN if found.size is None else str(found.size)
        yield name.casefold(), found.path, name, found.uri, found.path, "", size, found.version, "[]"


def _from_tables(images: str, column: str | None) -> Iterator[tuple[str, ...]]:
    with SortedRecords((found.path, found.uri, found.version) for found in iter_files(images)) as tables:
        for number, (_, uri, version) in enumerate(tables):
            for row in iter_table(uri, column):
                path = row.path if row.embedded else shown_uri(row.path)
                name = safe_name(path) if path else f"row-{row.number:08d}"
                order = f"{number:08d}-{row.number:012d}"
                where = str(row.number) if row.embedded else ""
                labels = json.dumps(row.labels)
                place = uri if row.embedded else row.uri
                # what stands beside a table may change without it; what stands in it may not
                yield name.casefold(), order, name, place, path, where, SIZE_UNKNOWN, version, labels


def _with_ids(by_name: SortedRecords) -> Iterator[tuple[str, ...]]:
    """Records by order; of several with one name each gets a digest of its path or place.

    One record is held at a time: a name may be shared by a hundred thousand.
    """
    last: tuple[str, ...] | None = None
    shared = False
    for record in by_name:
        same = last is not None and last[0] == record[0]
        if last is not None:
            yield _listed(last, shared=shared or same)
        last, shared = record, same
    if last is not None:
        yield _listed(last, shared=shared)


def _listed(record: tuple[str, ...], *, shared: bool) -> tuple[str, ...]:
    _, order, name, uri, path, row, size, version, labels = record
    if shared:
        end = f"{DIGEST_MARK}{_digest(order)}"
        while not _fits(name + end):
            name = name[:-1]
        name += end
    return order, name, uri, path, row, size, version, labels
