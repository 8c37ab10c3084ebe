"""The layers of StyleGAN2's synthesis network (Karras et al. 2020) and their weights.

State names follow NVlabs' PyTorch code (``b8.conv0.affine.bias``). Which layers run when, and in what form, is a
``SynthesisPlan``'s to say. Letters: n sample, s style channels, o i channels, d w_dim.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import cast

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn import functional as F

from kernels import (
    LRELU_GAIN,
    Impl,
    bias_act,
    binomial_filter,
    modulated_conv2d,
    moved_modulated_conv2d,
    upfirdn2d,
)
from pipeline.style_space import StyleLayer, StyleSpace

HALF_DEVICES = ("cuda",)  # where NVlabs' networks use half precision; on a CPU they do not either


@dataclass(frozen=True)
class GeneratorConfig:
    """Architecture of a generator.

    Attributes:
        resolution: image size in pixels, a power of two from 8.
        channel_base: feature channels at resolution r are ``min(channel_base // r, channel_max)``.
        channel_max: upper bound of the channels of a layer.
        z_dim: length of z.
        w_dim: length of w.
        mapping_layers: fully connected layers between z and w.
        mapping_dim: width of the hidden mapping layers; None means ``w_dim``.
        conv_clamp: largest magnitude of an activation, or None (NVlabs: 256; rosinality: None).
        noise: whether the layers add their constant noise; off saves a pass where every strength is zero.
        num_fp16_res: how many of the highest resolutions run in half precision on CUDA, as NVlabs' networks do (4);
            0 keeps full precision. Elsewhere than on CUDA they run in full precision too.
    """

    resolution: int
    channel_base: int = 32768
    channel_max: int = 512
    z_dim: int = 512
    w_dim: int = 512
    mapping_layers: int = 8
    mapping_dim: int | None = None
    conv_clamp: float | None = None
    noise: bool = True
    num_fp16_res: int = 0

    @property
    def style_space(self) -> StyleSpace:
        """The layout of the generator's style vectors."""
        return StyleSpace(self.resolution, self.channel_base, self.channel_max)


class FullyConnected(nn.Module):
    """Linear layer with the learning rate folded into the weight (equalised learning rate).

    ``y = act(x @ (W * lr / sqrt(in)).T + b * lr)``, act = leaky ReLU(0.2) * sqrt(2) or none.
    """

    def __init__(self, num_in: int, num_out: int, *, lr: float = 1.0, act: bool = False, bias: float = 0.0) -> None:
        super().__init__()
        # in place: the quotient of a tensor on the meta device would import torch's compiler, 200 MB and seconds
        self.weight = nn.Parameter(torch.randn(num_out, num_in).div_(lr))
        self.bias = nn.Parameter(torch.full((num_out,), bias / lr))
        self.weight_gain = lr / math.sqrt(num_in)
        self.bias_gain = lr
        self.act = act

    def forward(self, x: Float[Tensor, "... i"]) -> Float[Tensor, "... o"]:
        """[..., in] to [..., out]."""
        y = F.linear(x, self.weight * self.weight_gain, self.bias * self.bias_gain)
        return F.leaky_relu(y, 0.2) * math.sqrt(2) if self.act else y


class SynthesisLayer(nn.Module):
    """Modulated 3x3 convolution, noise, bias, leaky ReLU; upsamples where the layer is a ``conv0``."""

    noise_const: Tensor
    resample_filter: Tensor

    def __init__(self, layer: StyleLayer, config: GeneratorConfig) -> None:
        super().__init__()
        self.up = 2 if layer.kind == "conv0" else 1
        self.clamp = config.conv_clamp
        self.has_noise = config.noise
        self.affine = FullyConnected(config.w_dim, layer.num_channels, bias=1.0)
        self.weight = nn.Parameter(torch.randn(layer.num_out, layer.num_channels, 3, 3))
        self.bias = nn.Parameter(torch.zeros(layer.num_out))
        self.noise_strength = nn.Parameter(torch.zeros([]))
        self.register_buffer("noise_const", torch.randn(layer.resolution, layer.resolution))
        self.register_buffer("resample_filter", binomial_filter(), persistent=False)

    def forward(
        self, x: Tensor, rgb: Tensor | None, styles: Tensor, *, impl: Impl, taps: Tensor | None = None
    ) -> tuple[Tensor, Tensor | None]:
        """Features, image so far and this layer's styles to the next features; the image passes through.

        In half precision, weights and styles are first divided by their largest magnitude, per output channel and
        per sample, which demodulation takes back: otherwise the sums overflow (NVlabs' networks do the same).
        """
        weight = self.weight
        if x.dtype == torch.float16:
            weight = weight / (weight.abs().amax(dim=(1, 2, 3), keepdim=True) * math.sqrt(weight[0].numel()))
            styles = styles / styles.abs().amax(dim=1, keepdim=True)
        if impl == "ref":
            x = modulated_conv2d(x, weight, styles, up=self.up, resample_filter=self.resample_filter, impl=impl)
            noise = (self.noise_const * self.noise_strength)[None, None].to(x.dtype) if self.has_noise else None
            return bias_act(x, self.bias, noise=noise, clamp=self.clamp, impl=impl), rgb
        # lrelu(g x) = g lrelu(x) for g > 0: the gain rides with the demodulation, bias and noise with the shift
        x = modulated_conv2d(
            x,
            weight,
            styles,
            up=self.up,
            resample_filter=self.resample_filter,
            shift=self._shift(),
            gain=LRELU_GAIN,
            taps=taps,
            impl=impl,
        )
        return bias_act(x, gain=1.0, clamp=self.clamp, impl=impl), rgb

    def sums(self, x: Tensor, styles: Tensor, *, taps: Tensor | None) -> Tensor:
        """The convolution before demodulation: what ``moved`` starts from."""
        f = self.resample_filter
        return modulated_conv2d(
            x, self.weight, styles, demodulate=False, up=self.up, resample_filter=f, taps=taps, impl="auto"
        )

    def moved(self, sums: Tensor, x: Tensor, styles: Tensor, *, channel: int, moves: Sequence[float]) -> Tensor:
        """The next features of all samples for each move of one channel's style, by ``moved_modulated_conv2d``."""
        x = moved_modulated_conv2d(
            sums,
            x,
            self.weight,
            styles,
            channel=channel,
            moves=moves,
            up=self.up,
            resample_filter=self.resample_filter,
            shift=self._shift(),
            gain=LRELU_GAIN,
        )
        return bias_act(x, gain=1.0, clamp=self.clamp)

    def _shift(self) -> Tensor:
        shift = self.bias[None, :, None, None]
        if self.has_noise:  # added as [h, w, o], so that the sum is channels-last as the features are
            shift = (self.noise_const[:, :, None] * self.noise_strength + self.bias).permute(2, 0, 1)[None]
        return shift * LRELU_GAIN


class ToRGB(nn.Module):
    """Modulated 1x1 convolution without demodulation, added to the upsampled image so far."""

    resample_filter: Tensor

    def __init__(self, layer: StyleLayer, config: GeneratorConfig) -> None:
        super().__init__()
        self.clamp = config.conv_clamp
        self.affine = FullyConnected(config.w_dim, layer.num_channels, bias=1.0)
        self.weight = nn.Parameter(torch.randn(3, layer.num_channels, 1, 1))
        self.bias = nn.Parameter(torch.zeros(3))
        self.weight_gain = 1 / math.sqrt(layer.num_channels)
        self.register_buffer("resample_filter", binomial_filter(), persistent=False)

    def forward(self, x: Tensor, rgb: Tensor | None, styles: Tensor, *, impl: Impl) -> tuple[Tensor, Tensor]:
        """Features pass through; the image so far is doubled in size and the layer's colours are added."""
        colours = modulated_conv2d(x, self.weight, styles * self.weight_gain, demodulate=False, impl=impl)
        colours = bias_act(colours, self.bias, act=False, clamp=self.clamp, impl=impl).to(styles.dtype)
        if rgb is None:
            return x, colours
        return x, upfirdn2d(rgb, self.resample_filter, up=2, padding=(2, 1, 2, 1), gain=4.0, impl=impl) + colours


class Block(nn.Module):
    """The layers of one resolution; the first holds the learned constant."""

    def __init__(self, layers: list[StyleLayer], config: GeneratorConfig) -> None:
        super().__init__()
        if layers[0].resolution == 4:
            self.const = nn.Parameter(torch.randn(layers[0].num_channels, 4, 4))
        for layer in layers:
            make = ToRGB if layer.is_torgb else SynthesisLayer
            self.add_module(layer.kind, make(layer, config))


class Synthesis(nn.Module):
    """All blocks; a ``SynthesisPlan`` runs them layer by layer, so that a run can start anywhere."""

    def __init__(self, config: GeneratorConfig) -> None:
        super().__init__()
        self.space = config.style_space
        self.full_up_to = max(config.resolution >> config.num_fp16_res, 4)  # px; the first block is never half
        resolution = 4
        while resolution <= config.resolution:
            layers = [layer for layer in self.space.layers if layer.resolution == resolution]
            self.add_module(f"b{resolution}", Block(layers, config))
            resolution *= 2

    def layer(self, index: int) -> SynthesisLayer | ToRGB:
        """The module of a layer of the style space."""
        return cast(SynthesisLayer | ToRGB, self.get_submodule(self.space.layers[index].name))

    def precision(self, index: int, device: torch.device, dtype: torch.dtype) -> torch.dtype:
        """Element type that a layer computes in: half where the configuration says so and the device is CUDA."""
        half = self.space.layers[index].resolution > self.full_up_to
        return torch.float16 if half and device.type in HALF_DEVICES else dtype

    @property
    def const(self) -> Float[Tensor, "c 4 4"]:
        """The learned constant, which layer 0 starts from."""
        return cast(nn.Parameter, self.get_submodule("b4").const)
