"""From embedding differences to a style direction: formulas, dead channels, thresholds, permutations."""

import re

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from kernels import (
    channel_direction,
    count_channels,
    normalize_relevance,
    relevance,
    select_channels,
    threshold_for_count,
    unit_vectors,
    weigh_by_effect,
)
from kernels.impl import Impl
from tests.kernels.random_tensors import Randn
from tests.tolerances import FLOAT64_FORMULA

BOTH = pytest.mark.parametrize("impl", ["fast", "ref"])
ORDER = torch.tensor([4, 0, 6, 2, 1, 5, 3])


def float64(*values: float) -> Tensor:
    return torch.tensor(values, dtype=torch.float64)


def test_unit_vectors_have_length_one_and_keep_direction(randn: Randn) -> None:
    x = randn(2, 5, 8)
    units = unit_vectors(x)
    torch.testing.assert_close(units.norm(dim=-1), torch.ones(2, 5, dtype=torch.float64), **FLOAT64_FORMULA)
    torch.testing.assert_close(units * x.norm(dim=-1, keepdim=True), x, **FLOAT64_FORMULA)


def test_unit_vectors_zero_stays_zero_with_finite_gradient() -> None:
    x = torch.zeros(2, 3, requires_grad=True)
    units = unit_vectors(x)
    units.sum().backward()
    assert torch.equal(units.detach(), torch.zeros(2, 3))
    assert x.grad is not None
    assert bool(torch.isfinite(x.grad).all())


def test_channel_direction_agreeing_images_give_agreement_one(randn: Randn) -> None:
    unit = unit_vectors(randn(2, 8))
    result = channel_direction(5.0 * unit, float64(5.0, 5.0))
    torch.testing.assert_close(result.direction, unit, **FLOAT64_FORMULA)
    torch.testing.assert_close(result.agreement, float64(1.0, 1.0), **FLOAT64_FORMULA)


def test_channel_direction_orthogonal_images_give_agreement_of_their_mean() -> None:
    result = channel_direction(float64(1.0, 1.0, 0.0)[None], float64(2.0))
    torch.testing.assert_close(result.agreement, float64(2**-0.5), **FLOAT64_FORMULA)
    torch.testing.assert_close(result.direction, float64(2**-0.5, 2**-0.5, 0.0)[None], **FLOAT64_FORMULA)


def test_channel_direction_dead_channel_is_zero() -> None:
    result = channel_direction(torch.zeros(1, 4), torch.zeros(1))
    assert torch.equal(result.direction, torch.zeros(1, 4))
    assert float(result.agreement) == 0.0


def test_channel_direction_sums_of_any_split_give_one_table(randn: Randn) -> None:
    differences = unit_vectors(randn(6, 3, 8))  # [n c d]
    count = torch.full((3,), 6.0, dtype=torch.float64)
    whole = channel_direction(differences.sum(dim=0), count)
    split = channel_direction(differences[:2].sum(dim=0) + differences[2:].sum(dim=0), count)
    torch.testing.assert_close(vars(split), vars(whole), **FLOAT64_FORMULA)


def test_relevance_fast_equals_ref(randn: Randn) -> None:
    directions, text = randn(7, 16), randn(16)
    fast, ref = (relevance(directions, text, impl=impl) for impl in ("fast", "ref"))
    torch.testing.assert_close(fast, ref, **FLOAT64_FORMULA)


@BOTH
def test_relevance_of_unit_vectors_is_within_one_and_own_direction_gives_one(impl: Impl, randn: Randn) -> None:
    directions = unit_vectors(randn(7, 16))
    values = relevance(directions, directions[2], impl=impl)
    assert float(values[2]) == pytest.approx(1.0)
    assert int(values.abs().argmax()) == 2


@pytest.mark.usefixtures("unchecked")
@BOTH
def test_relevance_other_width_raises(impl: Impl) -> None:
    with pytest.raises(ValueError, match="must come from one CLIP; got widths 3 and 4"):
        relevance(torch.zeros(2, 3), torch.zeros(4), impl=impl)


@pytest.mark.parametrize(("num_channels", "threshold"), [(1, 0.9), (2, 0.5), (3, 0.2), (4, 0.2), (99, 0.2)])
def test_threshold_for_count_is_kth_largest_magnitude(num_channels: int, threshold: float) -> None:
    assert threshold_for_count(float64(0.2, -0.9, 0.0, 0.5), num_channels) == threshold


