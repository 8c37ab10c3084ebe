"""The pickle machine: what it reads equals what was written, and nothing that a file names is ever called."""

import argparse
import builtins
import collections
import io
import os
import pickle
import struct
import tracemalloc
import zipfile
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from pipeline.checkpoints.foreign_file import read_foreign_file
from pipeline.checkpoints.foreign_tensor import ForeignStorage, ForeignTensor, dense_strides
from pipeline.checkpoints.pickle_globals import Stub, as_tensor
from pipeline.checkpoints.safe_unpickler import unpickle
from pipeline.errors import CheckpointError

PROTOCOLS = range(pickle.HIGHEST_PROTOCOL + 1)


class Calls:
    """Pickles as a call of anything."""

    def __init__(self, function: Any, *arguments: Any) -> None:
        self.call = function, arguments

    def __reduce__(self) -> Any:
        return self.call


class OwnReduce(torch.nn.Module):
    """A torch object with a reduce of its own."""

    def __reduce__(self) -> Any:
        return eval, ("open('ran', 'w')",)


def load(data: bytes) -> Any:
    return unpickle(memoryview(data), source="x.pkl")[0]


def make_tree() -> dict[str, Any]:
    random = torch.Generator().manual_seed(0)
    return {
        "parameter": torch.nn.Parameter(torch.randn(70, 90, generator=random)),
        "transposed": torch.randn(4, 6, generator=random).t(),
        "half": torch.randn(3, generator=random).half(),
        "bfloat16": torch.randn(3, generator=random).bfloat16(),
        "integers": torch.arange(5),
        "flags": torch.tensor([True, False]),
        "scalar": torch.tensor(2.5),
        "empty": torch.zeros(0, 3),
        "array": np.arange(6).reshape(2, 3),
        "fortran": np.asfortranarray(np.arange(12, dtype=np.float32).reshape(3, 4)),
    }


def assert_tensors_equal(found: dict[str, Any], tree: dict[str, Any]) -> None:
    for name, wanted in tree.items():
        tensor = as_tensor(found[name])
        assert tensor is not None, name
        assert torch.equal(
            tensor.load(), torch.as_tensor(np.array(wanted) if isinstance(wanted, np.ndarray) else wanted)
        )


@pytest.mark.parametrize("protocol", PROTOCOLS)
def test_tensors_of_a_plain_pickle_equal_what_was_written(protocol: int):
    assert_tensors_equal(load(pickle.dumps(make_tree(), protocol=protocol)), make_tree())


@pytest.mark.parametrize("zipped", [True, False])
def test_tensors_of_a_torch_file_equal_what_was_written(zipped: bool, tmp_path: Path):
    torch.save(make_tree(), tmp_path / "x.pt", _use_new_zipfile_serialization=zipped)
    assert_tensors_equal(read_foreign_file(tmp_path / "x.pt"), make_tree())


@pytest.mark.parametrize("protocol", PROTOCOLS)
def test_plain_values_equal_what_was_written(protocol: int):
    values = {
        "numbers": [1, -1, 2**40, 1.5, float("inf"), True, False, None],
        "text": "h\u00e9",
        "bytes": b"\x00\xff" * 4,
        "nested": ((), (1,), (1, 2), (1, 2, 3, [4, {"a": {"b": set("xy")}}])),
        "ordered": collections.OrderedDict(a=1),
        "number": np.float64(0.25),
        3: "an integer key",
    }
    assert load(pickle.dumps(values, protocol=protocol)) == values


@pytest.mark.parametrize("protocol", PROTOCOLS)
def test_namespace_keeps_its_state_only(protocol: int):
    found = load(pickle.dumps(argparse.Namespace(size=256, path="x"), protocol=protocol))
    assert found == Stub("Namespace", {"size": 256, "path": "x"})


def test_state_dict_with_metadata_is_read():
    state = torch.nn.Linear(2, 3).state_dict()
    found = load(pickle.dumps({"g_ema": state}))
    assert set(found["g_ema"]) == {"weight", "bias"}


