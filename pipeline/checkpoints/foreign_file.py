"""Somebody's checkpoint file to an object tree: what kind of bytes it is, then the reader for them.

Read are PyTorch files (zip and legacy), plain pickles and ``.npy``; refused with the reason is everything that people
hold instead of one of those: a Git LFS pointer, a web page, half a download, an archive around the file.
"""

import io
import math
import mmap
import os
import re
import struct
import zipfile
from pathlib import Path
from typing import Any

from pipeline.checkpoints.foreign_tensor import ForeignStorage, ForeignTensor, dense_strides
from pipeline.checkpoints.pickle_globals import storage_dtype
from pipeline.checkpoints.safe_unpickler import DAMAGE, LEGACY_MAGIC, read_legacy, unpickle
from pipeline.errors import CheckpointError

ZIP_START, GZIP_START, NPY_START, HDF_START = b"PK\x03\x04", b"\x1f\x8b", b"\x93NUMPY", b"\x89HDF"
HDF_SEARCHED = 1 << 20  # bytes in which Keras's marks stand
LOCAL_HEADER = 30  # bytes of a zip member's own header before its name
MARKUP = rb"(\xef\xbb\xbf)?\s*<[!?a-z]"  # no pickle starts with "<"
PICKLED_TEXT = rb"\(|c[\w.]+\n|[IFL]-?\d|S['\"]|N\.|[\])}]"  # how a pickle of protocol 0 or 1 can start
ARCHIVES = {
    b"7z\xbc\xaf": "7z",
    b"Rar!": "rar",
    b"ustar": "tar",
    b"\xfd7zXZ": "xz",
}
PICTURES = {b"\x89PNG": "a PNG image", b"\xff\xd8\xff": "a JPEG image", b"GIF8": "a GIF image", b"%PDF": "a PDF"}
NUMPY_KINDS = {
    "<f2": "float16",
    "<f4": "float32",
    "<f8": "float64",
    "|u1": "uint8",
    "|i1": "int8",
    "<i2": "int16",
    "<i4": "int32",
    "<i8": "int64",
}


def read_foreign_bytes(data: bytes, *, name: str) -> Any:
    """As ``read_foreign_file``, of a file that has been fetched already.

    Args:
        data: the file's content.
        name: the file's name, for messages.
    Raises:
        CheckpointError: see ``read_foreign_file``.
    """
    return _read(name, memoryview(data), io.BytesIO(data))


def read_foreign_file(path: str | os.PathLike[str]) -> Any:
    """The object tree of a checkpoint: dicts, lists, numbers, text, ``ForeignTensor`` and ``Stub``.

    The file is mapped, not read: tensors stay in it until they are loaded.

    Args:
        path: a local file.
    Raises:
        CheckpointError: if it is missing, refused, damaged, or no checkpoint.
    """
    file = Path(path)
    return _read(file.name, _mapped(file), file)


def _read(name: str, data: memoryview, file: Path | io.BytesIO) -> Any:
    """The object tree of a file, given as its bytes and as what ``zipfile`` opens."""
    try:
        head = bytes(data[:512])
        _refuse_look_alikes(name, head, data.nbytes)
        if head.startswith(HDF_START):
            keras = b"keras" in bytes(data[:HDF_SEARCHED])
            kind = "HDF5 as Keras writes it" if keras else "HDF5 (Chainer and other tools write it)"
            raise CheckpointError(
                f"{name}: is {kind}, not a PyTorch file, pickle or .npy. Convert it with that tool first."
            )
        if head.startswith(NPY_START):
            return _read_npy(data)
        if head.startswith(ZIP_START):
            return _read_zip(name, data, file)
        value, _ = unpickle(data, source=name)
        if type(value) is int and value == LEGACY_MAGIC:
            return read_legacy(data, source=name)
        return value
    except (*DAMAGE, struct.error, zipfile.BadZipFile, NotImplementedError) as error:
        detail = " ".join(str(error).split())[:120] or type(error).__name__
        raise CheckpointError(
            f"{name}: must be a whole checkpoint; got {data.nbytes:,} bytes that cannot be read ({detail}). "
            f"It is cut short or damaged: fetch it again."
        ) from None


def _mapped(file: Path) -> memoryview:
    if file.is_dir():
        raise CheckpointError(f"a checkpoint must be a file; {file} is a folder. Give the file in it.")
    if not file.is_file():
        raise CheckpointError(f"a checkpoint must be a file on this machine; there is none at {file}. Check the path.")
    if file.stat().st_size == 0:
        raise CheckpointError(f"{file.name}: must hold a checkpoint; it is empty (0 bytes). Download it again.")
    with file.open("rb") as handle:
        return memoryview(mmap.mmap(handle.fileno(), 0, access=mmap.ACCESS_READ))


