"""Names of places: URIs of folders, each in one spelling, and paths inside of them."""

import os
import re
from pathlib import Path

import fsspec
from fsspec.core import url_to_fs
from fsspec.utils import get_protocol

from storage.errors import BadUriError
from storage.secrets import has_credentials, without_secrets

LOCAL_PROTOCOLS = ("file", "local")
BUCKET_PROTOCOLS = ("s3", "s3a", "gs", "gcs", "abfs", "az")


def normalized(uri: str) -> str:
    """One spelling per place: local paths absolute and without protocol, no trailing slash and no doubled one.

    Raises:
        BadUriError: for an unknown protocol, a chain of filesystems, credentials, or a bucket protocol without bucket.
    """
    if has_credentials(uri):
        raise BadUriError(
            f"a URI must hold no credentials, because it is written into manifests and logs; got "
            f"{without_secrets(uri)!r}. Leave them out, and give them as the client looks for them "
            f"(AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, ~/.aws, a role, FSSPEC_S3 ...)."
        )
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


def checked_path(path: str) -> str:
    """A path inside of a store, as it is.

    Raises:
        BadUriError: if it is absolute, or a part is empty or starts with a dot.
    """
    if any(not part or part.startswith(".") for part in path.split("/")):
        raise BadUriError(
            f"a path must be relative, '/'-separated, and have no empty part and none that starts with a dot; "
            f"got {path!r}. Give the path below the store's folder, or open another store."
        )
    return path


def is_hidden(path: str) -> bool:
    """Whether a part of a path starts with a dot."""
    return any(part.startswith(".") for part in path.split("/"))
