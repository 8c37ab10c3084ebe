"""Gradients on their way through half precision, scaled so that they neither vanish nor overflow."""

from typing import Any, cast

import torch
from jaxtyping import Float
from torch import Tensor

GRADIENT_LENGTH = 32.0  # of a sample's gradient inside: at 1024 px rms 0.02, far from 6e-8 and from 65504


class GradientScale:
    """A power of two for every sample: multiplied in where the gradient enters, divided out where it leaves.

    A backward pass comes in at the end of a network, so the factor is found there, from the gradient itself, and is
    known by the time it leaves at the start. Powers of two change no bit of what neither vanishes nor overflows.
    """

    def __init__(self) -> None:
        self.factor: Float[Tensor, "n"] | None = None

    def at_end(self, x: Float[Tensor, "n ..."]) -> Float[Tensor, "n ..."]:
        """``x`` as it is; each sample's gradient goes on with ``GRADIENT_LENGTH``, up to a factor of 2."""
        return cast(Tensor, _AtEnd.apply(x, self))

    def at_start(self, x: Float[Tensor, "n ..."]) -> Float[Tensor, "n ..."]:
        """``x`` as it is; its gradient comes out as if nothing had been scaled."""
        return cast(Tensor, _AtStart.apply(x, self))


class _AtEnd(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor, scale: GradientScale) -> Tensor:
        """A view of ``x``."""
        ctx.scale = scale
        return x.view_as(x)

    @staticmethod
    def backward(ctx: Any, *grad_outputs: Tensor) -> tuple[Tensor, None]:
        """The gradient times the factor, which is noted."""
        (gradient,) = grad_outputs
        length = torch.linalg.vector_norm(gradient.flatten(1), dim=1)
        _, exponent = torch.frexp(GRADIENT_LENGTH / length)
        factor = torch.ldexp(torch.ones_like(length), exponent - 1)
        usable = torch.isfinite(length) & (length > 0) & torch.isfinite(factor)
        ctx.scale.factor = torch.where(usable, factor, torch.ones_like(factor))
        return gradient * _along(ctx.scale.factor, gradient), None


class _AtStart(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor, scale: GradientScale) -> Tensor:
        """A view of ``x``."""
        ctx.scale = scale
        return x.view_as(x)

    @staticmethod
    def backward(ctx: Any, *grad_outputs: Tensor) -> tuple[Tensor, None]:
        """The gradient divided by the factor of this backward pass."""
        (gradient,) = grad_outputs
        assert ctx.scale.factor is not None, "a gradient comes in before it leaves"
        return gradient / _along(ctx.scale.factor, gradient), None


def _along(factor: Float[Tensor, "n"], x: Tensor) -> Tensor:
    return factor.view(-1, *[1] * (x.ndim - 1))
