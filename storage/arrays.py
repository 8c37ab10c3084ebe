"""Named arrays in one safetensors file."""

from collections.abc import Mapping

import numpy as np
from safetensors import SafetensorError
from safetensors.numpy import load, save

from storage.errors import CorruptError
from storage.store import Store


def arrays_bytes(arrays: Mapping[str, np.ndarray]) -> bytes:
    """The arrays as a safetensors file; the same arrays give the same bytes, in whatever order they are named.

    Args:
        arrays: numbers or booleans of any shape and memory order.
    Raises:
        ValueError: if an array's type is not one that safetensors has.
    """
    ordered = {name: np.ascontiguousarray(arrays[name]).reshape(arrays[name].shape) for name in sorted(arrays)}
    try:
        return save(ordered)
    except (SafetensorError, KeyError, TypeError, ValueError) as error:
        kinds = {name: str(array.dtype) for name, array in ordered.items()}
        raise ValueError(f"arrays must hold numbers or booleans to be saved; got {kinds}: {error}.") from error


def read_arrays(store: Store, path: str) -> dict[str, np.ndarray]:
    """The arrays of a safetensors file, by name.

    Args:
        store: where the file is.
        path: the file, relative to the store.
    Raises:
        MissingError: if the file is not there.
        CorruptError: if it is not safetensors, is cut, or holds a type that numpy lacks (bfloat16, float8).
    """
    data = store.read_bytes(path)
    try:
        return load(data)
    except (SafetensorError, KeyError, TypeError, ValueError) as error:
        raise CorruptError(
            f"{store.uri}/{path} must be a whole safetensors file of numpy types; got {len(data)} bytes: {error}. "
            f"Delete it and run what writes it again."
        ) from error
