"""Sums of unit differences as whole numbers: the same bits however images are split, ordered and merged.

Letters: n image, c channel, d CLIP width.
"""

from dataclasses import dataclass

import torch
from jaxtyping import Float, Int
from torch import Tensor

from kernels.channel_relevance import ChannelDirection, unit_vectors

FRACTION_BITS = 40  # a component is rounded to 2^-40; float32 holds 24 bits of a unit vector's largest
MAX_IMAGES = 2 ** (62 - FRACTION_BITS)  # above this a sum could pass the range of int64


@dataclass(frozen=True)
class DirectionSums:
    """Per channel, the sum over images of unit differences and how many were not zero.

    Each component is held in fixed point, ``round(x * 2^40)`` as int64. Adding whole numbers is associative, so sums
    merged from any split of the images, in any order, are equal to the last bit; memory is one sum per channel
    whatever the number of images.

    Attributes:
        total: [c, d], units of 2^-40.
        count: images with a difference other than zero, [c].
        seen: images added, [c].
    """

    total: Int[Tensor, "c d"]
    count: Int[Tensor, "c"]
    seen: Int[Tensor, "c"]

    @classmethod
    def empty(cls, num_channels: int, width: int) -> "DirectionSums":
        """Sums of no images."""
        zero = torch.zeros(num_channels, dtype=torch.int64)
        return cls(torch.zeros(num_channels, width, dtype=torch.int64), zero, zero.clone())

    @classmethod
    def of(cls, differences: Float[Tensor, "c n d"]) -> "DirectionSums":
        """Sums of unit differences (``unit_differences``) of every channel over n images.

        Raises:
            ValueError: if a difference is longer than a unit vector or not finite.
        """
        x = differences.detach().to("cpu", torch.float64)
        length = torch.linalg.vector_norm(x, dim=-1)
        if not bool((length <= 1 + 1e-4).all()):
            raise ValueError(f"differences must be unit vectors or zero; got length {float(length.max()):.4g}.")
        fixed = (x * 2.0**FRACTION_BITS).round().to(torch.int64)
        seen = torch.full((len(x),), x.shape[1], dtype=torch.int64)
        return cls(fixed.sum(dim=1), (length > 0).sum(dim=1), seen)

    def merge(self, other: "DirectionSums") -> "DirectionSums":
        """Sums over both sets of images of the same channels; exact, associative and commutative.

        Raises:
            ValueError: if the shapes differ or there are too many images for exact sums.
        """
        if self.total.shape != other.total.shape:
            raise ValueError(
                f"sums must be of the same channels and CLIP width; got {tuple(self.total.shape)} and "
                f"{tuple(other.total.shape)}."
            )
        seen = self.seen + other.seen
        if seen.numel() and int(seen.max()) > MAX_IMAGES:
            raise ValueError(f"sums are exact up to {MAX_IMAGES} images; got {int(seen.max())}. Split the images.")
        return DirectionSums(self.total + other.total, self.count + other.count, seen)

    def at(self, rows: Int[Tensor, "k"]) -> "DirectionSums":
        """Sums of some channels, by row."""
        return DirectionSums(self.total[rows], self.count[rows], self.seen[rows])

    def add_at(self, rows: Int[Tensor, "k"], other: "DirectionSums") -> "DirectionSums":
        """Sums with those of some channels added; ``rows`` must not repeat."""
        return DirectionSums(
            self.total.index_add(0, rows, other.total),
            self.count.index_add(0, rows, other.count),
            self.seen.index_add(0, rows, other.seen),
        )

    def direction(self) -> ChannelDirection:
        """Unit mean difference, its length before (the agreement, 0 to 1) and the count of every channel."""
        total = self.total.to(torch.float64) * 2.0**-FRACTION_BITS
        mean = total / self.count.clamp_min(1)[:, None]
        agreement = torch.linalg.vector_norm(mean, dim=-1).clamp(max=1.0)
        return ChannelDirection(unit_vectors(mean).float(), agreement.float(), self.count.float())
