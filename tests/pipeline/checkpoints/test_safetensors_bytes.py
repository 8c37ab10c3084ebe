"""Our one-copy writer against the library's."""

import pytest
import torch
from safetensors.torch import save

from pipeline.checkpoints.safetensors_bytes import safetensors_bytes


@pytest.mark.parametrize("metadata", [None, {"config": '{"levels": ["coarse"], "name": "\u00e9"}'}])
def test_bytes_are_those_of_the_library(metadata: dict[str, str] | None):
    state = {"b.weight": torch.randn(3, 4), "a": torch.randn(()), "count": torch.tensor(3), "none": torch.zeros(0, 2)}
    assert safetensors_bytes(state, metadata=metadata) == save(state, metadata=metadata)


def test_transposed_tensor_is_written_as_it_reads():
    tensor = torch.randn(2, 3).T
    assert safetensors_bytes({"x": tensor}) == save({"x": tensor.contiguous()})
