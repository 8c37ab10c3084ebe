"""e4e and pSp: an encoder from images to w_plus (Tov et al. 2021; Richardson et al. 2021).

IR-SE50 body, a feature pyramid of three levels, and one style head per row of w_plus. e4e's first head gives a w for
all rows and the others add to it; in pSp every head gives its own row. State names follow encoder4editing's.
"""

import math
from typing import Literal

import torch
from jaxtyping import Float
from pydantic import BaseModel, ConfigDict, Field
from torch import Tensor, nn
from torch.nn import functional as F

from pipeline.models.ir_se50 import IrSe50Body
from pipeline.models.stylegan2 import FullyConnected

TAPS = (6, 20, 23)  # bottlenecks behind the pyramid's levels: 128, 256 and 512 channels
COARSE_ROWS, MIDDLE_ROWS = 3, 7  # rows below 3 read the coarse level, below 7 the middle one
SPATIAL = (16, 32, 64)  # pixels that each level's heads shrink to 1
WIDTH = 512  # of the pyramid


class E4eConfig(BaseModel):
    """An encoder's architecture and how it is used."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    kind: Literal["e4e"] = "e4e"
    num_ws: int = Field(ge=4, description="Rows of w_plus, one style head each.")
    residual: bool = Field(default=True, description="Rows are offsets to the first head's w (e4e); off for pSp.")
    height: int = Field(default=256, ge=64, description="Input height in pixels; 192 for the car encoder.")
    width: int = Field(default=256, ge=64, description="Input width in pixels.")


class StyleHead(nn.Module):
    """Stride-2 convolutions from ``spatial`` pixels down to 1, then a linear layer.

    Args:
        spatial: side in pixels, a power of two.
    """

    def __init__(self, spatial: int) -> None:
        super().__init__()
        layers: list[nn.Module] = []
        for _ in range(int(math.log2(spatial))):
            layers += [nn.Conv2d(WIDTH, WIDTH, 3, stride=2, padding=1), nn.LeakyReLU()]
        self.convs = nn.Sequential(*layers)
        self.linear = FullyConnected(WIDTH, WIDTH)

    def forward(self, x: Float[Tensor, "n c h w"]) -> Float[Tensor, "n c"]:
        """One level's features to one row."""
        return self.linear(self.convs(x).reshape(-1, WIDTH))


class E4e(IrSe50Body):
    """Images to w_plus.

    Args:
        config: rows, kind of encoder, input size.
    """

    latent_avg: Tensor

    def __init__(self, config: E4eConfig) -> None:
        super().__init__()
        self.config = config
        levels = [0 if i < COARSE_ROWS else 1 if i < MIDDLE_ROWS else 2 for i in range(config.num_ws)]
        self.styles = nn.ModuleList(StyleHead(SPATIAL[level]) for level in levels)
        self.latlayer1 = nn.Conv2d(256, WIDTH, 1)
        self.latlayer2 = nn.Conv2d(128, WIDTH, 1)
        self.register_buffer("latent_avg", torch.zeros(config.num_ws, WIDTH))

    def pyramid(self, x: Float[Tensor, "n 3 h w"]) -> list[Float[Tensor, "n c h2 w2"]]:
        """Coarse, middle and fine features: each the one above, upsampled, plus a projection of the body's."""
        fine, middle, coarse = self.features(x, TAPS)
        p2 = _upsampled(coarse, middle) + self.latlayer1(middle)
        p1 = _upsampled(p2, fine) + self.latlayer2(fine)
        return [coarse, p2, p1]

    def forward(self, x: Float[Tensor, "n 3 h w"]) -> Float[Tensor, "n l d"]:
        """Images of the encoder's own input size, in [-1, 1], to w_plus."""
        levels = self.pyramid(x)
        rows = [
            head(levels[0 if i < COARSE_ROWS else 1 if i < MIDDLE_ROWS else 2]) for i, head in enumerate(self.styles)
        ]
        if self.config.residual:
            rows = [rows[0], *(rows[0] + row for row in rows[1:])]
        return torch.stack(rows, dim=1) + self.latent_avg

    def invert(self, images: Float[Tensor, "n 3 r r"]) -> Float[Tensor, "n l d"]:
        """w_plus of images.

        Args:
            images: RGB in [-1, 1], framed as the encoder's training images, any size. They are resized (bilinear,
                antialiased) until they cover the input, and cut to it around the centre.
        Returns:
            [n, num_ws, 512].
        """
        wanted = (self.config.height, self.config.width)
        scale = max(wanted[0] / images.shape[2], wanted[1] / images.shape[3])
        size = [max(w, round(s * scale)) for w, s in zip(wanted, images.shape[2:], strict=True)]
        x = images
        if tuple(images.shape[2:]) != tuple(size):
            x = F.interpolate(images, size=size, mode="bilinear", antialias=True, align_corners=False)
        top, left = ((s - w) // 2 for s, w in zip(size, wanted, strict=True))
        return self(x[:, :, top : top + wanted[0], left : left + wanted[1]])


def _upsampled(x: Tensor, like: Tensor) -> Tensor:
    return F.interpolate(x, size=like.shape[2:], mode="bilinear", align_corners=True)
