"""How a generator's layers are computed: the plan that renders go by. Letters: n sample, s style channels, o channels.

A plan is made once and serves many renders: it holds what can be prepared of the weights, and it chooses the form of
every layer. ``DirectPlan`` runs the layers' own modules and is the plan of a CPU; ``pipeline/models/polyphase_plan.py``
has a GPU's.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import NamedTuple, Protocol, cast, runtime_checkable

import torch
from jaxtyping import Float
from torch import Tensor

from kernels import Impl, winograd_taps
from kernels.impl import check_impl
from pipeline.models.gradient_scale import GradientScale
from pipeline.models.synthesis import Synthesis, SynthesisLayer

CPU_SLICE_BYTES = 2**23  # of one layer's features; more leaves the caches, and glibc takes and returns it page by page
WINOGRAD_CHANNELS = 64  # from here on a CPU's Winograd convolutions are the faster ones
WINOGRAD_SIDE = 8  # pixels; below, tiles reach mostly beyond the edges


class Activations(NamedTuple):
    """What reaches layer ``layer``: features and the RGB image summed so far (None before the first toRGB).

    ``scale`` is what gradients are scaled by on their way through half precision, where they are.
    """

    layer: int
    features: Float[Tensor, "n c h w"]
    rgb: Float[Tensor, "n 3 h w"] | None
    scale: GradientScale | None = None

    def rows(self, start: int, stop: int) -> "Activations":
        """Samples ``start`` up to ``stop``, modulo the number kept; a view where they do not wrap around."""
        n = len(self.features)
        first = start % n
        if first + stop - start <= n:
            taken = slice(first, first + stop - start)
            return self._replace(features=self.features[taken], rgb=None if self.rgb is None else self.rgb[taken])
        if first == 0 and (stop - start) % n == 0:
            times = (stop - start) // n
            rgb = None if self.rgb is None else torch.cat([self.rgb] * times)
            return self._replace(features=torch.cat([self.features] * times), rgb=rgb)
        chosen = torch.arange(start, stop, device=self.features.device) % n
        return self._replace(features=self.features[chosen], rgb=None if self.rgb is None else self.rgb[chosen])


@runtime_checkable
class SynthesisPlan(Protocol):
    """What a generator renders by. ``styles`` are those of every layer, [n, num_channels] each."""

    def start(self, n: int) -> Activations:
        """What reaches layer 0: the learned constant, once per sample."""
        ...

    def run(self, state: Activations, styles: Sequence[Tensor], *, stop: int) -> Activations:
        """Run layers ``state.layer`` up to, not including, ``stop``."""
        ...

    def images(self, state: Activations, styles: Sequence[Tensor]) -> Float[Tensor, "n 3 r r"]:
        """Run all layers from ``state``, which may hold fewer samples: row r starts from r modulo their number."""
        ...

    def sums(self, below: Activations, styles: Tensor) -> Float[Tensor, "n o h w"] | None:
        """One layer's convolution before demodulation, which moves of its styles start from; None: it does not pay."""
        ...

    def moved(
        self, below: Activations, sums: Tensor, styles: Tensor, *, channel: int, moves: Sequence[float]
    ) -> Activations:
        """What leaves the layer of ``sums`` for all samples with the first move of a channel, then the second, ..."""
        ...


