"""Noise, bias, leaky ReLU, gain and clamp: everything between two convolutions of StyleGAN2."""

import math

import torch
from jaxtyping import Float
from torch import Tensor
from torch.nn import functional as F

from kernels.impl import Impl, check_impl

LRELU_SLOPE = 0.2  # Karras et al. 2019, appendix C
LRELU_GAIN = math.sqrt(2)  # He initialisation's gain, moved to run time (Karras et al. 2020)


def bias_act(
    x: Float[Tensor, "n c h w"],
    bias: Float[Tensor, "c"] | None = None,
    *,
    noise: Float[Tensor, "#n 1 h w"] | None = None,
    act: bool = True,
    slope: float = LRELU_SLOPE,
    gain: float = LRELU_GAIN,
    clamp: float | None = None,
    impl: Impl = "auto",
) -> Float[Tensor, "n c h w"]:
    """``clamp(gain * lrelu(x + noise + bias))``; with ``act=False`` just ``clamp(x + noise + bias)``.

    Args:
        x: output of a convolution.
        bias: one value per channel.
        noise: one value per pixel, already scaled by the layer's strength.
        act: False for toRGB layers, which have no activation and no gain.
        slope: negative slope of the leaky ReLU.
        gain: factor after the activation.
        clamp: largest magnitude let through, or None. NVlabs networks use 256, rosinality's none.
        impl: ``"fast"`` works in place on one temporary, as far as a gradient allows; ``"auto"`` takes the reference
            where one is asked for.
    Returns:
        shape, dtype and device of ``x``; differentiable in ``x``, ``bias`` and ``noise``.
    Raises:
        ValueError: if ``bias`` does not have one value per channel.
    """
    check_impl(impl)
    if bias is not None and bias.shape != (x.shape[1],):
        raise ValueError(f"`bias` must have one value per channel, ({x.shape[1]},); got {tuple(bias.shape)}.")
    if impl == "ref" or (impl == "auto" and _needs_grad(x, bias, noise)):
        return _bias_act_ref(x, bias, noise=noise, act=act, slope=slope, gain=gain, clamp=clamp)
    return _bias_act_fast(x, bias, noise=noise, act=act, slope=slope, gain=gain, clamp=clamp)


def _needs_grad(*tensors: Tensor | None) -> bool:
    return torch.is_grad_enabled() and any(t is not None and t.requires_grad for t in tensors)


def _bias_act_ref(
    x: Tensor, bias: Tensor | None, *, noise: Tensor | None, act: bool, slope: float, gain: float, clamp: float | None
) -> Tensor:
    if noise is not None:
        x = x + noise
    if bias is not None:
        x = x + bias.to(x).reshape(1, -1, 1, 1)
    if act:
        x = F.leaky_relu(x, slope)
        x = x if gain == 1.0 else x * gain  # a pass over memory, and another one backward
    return x if clamp is None else x.clamp(-clamp, clamp)


def _bias_act_fast(
    x: Tensor, bias: Tensor | None, *, noise: Tensor | None, act: bool, slope: float, gain: float, clamp: float | None
) -> Tensor:
    differentiate = _needs_grad(x, bias, noise)  # backward then reads what the activation and the clamp were given
    owned = False
    if noise is not None:
        x, owned = x + noise, True
    if bias is not None:
        shift = bias.to(x).reshape(1, -1, 1, 1)
        x, owned = (x.add_(shift) if owned else x + shift), True
    if act:
        owned = owned and not differentiate
        x, owned = F.leaky_relu_(x, slope) if owned else F.leaky_relu(x, slope), True
        x = x if gain == 1.0 else x.mul_(gain)
    if clamp is None:
        return x
    return x.clamp_(-clamp, clamp) if owned and not differentiate else x.clamp(-clamp, clamp)
