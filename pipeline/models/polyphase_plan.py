"""A GPU's plan: prepared weights, upsampling as one convolution, whole blocks compiled, half precision where asked for.

What a render costs on a GPU is passes over memory. So the low-pass is convolved into the weights once
(``kernels.polyphase_weight``), and everything element-wise between two convolutions (demodulation, noise, bias,
activation, clamp, the next layer's style, the shuffle of phases) is left to torch.compile, which makes one pass of it.
Letters: n sample, o i channels, s styles.
"""

import copy
import logging
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import cast

import torch
from jaxtyping import Float
from torch import Tensor
from torch.nn import functional as F

from kernels import LRELU_GAIN, polyphase_conv2d, polyphase_weight, upfirdn2d
from pipeline.models.compiled import compiled_apart
from pipeline.models.gradient_scale import GradientScale
from pipeline.models.render_graphs import RenderGraphs
from pipeline.models.synthesis import Synthesis, SynthesisLayer, ToRGB
from pipeline.models.synthesis_plan import Activations

log = logging.getLogger(__name__)

DEMODULATION_EPS = 1e-8  # Karras 2020, Eq. 3
LRELU_SLOPE = 0.2
SMALLEST_COMPILED = 16  # samples once filled up; fewer come up too seldom to compile for: single images
HALF_CLAMP = 256.0  # of activations in half precision where the network names none; NVlabs' conv_clamp
HALF = (torch.float16, torch.bfloat16)
Block = Callable[[Tensor, Tensor | None, list[Tensor]], tuple[Tensor, Tensor | None]]


@dataclass(frozen=True)
class ConvLayer:
    """What a convolution layer needs, prepared once.

    Attributes:
        weight: [o i 3 3], or [4 * o i 3 3] where the layer doubles the image; channels-last, in the layer's precision.
            In half precision each output channel is divided by ``divisor``.
        divisor: its largest magnitude times the square root of the number of its taps, [o], so that no sum overflows;
            demodulation takes that back. None in full precision.
        energy: sums over the taps of the squared, equally divided weights, [o i], full precision.
        bias: times the activation's gain, [1 o 1 1].
        noise: times strength and gain, [1 1 h w]; None where the network has none.
        up: whether the layer doubles the image.
        clamp: largest magnitude of its activations, or None.
    """

    weight: Tensor
    divisor: Float[Tensor, "o"] | None
    energy: Float[Tensor, "o i"]
    bias: Tensor
    noise: Tensor | None
    up: bool
    clamp: float | None

    def __call__(self, x: Tensor, styles: Float[Tensor, "n i"]) -> Tensor:
        """Features and styles to the next features, in the precision of ``weight``.

        ``clamp(lrelu(g d conv(s x, W) + g (noise + bias)))`` with the demodulation d of Karras 2020, Eq. 3, and the
        gain g; lrelu(g x) = g lrelu(x). Sums, demodulation and activation are in the precision of the styles.
        """
        eps: float | Tensor = DEMODULATION_EPS
        if self.divisor is not None:  # demodulation takes any factor back; Eq. 3's epsilon shrinks with it
            largest = styles.abs().amax(dim=1, keepdim=True).clamp_min(torch.finfo(styles.dtype).tiny)
            styles, eps = styles / largest, (DEMODULATION_EPS**0.5 / (largest * self.divisor)).square()
        scale = torch.rsqrt(styles.square() @ self.energy.T + eps) * LRELU_GAIN
        x = scaled(x, styles.to(self.weight.dtype))
        y = polyphase_conv2d(x, self.weight) if self.up else F.conv2d(x, self.weight, padding=1)
        y = y.to(styles.dtype) * scale[:, :, None, None] + self.bias
        if self.noise is not None:
            y = y + self.noise
        y = F.leaky_relu(y, LRELU_SLOPE)
        if self.clamp is not None:
            y = y.clamp(-self.clamp, self.clamp)
        return y.to(self.weight.dtype)


@dataclass(frozen=True)
class ColourLayer:
    """What a toRGB layer needs, prepared once.

    Attributes:
        weight: [3 i 1 1] times ``1 / sqrt(i)``, in the layer's precision.
        bias: [1 3 1 1], full precision, as are the colours and their sums.
        resample_filter: 1-D low-pass.
        clamp: largest magnitude of its colours, or None.
    """

    weight: Tensor
    bias: Tensor
    resample_filter: Tensor
    clamp: float | None

    def __call__(self, x: Tensor, rgb: Tensor | None, styles: Float[Tensor, "n i"]) -> Tensor:
        """The image so far, doubled in size, plus this layer's colours."""
        half = self.weight.dtype in HALF
        largest = styles.abs().amax(dim=1).clamp_min(torch.finfo(styles.dtype).tiny) if half else None
        if largest is not None:  # products of styles and features must stay within half precision's range
            styles = styles / largest[:, None]
        colours = F.conv2d(scaled(x, styles.to(self.weight.dtype)), self.weight).to(styles.dtype)
        if largest is not None:
            colours = colours * largest[:, None, None, None]
        colours = colours + self.bias
        if self.clamp is not None:
            colours = colours.clamp(-self.clamp, self.clamp)
        if rgb is None:
            return colours
        doubled = upfirdn2d(rgb, self.resample_filter, up=2, padding=(2, 1, 2, 1), gain=4.0, impl="fast")
        if len(doubled) == len(colours):
            return doubled + colours
        return (doubled[None] + colours.unflatten(0, (-1, len(doubled)))).flatten(0, 1)


