"""Tensors that still lie in somebody's file: a window of bytes, read only when it is asked for."""

import math
import mmap
from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from pipeline.errors import CheckpointError

DTYPES = {
    "float16": torch.float16,
    "bfloat16": torch.bfloat16,
    "float32": torch.float32,
    "float64": torch.float64,
    "uint8": torch.uint8,
    "int8": torch.int8,
    "int16": torch.int16,
    "int32": torch.int32,
    "int64": torch.int64,
    "bool": torch.bool,
}
MAX_AXES = 8
MAX_EXTENT = 1 << 48


def check_extents(numbers: tuple[object, ...]) -> None:
    """Refuse what cannot be a shape, stride or offset, before anything is computed with it.

    Raises:
        ValueError: if there are more than 8 numbers, or one is not a whole number in [0, 2^48].
    """
    if len(numbers) > MAX_AXES or any(type(x) is not int or not 0 <= x <= MAX_EXTENT for x in numbers):
        raise ValueError("a tensor with an impossible shape, stride or offset")


def dense_strides(shape: tuple[int, ...], *, fortran: bool = False) -> tuple[int, ...]:
    """Strides of a gapless array: the last axis fastest, or with ``fortran`` the first.

    Raises:
        ValueError: see ``check_extents``.
    """
    check_extents(shape)
    strides, step = [], 1
    for size in shape if fortran else reversed(shape):
        strides.append(step)
        step *= max(size, 1)
    return tuple(strides if fortran else reversed(strides))


@dataclass
class ForeignStorage:
    """Bytes that tensors are windows of.

    Attributes:
        dtype: element type, a key of ``DTYPES``.
        data: the bytes; None until a legacy torch file has told where they are.
    """

    dtype: str
    data: memoryview | None

    @property
    def itemsize(self) -> int:
        """Bytes per element."""
        return DTYPES[self.dtype].itemsize


@dataclass(frozen=True)
class ForeignTensor:
    """A strided window of a storage; offset and strides count elements.

    Attributes:
        storage: where the elements are.
        offset: first element.
        shape: length of each axis.
        stride: elements from one index to the next, per axis.
    """

    storage: ForeignStorage
    offset: int
    shape: tuple[int, ...]
    stride: tuple[int, ...]

    def __post_init__(self) -> None:
        for numbers in ((self.offset,), self.shape, self.stride):
            check_extents(numbers)
        if len(self.shape) != len(self.stride):
            raise ValueError("a tensor with more or fewer strides than axes")

    def rows(self, start: int, stop: int) -> "ForeignTensor":
        """Entries ``start`` up to, not including, ``stop`` of the first axis; nothing is read."""
        offset = self.offset + start * self.stride[0]
        return ForeignTensor(self.storage, offset, (stop - start, *self.shape[1:]), self.stride)

    def load(self) -> Tensor:
        """A copy in memory, contiguous, in the file's own element type.

        Raises:
            CheckpointError: if the window does not lie inside the file's bytes.
        """
        storage = self.storage
        numel = math.prod(self.shape)
        dtype = DTYPES[storage.dtype]
        if numel == 0:
            return torch.zeros(self.shape, dtype=dtype)
        last = self.offset + sum((n - 1) * s for n, s in zip(self.shape, self.stride, strict=True))
        have = 0 if storage.data is None else storage.data.nbytes // storage.itemsize
        if storage.data is None or last >= have or numel > have:
            raise CheckpointError(
                f"a tensor must lie inside its storage; shape {list(self.shape)} needs element {last} of {have}. "
                f"The file is damaged: fetch it again."
            )
        window = storage.data[self.offset * storage.itemsize : (last + 1) * storage.itemsize]
        flat = torch.frombuffer(bytearray(window), dtype=dtype)
        let_go(storage.data)
        return flat.as_strided(self.shape, self.stride).contiguous()


def let_go(data: memoryview) -> None:
    """Tell the system that a mapped file's pages need not stay in this process; they are read again if asked for."""
    if isinstance(data.obj, mmap.mmap) and hasattr(mmap, "MADV_DONTNEED"):  # not on Windows
        data.obj.madvise(mmap.MADV_DONTNEED)


@dataclass(frozen=True)
class SourceTensor:
    """A tensor of a checkpoint by the name it has there, perhaps with a change of layout still to be made.

    Attributes:
        key: its name in the file, for messages.
        shape: its shape after the change of layout.
        load: reads it.
    """

    key: str
    shape: tuple[int, ...]
    load: Callable[[], Tensor]

    @classmethod
    def of(cls, key: str, tensor: ForeignTensor) -> "SourceTensor":
        """The tensor as it lies in the file."""
        return cls(key, tensor.shape, tensor.load)

    def changed(self, shape: tuple[int, ...], change: Callable[[Tensor], Tensor]) -> "SourceTensor":
        """The tensor with a change of layout made after reading; ``shape`` is what comes out."""
        return SourceTensor(self.key, shape, lambda: change(self.load()).contiguous())

    def reshaped(self, *shape: int) -> "SourceTensor":
        """The tensor in another shape of as many elements.

        Raises:
            CheckpointError: if the number of elements differs.
        """
        if math.prod(shape) != math.prod(self.shape):
            raise CheckpointError(
                f"{self.key} must have {math.prod(shape)} elements, for {list(shape)}; got {list(self.shape)}. "
                f"The file is of another architecture or damaged."
            )
        return self.changed(shape, lambda tensor: tensor.reshape(shape))
