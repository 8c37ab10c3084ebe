"""Groups of channels that always move together: found whatever their scale and sign, and nothing else."""

import pytest
import torch

from kernels import correlated_channels
from kernels.impl import Impl

BOTH = pytest.mark.parametrize("impl", ["fast", "ref"])


def controls(count: int, seed: int = 0) -> torch.Tensor:
    return torch.randn(200, count, generator=torch.Generator().manual_seed(seed))


@BOTH
def test_channels_that_read_one_control_are_a_group_whatever_their_scale_and_sign(impl: Impl) -> None:
    x = controls(3)
    styles = torch.stack([x[:, 0], x[:, 1], -3 * x[:, 0] + 5, x[:, 2], 0.01 * x[:, 1], 2 * x[:, 0]], dim=1)
    found = correlated_channels(styles, impl=impl)
    assert found.group.tolist() == [0, 1, 0, 2, 1, 0]
    assert found.sign.tolist() == [1, 1, -1, 1, 1, 1]


@BOTH
def test_channels_that_are_constant_or_only_alike_stand_alone(impl: Impl) -> None:
    x = controls(2)
    styles = torch.stack([x[:, 0], x[:, 0] + 0.3 * x[:, 1], torch.ones(200), 2 * torch.ones(200)], dim=1)
    assert correlated_channels(styles, impl=impl).group.tolist() == [0, 1, 2, 3]


@pytest.mark.parametrize("chunk", [1, 5, 64])
def test_fast_form_equals_the_reference_whatever_the_chunk(chunk: int) -> None:
    mixed = controls(20) @ torch.randn(4, 20, generator=torch.Generator().manual_seed(2)).repeat(5, 1)
    fast = correlated_channels(mixed, smallest=0.6, chunk=chunk, impl="fast")
    reference = correlated_channels(mixed, smallest=0.6, impl="ref")
    assert fast.group.tolist() == reference.group.tolist()
    assert fast.sign.tolist() == reference.sign.tolist()


def test_total_and_spread_carry_the_signs() -> None:
    x = controls(2)
    found = correlated_channels(torch.stack([x[:, 0], -x[:, 0], x[:, 1]], dim=1))
    values = torch.tensor([[1.0, 2.0], [-3.0, 1.0], [5.0, 5.0]])
    assert found.total(values).tolist() == [[4.0, 1.0], [5.0, 5.0]]
    assert found.spread(torch.tensor([2.0, 7.0])).tolist() == [2.0, -2.0, 7.0]


def test_gather_stands_at_the_first_channel_and_copy_brings_it_back_to_all() -> None:
    x = controls(2)
    found = correlated_channels(torch.stack([x[:, 1], x[:, 0], -x[:, 0]], dim=1))
    assert found.leaders.tolist() == [0, 1]
    values = torch.tensor([[5.0, 5.0], [1.0, 2.0], [-3.0, 1.0]])
    gathered = found.gather(values)
    assert gathered.tolist() == [[5.0, 5.0], [4.0, 1.0], [0.0, 0.0]]
    assert found.copy(gathered).tolist() == [[5.0, 5.0], [4.0, 1.0], [-4.0, -1.0]]
    assert found.gather(torch.ones(3, 2, 2)).shape == (3, 2, 2)