@dataclass(frozen=True)
class DirectPlan:
    """Layer by layer through the modules, with the weights as they are.

    Attributes:
        synthesis: the layers.
        impl: passed to every kernel.
        taps: transformed weights by layer index (``transformed_taps``), for the CPU's faster convolutions; without
            gradients and off by up to 1e-4.
    """

    synthesis: Synthesis
    impl: Impl = "auto"
    taps: Mapping[int, Float[Tensor, "36 i o"]] = field(default_factory=dict)

    def __post_init__(self) -> None:
        check_impl(self.impl)

    def start(self, n: int) -> Activations:
        """See ``SynthesisPlan``."""
        return Activations(0, self.synthesis.const[None].expand(n, -1, -1, -1), None)

    def run(self, state: Activations, styles: Sequence[Tensor], *, stop: int) -> Activations:
        """See ``SynthesisPlan``."""
        x, rgb = state.features, state.rgb
        for i in range(state.layer, stop):
            x = x.to(self.synthesis.precision(i, x.device, styles[i].dtype))
            own = {"taps": self.taps[i]} if i in self.taps else {}
            x, rgb = self.synthesis.layer(i)(x, rgb, styles[i], impl=self.impl, **own)
        return Activations(stop, x, rgb)

    def images(self, state: Activations, styles: Sequence[Tensor]) -> Float[Tensor, "n 3 r r"]:
        """See ``SynthesisPlan``.

        On a CPU and without gradients, as many samples go through a layer together as ``CPU_SLICE_BYTES`` hold, at
        least one; weights are read once for many samples where maps are small, and large maps stay in the caches.
        """
        n, end = len(styles[0]), len(self.synthesis.space.layers)
        sliced = self.impl != "ref" and state.features.device.type == "cpu" and not torch.is_grad_enabled()
        stop = next((i for i in range(state.layer, end) if sliced and self._together(i) < n), end)
        if stop > state.layer:
            state = self.run(state.rows(0, n), styles, stop=stop)
        if stop == end:
            assert state.rgb is not None
            return state.rgb
        size = self._together(stop)
        slices = [(start, min(start + size, n)) for start in range(0, n, size)]
        return torch.cat([self.images(state.rows(*x), [s[slice(*x)] for s in styles]) for x in slices])

    def sums(self, below: Activations, styles: Tensor) -> Float[Tensor, "n o h w"] | None:
        """See ``SynthesisPlan``; None for toRGB, for layers of over ``CPU_SLICE_BYTES`` a sample, and off a CPU."""
        layer = self.synthesis.space.layers[below.layer]
        large = 4 * layer.num_out * layer.resolution**2 > CPU_SLICE_BYTES
        if layer.is_torgb or large or below.features.device.type != "cpu":
            return None
        module = cast(SynthesisLayer, self.synthesis.layer(layer.index))
        return module.sums(below.features, styles, taps=self.taps.get(layer.index))

    def moved(
        self, below: Activations, sums: Tensor, styles: Tensor, *, channel: int, moves: Sequence[float]
    ) -> Activations:
        """See ``SynthesisPlan``; the layer's convolution is not computed again: ``kernels.moved_modulated_conv2d``."""
        module = cast(SynthesisLayer, self.synthesis.layer(below.layer))
        features = module.moved(sums, below.features, styles, channel=channel, moves=moves)
        rgb = None if below.rgb is None else below.rgb.repeat(len(moves), 1, 1, 1)
        return Activations(below.layer + 1, features, rgb)

    def _together(self, index: int) -> int:
        """How many samples' features fit ``CPU_SLICE_BYTES`` after a layer, a power of two so that slices are even."""
        layer = self.synthesis.space.layers[index]
        num_values = layer.num_channels if layer.is_torgb else layer.num_out
        fit = CPU_SLICE_BYTES // (4 * num_values * layer.resolution**2)
        return 1 << max(0, fit.bit_length() - 1)


def transformed_taps(synthesis: Synthesis) -> dict[int, Float[Tensor, "36 i o"]]:
    """Winograd's taps of the layers that they make faster: on a CPU, by layer index.

    Which layers they are depends on nothing but the layer, so that a batch's split changes no path.
    """
    chosen: dict[int, Tensor] = {}
    if torch.is_autocast_enabled("cpu"):  # its tiles are float32's
        return chosen
    for layer in synthesis.space.layers:
        large = layer.num_channels >= WINOGRAD_CHANNELS and layer.resolution >= WINOGRAD_SIDE
        weight = synthesis.layer(layer.index).weight
        if layer.kind == "conv1" and large and weight.device.type == "cpu":
            chosen[layer.index] = winograd_taps(weight.detach())
    return chosen
