"""A safetensors file as one buffer; the library's own ``save`` holds the tensors three times over."""

import json
from collections.abc import Mapping

import torch
from torch import Tensor

DTYPE_NAMES = {torch.float32: "F32", torch.int64: "I64"}  # the types that an import writes, the widest first when equal
ALIGNMENT = 8


def safetensors_bytes(state: Mapping[str, Tensor], *, metadata: Mapping[str, str] | None = None) -> bytes:
    """Tensors in the safetensors format, byte for byte as ``safetensors.torch.save`` writes them.

    Eight bytes of header length, the header as JSON padded with spaces, then the tensors, widest element type first and
    by name. The tensors are copied once, into the result.

    Args:
        state: contiguous CPU tensors of float32 or int64.
        metadata: text to text, kept in the header.
    """
    names = sorted(state, key=lambda name: (-state[name].itemsize, name))
    header: dict[str, object] = {} if metadata is None else {"__metadata__": dict(metadata)}
    offset = 0
    for name in names:
        tensor = state[name]
        end = offset + tensor.numel() * tensor.itemsize
        header[name] = {
            "dtype": DTYPE_NAMES[tensor.dtype],
            "shape": list(tensor.shape),
            "data_offsets": [offset, end],
        }
        offset = end
    text = json.dumps(header, separators=(",", ":"), ensure_ascii=False).encode()
    text += b" " * (-len(text) % ALIGNMENT)
    views = [state[name].detach().contiguous().reshape(-1).view(torch.uint8).numpy().data for name in names]
    return b"".join([len(text).to_bytes(8, "little"), text, *views])
