"""Decisions on a table that is known: 20 channels, channel c at a known angle to the text."""

from dataclasses import replace

import pytest
import torch
from torch import Tensor

from kernels import DirectionSums, unit_vectors
from pipeline.config import Rule
from pipeline.directions.screening import (
    Round,
    ScreeningRule,
    known_channels,
    measured_directions,
    measured_effects,
    plan_round,
    still_open,
)
from pipeline.directions.slopes import Slopes

TEXT = torch.eye(16)[0]
ROUNDS = (Round(2, 1, False), Round(1, 3, False), Round(2, 8, True))
RULE = ScreeningRule(num_images=8, rounds=ROUNDS, open_within=1.5, score="paper")


def truth() -> Tensor:
    """Unit directions whose component along the text falls from 0.95 to 0."""
    along = torch.linspace(0.95, 0.0, 20)
    across = unit_vectors(torch.randn(20, 15, generator=torch.Generator().manual_seed(0)))
    return torch.cat([along[:, None], across * (1 - along.square()).sqrt()[:, None]], dim=1)


def observed(images: int, *, noise: float = 0.0, seed: int = 1, rows: list[int] | None = None) -> DirectionSums:
    rng = torch.Generator().manual_seed(seed)
    x = truth()[:, None] + noise * torch.randn(20, images, 16, generator=rng)
    sums = DirectionSums.empty(20, 16)
    chosen = torch.tensor(list(range(20)) if rows is None else rows)
    return sums.add_at(chosen, DirectionSums.of(unit_vectors(x)[chosen]))


def test_measured_directions_with_every_image_forget_the_slope():
    sums = observed(RULE.num_images, noise=0.3)
    found = measured_directions(observed(4, seed=9), sums, RULE)
    torch.testing.assert_close(found.direction, sums.direction().direction)
    torch.testing.assert_close(found.agreement, sums.direction().agreement)


def test_measured_directions_with_no_image_are_the_slope():
    slopes = observed(4, noise=0.3)
    found = measured_directions(slopes, DirectionSums.empty(20, 16), RULE)
    torch.testing.assert_close(found.direction, slopes.direction().direction)
    assert found.count.tolist() == [0.0] * 20


def test_measured_directions_of_a_dead_channel_are_zero_not_nan():
    found = measured_directions(DirectionSums.empty(2, 16), DirectionSums.empty(2, 16), RULE)
    assert not found.direction.any()
    assert not found.agreement.any()


def aligned_with(*texts: Tensor) -> Slopes:
    slopes = observed(4)
    aligned = (truth() @ torch.stack(texts).T).abs() * 4 * 2.0**40
    return Slopes(slopes, aligned.long())


def plan(slopes: Slopes, sums: DirectionSums, texts: list[Tensor], *, number: int, room: int = 100) -> list[int]:
    kept = [3] * len(texts)
    return plan_round(slopes, sums, torch.stack(texts), kept, number=number, room=room, rule=RULE).tolist()


def test_still_open_is_only_what_lies_near_the_edge():
    found = still_open(torch.tensor([0.9, 0.5, 0.45, 0.1]), torch.full((4,), 0.05), num_kept=2, within=1.0)
    assert found.tolist() == [False, True, True, False]


def test_still_open_nothing_where_all_is_kept():
    assert not still_open(torch.ones(3), torch.ones(3), num_kept=3, within=9.0).any()


def test_plan_round_first_takes_the_best_aligned_channels():
    assert plan(aligned_with(TEXT), DirectionSums.empty(20, 16), [TEXT], number=0) == [0, 1, 2, 3, 4, 5]


def test_plan_round_first_takes_a_channel_whose_slopes_cancel_across_faces():
    found = aligned_with(TEXT)
    found.aligned[17] = found.aligned.max() + 1
    assert 17 in plan(found, DirectionSums.empty(20, 16), [TEXT], number=0)


def test_plan_round_later_takes_the_best_of_the_measured():
    measured = observed(1, rows=[0, 2, 4, 6, 8])
    assert plan(aligned_with(TEXT), measured, [TEXT], number=1) == [0, 2, 4]


@pytest.mark.parametrize("score", ["paper", "agreement", "effect"])
def test_plan_round_last_leaves_out_what_is_settled_or_has_every_image(score: Rule):
    rule = replace(RULE, score=score)
    for images, expected in ((8, []), (7, [2, 3])):  # errors of 0.043 and less; scores lie 0.05 and more apart
        found = plan_round(
            aligned_with(TEXT),
            observed(images),
            TEXT[None],
            [3],
            number=2,
            room=100,
            rule=replace(rule, open_within=0.9),
        )
        assert found.tolist() == expected


def test_plan_round_measures_a_channel_once_for_all_prompts():
    found = aligned_with(TEXT, TEXT)
    first = plan(found, DirectionSums.empty(20, 16), [TEXT, TEXT], number=0)
    assert first == [0, 1, 2, 3, 4, 5]
    assert plan(found, observed(1, rows=first), [TEXT, TEXT], number=0) == []


