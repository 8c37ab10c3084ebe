import pytest
import torch
from torch import Tensor

import storage
from kernels import ChannelDirection
from pipeline.config import ChannelDirectionsConfig, StyleStatisticsConfig
from pipeline.pack import Pack
from pipeline.sampling import sample_w_plus
from pipeline.shard import close_stage, find_input
from pipeline.stages import channel_directions as stage
from pipeline.stages import style_statistics as statistics_stage
from storage import Store
from tests.tolerances import KEPT_ACTIVATIONS

STEP = 5.0


@pytest.fixture
def styles(tiny_pack: Pack) -> Tensor:
    return tiny_pack.generator.styles(sample_w_plus(tiny_pack.generator, range(4), psi=0.7))


@pytest.fixture
def std(tiny_pack: Pack) -> Tensor:
    rng = torch.Generator().manual_seed(0)
    return torch.rand(tiny_pack.generator.space.num_channels, generator=rng) * 0.2 + 0.05


def measure(pack: Pack, styles: Tensor, std: Tensor, positions: list[int]) -> ChannelDirection:
    return stage.compute_channel_directions(pack.generator, pack.clip, styles, positions=positions, std=std, step=STEP)


def test_compute_channel_directions_equals_the_papers_loop(tiny_pack: Pack, styles: Tensor, std: Tensor):
    positions = stage.editable_positions(tiny_pack.generator.space)[::7]
    found = measure(tiny_pack, styles, std, positions)
    for row, position in enumerate(positions):
        unit = []
        for style in styles:  # one image, one channel, one sign at a time; whole renders
            ends = []
            for sign in (1, -1):
                moved = style.clone()
                moved[position] += sign * STEP * std[position]
                image = tiny_pack.generator.render(moved[None], impl="ref")
                ends.append(tiny_pack.clip.encode_images(image)[0])
            difference = ends[0] / ends[0].norm() - ends[1] / ends[1].norm()
            unit.append(difference / difference.norm())
        mean = torch.stack(unit).mean(dim=0)
        torch.testing.assert_close(found.direction[row], mean / mean.norm(), **KEPT_ACTIVATIONS)
        torch.testing.assert_close(found.agreement[row], mean.norm(), **KEPT_ACTIVATIONS)


def test_compute_channel_directions_permuted_channels_are_bit_identical(tiny_pack: Pack, styles: Tensor, std: Tensor):
    positions = stage.editable_positions(tiny_pack.generator.space)
    order = torch.randperm(len(positions), generator=torch.Generator().manual_seed(3)).tolist()
    straight = measure(tiny_pack, styles, std, positions)
    shuffled = measure(tiny_pack, styles, std, [positions[i] for i in order])
    assert torch.equal(straight.direction[order], shuffled.direction)
    assert torch.equal(straight.agreement[order], shuffled.agreement)


def test_compute_channel_directions_leaves_the_base_styles_alone(tiny_pack: Pack, styles: Tensor, std: Tensor):
    before = styles.clone()
    measure(tiny_pack, styles, std, [0, 1, 2])
    assert torch.equal(styles, before)


def test_compute_channel_directions_constant_channel_is_zero_not_nan(tiny_pack: Pack, styles: Tensor, std: Tensor):
    std[1] = 0.0
    found = measure(tiny_pack, styles, std, [0, 1])
    assert found.count.tolist() == [4.0, 0.0]
    assert not found.direction[1].any()
    assert found.agreement[1] == 0


@pytest.mark.parametrize("shard_size", [1, 64])
def test_run_channel_directions_any_shard_size_gives_the_same_bits(tiny_pack: Pack, run_store: Store, shard_size: int):
    config = StyleStatisticsConfig(num_samples=50)
    statistics_stage.run_style_moments_shard(config, run_store, tiny_pack, 0)
    statistics_stage.run_style_statistics(config, run_store, tiny_pack)
    config_hash = statistics_stage.style_statistics_hash(config, tiny_pack)
    close_stage(run_store, statistics_stage.STAGE, num_shards=1, config_hash=config_hash, config=config, pack=tiny_pack)
    statistics = find_input("style_statistics", run_store)
    directions = ChannelDirectionsConfig(num_images=2, shard_size=shard_size)
    for shard in range(stage.channel_directions_num_shards(directions, tiny_pack)):
        stage.run_channel_directions_shard(directions, run_store, tiny_pack, shard, statistics=statistics)
    table = storage.read_tables(run_store, storage.shard_outputs(run_store, stage.STAGE))
    std = torch.from_numpy(statistics.table()["std"].to_numpy().copy())
    base = tiny_pack.generator.styles(sample_w_plus(tiny_pack.generator, [2_000_000, 2_000_001], psi=0.7))
    positions = stage.editable_positions(tiny_pack.generator.space)
    expected = measure(tiny_pack, base, std, positions)
    assert torch.equal(torch.from_numpy(storage.stack(table["direction"]).copy()), expected.direction)
    assert set(table["status"].to_pylist()) <= {"ok", "no_effect"}
