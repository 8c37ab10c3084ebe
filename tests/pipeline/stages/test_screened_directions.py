from pathlib import Path

import pytest
import torch
from torch import Tensor

import storage
from kernels import ChannelGroups, DirectionSums, unit_vectors
from pipeline.config import ScreeningConfig
from pipeline.directions.differences import editable_positions, image_styles, sum_differences
from pipeline.directions.screening import Round, ScreeningRule
from pipeline.directions.slopes import Slopes
from pipeline.directions.statistics import Statistics
from pipeline.errors import PromptError
from pipeline.packs.pack import Pack
from pipeline.prompts import check_prompts
from pipeline.runs.shard import ShardReport, close_stage, find_input
from pipeline.stages import screened_directions as stage
from pipeline.stages.screened_directions import Screening, accepts
from storage import Store
from tests.conftest import PROMPT_ROWS
from tests.mortal_store import Killed, MortalStore
from tests.tolerances import KEPT_ACTIVATIONS

PROMPTS = check_prompts([{**row, "num_channels": 2} for row in PROMPT_ROWS])
CONFIG = ScreeningConfig(
    num_images=3,
    num_gradient_images=2,
    images_per_shard=1,
    shard_size=3,
    num_rounds=2,
    num_probes=2,
    renders_per_prompt=100,
    templates="none",
)


@pytest.fixture
def statistics(tiny_pack: Pack) -> Statistics:
    rng = torch.Generator().manual_seed(0)
    std = torch.rand(tiny_pack.generator.space.num_channels, generator=rng) * 0.2 + 0.05
    return Statistics(std, "hand")


def run_all(screening: Screening) -> list[ShardReport]:
    reports = [screening.run_texts()]
    reports += [screening.run_slopes_shard(i) for i in range(screening.num_slopes_shards)]
    for number in range(screening.num_rounds):
        reports.append(screening.run_plan(number))
        reports += [screening.run_sums_shard(number, i) for i in range(screening.num_sums_shards(number))]
    return [*reports, screening.run_directions()]


def close(screening: Screening) -> None:
    close_stage(
        screening.store,
        stage.STAGE,
        num_shards=1,
        config_hash=screening.config_hash,
        config=screening.config,
        pack=screening.pack,
    )


def directions_of(store: Store) -> dict[str, list]:
    return storage.read_table(store, "screened_directions/part-00000.parquet").to_pydict()


def test_screening_channel_measured_in_every_image_is_its_row_of_the_exact_table(
    tiny_pack: Pack, run_store: Store, statistics: Statistics
):
    config = CONFIG.model_copy(update={"num_gradient_images": 1, "num_images": 2})
    screening = Screening(config, run_store, tiny_pack, prompts=PROMPTS, statistics=statistics)
    run_all(screening)
    table = directions_of(run_store)
    rows = [i for i, count in enumerate(table["count"]) if count == config.num_images]
    assert 4 <= len(rows) <= 4 * 2 * len(PROMPTS)  # four times the two kept go on to a second image
    positions = [editable_positions(tiny_pack.generator.space)[i] for i in rows]
    expected = sum_differences(
        tiny_pack.generator,
        tiny_pack.clip,
        image_styles(tiny_pack.generator, range(config.first_seed, config.first_seed + 2), psi=config.psi),
        positions=positions,
        std=statistics.std,
        step=config.step,
        batch_size=2,
    ).direction()
    found = torch.tensor([table["direction"][i] for i in rows])
    torch.testing.assert_close(found, expected.direction, **KEPT_ACTIVATIONS)
    assert {table["status"][i] for i in rows} == {"ok"}
    assert {"ok", "not_measured"} == set(table["status"])
    assert not torch.tensor([d for d, s in zip(table["direction"], table["status"], strict=True) if s != "ok"]).any()


def test_screening_renders_no_more_than_the_budget(tiny_pack: Pack, run_store: Store, statistics: Statistics):
    config = CONFIG.model_copy(update={"renders_per_prompt": 9})
    screening = Screening(config, run_store, tiny_pack, prompts=PROMPTS, statistics=statistics)
    run_all(screening)
    assert 2 < screening.renders(config.num_rounds) <= 9 * len(PROMPTS)


@pytest.mark.parametrize(("given", "expected"), [(None, 3), (9, 2 * 9)])
def test_screening_a_list_has_a_hundredth_of_the_table_a_prompt_and_one_more(
    tiny_pack: Pack, run_store: Store, given: int | None, expected: int
):
    live = len(editable_positions(tiny_pack.generator.space))
    num_images = 100 // live + 1  # a hundredth of the table is then a few renders
    hundredth = live * num_images * 2 // 100
    config = CONFIG.model_copy(
        update={"renders_per_prompt": given, "num_images": num_images, "num_gradient_images": 1, "num_rounds": 4}
    )
    std = torch.ones(tiny_pack.generator.space.num_channels) * 0.1
    screening = Screening(config, run_store, tiny_pack, prompts=PROMPTS[:2], statistics=Statistics(std, "hand"))
    run_all(screening)
    budget = expected * hundredth if given is None else expected
    assert budget - 3 <= screening.renders(config.num_rounds) <= budget


def test_screening_gradient_renders_only_its_images_and_fills_the_table(
    tiny_pack: Pack, run_store: Store, statistics: Statistics
):
    config = CONFIG.model_copy(update={"mode": "gradient"})
    screening = Screening(config, run_store, tiny_pack, prompts=PROMPTS, statistics=statistics)
    run_all(screening)
    assert screening.renders(screening.num_rounds) == config.num_gradient_images
    assert set(directions_of(run_store)["status"]) == {"ok"}


