"""WebDataset shards: plain tar files in which the files of one sample share a name and stand side by side."""

import io
import tarfile
from collections.abc import Iterable

UNSAFE = frozenset('=./\\:*?"<>|%')  # a dot ends a sample's name, and the others are not file names everywhere


def sample_name(name: str) -> str:
    """A name as the stem of a file on any system, and the key of a sample: unsafe characters as ``=`` and hex.

    Different names stay different; letters of any script stay as they are. ``a.b`` becomes ``a=2Eb``.
    """
    return "".join(f"={ord(c):02X}" if c in UNSAFE or ord(c) < 32 else c for c in name)


def tar_bytes(files: Iterable[tuple[str, bytes]]) -> bytes:
    """A tar file; the same files give the same bytes, as it holds no times, owners or rights of this machine.

    Args:
        files: name and content, in the order wanted: all files of a sample one after another, with the sample's name
            up to the first dot.
    """
    sink = io.BytesIO()
    with tarfile.open(fileobj=sink, mode="w", format=tarfile.PAX_FORMAT) as archive:
        for name, data in files:
            member = tarfile.TarInfo(name)
            member.size = len(data)
            archive.addfile(member, io.BytesIO(data))
    return sink.getvalue()
