"""Mean and standard deviation of every style channel, as a stream over many sampled latents."""

import pyarrow as pa
import torch

import storage
from kernels import RunningMoments
from pipeline.config import StyleStatisticsConfig
from pipeline.directions.statistics import compute_style_moments
from pipeline.packs.pack import Pack
from pipeline.reference import styles_with_gain
from pipeline.runs.shard import Made, ShardReport, count_shards, part_path, run_shard, shard_bounds, stage_hash
from pipeline.schemas import STYLE_MOMENTS, STYLE_STATISTICS
from pipeline.style_space import StyleSpace
from storage import Store

STAGE = STYLE_STATISTICS.name
MOMENTS_STAGE = STYLE_MOMENTS.name


def style_statistics_hash(config: StyleStatisticsConfig, pack: Pack) -> str:
    """The config hash of the statistics."""
    return stage_hash(STAGE, config, pack)


def style_statistics_num_shards(config: StyleStatisticsConfig) -> int:
    """Shards of a run."""
    return count_shards(config.num_samples, config.shard_size)


def run_style_moments_shard(config: StyleStatisticsConfig, store: Store, pack: Pack, shard: int) -> ShardReport:
    """Moments over one shard of the samples."""

    def make() -> Made:
        bounds = shard_bounds(config.num_samples, config.shard_size, shard)
        moments = compute_style_moments(
            pack.generator, [config.first_seed + i for i in bounds], psi=config.psi, cutoff=config.cutoff
        )
        layer, channel = _channel_columns(pack.generator.space)
        table = STYLE_MOMENTS.table(
            {
                "layer": layer,
                "channel": channel,
                "mean": moments.mean.numpy(),
                "m2": moments.m2.numpy(),
                "count": [moments.count] * len(layer),
            }
        )
        return Made({part_path(f"_{MOMENTS_STAGE}", shard): storage.table_bytes(table)}, rows=table.num_rows)

    return run_shard(store, MOMENTS_STAGE, shard, config_hash=style_statistics_hash(config, pack), pack=pack, make=make)


def run_style_statistics(config: StyleStatisticsConfig, store: Store, pack: Pack) -> ShardReport:
    """Merge the moments of all shards, in shard order, into the statistics."""

    def make() -> Made:
        space = pack.generator.space
        moments = RunningMoments.empty(space.num_channels)
        for path in storage.shard_outputs(store, MOMENTS_STAGE):
            moments = moments.merge(_read_moments(storage.read_table(store, path)))
        gain = torch.ones(1, space.num_channels, dtype=moments.mean.dtype)
        gain = (styles_with_gain(gain, space) if config.torgb_style == "post_gain" else gain)[0]
        layer, channel = _channel_columns(space)
        table = STYLE_STATISTICS.table(
            {
                "layer": layer,
                "channel": channel,
                "mean": (moments.mean * gain).float().numpy(),
                "std": (moments.std(ddof=config.ddof) * gain).float().numpy(),
                "count": [moments.count] * len(layer),
            }
        )
        return Made({part_path(STAGE, 0): storage.table_bytes(table)}, rows=table.num_rows)

    return run_shard(store, STAGE, 0, config_hash=style_statistics_hash(config, pack), pack=pack, make=make)


def _channel_columns(space: StyleSpace) -> tuple[list[int], list[int]]:
    pairs = [(layer.index, c) for layer in space.layers for c in range(layer.num_channels)]
    return [p[0] for p in pairs], [p[1] for p in pairs]


def _read_moments(table: pa.Table) -> RunningMoments:
    mean = torch.from_numpy(table["mean"].to_numpy().copy())
    m2 = torch.from_numpy(table["m2"].to_numpy().copy())
    return RunningMoments(int(table["count"][0].as_py()), mean, m2)
