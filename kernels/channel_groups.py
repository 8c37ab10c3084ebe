"""Which style channels are one control: they always move together.

Letters: n sample, c channel.
"""

from dataclasses import dataclass

import torch
from jaxtyping import Float, Int
from torch import Tensor

from kernels.impl import Impl, check_impl


@dataclass(frozen=True)
class ChannelGroups:
    """A partition of the channels.

    Attributes:
        group: number of each channel's group, counted from 0 by its first channel, [c].
        sign: +1 where a channel moves as the first of its group does, -1 where it moves against it, [c].
    """

    group: Int[Tensor, "c"]
    sign: Float[Tensor, "c"]

    @property
    def count(self) -> int:
        """How many groups there are."""
        return int(self.group.max()) + 1 if len(self.group) else 0

    @property
    def leaders(self) -> Int[Tensor, "g"]:
        """The first channel of every group."""
        first = torch.full((self.count,), len(self.group), dtype=torch.int64)
        return first.scatter_reduce(0, self.group, torch.arange(len(self.group)), "amin")

    def gather(self, values: Float[Tensor, "c *rest"]) -> Float[Tensor, "c *rest"]:
        """Every group's signed sum at its first channel, and zero at the others."""
        sign = self.sign.to(values).reshape(-1, *[1] * (values.ndim - 1))
        return torch.zeros_like(values).index_add_(0, self.leaders[self.group], values * sign)

    def copy(self, values: Float[Tensor, "c *rest"]) -> Float[Tensor, "c *rest"]:
        """What stands at the first channel of a group at all of its channels, with their signs."""
        sign = self.sign.to(values).reshape(-1, *[1] * (values.ndim - 1))
        return values[self.leaders[self.group]] * sign

    def total(self, values: Float[Tensor, "c d"]) -> Float[Tensor, "g d"]:
        """Signed sums over every group."""
        sums = values.new_zeros(self.count, values.shape[1])
        return sums.index_add_(0, self.group, values * self.sign.to(values)[:, None])

    def spread(self, values: Float[Tensor, "g"]) -> Float[Tensor, "c"]:
        """A value of every group to its channels, with their signs."""
        return values[self.group] * self.sign.to(values)


def correlated_channels(
    styles: Float[Tensor, "n c"], *, smallest: float = 0.99, chunk: int = 1024, impl: Impl = "auto"
) -> ChannelGroups:
    """Groups of channels whose correlation over samples is at least ``smallest`` in size.

    In order of the channels, each joins the group of the first one before it that began a group and correlates so
    far with it, or begins a group. A channel that never changes stands alone.

    Args:
        styles: style vectors of random latents; 100 or more.
        smallest: in (0, 1].
        chunk: channels compared at a time: memory, not result.
        impl: the reference compares pair by pair.
    """
    check_impl(impl)
    centered = (styles - styles.mean(dim=0)).double()
    size = centered.norm(dim=0)
    moving = size > 1e-6 * styles.double().norm(dim=0).clamp_min(1e-12)
    unit = torch.where(moving, centered / size.clamp_min(1e-300), torch.zeros_like(centered))
    count = unit.shape[1]
    leader, sign = torch.arange(count), torch.ones(count)
    if impl == "ref":
        for j in range(count):
            for i in range(j):
                cosine = float((unit[:, i] * unit[:, j]).sum())
                if leader[i] == i and abs(cosine) >= smallest:
                    leader[j], sign[j] = i, 1.0 if cosine > 0 else -1.0
                    break
    else:
        for start in range(0, count, chunk):
            cosines = unit[:, start : start + chunk].T @ unit
            for row, column in (cosines.abs() >= smallest).nonzero().tolist():
                j = start + row
                if column < j and leader[j] == j and leader[column] == column:
                    leader[j], sign[j] = column, float(cosines[row, column].sign())
    return ChannelGroups(torch.unique(leader, return_inverse=True)[1], sign)
