"""RunningMoments: any split and any order give numpy's moments."""

import dataclasses
from itertools import pairwise

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from kernels import RunningMoments
from tests.tolerances import MOMENTS


def rows_of(seed: int, num_rows: int, *, shift: float = 0.0, scale: float = 1.0) -> torch.Tensor:
    generator = torch.Generator().manual_seed(seed)
    return shift + scale * torch.randn(num_rows, 3, generator=generator, dtype=torch.float64)


def moments_of(x: torch.Tensor) -> RunningMoments:
    return RunningMoments.empty(x.shape[1]).update(x)


def assert_moments_of(moments: RunningMoments, x: torch.Tensor) -> None:
    values = x.numpy()
    assert moments.count == len(values)
    torch.testing.assert_close(moments.mean, torch.from_numpy(values.mean(axis=0)), **MOMENTS)
    for ddof in (0, 1):
        want = torch.from_numpy(values.std(axis=0, ddof=ddof))
        torch.testing.assert_close(moments.std(ddof=ddof), want, **MOMENTS)


@settings(max_examples=40)
@given(
    seed=st.integers(0, 1000),
    num_rows=st.integers(2, 40),
    cuts=st.lists(st.integers(0, 40), max_size=6),
    data=st.data(),
)
def test_merge_any_split_any_order_equals_numpy(seed: int, num_rows: int, cuts: list[int], data: st.DataObject) -> None:
    x = rows_of(seed, num_rows, shift=5.0, scale=3.0)
    edges = [0, *sorted(min(cut, num_rows) for cut in cuts), num_rows]
    parts = [moments_of(x[a:b]) for a, b in pairwise(edges)]
    total = RunningMoments.empty(3)
    for i in data.draw(st.permutations(range(len(parts)))):
        total = total.merge(parts[i])
    assert_moments_of(total, x)


@settings(max_examples=20)
@given(seed=st.integers(0, 1000), batch=st.integers(1, 12))
def test_update_any_batch_size_equals_numpy(seed: int, batch: int) -> None:
    x = rows_of(seed, 12)
    moments = RunningMoments.empty(3)
    for part in x.split(batch):
        moments = moments.update(part)
    assert_moments_of(moments, x)


def test_update_large_mean_small_spread_keeps_the_spread() -> None:
    x = rows_of(0, 1000, shift=1e6, scale=1e-2)  # E[x^2] - E[x]^2 would lose every digit here
    total = RunningMoments.empty(3)
    for part in x.split(7):
        total = total.update(part)
    want = torch.from_numpy(np.std(x.numpy() - 1e6, axis=0))
    torch.testing.assert_close(total.std(), want, rtol=1e-6, atol=0.0)


def test_update_float32_rows_are_summed_in_float64() -> None:
    x = rows_of(0, 50).float()
    moments = moments_of(x)
    assert moments.mean.dtype == moments.m2.dtype == torch.float64
    assert_moments_of(moments, x.double())


def test_update_returns_new_moments() -> None:
    empty = RunningMoments.empty(3)
    empty.update(rows_of(0, 5))
    assert empty.count == 0
    assert torch.equal(empty.mean, torch.zeros(3, dtype=torch.float64))


def test_update_no_rows_changes_nothing() -> None:
    moments = moments_of(rows_of(0, 5))
    assert moments.update(torch.zeros(0, 3)) is moments


def test_merge_two_empty_is_empty() -> None:
    merged = RunningMoments.empty(3).merge(RunningMoments.empty(3))
    assert merged.count == 0
    assert bool(torch.isfinite(merged.mean).all())


@pytest.mark.parametrize("first", [True, False])
def test_merge_with_empty_changes_nothing(first: bool) -> None:
    x, empty = rows_of(0, 5), RunningMoments.empty(3)
    merged = empty.merge(moments_of(x)) if first else moments_of(x).merge(empty)
    assert_moments_of(merged, x)


def test_std_one_row_is_zero() -> None:
    assert torch.equal(moments_of(rows_of(0, 1)).std(), torch.zeros(3, dtype=torch.float64))


@pytest.mark.parametrize(("num_rows", "ddof"), [(0, 0), (1, 1), (0, 1)])
def test_std_not_more_rows_than_ddof_raises(num_rows: int, ddof: int) -> None:
    with pytest.raises(ValueError, match=f"ddof={ddof} needs more than {ddof} rows; got {num_rows}"):
        moments_of(rows_of(0, num_rows)).std(ddof=ddof)


def test_update_other_number_of_columns_raises() -> None:
    with pytest.raises(ValueError, match=r"rows must have 3 columns; got \(4, 2\)"):
        RunningMoments.empty(3).update(torch.zeros(4, 2))


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_update_not_finite_raises(value: float) -> None:
    with pytest.raises(ValueError, match="rows must be finite"):
        RunningMoments.empty(1).update(torch.tensor([[0.0], [value]]))


def test_merge_other_number_of_columns_raises() -> None:
    with pytest.raises(ValueError, match="one number of columns; got 1 and 3"):
        RunningMoments.empty(1).merge(moments_of(rows_of(0, 2)))


def test_moments_are_frozen() -> None:
    with pytest.raises(dataclasses.FrozenInstanceError):
        RunningMoments.empty(1).count = 3  # pyright: ignore[reportAttributeAccessIssue]
