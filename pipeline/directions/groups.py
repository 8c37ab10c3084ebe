"""Controls of a pack: channels that always move together, and how far they go, found in the style vectors of random
latents; nothing is rendered.

Letters: n sample, c channel, g control.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache

import numpy as np
import torch
from jaxtyping import Bool, Float
from torch import Tensor

from kernels import ChannelGroups, correlated_channels, exclusive_channels
from pipeline.directions.table import ChannelTable
from pipeline.models.sampling import sample_w_plus
from pipeline.packs.pack import Pack

FIRST_SEED = 4_000_000
NUM_LATENTS = 256
NUM_SAMPLES = 4_096  # of how far channels go and which exclude each other; one in 16 meets by chance 16 times
BATCH = 512  # memory, not result


@dataclass(frozen=True)
class Controls:
    """What the rows of a channel table have to do with each other.

    Attributes:
        groups: which rows always move together.
        samples: the first channel of every control in random latents, [n, g].
        lowest: every channel's least value in them, [c].
        highest: its largest, [c].
    """

    groups: ChannelGroups
    samples: Float[Tensor, "n g"]
    lowest: Float[Tensor, "c"]
    highest: Float[Tensor, "c"]

    def exclusive(self, controls: list[int]) -> Bool[Tensor, "k k"]:
        """Which of some controls exclude each other, as things of which a picture shows one at a time do."""
        return exclusive_channels(self.samples[:, controls])


def find_channel_groups(pack: Pack, channels: ChannelTable) -> ChannelGroups:
    """Which rows of a channel table always move together (correlation 0.99 or more in size).

    In a generator whose style channels are trained freely, each stands alone as a rule. Where several channels read
    the same number, one of them alone shows the generator what it never saw, and changes little.
    """
    return find_groups_at(pack, _positions(pack, channels).tolist())


def find_groups_at(pack: Pack, positions: Sequence[int]) -> ChannelGroups:
    """The same for channels given by their positions in a style vector."""
    return correlated_channels(_styles(pack, NUM_LATENTS)[:, torch.tensor(positions)])


def find_controls(pack: Pack, channels: ChannelTable) -> Controls:
    """The controls of a channel table, from 4,096 random latents at psi 1."""
    groups, positions = find_channel_groups(pack, channels), _positions(pack, channels)
    first = torch.from_numpy(np.unique(groups.group.numpy(), return_index=True)[1])
    styles = _styles(pack, NUM_SAMPLES)
    ends = torch.aminmax(styles, dim=0)
    return Controls(groups, styles[:, positions[first]], ends.min[positions], ends.max[positions])


def _positions(pack: Pack, channels: ChannelTable) -> Tensor:
    space = pack.generator.space
    rows = [space.position(int(a), int(b)) for a, b in zip(channels.layer, channels.channel, strict=True)]
    return torch.tensor(rows, dtype=torch.long)


@lru_cache(maxsize=2)
def _styles(pack: Pack, count: int) -> Tensor:
    parts = []
    with torch.no_grad():
        for start in range(FIRST_SEED, FIRST_SEED + count, BATCH):
            seeds = range(start, min(start + BATCH, FIRST_SEED + count))
            parts.append(pack.generator.styles(sample_w_plus(pack.generator, seeds, psi=1.0)).cpu())
    return torch.cat(parts)
