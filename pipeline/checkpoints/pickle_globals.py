"""What a pickle may name: the closed list of globals, and the plain things that stand in for them.

Nothing here is the thing itself. A maker builds a container, a window on the file's bytes, or a stub that holds state.
"""

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

from pipeline.checkpoints.foreign_tensor import DTYPES, ForeignStorage, ForeignTensor, dense_strides


@dataclass
class Stub:
    """What is left of an object of a foreign class: its class's name and its state, no behaviour.

    Attributes:
        kind: name of the class, without its module.
        state: attributes by name.
    """

    kind: str
    state: dict[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class Symbol:
    """A global that the file names; never the thing itself."""

    module: str
    name: str

    def __str__(self) -> str:
        return f"{self.module}.{self.name}"


@dataclass
class ForeignDtype:
    """A numpy element type."""

    code: str
    order: str = "|"


@dataclass
class ForeignArray:
    """A numpy array; its tensor is None until the state has come. Read it through ``as_tensor``."""

    tensor: ForeignTensor | None = None


class RefusedError(Exception):
    """Something in the stream that is not a damaged file but a forbidden one."""


def plain_key(value: Any) -> Any:
    """Keys and members must be plain: hashing a deep tuple can exhaust the C stack."""
    if value is None or isinstance(value, str | int | float | bytes):
        return value
    if isinstance(value, Symbol):
        return str(value)
    raise TypeError(f"a {type(value).__name__} as a key")


def as_tensor(value: Any) -> ForeignTensor | None:
    """The tensor that a value of the unpickled tree is, whether torch's or numpy's; None if it is none."""
    value = value.tensor if isinstance(value, ForeignArray) else value
    return value if isinstance(value, ForeignTensor) else None


def shown(value: Any) -> str:
    """A value in a message; never the inside of a container, whose text may be without end."""
    return repr(str(value)[:80]) if isinstance(value, str | Symbol) else f"a {type(value).__name__}"


def _dict(items: Any = ()) -> dict[Any, Any]:
    return {plain_key(k): v for k, v in (items.items() if isinstance(items, Mapping) else items)}


def _set(items: Any = ()) -> set[Any]:
    return {plain_key(item) for item in items}


def _encode(text: str, encoding: str = "latin1") -> bytes:
    if encoding not in ("latin1", "latin-1"):
        raise RefusedError(f"it encodes text as {shown(encoding)}")
    return text.encode("latin-1")


def _stub(kind: str) -> Callable[..., Stub]:
    return lambda *_: Stub(kind)


def _reconstructor(kind: Any, base: Any, state: Any) -> Any:
    """``copyreg._reconstructor`` of protocols 0 and 1: an empty object of a class."""
    maker = MAKERS.get((kind.module, kind.name)) if isinstance(kind, Symbol) else None
    if maker is None or (state is not None and not isinstance(state, dict)):
        raise RefusedError(f"it makes an object of {shown(kind)}")
    return maker(*(() if state is None else (state,)))


def _persistent_object(meta: Any) -> Stub:
    """NVlabs' persistence record: class name and state; its ``module_src``, which their loader runs, is dropped."""
    state = meta["state"]
    kind = meta["class_name"]
    if not isinstance(kind, str):
        raise TypeError("a persistence record without a class name")
    return Stub(kind, state if isinstance(state, dict) else {})


def _tensor(storage: Any, offset: Any, shape: Any, stride: Any, *_: Any) -> ForeignTensor:
    if not isinstance(storage, ForeignStorage):
        raise TypeError("a tensor without a storage")
    return ForeignTensor(storage, offset, tuple(shape), tuple(stride))


def _tensor_v3(storage: Any, offset: Any, shape: Any, stride: Any, _grad: Any, _hooks: Any, dtype: Any, *_: Any) -> Any:
    if not isinstance(storage, ForeignStorage) or not isinstance(dtype, Symbol) or dtype.name not in DTYPES:
        raise TypeError("a tensor without a storage or element type")
    return _tensor(ForeignStorage(dtype.name, storage.data), offset, shape, stride)


def _first(value: Any, *_: Any) -> Any:
    return value


def _from_type(function: Any, _kind: Any, arguments: Any, _state: Any) -> Any:
    """A tensor with Python attributes: the tensor alone."""
    if not isinstance(function, Symbol) or not function.name.startswith("_rebuild"):
        raise RefusedError("it rebuilds a tensor by something else than torch's own function")
    maker = MAKERS[function.module, function.name]
    assert maker is not None
    return maker(*arguments)


def foreign_array(data: Any, dtype: Any, shape: Any, *, fortran: bool) -> ForeignTensor:
    """A numpy array of numbers over its bytes."""
    if not isinstance(dtype, ForeignDtype) or not isinstance(data, bytes | bytearray | memoryview | str):
        raise RefusedError("it holds a numpy array of something else than numbers")
    raw = memoryview(data.encode("latin-1")) if isinstance(data, str) else memoryview(data)
    storage = ForeignStorage(_NUMPY_DTYPES[dtype.code], raw)
    if dtype.order == ">" and storage.itemsize > 1:
        raise RefusedError("it holds big-endian numbers")
    shape = tuple(shape)
    tensor = ForeignTensor(storage, 0, shape, dense_strides(shape, fortran=fortran))
    if math.prod(shape) * storage.itemsize != raw.nbytes:
        raise ValueError(f"an array of shape {list(shape)} on {raw.nbytes} bytes")
    return tensor


def _new_array(*_: Any) -> ForeignArray:
    return ForeignArray()


def _array_from_buffer(data: Any, dtype: Any, shape: Any, order: Any = "C", *_: Any) -> ForeignTensor:
    return foreign_array(data, dtype, shape, fortran=order == "F")


def _dtype(code: Any, *_: Any) -> ForeignDtype:
    if not isinstance(code, str) or code not in _NUMPY_DTYPES:
        raise RefusedError(f"it holds a numpy array of type {shown(code)}")
    return ForeignDtype(code)


def _scalar(dtype: Any, data: Any) -> Any:
    return foreign_array(data, dtype, (), fortran=False).load().item()


def _joined(*parts: Any) -> str:
    if not all(isinstance(part, str | int) for part in parts):
        raise TypeError("a path or device made of something else than text")
    return "/".join(str(part) for part in parts)


def storage_dtype(kind: Any) -> str:
    """Element type of a torch storage class.

    Raises:
        ValueError: if ``kind`` is not the name of one.
    """
    if not isinstance(kind, Symbol) or kind.name not in _STORAGES:
        raise ValueError(f"a storage of unknown type {shown(kind)}")
    return _STORAGES[kind.name]


_STORAGES = {
    "HalfStorage": "float16",
    "BFloat16Storage": "bfloat16",
    "FloatStorage": "float32",
    "DoubleStorage": "float64",
    "ByteStorage": "uint8",
    "CharStorage": "int8",
    "ShortStorage": "int16",
    "IntStorage": "int32",
    "LongStorage": "int64",
    "BoolStorage": "bool",
    "UntypedStorage": "uint8",
}
_NUMPY_DTYPES = {
    "f2": "float16",
    "f4": "float32",
    "f8": "float64",
    "u1": "uint8",
    "i1": "int8",
    "i2": "int16",
    "i4": "int32",
    "i8": "int64",
    "b1": "bool",
}

LOAD_FROM_BYTES = ("torch.storage", "_load_from_bytes")  # a legacy torch file within: the machine reads it itself
_Makers = dict[tuple[str, str], Callable[..., Any] | None]


def _makers() -> _Makers:
    """The allow-list: (module, name) to what stands in for it; None where it is only ever a name."""
    makers: _Makers = {
        ("collections", "OrderedDict"): _dict,
        ("_codecs", "encode"): _encode,
        ("torch._utils", "_rebuild_tensor"): _tensor,
        ("torch._utils", "_rebuild_tensor_v2"): _tensor,
        ("torch._utils", "_rebuild_tensor_v3"): _tensor_v3,
        ("torch._utils", "_rebuild_parameter"): _first,
        ("torch._utils", "_rebuild_parameter_with_state"): _first,
        ("torch._tensor", "_rebuild_from_type_v2"): _from_type,
        LOAD_FROM_BYTES: _first,
        ("torch.nn.parameter", "Parameter"): None,
        ("torch", "Tensor"): None,
        ("torch", "Size"): lambda items=(): tuple(items),
        ("torch", "device"): _joined,
        ("numpy", "ndarray"): None,
        ("numpy", "dtype"): _dtype,
        ("torch_utils.persistence", "_reconstruct_persistent_obj"): _persistent_object,
        ("dnnlib", "EasyDict"): _dict,
        ("dnnlib.util", "EasyDict"): _dict,
        ("dnnlib.tflib.network", "Network"): _stub("Network"),
        ("argparse", "Namespace"): _stub("Namespace"),
    }
    for path in ("PosixPath", "WindowsPath", "PurePosixPath", "PureWindowsPath"):
        makers["pathlib", path] = _joined
    for builtins in ("builtins", "__builtin__"):
        for name, maker in (
            ("set", _set),
            ("frozenset", _set),
            ("dict", _dict),
            ("list", lambda items=(): list(items)),
            ("tuple", lambda items=(): tuple(items)),
            ("bytearray", _encoded_bytes),
            ("object", None),
        ):
            makers[builtins, name] = maker
    for copyreg in ("copyreg", "copy_reg"):
        makers[copyreg, "_reconstructor"] = _reconstructor
    for core in ("numpy.core", "numpy._core"):
        makers[f"{core}.multiarray", "_reconstruct"] = _new_array
        makers[f"{core}.multiarray", "scalar"] = _scalar
        makers[f"{core}.numeric", "_frombuffer"] = _array_from_buffer
    for name in _STORAGES:
        for module in ("torch", "torch.cuda", "torch.storage"):
            makers[module, name] = None
    for name in DTYPES:
        makers["torch", name] = None
    return makers


def _encoded_bytes(value: Any = b"", encoding: str = "latin1") -> bytes:
    if not isinstance(value, str | bytes | memoryview):  # a number would be so many zeros
        raise RefusedError(f"it makes bytes of {shown(value)}")
    return _encode(value, encoding) if isinstance(value, str) else bytes(value)


MAKERS = _makers()
