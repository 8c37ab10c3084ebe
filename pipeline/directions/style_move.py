"""Style moves: a prompt's direction as a move of whole style vectors.

Letters: n sample, s style channel.
"""

from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor

from pipeline.directions.direction import StyleDirection
from pipeline.directions.table import ChannelTable
from pipeline.style_space import StyleSpace

AT_MOST = 2.0  # times the way to the limit: all the way there, and as far again for what half a thing leaves


@dataclass(frozen=True)
class StyleMove:
    """A move at strength 1.

    Attributes:
        offset: added to the raw style, [s].
        limit: a channel moves at most twice as far as it is away from there, and not at all if it is beyond; NaN: no
            bound, [s].
    """

    offset: Float[Tensor, "s"]
    limit: Float[Tensor, "s"]

    @classmethod
    def none(cls, space: StyleSpace) -> "StyleMove":
        """Moves nothing."""
        return cls(torch.zeros(space.num_channels), torch.full((space.num_channels,), torch.nan))

    @classmethod
    def of(cls, direction: StyleDirection, channels: ChannelTable, space: StyleSpace) -> "StyleMove":
        """The move of a direction."""
        move = cls.none(space)
        for row, value, limit in zip(direction.rows, direction.value, direction.limit, strict=True):
            position = space.position(int(channels.layer[row]), int(channels.channel[row]))
            move.offset[position], move.limit[position] = float(value), float(limit)
        return move

    def moved(self, styles: Float[Tensor, "*n s"], strength: float) -> Float[Tensor, "*n s"]:
        """Style vectors moved; a negative strength moves the other way, without bounds."""
        offset = self.offset.to(styles)
        if strength <= 0:
            return styles + strength * offset
        move, way = strength * offset, AT_MOST * (self.limit.to(styles) - styles)
        bounded = torch.where(offset < 0, move.maximum(way.clamp(max=0)), move.minimum(way.clamp(min=0)))
        return styles + torch.where(torch.isnan(way), move, bounded)