@settings(max_examples=40)
@given(seed=st.integers(0, 1000), num_channels=st.integers(1, 9))
def test_threshold_for_count_keeps_exactly_that_many_of_distinct_values(seed: int, num_channels: int) -> None:
    values = torch.randn(9, generator=torch.Generator().manual_seed(seed))
    keep = select_channels(values, threshold_for_count(values, num_channels))
    assert int(keep.sum()) == num_channels


def test_threshold_for_count_ties_are_all_kept() -> None:
    values = float64(0.5, -0.5, 0.1)
    assert select_channels(values, threshold_for_count(values, 1)).tolist() == [True, True, False]


def test_threshold_for_count_below_one_raises() -> None:
    with pytest.raises(ValueError, match="`num_channels` must be at least 1; got 0"):
        threshold_for_count(float64(0.5), 0)


def test_threshold_for_count_all_zero_raises() -> None:
    with pytest.raises(ValueError, match="every channel's relevance is zero"):
        threshold_for_count(float64(0.0, 0.0), 1)


def test_select_channels_keeps_magnitudes_from_threshold_up() -> None:
    assert select_channels(float64(0.2, -0.3, 0.29, 0.0), 0.29).tolist() == [False, True, True, False]


def test_select_channels_threshold_zero_leaves_dead_channels_out() -> None:
    assert select_channels(float64(0.2, 0.0), 0.0).tolist() == [True, False]


def test_select_channels_none_passing_raises_with_largest() -> None:
    message = (
        "`relevance_threshold` must not exceed the largest absolute relevance; got 0.3, largest is 0.21. "
        "Lower it to keep at least one channel."
    )
    with pytest.raises(ValueError, match=re.escape(message)):
        select_channels(float64(0.1, -0.21), 0.30)


def test_select_channels_no_channels_raises() -> None:
    with pytest.raises(ValueError, match="largest is 0"):
        select_channels(torch.zeros(0), 0.1)


def test_normalize_relevance_largest_kept_is_one_and_sign_stays() -> None:
    got = normalize_relevance(float64(0.9, -0.4, 0.2), torch.tensor([False, True, True]))
    torch.testing.assert_close(got, float64(0.0, -1.0, 0.5), **FLOAT64_FORMULA)


@pytest.mark.parametrize("values", [(0.5, 0.0), (0.0, 0.0)])
def test_normalize_relevance_nothing_kept_raises_instead_of_nan(values: tuple[float, float]) -> None:
    with pytest.raises(ValueError, match="at least one kept channel must have a relevance other than zero"):
        normalize_relevance(float64(*values), torch.tensor([False, True]))


def test_selection_permuted_channels_are_bit_identical(randn: Randn) -> None:
    values = relevance(unit_vectors(randn(7, 16, dtype=torch.float32)), randn(16, dtype=torch.float32), impl="ref")
    permuted = values[ORDER]
    threshold = threshold_for_count(values, 3)
    assert threshold_for_count(permuted, 3) == threshold
    keep = select_channels(values, threshold)
    assert torch.equal(select_channels(permuted, threshold), keep[ORDER])
    assert torch.equal(normalize_relevance(permuted, keep[ORDER]), normalize_relevance(values, keep)[ORDER])


def test_relevance_ref_permuted_channels_are_bit_identical(randn: Randn) -> None:
    directions, text = randn(7, 16, dtype=torch.float32), randn(16, dtype=torch.float32)
    assert torch.equal(relevance(directions[ORDER], text, impl="ref"), relevance(directions, text, impl="ref")[ORDER])


def test_count_channels_equals_counting_one_by_one():
    found = torch.tensor([0.3, -0.2, 0.0, 0.1, -0.3])
    thresholds = torch.tensor([0.0, 0.1, 0.15, 0.3, 0.31])
    expected = [int(((found.abs() >= t) & (found != 0)).sum()) for t in thresholds]
    assert count_channels(found, thresholds).tolist() == expected == [4, 4, 3, 2, 0]


def test_weigh_by_effect_power_zero_is_the_papers_rule():
    rng = torch.Generator().manual_seed(0)
    found, effect, text = (torch.randn(*shape, generator=rng) for shape in ((5,), (5, 8), (8,)))
    assert torch.equal(weigh_by_effect(found, effect, text, power=0.0), found)
    torch.testing.assert_close(weigh_by_effect(found, effect, text, power=1.0), found * (effect @ text).abs())


def test_unit_vectors_are_zero_only_where_a_vector_is_as_good_as_none() -> None:
    x = float64(1.0, 0.0) * float64(2e-12, 0.5e-12)[:, None]
    assert unit_vectors(x).tolist() == [[1.0, 0.0], [0.0, 0.0]]
