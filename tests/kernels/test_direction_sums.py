import itertools

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from kernels import DirectionSums, channel_direction, unit_vectors
from kernels.direction_sums import MAX_IMAGES, MAX_LENGTH
from tests.tolerances import FLOAT32_STORED


def some_differences(images: int = 12) -> Tensor:
    x = unit_vectors(torch.randn(3, images, 16, generator=torch.Generator().manual_seed(0)))
    x[1, ::3] = 0.0
    return x


@settings(max_examples=30)
@given(order=st.permutations(range(12)), cuts=st.sets(st.integers(1, 11)))
def test_direction_sums_any_split_and_order_give_the_same_bits(order: list[int], cuts: set[int]):
    differences = some_differences()
    whole = DirectionSums.of(differences)
    merged = DirectionSums.empty(3, 16)
    edges = [0, *sorted(cuts), 12]
    for start, stop in itertools.pairwise(edges):
        merged = DirectionSums.of(differences[:, order[start:stop]]).merge(merged)
    assert torch.equal(merged.total, whole.total)
    assert torch.equal(merged.effect, whole.effect)
    assert torch.equal(merged.count, whole.count)
    assert torch.equal(merged.seen, whole.seen)


def test_direction_sums_direction_equals_the_float_sum():
    differences = some_differences()
    found = DirectionSums.of(differences).direction()
    expected = channel_direction(differences.double().sum(dim=1), differences.any(dim=2).sum(dim=1))
    torch.testing.assert_close(found.direction.double(), expected.direction, **FLOAT32_STORED)
    torch.testing.assert_close(found.agreement.double(), expected.agreement, **FLOAT32_STORED)
    assert found.count.tolist() == [12, 8, 12]


def test_direction_sums_add_at_touches_only_its_rows():
    sums = DirectionSums.of(some_differences()).add_at(torch.tensor([2]), DirectionSums.of(some_differences(4)[:1]))
    assert sums.seen.tolist() == [12, 12, 16]
    assert torch.equal(sums.total[:2], DirectionSums.of(some_differences()).total[:2])


@pytest.mark.parametrize("bad", [65.0, float("nan")])
def test_direction_sums_too_long_a_difference_is_refused(bad: float):
    with pytest.raises(ValueError, match="must be finite and at most 64 long"):
        DirectionSums.of(torch.tensor([[[bad, 0.0]]]))


def test_direction_sums_mean_effect_keeps_the_length():
    differences = some_differences() * 0.3
    expected = differences.double().mean(dim=1)
    torch.testing.assert_close(DirectionSums.of(differences).mean_effect().double(), expected, **FLOAT32_STORED)


def test_direction_sums_other_channels_are_refused():
    with pytest.raises(ValueError, match=r"same channels and CLIP width; got \(3, 16\) and \(2, 16\)"):
        DirectionSums.empty(3, 16).merge(DirectionSums.empty(2, 16))


def sums_of_many(images: int) -> DirectionSums:
    one = DirectionSums.of(some_differences(1))
    return DirectionSums(one.total * images, one.effect * images, one.count * images, one.seen * images)


@pytest.mark.parametrize("way", ["merge", "add_at"])
def test_direction_sums_of_more_images_than_int64_holds_are_refused(way: str):
    def add(a: DirectionSums, b: DirectionSums) -> DirectionSums:
        return a.merge(b) if way == "merge" else a.add_at(torch.arange(3), b)

    full = sums_of_many(MAX_IMAGES - 1)
    assert add(full, sums_of_many(1)).seen.tolist() == [65_536] * 3
    with pytest.raises(ValueError, match="exact up to 65536 images of a channel; got 65537"):
        add(full, sums_of_many(2))


def test_direction_sums_of_the_most_and_longest_differences_fit_int64():
    longest = DirectionSums.of(torch.tensor([[[MAX_LENGTH, 0.0]]]))
    assert int(longest.effect.max()) * MAX_IMAGES <= torch.iinfo(torch.int64).max
    assert int(longest.total.max()) * MAX_IMAGES <= torch.iinfo(torch.int64).max


def test_direction_sums_of_too_many_images_at_once_are_refused():
    with pytest.raises(ValueError, match="got 65537"):
        DirectionSums.of(torch.zeros(1, MAX_IMAGES + 1, 1))


def test_direction_sums_count_a_difference_above_what_rounding_makes():
    lengths = torch.tensor([2e-5, 0.5e-5])
    found = DirectionSums.of(torch.tensor([1.0, 0.0]) * lengths[:, None, None])
    assert (found.count.tolist(), found.seen.tolist()) == ([1, 0], [1, 1])
    assert found.direction().direction.tolist() == [[1.0, 0.0], [0.0, 0.0]]
