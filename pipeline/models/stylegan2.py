"""StyleGAN2's generator (Karras et al. 2020), any power-of-two resolution, z, w, w_plus and styles accepted.

State names follow NVlabs' PyTorch code (``mapping.fc0.weight``, ``synthesis.b8.conv0.affine.bias``), so that a
foreign checkpoint maps onto ours name by name. Letters: n sample, s style channels, l rows of w_plus, d w_dim.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import NamedTuple, cast

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn import functional as F

from kernels import (
    LRELU_GAIN,
    Impl,
    bias_act,
    binomial_filter,
    check_impl,
    modulated_conv2d,
    moved_modulated_conv2d,
    upfirdn2d,
    winograd_taps,
)
from pipeline.style_space import StyleLayer, StyleSpace

MAPPING_LR_MULTIPLIER = 0.01  # Karras et al. 2019, appendix C
Z_NORM_EPS = 1e-8
CPU_SLICE_BYTES = 2**23  # of one layer's features; more leaves the caches, and glibc takes and returns it page by page
WINOGRAD_CHANNELS = 64  # from here on a CPU's Winograd convolutions are the faster ones
WINOGRAD_SIDE = 8  # pixels; below, tiles reach mostly beyond the edges
NO_TAPS: Mapping[int, Tensor] = {}
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


class Activations(NamedTuple):
    """What reaches layer ``layer``: features and the RGB image summed so far (None before the first toRGB)."""

    layer: int
    features: Float[Tensor, "n c h w"]
    rgb: Float[Tensor, "n 3 h w"] | None

    def rows(self, start: int, stop: int) -> "Activations":
        """Samples ``start`` up to ``stop``, counted round and round; a view where they lie in one turn."""
        n = len(self.features)
        first = start % n
        if first + stop - start <= n:
            taken = slice(first, first + stop - start)
            return Activations(self.layer, self.features[taken], None if self.rgb is None else self.rgb[taken])
        if first == 0 and (stop - start) % n == 0:
            times = (stop - start) // n
            rgb = None if self.rgb is None else torch.cat([self.rgb] * times)
            return Activations(self.layer, torch.cat([self.features] * times), rgb)
        chosen = torch.arange(start, stop, device=self.features.device) % n
        return Activations(self.layer, self.features[chosen], None if self.rgb is None else self.rgb[chosen])


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


class MappingNetwork(nn.Module):
    """z to w: normalise z to unit second moment, then fully connected layers; keeps the mean of w."""

    w_avg: Tensor

    def __init__(self, config: GeneratorConfig) -> None:
        super().__init__()
        hidden = config.mapping_dim or config.w_dim
        widths = [config.z_dim] + [hidden] * (config.mapping_layers - 1) + [config.w_dim]
        self.num_layers = config.mapping_layers
        for i in range(self.num_layers):
            layer = FullyConnected(widths[i], widths[i + 1], lr=MAPPING_LR_MULTIPLIER, act=True)
            self.add_module(f"fc{i}", layer)
        self.register_buffer("w_avg", torch.zeros(config.w_dim))

    def forward(self, z: Float[Tensor, "n z"]) -> Float[Tensor, "n d"]:
        """[n, z_dim] to [n, w_dim], before any truncation."""
        x = z * torch.rsqrt(z.square().mean(dim=1, keepdim=True) + Z_NORM_EPS)
        for i in range(self.num_layers):
            x = self.get_submodule(f"fc{i}")(x)
        return x


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
    """All blocks, run layer by layer so that a run can start anywhere."""

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

    def start(self, n: int) -> Activations:
        """What reaches layer 0: the learned constant, once per sample."""
        const = cast(nn.Parameter, self.get_submodule("b4").const)
        return Activations(0, const[None].expand(n, -1, -1, -1), None)

    def winograd_taps(self) -> dict[int, Float[Tensor, "36 i o"]]:
        """Transformed weights of the layers that Winograd's convolution makes faster: on a CPU, by layer index.

        Which layers they are depends on nothing but the layer, so that a batch's split changes no path.
        """
        chosen: dict[int, Tensor] = {}
        if torch.is_autocast_enabled("cpu"):  # its tiles are float32's
            return chosen
        for layer in self.space.layers:
            large = layer.num_channels >= WINOGRAD_CHANNELS and layer.resolution >= WINOGRAD_SIDE
            if layer.kind == "conv1" and large and self.layer(layer.index).weight.device.type == "cpu":
                chosen[layer.index] = winograd_taps(self.layer(layer.index).weight.detach())
        return chosen

    def run(
        self,
        state: Activations,
        styles: list[Tensor],
        *,
        stop: int,
        impl: Impl = "auto",
        taps: Mapping[int, Tensor] = NO_TAPS,
    ) -> Activations:
        """Run layers ``state.layer`` up to, not including, ``stop``."""
        check_impl(impl)
        x, rgb = state.features, state.rgb
        for i in range(state.layer, stop):
            x = x.to(self.precision(i, x.device, styles[i].dtype))
            own = {"taps": taps[i]} if i in taps else {}
            x, rgb = self.layer(i)(x, rgb, styles[i], impl=impl, **own)
        return Activations(stop, x, rgb)

    def images(
        self, state: Activations, styles: list[Tensor], *, impl: Impl = "auto", taps: Mapping[int, Tensor] = NO_TAPS
    ) -> Float[Tensor, "n 3 r r"]:
        """Run all layers from ``state`` and keep only the image.

        On a CPU and without gradients, as many samples go through a layer together as ``CPU_SLICE_BYTES`` hold, at
        least one; weights are read once for many samples where maps are small, and large maps stay in the caches.

        Args:
            state: may hold fewer samples than there are styles: row r starts from sample r, counted round and round.
            styles: of every layer, [n, num_channels].
            impl: passed to every kernel.
            taps: ``winograd_taps()``, or none.
        """
        check_impl(impl)
        n, end = len(styles[0]), len(self.space.layers)
        sliced = impl != "ref" and state.features.device.type == "cpu" and not torch.is_grad_enabled()
        stop = next((i for i in range(state.layer, end) if sliced and self._together(i) < n), end)
        if stop > state.layer:
            state = self.run(state.rows(0, n), styles, stop=stop, impl=impl, taps=taps)
        if stop == end:
            assert state.rgb is not None
            return state.rgb
        size = self._together(stop)
        slices = [(start, min(start + size, n)) for start in range(0, n, size)]
        return torch.cat(
            [self.images(state.rows(*x), [s[slice(*x)] for s in styles], impl=impl, taps=taps) for x in slices]
        )

    def _together(self, index: int) -> int:
        """How many samples' features fit ``CPU_SLICE_BYTES`` after a layer, a power of two so that slices are even."""
        layer = self.space.layers[index]
        num_values = layer.num_channels if layer.is_torgb else layer.num_out
        fit = CPU_SLICE_BYTES // (4 * num_values * layer.resolution**2)
        return 1 << max(0, fit.bit_length() - 1)


