"""A small residual network from images to features: the body of the embedded identity network, inverter and oracle.

Letters: n image, r resolution, o output.
"""

from itertools import pairwise

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn import functional as F

_SUMMARY_CHANNELS = 32


class ResidualBlock(nn.Module):
    """Two 3x3 convolutions with batch norm beside a 1x1 shortcut (He et al., 2016)."""

    def __init__(self, inputs: int, outputs: int, *, stride: int) -> None:
        super().__init__()
        self.conv0 = nn.Conv2d(inputs, outputs, 3, stride=stride, padding=1, bias=False)
        self.norm0 = nn.BatchNorm2d(outputs)
        self.conv1 = nn.Conv2d(outputs, outputs, 3, padding=1, bias=False)
        self.norm1 = nn.BatchNorm2d(outputs)
        self.shortcut = nn.Conv2d(inputs, outputs, 1, stride=stride, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        """[n, inputs, h, w] to [n, outputs, h / stride, w / stride]."""
        inner = F.relu(self.norm0(self.conv0(x)))
        return F.relu(self.norm1(self.conv1(inner)) + self.shortcut(x))


class ResidualEncoder(nn.Module):
    """Images to ``outputs`` numbers; keeps where things are, so it suits aligned images.

    Args:
        resolution: input size; other sizes are resampled to it. A multiple of ``4 * 2 ** (len(widths) - 1)``.
        widths: channels of each scale, from resolution / 4 on, halving.
        outputs: numbers per image.
    """

    def __init__(self, resolution: int, widths: tuple[int, ...], outputs: int) -> None:
        super().__init__()
        smallest = resolution // (4 * 2 ** (len(widths) - 1))
        if smallest * 4 * 2 ** (len(widths) - 1) != resolution:
            raise ValueError(
                f"`resolution` must be a multiple of {4 * 2 ** (len(widths) - 1)} for {len(widths)} widths; "
                f"got {resolution}."
            )
        self.resolution = resolution
        stem = widths[0] // 2
        self.stem0 = nn.Conv2d(3, stem, 3, stride=2, padding=1)
        self.stem1 = nn.Conv2d(stem, widths[0], 3, stride=2, padding=1, bias=False)
        self.stem_norm = nn.BatchNorm2d(widths[0])
        blocks = [ResidualBlock(widths[0], widths[0], stride=1)]
        blocks += [ResidualBlock(a, b, stride=2) for a, b in pairwise(widths)]
        self.blocks = nn.Sequential(*blocks)
        self.summary = nn.Conv2d(widths[-1], _SUMMARY_CHANNELS, 1)
        self.head = nn.Linear(_SUMMARY_CHANNELS * smallest * smallest, outputs)

    def maps(self, images: Float[Tensor, "n 3 r r"]) -> list[Float[Tensor, "n c h w"]]:
        """Features of every scale, the finest first, of images in [-1, 1]; differentiable."""
        if images.shape[-1] != self.resolution:
            size = (self.resolution, self.resolution)
            images = F.interpolate(images, size=size, mode="bilinear", antialias=True, align_corners=False)
        x = images.to(memory_format=torch.channels_last)
        x = F.relu(self.stem_norm(self.stem1(F.relu(self.stem0(x)))))
        found = []
        for block in self.blocks:
            x = block(x)
            found.append(x)
        return found

    def forward(self, images: Float[Tensor, "n 3 r r"]) -> Float[Tensor, "n o"]:
        """Outputs of images in [-1, 1]; differentiable."""
        x = F.relu(self.summary(self.maps(images)[-1]))
        return self.head(x.flatten(1))