@pytest.mark.parametrize("protocol", PROTOCOLS)
@pytest.mark.parametrize(
    ("hostile", "name"),
    [
        (Calls(os.system, "touch ran"), "posix.system"),
        (Calls(builtins.eval, "open('ran', 'w')"), "eval"),
        (Calls(builtins.exec, "open('ran', 'w')"), "exec"),
        (Calls(getattr, "x", "upper"), "getattr"),
        (Calls(open, "ran", "w"), "open"),
        (OwnReduce(), "eval"),
    ],
    ids=["system", "eval", "exec", "getattr", "open", "torch"],
)
def test_a_call_in_a_pickle_is_refused_by_name_and_not_made(
    hostile: Any, name: str, protocol: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.chdir(tmp_path)
    for tree in (hostile, {"G_ema": hostile}, [{"state": {"_modules": ({"a": [hostile]},)}}]):
        data = pickle.dumps(tree, protocol=protocol)
        with pytest.raises(CheckpointError, match=f"refused, nothing was run: it asks for .*{name}") as caught:
            load(data)
        assert "\n" not in str(caught.value)
    assert not Path("ran").exists()


@pytest.mark.parametrize("zipped", [True, False])
def test_a_call_in_a_torch_file_is_refused(zipped: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.chdir(tmp_path)
    hostile = {"state_dict": {"w": torch.zeros(2)}, "opts": Calls(os.system, "touch ran")}
    torch.save(hostile, "x.pt", _use_new_zipfile_serialization=zipped)
    with pytest.raises(CheckpointError, match=r"asks for 'posix.system'"):
        read_foreign_file("x.pt")
    assert not Path("ran").exists()


def test_a_call_within_the_bytes_of_a_storage_is_refused(tmp_path: Path):
    inner = pickle.dumps(Calls(os.system, "touch ran"))
    data = pickle.dumps(Calls(torch.storage._load_from_bytes, inner))
    with pytest.raises(CheckpointError, match=r"asks for 'posix.system'"):
        load(data)


@pytest.mark.parametrize(
    "program",
    [
        b"cos\nsystem\n(S'true'\ntR.",
        b"(S'true'\nios\nsystem\n.",
        b"(cos\nsystem\nS'true'\no.",
        b"\x80\x02cos\nsystem\nU\x04true\x85R.",
        b"\x80\x02cos\nsystem\n.",
        b"\x80\x04\x8c\x05torch\x8c\x0eos.path.exists\x93.",
        b"\x80\x04\x8c\x08builtins\x8c\x0b__import__\x93\x8c\x02os\x85R.",
        b"\x80\x02\x82\x01.",
        b"\x80\x02ctorch\nFloatStorage\nK\x04\x85R.",
        b"\x80\x02K\x01K\x02\x85R.",
        b"\x80\x02U\x01aQ.",
        b"cbuiltins\nbytearray\n(I99999999999\ntR.",
        b"ccopy_reg\n_reconstructor\n(cargparse\nNamespace\nc__builtin__\nobject\nNtRc__builtin__\nset\nR.",
    ],
)
def test_handwritten_programs_are_refused(program: bytes):
    with pytest.raises(CheckpointError):
        load(program)


def test_deep_nesting_as_a_key_is_refused_without_a_crash():
    with pytest.raises(CheckpointError):
        load(b"\x80\x02}" + b")" + b"\x85" * 200_000 + b"K\x01s.")


def test_a_stray_backslash_in_a_text_is_damage():
    assert load(b"S'a\\\\b'\n.") == "a\\b"
    with pytest.raises(CheckpointError, match=r"whole pickle.*invalid escape"):
        load(b"S'a\\qb'\n.")


def test_lengths_beyond_the_file_are_refused_at_once():
    for opcode in (b"B", b"T", b"X"):
        with pytest.raises(CheckpointError, match="whole pickle"):
            load(b"\x80\x02" + opcode + struct.pack("<I", 2**31 - 1) + b"x.")
    with pytest.raises(CheckpointError, match="whole pickle"):
        load(b"\x80\x04\x8e" + struct.pack("<Q", 2**62) + b"x.")


@pytest.mark.parametrize(
    "tensor",
    [
        ForeignTensor(ForeignStorage("float32", memoryview(bytes(16))), 0, (5,), (1,)),
        ForeignTensor(ForeignStorage("float32", memoryview(bytes(16))), 2, (2, 2), (2, 1)),
        ForeignTensor(ForeignStorage("float32", memoryview(bytes(16))), 0, (1 << 40,), (0,)),
        ForeignTensor(ForeignStorage("float32", None), 0, (1,), (1,)),
    ],
)
def test_tensor_outside_its_storage_is_refused(tensor: ForeignTensor):
    with pytest.raises(CheckpointError, match="inside its storage"):
        tensor.load()


@pytest.mark.usefixtures("unchecked")
def test_impossible_shapes_are_refused():
    for shape in ((-1,), (2**60,), (1.5,), (1,) * 9):
        with pytest.raises(ValueError, match="impossible"):
            dense_strides(shape)  # type: ignore[arg-type]


@pytest.mark.parametrize("dtype", [object, "S3", "U2", np.complex64])
def test_arrays_of_something_else_than_numbers_are_refused(dtype: Any):
    with pytest.raises(CheckpointError):
        load(pickle.dumps(np.zeros(2, dtype=dtype)))


def test_big_endian_arrays_are_refused():
    with pytest.raises(CheckpointError, match="big-endian"):
        load(pickle.dumps(np.zeros(2, dtype=">f4")))


@pytest.mark.parametrize("fraction", [0.1, 0.5, 0.99])
@pytest.mark.parametrize("kind", ["pickle", "zip", "legacy", "npy"])
def test_half_a_download_is_refused_as_such(kind: str, fraction: float, tmp_path: Path):
    buffer = io.BytesIO()
    if kind == "pickle":
        pickle.dump(make_tree(), buffer)
    elif kind == "npy":
        np.save(buffer, np.zeros((40, 512), np.float32))
    else:
        torch.save(make_tree(), buffer, _use_new_zipfile_serialization=kind == "zip")
    data = buffer.getvalue()
    (tmp_path / "x.pt").write_bytes(data[: int(len(data) * fraction)])
    with pytest.raises(CheckpointError, match="fetch it again"):
        read_foreign_file(tmp_path / "x.pt")


LFS = b"version https://git-lfs.github.com/spec/v1\noid sha256:4d7a\nsize 381673535\n"


@pytest.mark.parametrize(
    ("data", "match"),
    [
        (b"", r"empty \(0 bytes\)"),
        (LFS, "Git LFS pointer.*381,673,535 bytes.*git lfs pull"),
        (b"<!DOCTYPE html><html>Google Drive - Virus scan warning", "web page"),
        (b"\n  <html><head>", "web page"),
        (b"\xef\xbb\xbf<html lang=en>", "web page"),
        (b"<!-- saved --><table>", "web page"),
        (b"\x89PNG\r\n\x1a\n", "a PNG image, not a checkpoint. Give the .pkl"),
        (b'{"error": 403}', r"text file \(14 bytes\) that begins .*error.* not a checkpoint"),
        (b"404: Not Found\n", "text file .* begins '404: Not Found'.*Download the file again"),
        (b"\x1f\x8b\x08\x00aaaa", "gzip"),
        (b"7z\xbc\xaf\x27\x1c", "7z"),
        (b"\x89HDF\r\n\x1a\n" + bytes(600) + b"l0/c/W", r"is HDF5 \(Chainer and other tools"),
        (b"\x89HDF\r\n\x1a\n" + bytes(600) + b"keras_version", "is HDF5 as Keras writes it"),
        (struct.pack("<Q", 2) + b"{}", "safetensors"),
        (b"hello, this is a text file\n", "text file"),
        (b"Forbidden\n", "text file"),
    ],
)
def test_look_alikes_are_named(data: bytes, match: str, tmp_path: Path):
    (tmp_path / "x.pkl").write_bytes(data)
    with pytest.raises(CheckpointError, match=match):
        read_foreign_file(tmp_path / "x.pkl")


def test_pickles_that_are_text_are_read_as_pickles(tmp_path: Path):
    for value in ({"a": 1}, [1.5], 7, None, ("x",)):
        (tmp_path / "x.pkl").write_bytes(pickle.dumps(value, protocol=0))
        assert read_foreign_file(tmp_path / "x.pkl") == value


def test_missing_file_and_folder_are_named(tmp_path: Path):
    with pytest.raises(CheckpointError, match=r"none at .*nowhere.pkl"):
        read_foreign_file(tmp_path / "nowhere.pkl")
    with pytest.raises(CheckpointError, match=r"must be a file; .* is a folder"):
        read_foreign_file(tmp_path)


def test_torch_file_that_was_zipped_again_is_refused_with_what_to_do(tmp_path: Path):
    torch.save({"a": torch.zeros(3)}, tmp_path / "x.pt")
    with (
        zipfile.ZipFile(tmp_path / "x.pt") as archive,
        zipfile.ZipFile(tmp_path / "y.pt", "w", zipfile.ZIP_DEFLATED) as packed,
    ):
        for info in archive.infolist():
            packed.writestr(info.filename, archive.read(info))
    with pytest.raises(CheckpointError, match=r"compressed.*without compression, or get the original file"):
        read_foreign_file(tmp_path / "y.pt")


def test_zip_of_something_else_and_torchscript_are_named(tmp_path: Path):
    with zipfile.ZipFile(tmp_path / "x.zip", "w") as archive:
        archive.writestr("readme.txt", "x")
    with pytest.raises(CheckpointError, match=r"no data.pkl"):
        read_foreign_file(tmp_path / "x.zip")
    np.savez(tmp_path / "z.npz", a=np.zeros(2), b=np.zeros(3))
    with pytest.raises(CheckpointError, match=r"is an .npz of 2 arrays \(numpy and Chainer"):
        read_foreign_file(tmp_path / "z.npz")
    with zipfile.ZipFile(tmp_path / "y.zip", "w") as archive:
        archive.writestr("a/data.pkl", pickle.dumps(1, protocol=2))
        archive.writestr("a/constants.pkl", pickle.dumps(1, protocol=2))
    with pytest.raises(CheckpointError, match="TorchScript"):
        read_foreign_file(tmp_path / "y.zip")


@pytest.mark.parametrize("array", [np.zeros((2, 3, 4), np.float32), np.asfortranarray(np.ones((3, 2))), np.float32(1)])
def test_npy_equals_what_was_written(array: np.ndarray, tmp_path: Path):
    np.save(tmp_path / "x.npy", array)
    assert torch.equal(read_foreign_file(tmp_path / "x.npy").load(), torch.from_numpy(np.array(array, order="C")))


def test_npy_of_objects_is_refused(tmp_path: Path):
    np.save(tmp_path / "x.npy", np.array([{}], dtype=object), allow_pickle=True)
    with pytest.raises(CheckpointError, match="plain little-endian numbers"):
        read_foreign_file(tmp_path / "x.npy")


@pytest.mark.parametrize("kind", ["pickle", "zip", "legacy"])
def test_reading_leaves_the_tensors_in_the_file(kind: str, tmp_path: Path):
    tree = {str(i): torch.full((256, 1024), float(i)) for i in range(20)}  # 1 MB each
    path = tmp_path / "x.pt"
    if kind == "pickle":
        path.write_bytes(pickle.dumps(tree))
    else:
        torch.save(tree, path, _use_new_zipfile_serialization=kind == "zip")
    del tree
    tracemalloc.start()
    found = read_foreign_file(path)
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert peak < path.stat().st_size / 5
    assert bool((found["7"].load() == 7).all())