def scaled(x: Float[Tensor, "m i h w"], styles: Float[Tensor, "n i"]) -> Float[Tensor, "n i h w"]:
    """Features times styles; fewer features are repeated in order, without a copy of them.

    Raises:
        ValueError: if the number of styles is no multiple of that of the features.
    """
    if len(x) == len(styles):
        return x * styles[:, :, None, None]
    if len(styles) % len(x):
        raise ValueError(f"styles must be of a multiple of the {len(x)} kept samples; got {len(styles)}.")
    return (x[None] * styles.unflatten(0, (-1, len(x)))[:, :, :, None, None]).flatten(0, 1)


class PolyphasePlan:
    """A ``SynthesisPlan`` of prepared weights; runs on any device, meant for a GPU.

    1. Weights are prepared once: copies, so a plan does not follow a network that is trained on.
    2. A run is cut where blocks end, into as many pieces as blocks it touches; a piece is compiled the first time a
       shape goes through it (11 to 32 s for a whole 1024-px network), with batches filled up to a power of two so that
       shapes are few. Where compiling fails, the reason is logged once and layers run one by one from then on.
    3. Gradients of half precision are scaled on their way (``GradientScale``). Weights get none.

    Args:
        synthesis: whose weights; read once.
        half: float16 or bfloat16 for features and weights of all layers; None keeps each layer's own precision,
            which is full but for networks imported with half precision in the highest resolutions.
        backend: of torch.compile, ``inductor`` for speed; None runs layer by layer.
        smallest_compiled: batches of fewer samples, filled up to a power of two, run layer by layer.
        graphs: replays of whole renders of small batches (``pipeline/models/render_graphs.py``), or None.
    """

    def __init__(
        self,
        synthesis: Synthesis,
        *,
        half: torch.dtype | None = None,
        backend: str | None = None,
        smallest_compiled: int = SMALLEST_COMPILED,
        graphs: RenderGraphs | None = None,
    ) -> None:
        self.space, self.half, self.graphs = synthesis.space, half, graphs
        self.backend, self.smallest_compiled = backend, smallest_compiled
        self.const = synthesis.const.detach().clone()
        own = [synthesis.precision(i, self.const.device, self.const.dtype) for i in range(len(self.space.layers))]
        self.precisions = own if half is None else [half] * len(own)
        with torch.no_grad():
            self.layers = [self._prepared(synthesis, i) for i in range(len(own))]
        self._blocks: dict[tuple[int, int], Block] = {}

    def start(self, n: int) -> Activations:
        """See ``SynthesisPlan``."""
        x = self.const[None].expand(n, -1, -1, -1).to(self.precisions[0])
        return Activations(0, x.contiguous(memory_format=torch.channels_last), None)

    def run(self, state: Activations, styles: Sequence[Tensor], *, stop: int) -> Activations:
        """See ``SynthesisPlan``; the number of styles must be a multiple of that of the kept samples."""
        n, m, device = len(styles[0]), len(state.features), self.const.device
        own = [x.to(self.const.dtype) for x in styles[state.layer : stop]]
        scale = state.scale
        if scale is None and any(x in HALF for x in self.precisions) and _wants_gradient(own):
            scale = GradientScale()
        if scale is not None:
            own = [scale.at_start(x) if x.requires_grad else x for x in own]
        filled = self._filled(n, m)
        if filled > n:
            own = [_filled_up(x, filled) for x in own]
        x, rgb, layer = state.features, state.rgb, state.layer
        if filled > n and m == n:
            x, rgb = _filled_up(x, filled), None if rgb is None else _filled_up(rgb, filled)
        with torch.autocast(device.type, enabled=False):
            while layer < stop:
                end = self._block_end(layer, stop)
                x, rgb = self._run_block(layer, end, x, rgb, own[layer - state.layer : end - state.layer])
                layer = end
        return Activations(stop, x[:n], None if rgb is None else rgb[:n], scale)

    def images(self, state: Activations, styles: Sequence[Tensor]) -> Float[Tensor, "n 3 r r"]:
        """See ``SynthesisPlan``."""
        n, end = len(styles[0]), len(self.space.layers)
        if n % len(state.features) or state.layer == end:  # ends within a turn, or nothing is left to take turns in
            state = state.rows(0, n)
        if self.graphs is not None and state.layer == 0 and self.graphs.takes(n):
            return self.graphs.images(self._whole, torch.cat(list(styles), dim=1))
        found = self.run(state, styles, stop=end)
        assert found.rgb is not None
        return found.rgb if found.scale is None else found.scale.at_end(found.rgb)

    def _whole(self, styles: Float[Tensor, "n s"]) -> Float[Tensor, "n 3 r r"]:
        """Images from the constant on."""
        rgb = self.run(self.start(len(styles)), self.space.split(styles), stop=len(self.space.layers)).rgb
        assert rgb is not None
        return rgb

    def uncompiled(self) -> "PolyphasePlan":
        """The same prepared weights, layer by layer and without graphs."""
        plain = copy.copy(self)
        plain.backend, plain.graphs = None, None
        return plain

    def sums(self, below: Activations, styles: Tensor) -> None:
        """None: a whole batch's convolution on a GPU is cheaper than the passes that the short way takes."""

    def moved(
        self, below: Activations, sums: Tensor, styles: Tensor, *, channel: int, moves: Sequence[float]
    ) -> Activations:
        """Not to be called, as there are no ``sums``.

        Raises:
            NotImplementedError: always.
        """
        raise NotImplementedError("a polyphase plan has no `sums` to move; render from the activations below instead.")

    def _prepared(self, synthesis: Synthesis, index: int) -> ConvLayer | ColourLayer:
        layer, dtype = self.space.layers[index], self.precisions[index]
        if layer.is_torgb:
            colours = cast(ToRGB, synthesis.layer(index))
            return ColourLayer(
                weight=_last(colours.weight.detach() * colours.weight_gain, dtype),
                bias=colours.bias.detach()[None, :, None, None].clone(),
                resample_filter=colours.resample_filter.to(colours.weight),
                clamp=colours.clamp,
            )
        module = cast(SynthesisLayer, synthesis.layer(index))
        weight = module.weight.detach()
        clamp, divisor = module.clamp, None
        if dtype in HALF:
            divisor = weight.abs().amax(dim=(1, 2, 3)).clamp_min(torch.finfo(weight.dtype).tiny)
            divisor = divisor * math.sqrt(weight[0].numel())
            weight = weight / divisor[:, None, None, None]
            clamp = HALF_CLAMP if clamp is None else clamp
        noise = (module.noise_const * module.noise_strength * LRELU_GAIN)[None, None] if module.has_noise else None
        return ConvLayer(
            weight=_last(polyphase_weight(weight, module.resample_filter) if module.up == 2 else weight, dtype),
            divisor=divisor,
            energy=weight.square().sum(dim=(2, 3)),
            bias=(module.bias.detach() * LRELU_GAIN)[None, :, None, None],
            noise=noise,
            up=module.up == 2,
            clamp=clamp,
        )

    def _block_end(self, first: int, stop: int) -> int:
        resolution = self.space.layers[first].resolution
        end = next((x.index for x in self.space.layers[first:] if x.resolution > resolution), len(self.space.layers))
        return min(end, stop)

    def _run_block(
        self, first: int, last: int, x: Tensor, rgb: Tensor | None, styles: list[Tensor]
    ) -> tuple[Tensor, Tensor | None]:
        """Layers ``first`` up to ``last``, all of one resolution."""

        def block(x: Tensor, rgb: Tensor | None, styles: list[Tensor]) -> tuple[Tensor, Tensor | None]:
            for layer, own, dtype in zip(self.layers[first:last], styles, self.precisions[first:last], strict=True):
                if isinstance(layer, ConvLayer):
                    x = layer(x.to(dtype), own)
                else:
                    rgb = layer(x.to(dtype), rgb, own)
            if rgb is not None and len(rgb) < len(x):  # the block ends before its toRGB: still of the kept samples
                rgb = rgb.repeat(len(x) // len(rgb), 1, 1, 1)
            return x, rgb

        if self.backend is None or len(styles[0]) < self.smallest_compiled:
            return block(x, rgb, styles)
        try:
            run = self._blocks.get((first, last))
            if run is None:
                run = self._blocks[first, last] = compiled_apart(
                    block, f"layers_{first}_to_{last}", backend=self.backend
                )
            return run(x, rgb, styles)
        except torch.OutOfMemoryError:
            raise
        except Exception as error:  # the compiler's errors have no common base
            reason = " ".join(str(error).split())[:300]
            log.warning(
                "layers run one by one from now on: torch.compile failed with %s: %s", type(error).__name__, reason
            )
            self.backend = None
            return block(x, rgb, styles)

    def _filled(self, n: int, m: int) -> int:
        """Samples that n styles of m kept samples are filled up to, so that compiled shapes are few.

        A power of two samples where each has its own, else a power of two turns round the kept ones.
        """
        if self.backend is None:
            return n
        turn = 1 if m == n else m
        filled = turn * (1 << (n // turn - 1).bit_length())
        return filled if filled >= self.smallest_compiled else n


def _wants_gradient(styles: Sequence[Tensor]) -> bool:
    return torch.is_grad_enabled() and any(x.requires_grad for x in styles)


def _filled_up(x: Tensor, n: int) -> Tensor:
    """The first sample, repeated at the end."""
    return torch.cat([x, x[:1].expand(n - len(x), *x.shape[1:])])


def _last(weight: Tensor, dtype: torch.dtype) -> Tensor:
    return weight.to(dtype).contiguous(memory_format=torch.channels_last)
