"""Channel directions: what each style channel does to CLIP's embedding, measured by rendering (StyleCLIP section 6).

For every channel c and image: render G(s + a sigma_c e_c) and G(s - a sigma_c e_c), embed both, take the unit
difference; the direction is the unit mean over images. Letters: n image, c channel, s style, d CLIP width.
"""

import logging
from collections.abc import Sequence
from itertools import groupby

import torch
from jaxtyping import Float
from torch import Tensor

import storage
from kernels import ChannelDirection, channel_direction, unit_differences
from pipeline.config import ChannelDirectionsConfig
from pipeline.models.clip import Clip
from pipeline.models.stylegan2 import Activations, Generator
from pipeline.pack import Pack
from pipeline.sampling import count_shards, sample_w_plus, shard_bounds
from pipeline.schemas import CHANNEL_DIRECTIONS
from pipeline.shard import Input, Made, ShardReport, part_path, run_shard, stage_hash
from pipeline.style_space import StyleSpace
from storage import Store

log = logging.getLogger(__name__)
STAGE = CHANNEL_DIRECTIONS.name


def compute_channel_directions(
    generator: Generator,
    clip: Clip,
    styles: Float[Tensor, "n s"],
    *,
    positions: Sequence[int],
    std: Float[Tensor, "s"],
    step: float,
) -> ChannelDirection:
    """Directions of some channels over given images.

    Each channel is rendered in a batch of its own (all images, plus and minus), so that its row depends on nothing
    but the channel: any order and any sharding gives the same bits. Activations below the channel's layer are
    those of the untouched images, computed once per layer and shared.

    Args:
        generator: renders.
        clip: embeds.
        styles: style vectors of the images.
        positions: channels, as positions in a style vector.
        std: standard deviation of every style channel; channels with 0 are not rendered and get count 0.
        step: size of the move, in standard deviations.
    Returns:
        one direction, agreement and image count per position, in the order given.
    """
    space = generator.space
    width = clip.encode_images(torch.zeros(1, 3, space.resolution, space.resolution)).shape[1]
    total = torch.zeros(len(positions), width)
    count = torch.zeros(len(positions))
    order = sorted(range(len(positions)), key=lambda i: positions[i])
    with torch.no_grad():
        for layer, members in groupby(order, key=lambda i: space.locate(positions[i])[0]):
            below = generator.activations(styles, layer)
            doubled = Activations(
                layer, torch.cat([below.features] * 2), None if below.rgb is None else torch.cat([below.rgb] * 2)
            )
            for i in members:
                position = positions[i]
                if std[position] <= 0:
                    continue
                moved = torch.cat([styles, styles])
                moved[: len(styles), position] += step * std[position]
                moved[len(styles) :, position] -= step * std[position]
                plus, minus = clip.encode_images(generator.render(moved, since=doubled)).chunk(2)
                differences = unit_differences(plus, minus).cpu()
                total[i] = differences.sum(dim=0)
                count[i] = differences.any(dim=1).sum()
    return channel_direction(total, count)


def editable_positions(space: StyleSpace) -> list[int]:
    """Positions of all convolution channels, layer by layer."""
    return [p for layer in space.editable for p in range(layer.offset, layer.slice.stop)]


def channel_directions_hash(config: ChannelDirectionsConfig, pack: Pack, statistics: Input) -> str:
    """What the directions of this config are known by."""
    return stage_hash(STAGE, config, pack, {"style_statistics": statistics.config_hash})


def channel_directions_num_shards(config: ChannelDirectionsConfig, pack: Pack) -> int:
    """Shards of a run."""
    return count_shards(len(editable_positions(pack.generator.space)), config.shard_size)


def run_channel_directions_shard(
    config: ChannelDirectionsConfig, store: Store, pack: Pack, shard: int, *, statistics: Input
) -> ShardReport:
    """Measure and write one range of channels."""

    def make() -> Made:
        space = pack.generator.space
        everything = editable_positions(space)
        positions = [everything[i] for i in shard_bounds(len(everything), config.shard_size, shard)]
        std = torch.from_numpy(statistics.table(["std"])["std"].to_numpy().copy())
        seeds = [config.first_seed + i for i in range(config.num_images)]
        with torch.no_grad():
            styles = pack.generator.styles(sample_w_plus(pack.generator, seeds, psi=config.psi))
        found = compute_channel_directions(
            pack.generator, pack.clip, styles, positions=positions, std=std, step=config.step
        )
        located = [space.locate(p) for p in positions]
        status = [
            "constant" if std[p] <= 0 else "ok" if n > 0 else "no_effect"
            for p, n in zip(positions, found.count, strict=True)
        ]
        table = CHANNEL_DIRECTIONS.table(
            {
                "layer": [layer for layer, _ in located],
                "channel": [channel for _, channel in located],
                "direction": storage.vectors(found.direction.numpy()),
                "agreement": found.agreement.numpy(),
                "count": found.count.int().numpy(),
                "status": status,
            },
            widths={"direction": found.direction.shape[1]},
        )
        return Made({part_path(STAGE, shard): storage.table_bytes(table)}, rows=len(positions))

    config_hash = channel_directions_hash(config, pack, statistics)
    return run_shard(store, STAGE, shard, config_hash=config_hash, pack=pack, make=make)
