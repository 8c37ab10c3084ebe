"""The bytes of listed images, and why some have none."""

import posixpath
from collections.abc import Iterator, Sequence
from itertools import groupby

from pipeline.errors import PipelineError
from pipeline.inversion.image_tables import read_embedded
from pipeline.inversion.intake import RejectedImageError
from pipeline.inversion.sources import ImageReference
from storage import StorageError, join_uri, read_file

Read = bytes | RejectedImageError
TRANSIENT = (ConnectionError, TimeoutError)


def read_images(
    references: Sequence[ImageReference], *, column: str | None, most_bytes: int
) -> Iterator[tuple[ImageReference, Read]]:
    """Every image's bytes in order, one at a time, or why it has none; of one too large, a little more than allowed.

    Args:
        references: of one listing, in its order.
        column: of tables that hold images; see ``list_images``.
        most_bytes: larger files are not read to their end.
    Raises:
        StorageError: if a store that listed a file cannot be reached: to try again is better than a row.
    """
    for (uri, embedded), group in groupby(references, key=lambda r: (r.uri, r.row is not None)):
        listed = list(group)
        if not embedded:
            for reference in listed:
                yield reference, _read(reference, uri, most_bytes)
            continue
        rows = [reference.row for reference in listed if reference.row is not None]
        found = read_embedded(uri, column, rows)
        for reference, (number, data) in zip(listed, found, strict=True):
            assert number == reference.row
            if data is None and reference.relative_path:  # a cell without bytes names a file
                place = join_uri(posixpath.dirname(uri), reference.relative_path)
                yield reference, _read(reference, place, most_bytes)
            else:
                yield reference, data or b""


def _read(reference: ImageReference, uri: str, most_bytes: int) -> Read:
    if not uri:
        return RejectedImageError("unreadable", "a row must name an image; this one names none.")
    if reference.size is not None and reference.size > most_bytes:
        return RejectedImageError(
            "too_large",
            f"an image may have {most_bytes} bytes; it has {reference.size}. Raise `max_bytes` to take it.",
        )
    try:
        return read_file(uri, most=most_bytes)
    except (StorageError, PipelineError, ValueError, ImportError) as error:
        if reference.size is not None and isinstance(error.__cause__, TRANSIENT):
            raise
        return RejectedImageError("unreadable", f"{error}")
