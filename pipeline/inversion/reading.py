"""The bytes of listed images, and why some have none."""

import math
import posixpath
from collections import Counter
from collections.abc import Iterator, Sequence
from itertools import groupby
from urllib.parse import urlsplit

from pipeline.errors import PipelineError
from pipeline.inversion.image_tables import read_embedded
from pipeline.inversion.intake import RejectedImageError
from pipeline.inversion.sources import ImageReference
from storage import (
    StorageError,
    UnavailableError,
    impatient,
    is_client_error,
    is_transient,
    join_uri,
    read_file,
    without_secrets,
)

Read = bytes | RejectedImageError
WEB = ("http", "https")
WEB_PATIENCE = 15.0  # seconds: lists of web addresses are full of servers that are gone
GIVEN_UP_AFTER = 3  # images of one server that did not answer
KNOWN = (StorageError, PipelineError, ValueError, ImportError)  # a URI that is none, or of an extra not installed


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
    away: Counter[str] = Counter()
    for (uri, embedded), group in groupby(references, key=lambda r: (r.uri, r.row is not None)):
        listed = list(group)
        if not embedded:
            for reference in listed:
                yield reference, _read(reference, uri, most_bytes, away)
            continue
        rows = [reference.row for reference in listed if reference.row is not None]
        found = read_embedded(uri, column, rows)
        for reference, (number, data) in zip(listed, found, strict=True):
            assert number == reference.row
            if data is None and reference.relative_path:  # a cell without bytes names a file
                place = join_uri(posixpath.dirname(uri), reference.relative_path)
                yield reference, _read(reference, place, most_bytes, away)
            else:
                yield reference, data or b""


def _read(reference: ImageReference, uri: str, most_bytes: int, away: Counter[str]) -> Read:
    """One image's bytes; ``away`` counts the images that each server did not answer for."""
    if not uri:
        return RejectedImageError("unreadable", "a row must name an image; this one names none.")
    if reference.size is not None and reference.size > most_bytes:
        return RejectedImageError(
            "too_large",
            f"an image may have {most_bytes} bytes; it has {reference.size}. Raise `max_bytes` to take it.",
        )
    if reference.size is not None:  # of a store that was there to be listed: worth all our patience
        try:
            return read_file(uri, most=most_bytes)
        except UnavailableError:
            raise
        except KNOWN as error:
            return RejectedImageError("unreadable", f"{error}")
    protocol, server = urlsplit(uri)[:2] if "://" in uri else ("", "")
    place = f"{protocol}://{server}"
    if away[place] >= GIVEN_UP_AFTER:
        place = without_secrets(place)
        return RejectedImageError("unreadable", f"{place} did not answer for other images and was not asked again.")
    seconds = 0.0 if away[place] else WEB_PATIENCE if protocol in WEB else math.inf
    try:
        with impatient(seconds):
            return read_file(uri, most=most_bytes)
    except KNOWN as error:
        away[place] += isinstance(error, UnavailableError) or is_transient(error)
        return RejectedImageError("unreadable", f"{error}")
    except Exception as error:
        if not is_client_error(error):
            raise
        said = without_secrets(f"{uri} must be readable; got: {error}")  # of credentials, or how it is asked
        return RejectedImageError("unreadable", said)
