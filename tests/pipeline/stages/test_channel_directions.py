import threading
from pathlib import Path

import pyarrow as pa
import pytest
import torch
from torch import Tensor

import storage
from kernels import ChannelDirection, DirectionSums
from pipeline.config import ChannelDirectionsConfig, StyleStatisticsConfig
from pipeline.directions.differences import editable_positions, image_styles, sum_differences
from pipeline.machine.batch_size import choose_batch_size
from pipeline.models import synthesis_plan
from pipeline.models.sampling import sample_w_plus
from pipeline.models.synthesis_plan import DirectPlan
from pipeline.packs.pack import Pack
from pipeline.runs.shard import Input, ShardReport, close_stage, find_input
from pipeline.stages import channel_directions as stage
from pipeline.stages import style_statistics as statistics_stage
from storage import Store
from tests.mortal_store import Killed, MortalStore
from tests.threads import torch_threads
from tests.tolerances import KEPT_ACTIVATIONS

STEP = 5.0


@pytest.fixture
def styles(tiny_pack: Pack) -> Tensor:
    return tiny_pack.generator.styles(sample_w_plus(tiny_pack.generator, range(4), psi=0.7))


@pytest.fixture
def std(tiny_pack: Pack) -> Tensor:
    rng = torch.Generator().manual_seed(0)
    return torch.rand(tiny_pack.generator.space.num_channels, generator=rng) * 0.2 + 0.05


def measure(
    pack: Pack, styles: Tensor, std: Tensor, positions: list[int], batch_size: int | None = None
) -> ChannelDirection:
    size = choose_batch_size(pack.generator, batch_size)
    return sum_differences(
        pack.generator, pack.clip, styles, positions=positions, std=std, step=STEP, batch_size=size
    ).direction()


def test_sum_differences_equals_the_papers_loop(tiny_pack: Pack, styles: Tensor, std: Tensor):
    positions = editable_positions(tiny_pack.generator.space)[::7]
    found = measure(tiny_pack, styles, std, positions)
    for row, position in enumerate(positions):
        unit = []
        for style in styles:  # one image, one channel, one sign at a time; whole renders
            ends = []
            for sign in (1, -1):
                moved = style.clone()
                moved[position] += sign * STEP * std[position]
                image = tiny_pack.generator.render(
                    moved[None], plan=DirectPlan(tiny_pack.generator.synthesis, impl="ref")
                )
                ends.append(tiny_pack.clip.encode_images(image)[0])
            difference = ends[0] / ends[0].norm() - ends[1] / ends[1].norm()
            unit.append(difference / difference.norm())
        mean = torch.stack(unit).mean(dim=0)
        torch.testing.assert_close(found.direction[row], mean / mean.norm(), **KEPT_ACTIVATIONS)
        torch.testing.assert_close(found.agreement[row], mean.norm(), **KEPT_ACTIVATIONS)


def test_sum_differences_are_the_same_on_any_number_of_cores(
    tiny_pack: Pack, styles: Tensor, std: Tensor, monkeypatch: pytest.MonkeyPatch
):
    positions = editable_positions(tiny_pack.generator.space)[::5]
    threads, encode = set[int](), tiny_pack.clip.encode_images

    def watched(images: Tensor) -> Tensor:
        threads.add(threading.get_ident())
        return encode(images)

    monkeypatch.setattr(tiny_pack.clip, "encode_images", watched)
    with torch_threads(1):
        one = measure(tiny_pack, styles, std, positions)
    assert threads == {threading.get_ident()}
    with torch_threads(3):
        three = measure(tiny_pack, styles, std, positions)
    assert len(threads) == 4
    torch.testing.assert_close(three.direction, one.direction, **KEPT_ACTIVATIONS)
    torch.testing.assert_close(three.agreement, one.agreement, **KEPT_ACTIVATIONS)


def test_sum_differences_by_winograd_agree(
    tiny_pack: Pack, styles: Tensor, std: Tensor, monkeypatch: pytest.MonkeyPatch
):
    positions = editable_positions(tiny_pack.generator.space)[::3]
    monkeypatch.setattr(synthesis_plan, "WINOGRAD_CHANNELS", 10**6)
    direct = measure(tiny_pack, styles, std, positions)
    monkeypatch.setattr(synthesis_plan, "WINOGRAD_CHANNELS", 1)
    found = measure(tiny_pack, styles, std, positions)
    assert not torch.equal(found.direction, direct.direction)  # it was run
    torch.testing.assert_close(found.direction, direct.direction, **KEPT_ACTIVATIONS)


def test_sum_differences_without_shared_convolutions_agree(
    tiny_pack: Pack, styles: Tensor, std: Tensor, monkeypatch: pytest.MonkeyPatch
):
    positions = editable_positions(tiny_pack.generator.space)[::3]
    shared = measure(tiny_pack, styles, std, positions)
    monkeypatch.setattr(synthesis_plan, "CPU_SLICE_BYTES", 1)
    whole = measure(tiny_pack, styles, std, positions)
    assert not torch.equal(whole.direction, shared.direction)  # it was another way
    torch.testing.assert_close(whole.direction, shared.direction, **KEPT_ACTIVATIONS)


def test_sum_differences_permuted_channels_are_bit_identical(tiny_pack: Pack, styles: Tensor, std: Tensor):
    positions = editable_positions(tiny_pack.generator.space)
    order = torch.randperm(len(positions), generator=torch.Generator().manual_seed(3)).tolist()
    straight = measure(tiny_pack, styles, std, positions)
    shuffled = measure(tiny_pack, styles, std, [positions[i] for i in order])
    assert torch.equal(straight.direction[order], shuffled.direction)
    assert torch.equal(straight.agreement[order], shuffled.agreement)


