from dataclasses import replace

import numpy as np
import pytest
import torch

import storage
from kernels import ChannelGroups
from pipeline.config import StyleDirectionsConfig
from pipeline.directions.direction import compute_style_direction
from pipeline.directions.groups import Controls
from pipeline.directions.table import ChannelTable, load_channel_table
from pipeline.errors import MissingInputError
from pipeline.packs.pack import Pack
from pipeline.prompts import check_prompts
from pipeline.stages.style_directions import run_style_directions_shard
from storage import Store
from tests.conftest import PROMPT_ROWS


def hand_table() -> ChannelTable:
    """Three channels along the first three axes of a 16-d CLIP space, and one without effect."""
    direction = torch.zeros(4, 16)
    direction[range(3), range(3)] = 1.0
    return ChannelTable(
        layer=np.array([0, 0, 2, 2]),
        channel=np.array([3, 4, 0, 1]),
        direction=direction,
        std=torch.tensor([2.0, 0.5, 1.0, 9.0]),
        source="hand",
    )


TEXT = torch.tensor([0.6, -0.48, 0.1] + [0.0] * 13)


def test_compute_style_direction_is_normalised_relevance_times_std():
    found = compute_style_direction(hand_table(), TEXT, num_channels=2)
    assert found.rows.tolist() == [0, 1]
    np.testing.assert_allclose(found.relevance, [0.6, -0.48], rtol=1e-6)
    np.testing.assert_allclose(found.value, [2.0 * 1.0, 0.5 * -0.8], rtol=1e-6)
    assert found.threshold == pytest.approx(0.48)
    assert found.max_relevance == pytest.approx(0.6)


def test_compute_style_direction_more_channels_than_have_effect_keeps_those():
    assert compute_style_direction(hand_table(), TEXT, num_channels=50).rows.tolist() == [0, 1, 2]


def test_compute_style_direction_threshold_too_high_names_the_largest():
    with pytest.raises(ValueError, match=r"must not exceed the largest absolute relevance; got 0.9, largest is 0.6"):
        compute_style_direction(hand_table(), TEXT, relevance_threshold=0.9)


def test_run_style_directions_one_prompt_fails_the_others_go_on(tiny_pack: Pack, run_store: Store):
    rows = [PROMPT_ROWS[0], {**PROMPT_ROWS[1], "relevance_threshold": 1.0}]
    report = run_style_directions_shard(
        StyleDirectionsConfig(templates="none"),
        run_store,
        tiny_pack,
        0,
        prompts=check_prompts(rows),
        channels=hand_table(),
    )
    assert (report.rows, report.failures) == (2, 1)
    prompts = storage.read_table(run_store, "prompts/part-00000.parquet").to_pylist()
    assert [p["status"] for p in prompts] == ["ok", "failed"]
    assert prompts[0]["error"] is None
    assert "prompt 'Red Hair': `relevance_threshold` must not exceed" in prompts[1]["error"]
    assert prompts[1]["max_relevance"] < 1.0
    directions = storage.read_table(run_store, "style_directions/part-00000.parquet")
    assert set(directions["prompt_id"].to_pylist()) == {"hat"}


def test_load_channel_table_without_any_names_the_command(tiny_pack: Pack, run_store: Store):
    with pytest.raises(MissingInputError, match="Run `styleclip channel-directions` first"):
        load_channel_table(tiny_pack, run_store)


def test_compute_style_direction_effect_rule_weighs_by_the_move_along_the_text():
    effect = torch.zeros(4, 16)
    effect[0, 0], effect[1, 1], effect[2, 2] = 1e-6, 1.0, 4.0
    table = replace(hand_table(), effect=effect, agreement=torch.ones(4))
    found = compute_style_direction(table, TEXT, num_channels=2, rule="effect")
    score = [0.6 * (1e-6 * 0.6) ** 0.25, -0.48 * 0.48**0.25, 0.1 * 0.4**0.25]
    assert found.rows.tolist() == [1, 2]
    np.testing.assert_allclose(found.value, [-0.5, score[2] / -score[1]], rtol=1e-5)
    assert found.threshold == pytest.approx(0.1)


def test_compute_style_direction_effect_rule_without_effects_names_the_remedy():
    with pytest.raises(ValueError, match="needs channel directions with agreement and effect"):
        compute_style_direction(hand_table(), TEXT, rule="effect")


def test_compute_style_direction_agreement_rule_is_the_mean_of_every_images_relevance():
    unit = torch.nn.functional.normalize(torch.randn(4, 6, 16, generator=torch.Generator().manual_seed(0)), dim=-1)
    mean = unit.mean(dim=1)
    agreement = mean.norm(dim=1)
    table = replace(hand_table(), direction=mean / agreement[:, None], agreement=agreement)
    found = compute_style_direction(table, TEXT, num_channels=4, rule="agreement")
    expected = (unit @ TEXT).mean(dim=1)
    np.testing.assert_allclose(found.value, expected / expected.abs().max() * table.std, rtol=1e-4)


def test_compute_style_direction_pursuit_finds_the_channels_of_a_sum_and_their_number():
    found = compute_style_direction(hand_table(), TEXT, num_channels=None, rule="pursuit")
    assert found.rows.tolist() == [0, 1]  # the third explains 0.01 / 0.36 of what the first does
    np.testing.assert_allclose(found.value, [2.0, 0.5 * -0.8], rtol=1e-6)


