"""Channels of a pack that are one control, found in the style vectors of random latents; nothing is rendered."""

from collections.abc import Sequence
from functools import lru_cache

import torch

from kernels import ChannelGroups, correlated_channels
from pipeline.directions.table import ChannelTable
from pipeline.models.sampling import sample_w_plus
from pipeline.packs.pack import Pack

FIRST_SEED = 4_000_000
NUM_LATENTS = 256


def find_channel_groups(pack: Pack, channels: ChannelTable) -> ChannelGroups:
    """Which rows of a channel table always move together (correlation 0.99 or more in size).

    In a generator whose style channels are trained freely, each stands alone as a rule. Where several channels read
    the same number, one of them alone shows the generator what it never saw, and changes little.
    """
    pairs = zip(channels.layer, channels.channel, strict=True)
    return find_groups_at(pack, [pack.generator.space.position(int(a), int(b)) for a, b in pairs])


def find_groups_at(pack: Pack, positions: Sequence[int]) -> ChannelGroups:
    """The same for channels given by their positions in a style vector."""
    return correlated_channels(_styles(pack)[:, torch.tensor(positions)])


@lru_cache(maxsize=2)
def _styles(pack: Pack) -> torch.Tensor:
    with torch.no_grad():
        seeds = range(FIRST_SEED, FIRST_SEED + NUM_LATENTS)
        return pack.generator.styles(sample_w_plus(pack.generator, seeds, psi=1.0)).cpu()
