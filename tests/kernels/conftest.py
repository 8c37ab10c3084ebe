"""Random tensors from an explicit generator, float64 so that tolerances can be tight."""

import pytest
import torch
from torch import Tensor

from tests.kernels.random_tensors import Randn


@pytest.fixture
def randn() -> Randn:
    """A fresh stream of seed 0 for every test."""
    generator = torch.Generator().manual_seed(0)

    def draw(*shape: int, dtype: torch.dtype = torch.float64) -> Tensor:
        return torch.randn(*shape, generator=generator, dtype=torch.float64).to(dtype)

    return draw
