"""The public face of ``kernels``."""

from collections.abc import Callable
from types import ModuleType
from typing import Any

import pytest
import torch

import kernels
from kernels.impl import Impl

BOGUS: Any = "bogus"
IMAGE = torch.zeros(1, 3, 8, 8)
ROWS = torch.eye(2)
CALLS: dict[str, Callable[[Impl], object]] = {
    "bias_act": lambda impl: kernels.bias_act(IMAGE, impl=impl),
    "moved_modulated_conv2d": lambda impl: kernels.moved_modulated_conv2d(
        torch.zeros(1, 2, 4, 4),
        torch.zeros(1, 3, 4, 4),
        torch.zeros(2, 3, 3, 3),
        torch.ones(1, 3),
        channel=0,
        moves=[1.0],
        shift=torch.zeros(1, 1, 1, 1),
        impl=impl,
    ),
    "correlated_channels": lambda impl: kernels.correlated_channels(ROWS, impl=impl),
    "exclusive_channels": lambda impl: kernels.exclusive_channels(ROWS, impl=impl),
    "matching_pursuit": lambda impl: kernels.matching_pursuit(ROWS, ROWS[0], smallest_gain=0.1, impl=impl),
    "modulated_conv2d": lambda impl: kernels.modulated_conv2d(
        IMAGE, torch.zeros(2, 3, 3, 3), torch.ones(1, 3), impl=impl
    ),
    "relevance": lambda impl: kernels.relevance(ROWS, ROWS[0], impl=impl),
    "resize_normalize": lambda impl: kernels.resize_normalize(
        IMAGE, 4, mean=(0.0, 0.0, 0.0), std=(1.0, 1.0, 1.0), impl=impl
    ),
    "upfirdn2d": lambda impl: kernels.upfirdn2d(IMAGE, torch.ones(2), impl=impl),
    "upsampling_conv2d": lambda impl: kernels.upsampling_conv2d(
        IMAGE, torch.zeros(2, 3, 3, 3), torch.ones(2), impl=impl
    ),
    "winograd_conv2d": lambda impl: kernels.winograd_conv2d(
        IMAGE,
        torch.zeros(2, 3, 3, 3),
        scale_in=torch.ones(1, 3),
        scale_out=torch.ones(1, 2),
        shift=torch.zeros(1, 1, 1, 1),
        impl=impl,
    ),
}


def takes_impl(name: str) -> bool:
    return name != "check_impl" and "impl" in getattr(getattr(kernels, name), "__annotations__", {})


def test_all_equals_public_names() -> None:
    public = {
        name for name, value in vars(kernels).items() if not name.startswith("_") and not isinstance(value, ModuleType)
    }
    assert set(kernels.__all__) == public


def test_all_has_no_repeats() -> None:
    assert len(kernels.__all__) == len(set(kernels.__all__))


def test_calls_cover_every_kernel_with_impl() -> None:
    assert set(CALLS) == {name for name in kernels.__all__ if takes_impl(name)}


@pytest.mark.usefixtures("unchecked")
@pytest.mark.parametrize("name", CALLS)
def test_kernel_bogus_impl_raises(name: str) -> None:
    with pytest.raises(ValueError, match="`impl` must be one of auto, fast, ref; got 'bogus'"):
        CALLS[name](BOGUS)


@pytest.mark.parametrize("impl", ["auto", "fast", "ref"])
@pytest.mark.parametrize("name", CALLS)
def test_kernel_every_impl_runs(name: str, impl: Impl) -> None:
    CALLS[name](impl)
