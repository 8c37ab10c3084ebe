"""Adam for many vectors in one call, each with a step count of its own."""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.optim.adam import adam

BETAS, EPS = (0.9, 0.999), 1e-8  # Kingma and Ba 2015, as the published code leaves them


@dataclass(frozen=True)
class AdamMoments:
    """What Adam remembers of one vector.

    Attributes:
        first: running mean of its gradients.
        second: running mean of their squares.
        count: updates made, as torch counts them.
    """

    first: Tensor
    second: Tensor
    count: Tensor

    @classmethod
    def of(cls, vector: Tensor) -> "AdamMoments":
        """Of a vector that has not been updated."""
        return cls(torch.zeros_like(vector), torch.zeros_like(vector), torch.zeros((), device=vector.device))


def adam_step(
    vectors: Sequence[Tensor], gradients: Sequence[Tensor], moments: Sequence[AdamMoments], *, rate: float
) -> None:
    """Update all vectors in place, in one fused pass; to the bit what a ``torch.optim.Adam(fused=True)`` each does.

    Args:
        vectors: of any shapes, on one device.
        gradients: as the vectors.
        moments: as the vectors; updated too.
        rate: learning rate of all of them.
    Source: Kingma and Ba 2015, algorithm 1.
    """
    with torch.no_grad():
        adam(
            list(vectors),
            list(gradients),
            [x.first.detach() for x in moments],
            [x.second.detach() for x in moments],
            [],
            [x.count for x in moments],
            fused=True,
            amsgrad=False,
            beta1=BETAS[0],
            beta2=BETAS[1],
            lr=rate,
            weight_decay=0.0,
            eps=EPS,
            maximize=False,
        )
