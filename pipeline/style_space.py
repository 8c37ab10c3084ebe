"""StyleSpace: which channel of which layer a number in a style vector belongs to.

A style vector is the raw output of every layer's affine transform, before any gain, concatenated in the order
the layers run (Wu et al. 2021; the numbering of the StyleSpace paper, toRGB layers included). For 1024 px and
``channel_base=32768`` that is 26 layers and 9,088 channels.
"""

from dataclasses import dataclass
from functools import cached_property

import torch
from jaxtyping import Float
from torch import Tensor


@dataclass(frozen=True)
class StyleLayer:
    """One modulated layer.

    Attributes:
        index: position in running order, from 0.
        name: NVlabs' name, e.g. ``b8.conv0``.
        resolution: output size in pixels.
        kind: ``conv0`` (upsamples), ``conv1`` or ``torgb``.
        num_channels: input channels, the length of this layer's style.
        num_out: output channels.
        w_index: which of the ``num_ws`` rows of w_plus feeds this layer.
        offset: where this layer starts in a style vector.
    """

    index: int
    name: str
    resolution: int
    kind: str
    num_channels: int
    num_out: int
    w_index: int
    offset: int

    @property
    def is_torgb(self) -> bool:
        """Whether the layer writes colours; such layers are left out of edits."""
        return self.kind == "torgb"

    @property
    def slice(self) -> slice:
        """The layer's range in a style vector."""
        return slice(self.offset, self.offset + self.num_channels)


@dataclass(frozen=True)
class StyleSpace:
    """The layout of one generator's style vectors.

    Args:
        resolution: image size in pixels, a power of two from 8.
        channel_base: ``channels(r) = min(channel_base // r, channel_max)``.
        channel_max: upper bound of the channels of a layer.
    Raises:
        ValueError: if ``resolution`` is not a power of two from 8, or a layer would have no channel.
    """

    resolution: int
    channel_base: int
    channel_max: int = 512

    def __post_init__(self) -> None:
        if self.resolution < 8 or self.resolution & (self.resolution - 1):
            raise ValueError(f"`resolution` must be a power of two from 8; got {self.resolution}.")
        if self.channel_base < self.resolution or self.channel_max < 1:
            raise ValueError(
                f"`channel_base` must be at least the resolution and `channel_max` at least 1, so that every layer "
                f"has a channel; got channel_base={self.channel_base}, channel_max={self.channel_max}."
            )

    def channels(self, resolution: int) -> int:
        """Number of feature channels at a resolution."""
        return min(self.channel_base // resolution, self.channel_max)

    @cached_property
    def layers(self) -> tuple[StyleLayer, ...]:
        """All modulated layers in running order."""
        layers: list[StyleLayer] = []
        resolution, w_index = 4, 0
        while resolution <= self.resolution:
            width, below = self.channels(resolution), self.channels(max(4, resolution // 2))
            kinds = [("conv1", width, width, 0), ("torgb", width, 3, 1)]
            if resolution > 4:
                kinds = [("conv0", below, width, 0), ("conv1", width, width, 1), ("torgb", width, 3, 2)]
            for kind, num_in, num_out, step in kinds:
                offset = layers[-1].slice.stop if layers else 0
                layers.append(
                    StyleLayer(
                        index=len(layers),
                        name=f"b{resolution}.{kind}",
                        resolution=resolution,
                        kind=kind,
                        num_channels=num_in,
                        num_out=num_out,
                        w_index=w_index + step,
                        offset=offset,
                    )
                )
            w_index += len(kinds) - 1
            resolution *= 2
        return tuple(layers)

    @property
    def num_channels(self) -> int:
        """Length of a style vector, toRGB channels included."""
        return self.layers[-1].slice.stop

    @property
    def num_ws(self) -> int:
        """Rows of w_plus."""
        return self.layers[-1].w_index + 1

    @property
    def editable(self) -> tuple[StyleLayer, ...]:
        """The convolution layers: the ones edits may move."""
        return tuple(layer for layer in self.layers if not layer.is_torgb)

    def locate(self, position: int) -> tuple[int, int]:
        """(layer, channel) of a position in a style vector. IndexError outside it."""
        for layer in self.layers:
            if layer.offset <= position < layer.slice.stop:
                return layer.index, position - layer.offset
        raise IndexError(f"position must be in [0, {self.num_channels}); got {position}.")

    def position(self, layer: int, channel: int) -> int:
        """Position in a style vector of (layer, channel). IndexError where there is none."""
        if not 0 <= layer < len(self.layers) or not 0 <= channel < self.layers[layer].num_channels:
            raise IndexError(f"no channel {channel} in layer {layer} of a {self.resolution}-px generator.")
        return self.layers[layer].offset + channel

    def split(self, styles: Float[Tensor, "n s"]) -> list[Float[Tensor, "n c"]]:
        """One view per layer of a batch of style vectors."""
        if styles.ndim != 2 or styles.shape[1] != self.num_channels:
            raise ValueError(
                f"styles must be [n, {self.num_channels}] for a {self.resolution}-px generator with "
                f"channel_base={self.channel_base}; got {tuple(styles.shape)}."
            )
        return list(torch.split(styles, [layer.num_channels for layer in self.layers], dim=1))
