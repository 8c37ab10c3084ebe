"""Exclusive channels: one thing at a time is told from things that merely vary against each other."""

import pytest
import torch

from kernels import exclusive_channels
from kernels.impl import Impl

BOTH = pytest.mark.parametrize("impl", ["fast", "ref"])
SAMPLES = 2_000


def one_at_a_time(shares: list[float]) -> torch.Tensor:
    """One-hot columns [n, k], each 1 in its share of the samples."""
    drawn = torch.multinomial(
        torch.tensor(shares), SAMPLES, replacement=True, generator=torch.Generator().manual_seed(0)
    )
    return torch.nn.functional.one_hot(drawn, len(shares)).float()


@BOTH
def test_things_of_which_there_is_one_at_a_time_exclude_each_other(impl: Impl) -> None:
    noise = 0.05 * torch.randn(SAMPLES, 3, generator=torch.Generator().manual_seed(1))
    found = exclusive_channels(one_at_a_time([0.5, 0.3, 0.2]) + noise, impl=impl)
    assert found.tolist() == (~torch.eye(3, dtype=torch.bool)).tolist()


@BOTH
def test_channels_that_vary_against_each_other_do_not_exclude_each_other(impl: Impl) -> None:
    x = torch.randn(SAMPLES, 2, generator=torch.Generator().manual_seed(2))
    styles = torch.stack([x[:, 0], -0.4 * x[:, 0] + 0.9 * x[:, 1], x[:, 1]], dim=1)
    assert not exclusive_channels(styles, impl=impl).any()


def test_a_pair_too_rare_to_meet_by_chance_is_not_decided() -> None:
    found = exclusive_channels(one_at_a_time([0.02, 0.02, 0.96]))
    assert not found[0, 1]


def test_fast_form_equals_the_reference() -> None:
    mixed = one_at_a_time([0.2, 0.3, 0.1, 0.4]) @ torch.rand(4, 9, generator=torch.Generator().manual_seed(3))
    assert torch.equal(exclusive_channels(mixed, impl="fast"), exclusive_channels(mixed, impl="ref"))
