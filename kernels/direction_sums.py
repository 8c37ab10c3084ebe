"""Sums of differences as whole numbers: the same bits however images are split, ordered and merged.

Letters: n image, c channel, d CLIP width.
"""

from dataclasses import dataclass

import torch
from jaxtyping import Float, Int
from torch import Tensor

from kernels.channel_relevance import MIN_DIFFERENCE, ChannelDirection, channel_direction, unit_vectors

FRACTION_BITS = 40  # a component is rounded to 2^-40; float32 holds 24 bits of a unit vector's largest
MAX_LENGTH = 2.0**6  # of one difference; two unit vectors differ by 2 at most, a derivative by more
MAX_IMAGES = 2 ** (62 - FRACTION_BITS - 6)  # above this a sum could pass the range of int64: 65,536


@dataclass(frozen=True)
class DirectionSums:
    """Per channel, sums over images of unit differences and of the differences themselves, and how many there were.

    Each component is held in fixed point, ``round(x * 2^40)`` as int64. Adding whole numbers is associative, so sums
    merged from any split of the images, in any order, are equal to the last bit; memory is one sum per channel
    whatever the number of images.

    Attributes:
        total: of unit differences, [c, d], units of 2^-40.
        effect: of differences, [c, d], units of 2^-40.
        count: images with a difference other than zero, [c].
        seen: images added, [c].
    """

    total: Int[Tensor, "c d"]
    effect: Int[Tensor, "c d"]
    count: Int[Tensor, "c"]
    seen: Int[Tensor, "c"]

    @classmethod
    def empty(cls, num_channels: int, width: int) -> "DirectionSums":
        """Sums of no images."""
        zero = torch.zeros(num_channels, dtype=torch.int64)
        wide = torch.zeros(num_channels, width, dtype=torch.int64)
        return cls(wide, wide.clone(), zero, zero.clone())

    @classmethod
    def of(cls, differences: Float[Tensor, "c n d"], *, shortest: float = MIN_DIFFERENCE) -> "DirectionSums":
        """Sums over n images of every channel's differences and unit differences.

        Args:
            differences: of two unit embeddings, or derivatives of one; not normalised.
            shortest: a difference not longer than this is rounding and counts as none.
        Raises:
            ValueError: if a difference is longer than 64 or not finite, or there are too many images for exact sums.
        """
        x = differences.detach().cpu()
        length = torch.linalg.vector_norm(x, dim=-1)
        if not bool((length <= MAX_LENGTH).all()):
            raise ValueError(
                f"differences must be finite and at most {MAX_LENGTH:g} long; got {float(length.max()):.4g}. "
                f"Embed with unit length."
            )
        seen = _checked_count(torch.full((len(x),), x.shape[1], dtype=torch.int64))
        total = _fixed(unit_vectors(x, shortest=shortest)).sum(dim=1)
        return cls(total, _fixed(x).sum(dim=1), (length > shortest).sum(dim=1), seen)

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
        seen = _checked_count(self.seen + other.seen)
        return DirectionSums(self.total + other.total, self.effect + other.effect, self.count + other.count, seen)

    def at(self, rows: Int[Tensor, "k"]) -> "DirectionSums":
        """Sums of some channels, by row."""
        return DirectionSums(self.total[rows], self.effect[rows], self.count[rows], self.seen[rows])

    def add_at(self, rows: Int[Tensor, "k"], other: "DirectionSums") -> "DirectionSums":
        """Sums with those of some channels added; ``rows`` must not repeat.

        Raises:
            ValueError: if there are too many images for exact sums.
        """
        return DirectionSums(
            self.total.index_add(0, rows, other.total),
            self.effect.index_add(0, rows, other.effect),
            self.count.index_add(0, rows, other.count),
            _checked_count(self.seen.index_add(0, rows, other.seen)),
        )

    def direction(self) -> ChannelDirection:
        """Unit mean difference, its length before (the agreement, 0 to 1) and the count of every channel."""
        exact = channel_direction(self.unit_sum(), self.count)
        return ChannelDirection(exact.direction.float(), exact.agreement.float(), exact.count.float())

    def unit_sum(self) -> Float[Tensor, "c d"]:
        """Sum of unit differences, float64."""
        return self.total.to(torch.float64) * 2.0**-FRACTION_BITS

    def mean_effect(self) -> Float[Tensor, "c d"]:
        """Mean difference over the images seen; zero where none was."""
        effect = self.effect.to(torch.float64) * 2.0**-FRACTION_BITS
        return (effect / self.seen.clamp_min(1)[:, None]).float()


def _checked_count(seen: Int[Tensor, "c"]) -> Int[Tensor, "c"]:
    """Images per channel, no more of them than int64 has room for."""
    if seen.numel() and int(seen.max()) > MAX_IMAGES:
        raise ValueError(
            f"sums are exact up to {MAX_IMAGES} images of a channel; got {int(seen.max())}. Measure fewer images."
        )
    return seen


def _fixed(x: Tensor) -> Tensor:
    return (x.to(torch.float64) * 2.0**FRACTION_BITS).round().to(torch.int64)
