"""Matching pursuit: sparse sums are taken apart, the order of channels has no say."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from kernels import matching_pursuit, pursuit_contest, unit_vectors
from kernels.impl import Impl
from tests.tolerances import FLOAT64_FORMULA

BOTH = pytest.mark.parametrize("impl", ["fast", "ref"])


def atoms(count: int, width: int, seed: int) -> Tensor:
    return unit_vectors(torch.randn(count, width, dtype=torch.float64, generator=torch.Generator().manual_seed(seed)))


@BOTH
@given(seed=st.integers(0, 1000), size=st.integers(1, 5), data=st.data())
@settings(max_examples=30, deadline=None)
def test_orthogonal_channels_are_recovered_exactly(impl: Impl, seed: int, size: int, data: st.DataObject) -> None:
    directions = torch.linalg.qr(atoms(24, 24, seed)).Q[:16]
    chosen = data.draw(st.lists(st.integers(0, 15), min_size=size, max_size=size, unique=True))
    weights = data.draw(st.lists(st.sampled_from([-1.5, -1.0, -0.6, 0.5, 1.0, 1.3]), min_size=size, max_size=size))
    wanted = torch.zeros(16, dtype=torch.float64)
    wanted[chosen] = torch.tensor(weights, dtype=torch.float64)
    found = matching_pursuit(directions, wanted @ directions, smallest_gain=0.05, impl=impl)
    torch.testing.assert_close(found, wanted, **FLOAT64_FORMULA)


@BOTH
def test_oblique_channels_of_a_sum_are_recovered(impl: Impl) -> None:
    # 40 directions in 64 dimensions: coherent, but not so much that pursuit picks a wrong one.
    directions = atoms(40, 64, 3)
    wanted = torch.zeros(40, dtype=torch.float64)
    wanted[[3, 17, 30]] = torch.tensor([1.0, -0.8, 0.6], dtype=torch.float64)
    found = matching_pursuit(directions, wanted @ directions, smallest_gain=0.02, impl=impl)
    torch.testing.assert_close(found, wanted, **FLOAT64_FORMULA)


@given(seed=st.integers(0, 10_000), gain=st.sampled_from([0.01, 0.1, 0.5]))
@settings(max_examples=40, deadline=None)
def test_fast_form_equals_the_reference(seed: int, gain: float) -> None:
    directions, target = atoms(30, 12, seed), atoms(1, 12, seed + 1)[0]
    found = [
        matching_pursuit(directions, target, smallest_gain=gain, max_chosen=8, impl=impl) for impl in ("fast", "ref")
    ]
    torch.testing.assert_close(*found, rtol=1e-7, atol=1e-9)


@BOTH
@given(order=st.permutations(range(12)))
@settings(max_examples=20, deadline=None)
def test_the_order_of_channels_has_no_say(impl: Impl, order: list[int]) -> None:
    directions, target = atoms(12, 16, 5), atoms(1, 16, 6)[0]
    plain = matching_pursuit(directions, target, smallest_gain=0.05, impl=impl)
    mixed = matching_pursuit(directions[order], target, smallest_gain=0.05, impl=impl)
    torch.testing.assert_close(mixed, plain[order], **FLOAT64_FORMULA)


@BOTH
def test_coefficients_follow_the_sign_and_length_of_the_target(impl: Impl) -> None:
    directions, target = atoms(12, 16, 5), atoms(1, 16, 6)[0]
    plain = matching_pursuit(directions, target, smallest_gain=0.05, impl=impl)
    torch.testing.assert_close(
        matching_pursuit(directions, -2.5 * target, smallest_gain=0.05, impl=impl), -2.5 * plain, **FLOAT64_FORMULA
    )


@BOTH
def test_a_larger_smallest_gain_stops_sooner(impl: Impl) -> None:
    directions = torch.eye(6, dtype=torch.float64)
    target = torch.tensor([1.0, 0.6, 0.3, 0.1, 0.0, 0.0], dtype=torch.float64)  # gains 1, 0.36, 0.09, 0.01
    counts = [
        int((matching_pursuit(directions, target, smallest_gain=gain, impl=impl) != 0).sum())
        for gain in (0.5, 0.2, 0.05, 0.005)
    ]
    assert counts == [1, 2, 3, 4]


@BOTH
def test_channels_without_effect_are_never_chosen(impl: Impl) -> None:
    directions = torch.stack([torch.zeros(4), torch.eye(4)[1], torch.zeros(4)]).double()
    found = matching_pursuit(directions, torch.ones(4, dtype=torch.float64), smallest_gain=0.01, impl=impl)
    assert found.tolist() == [0.0, 1.0, 0.0]


def test_what_cannot_be_pursued_is_refused() -> None:
    directions = torch.eye(4)
    with pytest.raises(ValueError, match="nothing in common"):
        matching_pursuit(directions[:2], directions[3], smallest_gain=0.1)
    with pytest.raises(ValueError, match="got 0"):
        matching_pursuit(directions, directions[0], smallest_gain=0.0)


@given(seed=st.integers(0, 10_000), gain=st.sampled_from([0.01, 0.1, 0.5]))
@settings(max_examples=40, deadline=None)
def test_contest_is_won_by_those_that_are_chosen_and_no_others(seed: int, gain: float) -> None:
    directions, target = atoms(30, 12, seed), atoms(1, 12, seed + 1)[0]
    chosen = matching_pursuit(directions, target, smallest_gain=gain, max_chosen=8) != 0
    closeness = pursuit_contest(directions, target, smallest_gain=gain, max_chosen=8)
    assert torch.equal(closeness > 1.0, chosen)
    assert float(closeness.min()) >= 0.0
    assert float(closeness[(directions @ target).abs().argmax()]) == 2.0  # the first has all of the first one's gain


def test_contest_counts_rivals_at_the_step_they_lose_by_the_least() -> None:
    axes = torch.eye(4, dtype=torch.float64)
    rival = 0.8 * axes[1] + 0.6 * axes[3]  # of the second wish
    dead = torch.zeros(4, dtype=torch.float64)
    directions = torch.stack([axes[0], axes[1], rival, axes[2], dead])
    target = unit_vectors((1.0 * axes[0] + 0.5 * axes[1])[None])[0]
    closeness = pursuit_contest(directions, target, smallest_gain=0.05)
    expected = torch.tensor([2.0, 1.25, 0.8, 0.0, 0.0], dtype=torch.float64)
    torch.testing.assert_close(closeness, expected, **FLOAT64_FORMULA)


def test_contest_of_what_has_nothing_in_common_is_zero() -> None:
    axes = torch.eye(3)
    assert not pursuit_contest(axes[:2], axes[2], smallest_gain=0.1).any()
