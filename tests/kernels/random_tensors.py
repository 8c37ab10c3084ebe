"""The type of the ``randn`` fixture."""

from typing import Protocol

import torch
from torch import Tensor


class Randn(Protocol):
    """Standard normal tensors of a shape, float64 unless told."""

    def __call__(self, *shape: int, dtype: torch.dtype = torch.float64) -> Tensor: ...