def test_sum_differences_leaves_the_base_styles_alone(tiny_pack: Pack, styles: Tensor, std: Tensor):
    before = styles.clone()
    measure(tiny_pack, styles, std, [0, 1, 2])
    assert torch.equal(styles, before)


def test_sum_differences_constant_channel_is_zero_not_nan(tiny_pack: Pack, styles: Tensor, std: Tensor):
    std[1] = 0.0
    found = measure(tiny_pack, styles, std, [0, 1])
    assert found.count.tolist() == [4.0, 0.0]
    assert not found.direction[1].any()
    assert found.agreement[1] == 0


@pytest.fixture(scope="module")
def statistics(tiny_pack: Pack, tmp_path_factory: pytest.TempPathFactory) -> Input:
    store = Store(str(tmp_path_factory.mktemp("statistics")))
    config = StyleStatisticsConfig(num_samples=50)
    statistics_stage.run_style_moments_shard(config, store, tiny_pack, 0)
    statistics_stage.run_style_statistics(config, store, tiny_pack)
    config_hash = statistics_stage.style_statistics_hash(config, tiny_pack)
    close_stage(store, statistics_stage.STAGE, num_shards=1, config_hash=config_hash, config=config, pack=tiny_pack)
    return find_input("style_statistics", store)


def run_all(config: ChannelDirectionsConfig, store: Store, pack: Pack, statistics: Input) -> list[ShardReport]:
    shards = range(stage.channel_sums_num_shards(config, pack))
    reports = [stage.run_channel_sums_shard(config, store, pack, i, statistics=statistics) for i in shards]
    shards = range(stage.channel_directions_num_shards(config, pack))
    return reports + [stage.run_channel_directions_shard(config, store, pack, i, statistics=statistics) for i in shards]


def rows_of(store: Store) -> pa.Table:
    return storage.read_tables(store, storage.shard_outputs(store, stage.STAGE)).combine_chunks()


@pytest.mark.parametrize(("shard_size", "images_per_shard", "winograd_from"), [(5, 128, 10**6), (37, 8, 1)])
def test_run_channel_directions_any_split_gives_the_same_bits(
    tiny_pack: Pack,
    run_store: Store,
    statistics: Input,
    shard_size: int,
    images_per_shard: int,
    winograd_from: int,
    monkeypatch: pytest.MonkeyPatch,
):
    monkeypatch.setattr(synthesis_plan, "WINOGRAD_CHANNELS", winograd_from)
    config = ChannelDirectionsConfig(num_images=9, shard_size=shard_size, images_per_shard=images_per_shard)
    run_all(config, run_store, tiny_pack, statistics)
    table = rows_of(run_store)
    std = torch.from_numpy(statistics.table()["std"].to_numpy().copy())
    base = image_styles(tiny_pack.generator, range(2_000_000, 2_000_009), psi=0.7)
    expected = measure(tiny_pack, base, std, editable_positions(tiny_pack.generator.space))
    assert torch.equal(torch.from_numpy(storage.stack(table["direction"]).copy()), expected.direction)
    assert set(table["status"].to_pylist()) <= {"ok", "no_effect"}


def test_sum_differences_any_batch_size_agrees(tiny_pack: Pack, styles: Tensor, std: Tensor):
    positions = editable_positions(tiny_pack.generator.space)[::5]
    expected = measure(tiny_pack, styles, std, positions)
    for batch_size in (1, 6, 64):
        found = measure(tiny_pack, styles, std, positions, batch_size)
        torch.testing.assert_close(found.direction, expected.direction, **KEPT_ACTIVATIONS)


@pytest.mark.parametrize("after", [False, True])
def test_run_channel_directions_killed_at_any_write_ends_in_the_same_table(
    tiny_pack: Pack, tmp_path: Path, statistics: Input, monkeypatch: pytest.MonkeyPatch, after: bool
):
    computed: list[tuple[int, int]] = []

    def count_and_pretend(generator, clip, styles: Tensor, *, positions: list[int], **_: object) -> DirectionSums:
        computed.append((positions[0], len(styles)))
        rows = torch.stack([styles.roll(p, dims=1)[:, :16] for p in positions])
        return DirectionSums.of(rows)

    monkeypatch.setattr(stage, "sum_differences", count_and_pretend)
    config = ChannelDirectionsConfig(num_images=9, shard_size=60, images_per_shard=8)
    whole = Store(str(tmp_path / "whole"))
    count = len(run_all(config, whole, tiny_pack, statistics))
    monkeypatch.setattr(MortalStore, "after", after)
    for life in range(2 * count):
        store = MortalStore(str(tmp_path / f"killed-{life}"))
        monkeypatch.setattr(MortalStore, "writes_left", life)
        with pytest.raises(Killed):
            run_all(config, store, tiny_pack, statistics)
        done = {p for p in store.list() if p.startswith("_shards/")}
        receipts = len([path for path in done if "channel_sums" in path])
        monkeypatch.setattr(MortalStore, "writes_left", 1000)
        computed.clear()
        reports = run_all(config, store, tiny_pack, statistics)
        assert sum(report.skipped for report in reports) == len(done)
        assert len(computed) == stage.channel_sums_num_shards(config, tiny_pack) - receipts
        assert rows_of(store).equals(rows_of(whole))
