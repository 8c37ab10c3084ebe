"""Filesystems by URI from fsspec, and what they raise as this package's errors."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import fsspec.config
from fsspec.core import url_to_fs
from fsspec.utils import get_protocol

from storage.errors import MissingError, RefusedError, StorageError, UnavailableError
from storage.retries import is_transient
from storage.secrets import without_secrets

S3_PROTOCOLS = ("s3", "s3a")
# few tries of botocore's own: what lasts longer is tried again by us
S3_CONFIG = {"retries": {"mode": "standard", "total_max_attempts": 3}}


def open_filesystem(uri: str) -> tuple[Any, str]:
    """A URI's filesystem, from fsspec's cache, and the path in it.

    Options are those of fsspec's own configuration (``FSSPEC_S3`` and its like, ``~/.config/fsspec``); ours are added.
    """
    protocol = get_protocol(uri)
    if protocol not in S3_PROTOCOLS:
        return url_to_fs(uri)
    configured = fsspec.config.conf.get(protocol, {}).get("config_kwargs", {})
    # With its listing cache s3fs shows neither list() nor exists() what another process wrote after the first listing.
    filesystem, path = url_to_fs(uri, use_listings_cache=False, config_kwargs=S3_CONFIG | configured)
    filesystem.retries = 1  # of s3fs, around botocore's: ours are around these
    return filesystem, path


@contextmanager
def wrapped(action: str, name: str) -> Iterator[None]:
    """Turn what the system raises into this package's errors, with no secret in their words."""
    try:
        yield
    except StorageError:
        raise
    except Exception as error:
        translated = _translated(error, action, name)
        if translated is None:
            raise
        told = str(error) == without_secrets(str(error))
        raise translated from (error if told else None)


def _translated(error: Exception, action: str, name: str) -> StorageError | None:
    """An error of the system or of a client as ours; None for what we have no better words for."""
    got, name = without_secrets(str(error) or type(error).__name__), without_secrets(name)
    if is_transient(error) and not isinstance(error, FileNotFoundError):
        return UnavailableError(
            f"the store must answer to {action} {name}; got: {got}. Check the network and its endpoint, then run the "
            f"same command again."
        )
    if isinstance(error, FileNotFoundError):
        return MissingError(f"{name} must be there to {action} it; got: {got}. Check the URI, or run what writes it.")
    if isinstance(error, IsADirectoryError | NotADirectoryError):
        kind = StorageError if action == "write" else MissingError
        return kind(f"{name} must be a file to {action} it; got: {got}. Check the path.")
    if isinstance(error, OSError):
        kind = RefusedError if action == "write" else StorageError
        return kind(f"the system must let us {action} {name}; got: {got}. Check rights, space, network.")
    return None