def test_compute_style_direction_pursuit_passes_over_neighbours_of_a_channel_that_it_took():
    table = hand_table()
    near = table.direction.clone()
    near[1] = torch.nn.functional.normalize(table.direction[0] + 0.9 * table.direction[3 - 1], dim=0)
    text = torch.nn.functional.normalize(table.direction[0] - 0.5 * table.direction[1], dim=0)
    both = replace(table, direction=torch.stack([*near[:3], table.direction[1]]))
    by_relevance = compute_style_direction(both, text, num_channels=2)
    by_pursuit = compute_style_direction(both, text, num_channels=None, rule="pursuit")
    assert by_relevance.rows.tolist() == [0, 1]
    assert by_pursuit.rows.tolist() == [0, 3]
    np.testing.assert_allclose(by_pursuit.value, [2.0, 9.0 * -0.5], rtol=1e-5)


def test_compute_style_direction_pursuit_keeps_within_threshold_and_count():
    within = compute_style_direction(hand_table(), TEXT, relevance_threshold=0.5, num_channels=None, rule="pursuit")
    first = compute_style_direction(hand_table(), TEXT, num_channels=1, rule="pursuit")
    assert within.rows.tolist() == first.rows.tolist() == [0]
    none = compute_style_direction(
        hand_table(), TEXT, relevance_threshold=0.9, num_channels=None, rule="pursuit", guard="zeros"
    )
    assert len(none.rows) == 0


def test_run_style_directions_pursuit_is_not_bound_by_the_packs_channel_count(tiny_pack: Pack, run_store: Store):
    config = StyleDirectionsConfig(templates="none", rule="pursuit")
    run_style_directions_shard(
        config, run_store, tiny_pack, 0, prompts=check_prompts(PROMPT_ROWS[:1]), channels=hand_table()
    )
    text = torch.tensor(storage.read_table(run_store, "prompts/part-00000.parquet")["text_direction"][0].as_py())
    expected = compute_style_direction(hand_table(), text, num_channels=None, rule="pursuit")
    table = storage.read_table(run_store, "style_directions/part-00000.parquet")
    np.testing.assert_allclose(table["value"].to_numpy(), expected.value, rtol=1e-5)


def test_compute_style_direction_pursuit_lowers_less_than_it_raises():
    both = compute_style_direction(hand_table(), TEXT, num_channels=None, rule="pursuit", lowering=0.3)
    np.testing.assert_allclose(both.value, [2.0, 0.5 * -0.3], rtol=1e-6)  # -0.8 is enough to be gone
    text = torch.tensor([0.9, -0.27, 0.0] + [0.0] * 13)
    little = compute_style_direction(hand_table(), text, num_channels=None, rule="pursuit", lowering=0.3)
    np.testing.assert_allclose(little.value, [2.0, 0.5 * -0.3 * 0.3 / 0.4], rtol=1e-5)
    away = compute_style_direction(
        hand_table(), -hand_table().direction[0], num_channels=None, rule="pursuit", lowering=0.3
    )
    np.testing.assert_allclose(away.value, [2.0 * -0.3], rtol=1e-6)


def one_at_a_time() -> Controls:
    """Controls for ``hand_table``, each row its own; of the first two there is one at a time."""
    drawn = torch.arange(600) % 3
    samples = torch.stack([drawn == 0, drawn == 1, torch.arange(600) % 7 == 0, torch.arange(600) % 5 == 0], dim=1)
    groups = ChannelGroups(torch.arange(4), torch.ones(4))
    return Controls(groups, samples.float(), torch.tensor([-1.0, -2.0, -3.0, -4.0]), torch.ones(4))


def test_compute_style_direction_pursuit_does_not_raise_what_a_stronger_channel_excludes():
    text = torch.tensor([-0.8, 0.4, 0.4] + [0.0] * 13)
    alone = compute_style_direction(hand_table(), text, num_channels=None, rule="pursuit")
    assert alone.rows.tolist() == [0, 1, 2]
    found = compute_style_direction(hand_table(), text, num_channels=None, rule="pursuit", controls=one_at_a_time())
    assert found.rows.tolist() == [0, 2]
    lowered = compute_style_direction(hand_table(), -text, num_channels=None, rule="pursuit", controls=one_at_a_time())
    assert lowered.rows.tolist() == [0, 1, 2]


def test_compute_style_direction_pursuit_drops_what_only_takes_back_another_channels_excess():
    table = hand_table()
    direction = table.direction.clone()
    direction[0, :2] = torch.tensor([0.8, -0.6])  # its own pull on the second axis is no wish against the second
    text = torch.tensor([1.0, -0.2] + [0.0] * 14)
    found = compute_style_direction(replace(table, direction=direction), text, num_channels=None, rule="pursuit")
    assert found.rows.tolist() == [0]


def test_compute_style_direction_pursuit_bounds_what_it_lowers_only():
    found = compute_style_direction(hand_table(), TEXT, num_channels=None, rule="pursuit", controls=one_at_a_time())
    np.testing.assert_array_equal(found.limit, [np.nan, -2.0])
    by_score = compute_style_direction(hand_table(), TEXT, num_channels=2)
    assert np.isnan(by_score.limit).all()