class Generator(nn.Module):
    """StyleGAN2 generator.

    Images are [n, 3, resolution, resolution], about [-1, 1], not clamped. Noise is the stored constant noise, so
    the same styles always give the same image.
    """

    def __init__(self, config: GeneratorConfig) -> None:
        super().__init__()
        self.config = config
        self.space = config.style_space
        self.mapping = MappingNetwork(config)
        self.synthesis = Synthesis(config)

    def map(self, z: Float[Tensor, "n z"], *, psi: float = 1.0, cutoff: int | None = None) -> Float[Tensor, "n l d"]:
        """Z to w_plus.

        Args:
            z: standard normal, [n, z_dim].
            psi: truncation, ``w = w_avg + psi * (w - w_avg)``; 1 leaves w, 0 gives the mean face.
            cutoff: truncate only the first ``cutoff`` rows of w_plus; None means all.
        Returns:
            [n, num_ws, w_dim].
        Raises:
            ValueError: if z is not [n, z_dim] or the cutoff is out of range.
        """
        if z.ndim != 2 or z.shape[1] != self.config.z_dim:
            raise ValueError(f"z must be [n, {self.config.z_dim}]; got {tuple(z.shape)}.")
        if cutoff is not None and not 0 <= cutoff <= self.space.num_ws:
            raise ValueError(f"`cutoff` must be in [0, {self.space.num_ws}] or None; got {cutoff}.")
        w = self.mapping(z)[:, None, :].repeat(1, self.space.num_ws, 1)
        if psi == 1.0:
            return w
        truncated = self.mapping.w_avg + psi * (w - self.mapping.w_avg)
        rows = torch.arange(self.space.num_ws, device=w.device) < (self.space.num_ws if cutoff is None else cutoff)
        return torch.where(rows[None, :, None], truncated, w)

    def styles(self, w: Float[Tensor, "n l d"] | Float[Tensor, "n d"]) -> Float[Tensor, "n s"]:
        """W or w_plus to style vectors: each layer's raw affine output, before any gain.

        Raises:
            ValueError: if the shape is neither [n, w_dim] nor [n, num_ws, w_dim].
        """
        if w.ndim == 2:
            w = w[:, None, :].expand(-1, self.space.num_ws, -1)
        if w.ndim != 3 or w.shape[1:] != (self.space.num_ws, self.config.w_dim):
            raise ValueError(
                f"w must be [n, {self.config.w_dim}] or [n, {self.space.num_ws}, {self.config.w_dim}]; "
                f"got {tuple(w.shape)}. A [num_ws, w_dim] latent needs a leading batch axis."
            )
        parts = [self.synthesis.layer(x.index).affine(w[:, x.w_index]) for x in self.space.layers]
        return torch.cat(parts, dim=1)

    def winograd_taps(self) -> dict[int, Float[Tensor, "36 i o"]]:
        """What ``activations`` and ``render`` take as ``taps``: made once for many renders, empty off a CPU."""
        return self.synthesis.winograd_taps()

    def activations(
        self,
        styles: Float[Tensor, "n s"],
        layer: int,
        *,
        since: Activations | None = None,
        impl: Impl = "auto",
        taps: Mapping[int, Tensor] = NO_TAPS,
    ) -> Activations:
        """What reaches ``layer``: everything below it, computed once and kept.

        Args:
            styles: style vectors.
            layer: 0 to the number of layers.
            since: activations at a lower layer of the same styles, to go on from.
            impl: passed to every kernel.
            taps: ``winograd_taps()`` for the faster convolutions, without gradients and off by up to 1e-4; or none.
        Raises:
            ValueError: if ``layer`` is below that of ``since`` or above the number of layers.
        """
        state = since or self.synthesis.start(styles.shape[0])
        if not state.layer <= layer <= len(self.space.layers):
            raise ValueError(f"`layer` must be in [{state.layer}, {len(self.space.layers)}]; got {layer}.")
        return self.synthesis.run(state, self.space.split(styles), stop=layer, impl=impl, taps=taps)

    def sums(
        self, styles: Float[Tensor, "n s"], below: Activations, *, taps: Mapping[int, Tensor] = NO_TAPS
    ) -> Float[Tensor, "n o h w"] | None:
        """What ``moved_activations`` needs of unmoved samples; None for layers where it does not pay.

        Those are toRGB layers, layers of more than ``CPU_SLICE_BYTES`` a sample, and all of them off a CPU.
        """
        layer = self.space.layers[below.layer]
        large = 4 * layer.num_out * layer.resolution**2 > CPU_SLICE_BYTES
        if layer.is_torgb or large or below.features.device.type != "cpu":
            return None
        module = cast(SynthesisLayer, self.synthesis.layer(layer.index))
        return module.sums(below.features, styles[:, layer.slice], taps=taps.get(layer.index))

    def moved_activations(
        self,
        styles: Float[Tensor, "n s"],
        below: Activations,
        sums: Float[Tensor, "n o h w"],
        *,
        position: int,
        moves: Sequence[float],
    ) -> Activations:
        """What reaches the layer above a channel for every sample with the first move, then with the second, ...

        The layer's convolution is not computed again: see ``kernels.moved_modulated_conv2d``.

        Args:
            styles: unmoved.
            below: what reaches the channel's layer.
            sums: ``self.sums(styles, below)``.
            position: of the channel in the style vector.
            moves: numbers added to it.
        """
        layer = self.space.layers[below.layer]
        module = cast(SynthesisLayer, self.synthesis.layer(layer.index))
        features = module.moved(
            sums, below.features, styles[:, layer.slice], channel=position - layer.offset, moves=moves
        )
        rgb = None if below.rgb is None else below.rgb.repeat(len(moves), 1, 1, 1)
        return Activations(layer.index + 1, features, rgb)

    def render(
        self,
        styles: Float[Tensor, "n s"],
        *,
        since: Activations | None = None,
        impl: Impl = "auto",
        taps: Mapping[int, Tensor] = NO_TAPS,
    ) -> Float[Tensor, "n 3 r r"]:
        """Style vectors to images.

        Args:
            styles: [n, num_channels].
            since: activations to start from; the styles of lower layers are then not looked at. With fewer samples
                than styles, row r starts from sample r, counted round and round.
            impl: passed to every kernel.
            taps: see ``activations``.
        Returns:
            images, about [-1, 1].
        """
        state = since or self.synthesis.start(styles.shape[0])
        return self.synthesis.images(state, self.space.split(styles), impl=impl, taps=taps)

    def forward(self, w: Float[Tensor, "n l d"] | Float[Tensor, "n d"]) -> Float[Tensor, "n 3 r r"]:
        """W or w_plus to images."""
        return self.render(self.styles(w))
