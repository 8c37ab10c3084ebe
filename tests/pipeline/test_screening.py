"""Decisions on a table that is known: 20 channels, channel c at a known angle to the text."""

import pytest
import torch
from torch import Tensor

from kernels import DirectionSums, unit_vectors
from pipeline.screening import ScreeningRule, candidates, measured_directions, plan_round, still_open

TEXT = torch.eye(16)[0]
RULE = ScreeningRule(num_images=8, candidates_per_kept=2.0, open_within=1.5)


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


def test_candidates_are_the_likeliest_best_first():
    slopes = observed(4)
    found = candidates(slopes.direction(), slopes.mean_effect(), TEXT, num_kept=3, rule=RULE)
    assert found.tolist() == [0, 1, 2, 3, 4, 5]


def test_still_open_is_only_what_lies_near_the_edge():
    sums = observed(6)
    found = still_open(sums.direction(), sums.mean_effect(), sums.seen, torch.arange(10), TEXT, num_kept=5, rule=RULE)
    assert set(found.tolist()) <= {3, 4, 5, 6}
    assert {4, 5} <= set(found.tolist())


@pytest.mark.parametrize(("images", "num_kept"), [(8, 5), (2, 10)])
def test_still_open_nothing_where_all_is_measured_or_all_is_kept(images: int, num_kept: int):
    sums = observed(images)
    chosen = torch.arange(10)
    assert (
        still_open(sums.direction(), sums.mean_effect(), sums.seen, chosen, TEXT, num_kept=num_kept, rule=RULE).tolist()
        == []
    )


def test_plan_round_measures_a_channel_once_for_all_prompts():
    slopes = observed(4)
    empty = DirectionSums.empty(20, 16)
    texts = torch.stack([TEXT, TEXT])
    first = plan_round(slopes, empty, texts, [3, 3], first=True, room=100, rule=RULE)
    assert first.tolist() == [0, 1, 2, 3, 4, 5]
    measured = observed(2, rows=first.tolist())
    assert plan_round(slopes, measured, texts, [3, 3], first=True, room=100, rule=RULE).tolist() == []


def test_plan_round_without_room_for_all_takes_the_first_of_every_list():
    empty = DirectionSums.empty(20, 16)
    texts = torch.stack([TEXT, unit_vectors(truth()[19])])
    found = plan_round(observed(4), empty, texts, [3, 3], first=True, room=2, rule=RULE)
    assert found.tolist() == [0, 19]
    assert plan_round(observed(4), empty, texts, [3, 3], first=True, room=0, rule=RULE).tolist() == []