def _refuse_look_alikes(name: str, head: bytes, size: int) -> None:
    if head.startswith(b"version https://git-lfs"):
        found = re.search(rb"size (\d+)", head)
        wanted = f" of {int(found[1][:18]):,} bytes" if found else ""
        raise CheckpointError(
            f"{name}: is a Git LFS pointer ({size} bytes), not the file{wanted} itself. "
            f"Run `git lfs pull` where it came from."
        )
    if re.match(MARKUP, head, re.IGNORECASE):
        raise CheckpointError(
            f"{name}: is a web page ({size:,} bytes) saved under this name, as downloads with a warning or login are. "
            f"Open it in a browser, and download the file behind it."
        )
    if head.startswith(GZIP_START):
        raise CheckpointError(f"{name}: is gzip-compressed, which is not read. Unpack it first: gunzip.")
    if head[8:9] == b"{" and int.from_bytes(head[:8], "little") < size:
        raise CheckpointError(
            f"{name}: is a safetensors file, whose tensors do not say what network they belong to. "
            f"Import the .pkl or .pt it was made from."
        )
    for start, kind in ARCHIVES.items():
        if head.startswith(start) or (kind == "tar" and head[257:262] == start):
            raise CheckpointError(f"{name}: is {kind}, not a PyTorch file, pickle or .npy. Unpack or convert it first.")
    for start, kind in PICTURES.items():
        if head.startswith(start):
            raise CheckpointError(f"{name}: is {kind}, not a checkpoint. Give the .pkl, .pt, .pth or .npy file.")
    if _is_text(head) and not re.match(PICKLED_TEXT, head):
        raise CheckpointError(
            f"{name}: is a text file ({size:,} bytes) that begins {_first_line(head)!r}, not a checkpoint; a server's "
            f"answer, perhaps. Download the file again."
        )


def _is_text(head: bytes) -> bool:
    """Whether every byte is printable ASCII or white space."""
    return all(32 <= byte < 127 or byte in b"\t\r\n" for byte in head)


def _first_line(head: bytes) -> str:
    lines = head.decode("ascii").split("\n")
    return next((line.strip() for line in lines if line.strip()), "")[:60]


def _read_npy(data: memoryview) -> ForeignTensor:
    """A ``.npy`` file of plain numbers (versions 1 to 3)."""
    wide = data[6] >= 2
    size = int.from_bytes(data[8 : 12 if wide else 10], "little")
    start = (12 if wide else 10) + size
    if data.nbytes < start:
        raise EOFError("a header that ends behind the file")
    header = bytes(data[12 if wide else 10 : start]).decode("latin-1")
    pattern = r"\s*\{'descr': '([^']+)', 'fortran_order': (True|False), 'shape': \(([\d, ]*)\),? *\}\s*"
    found = re.fullmatch(pattern, header)
    if found is None or found[1] not in NUMPY_KINDS:
        raise CheckpointError(
            f"a .npy file must hold plain little-endian numbers; its header is {header.strip()[:120]!r}. "
            f"Save it again with numpy.save(..., allow_pickle=False)."
        )
    shape = tuple(int(x) for x in found[3].split(",") if x.strip())
    storage = ForeignStorage(NUMPY_KINDS[found[1]], data[start:])
    strides = dense_strides(shape, fortran=found[2] == "True")
    if math.prod(shape) * storage.itemsize != data.nbytes - start:
        raise EOFError(f"shape {list(shape)} on {data.nbytes - start:,} bytes")
    return ForeignTensor(storage, 0, shape, strides)


def _read_zip(name: str, data: memoryview, file: Path | io.BytesIO) -> Any:
    """A file of torch.save since 1.6: a zip of ``data.pkl`` and one stored member per storage."""
    if b"PK\x05\x06" not in bytes(data[-66_000:]):
        raise EOFError("a zip file without its end: half a download")
    with zipfile.ZipFile(file) as archive:
        members = {info.filename: info for info in archive.infolist()}
        names = [member for member in members if member.endswith("/data.pkl") or member == "data.pkl"]
        if members and all(member.endswith(".npy") for member in members):
            raise CheckpointError(
                f"{name}: is an .npz of {len(members)} arrays (numpy and Chainer write it), which do not say what "
                f"network they belong to. Import a .pkl or .pt; of latents, save the one array as .npy."
            )
        if len(names) != 1:
            raise CheckpointError(f"{name}: is a zip archive, but not a PyTorch file (no data.pkl). Unpack it first.")
        prefix = names[0].removesuffix("data.pkl")
        if f"{prefix}constants.pkl" in members:
            raise CheckpointError(
                f"{name}: is a TorchScript program, which is code. Import a file that holds a state_dict."
            )
        if archive.read(f"{prefix}byteorder") != b"little" if f"{prefix}byteorder" in members else False:
            raise CheckpointError(f"{name}: holds big-endian numbers, which are not read.")
    storages: dict[str, ForeignStorage] = {}

    def storage(pid: Any) -> ForeignStorage:
        kind, key = pid[1:3]
        if not isinstance(key, str):
            raise TypeError("a storage whose key is no text")
        if key not in storages:
            window = _member(name, data, members[f"{prefix}data/{key}"])
            storages[key] = ForeignStorage(storage_dtype(kind), window)
        return storages[key]

    value, _ = unpickle(_member(name, data, members[names[0]]), source=name, storages=storage)
    return value


def _member(name: str, data: memoryview, info: zipfile.ZipInfo) -> memoryview:
    """A stored member's bytes within the archive."""
    if info.compress_type != zipfile.ZIP_STORED:
        raise CheckpointError(
            f"{name}: a PyTorch file holds its members uncompressed; {info.filename[:60]} is compressed. It was packed "
            f"again by another tool: unpack it and zip it without compression, or get the original file."
        )
    header = data[info.header_offset : info.header_offset + LOCAL_HEADER]
    name_size, extra_size = struct.unpack("<HH", header[26:30])
    start = info.header_offset + LOCAL_HEADER + name_size + extra_size
    if start + info.file_size > data.nbytes:
        raise EOFError("a member that ends behind the file")
    return data[start : start + info.file_size]
