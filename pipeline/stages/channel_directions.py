"""Channel directions: what each style channel does to CLIP's embedding, measured by rendering (StyleCLIP section 6).

For every channel c and image: render G(s + a sigma_c e_c) and G(s - a sigma_c e_c), embed both, take the unit
difference; the direction is the unit mean over images. A shard measures a range of channels over a range of images;
the sums of all image ranges are then merged, exactly. Letters: n image, c channel, s style, d CLIP width.
"""

import torch
from jaxtyping import Float
from torch import Tensor

import storage
from kernels import DirectionSums
from pipeline.config import ChannelDirectionsConfig
from pipeline.directions.differences import image_styles, measured_positions, sum_differences
from pipeline.directions.published_differences import (
    is_published,
    sum_published_differences,
    truncated_styles,
)
from pipeline.directions.sums_table import directions_table, merge_sums, sums_table
from pipeline.machine.batch_size import choose_batch_size
from pipeline.packs.pack import Pack
from pipeline.runs.shard import Input, Made, ShardReport, count_shards, part_path, run_shard, shard_bounds, stage_hash
from pipeline.schemas import CHANNEL_DIRECTIONS, CHANNEL_SUMS
from storage import Store

STAGE = CHANNEL_DIRECTIONS.name
SUMS_STAGE = CHANNEL_SUMS.name


def channel_directions_hash(config: ChannelDirectionsConfig, pack: Pack, statistics: Input) -> str:
    """The config hash of the directions."""
    return stage_hash(STAGE, config, pack, {"style_statistics": statistics.config_hash})


def channel_directions_num_shards(config: ChannelDirectionsConfig, pack: Pack) -> int:
    """Ranges of channels, one merged shard each."""
    return count_shards(len(measured_positions(config, pack.generator.space)), config.shard_size)


def channel_sums_num_shards(config: ChannelDirectionsConfig, pack: Pack) -> int:
    """Measured shards: ranges of channels times ranges of images."""
    return channel_directions_num_shards(config, pack) * _num_image_ranges(config)


def count_renders(config: ChannelDirectionsConfig, pack: Pack, statistics: Input) -> int:
    """Renders of all shards: two for every image and channel that varies."""
    std = _read(statistics, "std")[measured_positions(config, pack.generator.space)]
    return 2 * config.num_images * int((std > 0).sum())


def run_channel_sums_shard(
    config: ChannelDirectionsConfig, store: Store, pack: Pack, shard: int, *, statistics: Input
) -> ShardReport:
    """Measure one range of channels over one range of images; this is where the time goes."""

    def make() -> Made:
        channels, images = divmod(shard, _num_image_ranges(config))
        positions = _positions(config, pack, channels)
        seeds = [config.first_seed + i for i in shard_bounds(config.num_images, config.images_per_shard, images)]
        sums = _measure(config, pack, seeds, positions, statistics)
        table = sums_table(pack.generator.space, positions, sums)
        return Made({part_path(f"_{SUMS_STAGE}", shard): storage.table_bytes(table)}, rows=len(positions))

    config_hash = channel_directions_hash(config, pack, statistics)
    return run_shard(
        store, SUMS_STAGE, shard, config_hash=config_hash, pack=pack, make=make, precision=config.precision
    )


def run_channel_directions_shard(
    config: ChannelDirectionsConfig, store: Store, pack: Pack, shard: int, *, statistics: Input
) -> ShardReport:
    """Merge all images' sums of one range of channels into directions. Needs their shards of sums."""

    def make() -> Made:
        positions = _positions(config, pack, shard)
        ranges = _num_image_ranges(config)
        parts = [part_path(f"_{SUMS_STAGE}", shard * ranges + i) for i in range(ranges)]
        tables = (storage.read_table(store, part) for part in parts)
        sums = merge_sums(pack.generator.space, positions, tables)
        table = directions_table(
            pack.generator.space, positions, sums.direction(), sums.mean_effect(), _read(statistics, "std")
        )
        return Made({part_path(STAGE, shard): storage.table_bytes(table)}, rows=len(positions))

    config_hash = channel_directions_hash(config, pack, statistics)
    return run_shard(store, STAGE, shard, config_hash=config_hash, pack=pack, make=make, precision=config.precision)


def _measure(
    config: ChannelDirectionsConfig, pack: Pack, seeds: list[int], positions: list[int], statistics: Input
) -> DirectionSums:
    """By the paper, or where a switch says so as published."""
    std = _read(statistics, "std")
    if is_published(config):
        return sum_published_differences(
            pack.generator,
            pack.clip,
            truncated_styles(pack.generator, seeds, psi=config.psi, cutoff=config.cutoff),
            positions=positions,
            mean=_read(statistics, "mean"),
            std=std,
            config=config,
        )
    return sum_differences(
        pack.generator,
        pack.clip,
        image_styles(pack.generator, seeds, psi=config.psi),
        positions=positions,
        std=std,
        step=config.step,
        batch_size=choose_batch_size(pack.generator, config.batch_size, precision=config.precision),
        precision=config.precision,
    )


def _num_image_ranges(config: ChannelDirectionsConfig) -> int:
    return count_shards(config.num_images, config.images_per_shard)


def _positions(config: ChannelDirectionsConfig, pack: Pack, shard: int) -> list[int]:
    measured = measured_positions(config, pack.generator.space)
    return [measured[i] for i in shard_bounds(len(measured), config.shard_size, shard)]


def _read(statistics: Input, column: str) -> Float[Tensor, "s"]:
    return torch.from_numpy(statistics.table([column])[column].to_numpy().copy())