def test_plan_round_without_room_for_all_takes_the_first_of_every_list():
    empty, other = DirectionSums.empty(20, 16), unit_vectors(truth()[19])
    assert plan(aligned_with(TEXT, other), empty, [TEXT, other], number=0, room=2) == [0, 19]
    assert plan(aligned_with(TEXT), empty, [TEXT], number=0, room=0) == []


def test_plan_round_counts_the_images_a_channel_still_needs():
    measured = observed(1, rows=[0, 1, 2])
    assert plan(aligned_with(TEXT), measured, [TEXT], number=1, room=5) == [0, 1]


def test_default_rounds_measure_whose_place_is_open_ever_more_and_leave_the_settled():
    rule, slopes, sums = ScreeningRule(score="paper"), aligned_with(TEXT), DirectionSums.empty(20, 16)
    seen = []
    for number in range(7):
        rows = plan_round(slopes, sums, TEXT[None], [3], number=number, room=1000, rule=rule)
        wanted = rule.round(number).images
        for row in rows.tolist():
            here = torch.tensor([row])
            sums = sums.add_at(here, observed(wanted - int(sums.seen[row])).at(here))
        seen.append(sums.seen[:14].tolist())
    # three of 20 are kept: 36, 12, 6 and 4 get 1, 2, 4 and 10 images. Then the edge lies between rows 2 and 3, scores
    # are 0.05 apart; 2 * 0.13 / sqrt(images + 2) is 0.106 after 4 images, 0.075 after 10, 0.065 after 14
    assert seen == [
        [1] * 14,
        [2] * 12 + [1] * 2,
        [4] * 6 + [2] * 6 + [1] * 2,
        [10] * 4 + [4] * 2 + [2] * 6 + [1] * 2,
        [10, 14, 14, 14, 14, 4] + [2] * 6 + [1] * 2,
        [10, 14, 24, 24, 14, 4] + [2] * 6 + [1] * 2,
        [10, 14, 24, 24, 14, 4] + [2] * 6 + [1] * 2,
    ]


def test_plan_round_by_pursuit_goes_on_with_the_rivals_of_every_wish():
    text = unit_vectors(torch.eye(16)[0] + 0.5 * torch.eye(16)[1])
    wishes = torch.eye(16)[[0, 0, 0, 0, 1, 1, 2, 3]]
    aside = torch.eye(16)[[8, 9, 10, 11, 12, 13, 14, 15]]
    share = torch.tensor([1.0, 0.9, 0.8, 0.7, 1.0, 0.9, 1.0, 1.0])[:, None]
    directions = share * wishes + (1 - share.square()).sqrt() * aside
    sums = DirectionSums.of(directions[:, None])
    slopes = Slopes(sums, torch.zeros(8, 1, dtype=torch.int64))
    rule = ScreeningRule(num_images=8, rounds=(Round(2, 4, False),))

    by_pursuit = plan_round(slopes, sums, text[None], [2], number=1, room=100, rule=replace(rule, score="pursuit"))
    assert by_pursuit.tolist() == [0, 1, 4, 5]  # each wish's own channel and its nearest rival
    by_relevance = plan_round(slopes, sums, text[None], [2], number=1, room=100, rule=replace(rule, score="paper"))
    assert by_relevance.tolist() == [0, 1, 2, 3]  # the first wish's rivals take all places


@pytest.mark.parametrize(("images", "expected"), [([2, 1, 0], [0]), ([1, 1, 0], [0, 1])])
def test_known_channels_are_measured_often_enough_or_if_none_is_all_that_are_measured(images: list, expected: list):
    sums = DirectionSums.empty(3, 16)
    for row, count in enumerate(images):
        if count:
            sums = sums.add_at(torch.tensor([row]), DirectionSums.of(torch.eye(16)[row].expand(1, count, 16)))
    known = known_channels(sums, ScreeningRule.deciding_by("pursuit", 24))
    assert torch.nonzero(known).flatten().tolist() == expected
    assert known_channels(sums, ScreeningRule()).tolist() == [n > 0 for n in images]


def along(axis: int, images: int) -> DirectionSums:
    return DirectionSums.of(torch.eye(2)[axis].expand(1, images, 2))


def test_measured_directions_and_effects_weigh_the_slope_as_two_images_less_the_more_are_measured():
    rule = ScreeningRule()  # of 24 images 6 are measured: the slope weighs 2 * (1 - 6 / 24) = 1.5
    found = measured_directions(along(0, 4), along(1, 6), rule)
    torch.testing.assert_close(found.direction, unit_vectors(torch.tensor([[1.5, 6.0]])))
    torch.testing.assert_close(found.agreement, torch.tensor([1.5, 6.0]).norm()[None] / 7.5)
    assert found.count.tolist() == [6.0]
    # and foretells the effect of a move by two standard deviations
    torch.testing.assert_close(
        measured_effects(along(0, 4), along(1, 6), rule), torch.tensor([[1.5 * 2 / 7.5, 6 / 7.5]])
    )