def test_screening_of_prompts_that_clip_cannot_read_says_why(tiny_pack: Pack, run_store: Store, statistics: Statistics):
    rows = [{"name": name, "target": "a hat " * 100, "neutral": "a face"} for name in ("long", "other")]
    screening = Screening(CONFIG, run_store, tiny_pack, prompts=check_prompts(rows), statistics=statistics)
    with pytest.raises(PromptError, match=r"got none of 2. prompt 'long': .* must fit into CLIP's 64 tokens; got \d+"):
        screening.run_texts()


def test_screening_goes_on_from_an_earlier_lists_sums(
    tiny_pack: Pack, tmp_path: Path, statistics: Statistics, monkeypatch: pytest.MonkeyPatch
):
    config = CONFIG.model_copy(update={"num_rounds": 1})
    first = Screening(config, Store(str(tmp_path / "a")), tiny_pack, prompts=PROMPTS, statistics=statistics)
    run_all(first)
    close(first)
    earlier = find_input(stage.STAGE, first.store)
    assert accepts(earlier, config, tiny_pack, statistics)
    assert not accepts(earlier, config.model_copy(update={"step": 4.0}), tiny_pack, statistics)
    second = Screening(
        config, Store(str(tmp_path / "b")), tiny_pack, prompts=PROMPTS, statistics=statistics, earlier=earlier
    )
    monkeypatch.setattr(stage, "sum_differences", None)  # whoever measures now fails
    run_all(second)
    assert second.renders(1) == config.num_gradient_images
    assert directions_of(second.store)["count"] == directions_of(first.store)["count"]


def pretend_slopes(generator, clip, styles: Tensor, *, text_directions: Tensor, **_: object) -> Slopes:
    found = torch.stack([styles.roll(3 * p, dims=1)[:, :16] for p in editable_positions(generator.space)])
    return Slopes(DirectionSums.of(found), ((found @ text_directions.T).abs().sum(dim=1) * 2.0**40).long())


@pytest.mark.parametrize("after", [False, True])
def test_screening_killed_at_any_write_ends_in_the_same_table(
    tiny_pack: Pack, tmp_path: Path, statistics: Statistics, monkeypatch: pytest.MonkeyPatch, after: bool
):
    measured: list[list[int]] = []

    def pretend(generator, clip, styles: Tensor, *, positions: list[int], **_: object) -> DirectionSums:
        measured.append(list(positions))
        return DirectionSums.of(torch.stack([styles.roll(p, dims=1)[:, :16] for p in positions]))

    monkeypatch.setattr(stage, "sum_differences", pretend)
    monkeypatch.setattr(stage, "sum_slopes", pretend_slopes)
    shared = {"prompts": PROMPTS, "statistics": statistics}
    whole = Store(str(tmp_path / "whole"))
    reports = run_all(Screening(CONFIG, whole, tiny_pack, **shared))
    shards = len(measured)
    assert shards > 2
    monkeypatch.setattr(MortalStore, "after", after)
    for life in range(1 if after else 0, 2 * len(reports), 3):
        store = MortalStore(str(tmp_path / f"killed-{life}"))
        monkeypatch.setattr(MortalStore, "writes_left", life)
        measured.clear()
        with pytest.raises(Killed):
            run_all(Screening(CONFIG, store, tiny_pack, **shared))
        done = [path for path in store.list("_shards") if "screened_sums" in path]
        monkeypatch.setattr(MortalStore, "writes_left", 1000)
        measured.clear()
        run_all(Screening(CONFIG, store, tiny_pack, **shared))
        assert len(measured) == shards - len(done)
        path = "screened_directions/part-00000.parquet"
        assert store.read_bytes(path) == whole.read_bytes(path)


def test_channels_of_one_control_are_measured_together_and_share_its_direction(
    tiny_pack: Pack, run_store: Store, statistics: Statistics, monkeypatch: pytest.MonkeyPatch
):
    positions = editable_positions(tiny_pack.generator.space)
    group, sign = torch.arange(len(positions)), torch.ones(len(positions))
    group[4], sign[4] = 1, -1.0  # channel 4 moves against channel 1
    group = torch.unique(group, return_inverse=True)[1]
    monkeypatch.setattr(stage, "find_groups_at", lambda pack, at: ChannelGroups(group, sign))
    config = CONFIG.model_copy(
        update={"by_control": True, "num_images": 2, "renders_per_prompt": 400, "rule": "pursuit"}
    )
    rule = ScreeningRule(num_images=2, rounds=(Round(100, 2, False),))
    screening = Screening(config, run_store, tiny_pack, prompts=PROMPTS, statistics=statistics)
    screening.rule = rule
    run_all(screening)
    table = directions_of(run_store)
    styles = image_styles(tiny_pack.generator, range(config.first_seed, config.first_seed + 2), psi=config.psi)
    move = torch.zeros_like(styles[0])
    move[positions[1]] = config.step * statistics.std[positions[1]]
    move[positions[4]] = -config.step * statistics.std[positions[4]]
    with torch.no_grad():
        plus, minus = (tiny_pack.clip.encode_images(tiny_pack.generator.render(styles + s * move)) for s in (1, -1))
    expected = unit_vectors(unit_vectors(plus - minus).mean(dim=0))
    torch.testing.assert_close(torch.tensor(table["direction"][1]), expected, **KEPT_ACTIVATIONS)
    torch.testing.assert_close(torch.tensor(table["direction"][4]), -expected, **KEPT_ACTIVATIONS)
    assert (table["status"][4], table["count"][4]) == ("ok", 2)
