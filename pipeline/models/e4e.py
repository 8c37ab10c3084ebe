"""e4e and pSp: an encoder from images to w_plus (Tov et al. 2021; Richardson et al. 2021), and ReStyle's of either.

IR-SE50 body, a feature pyramid of three levels, and one style head per row of w_plus. e4e's first head gives a w for
all rows and the others add to it; in pSp every head gives its own row. ReStyle's (Alaluf et al. 2021) also see the
reconstruction so far, and all their heads read the coarse level. State names follow encoder4editing's.
"""

import math
from typing import Literal

import torch
from jaxtyping import Float
from pydantic import BaseModel, ConfigDict, Field
from torch import Tensor, nn
from torch.nn import functional as F

from pipeline.models.ir_se50 import IrSe50Body
from pipeline.models.synthesis import FullyConnected

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
    sees_reconstruction: bool = Field(
        default=False, description="The input is an image and its reconstruction, 6 channels, as ReStyle's is."
    )
    pyramid: bool = Field(default=True, description="Heads read three levels; off: all the coarse one, as ReStyle's.")


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
        super().__init__(6 if config.sees_reconstruction else 3)
        self.config = config
        self.styles = nn.ModuleList(StyleHead(SPATIAL[self.level(i)]) for i in range(config.num_ws))
        if config.pyramid:
            self.latlayer1 = nn.Conv2d(256, WIDTH, 1)
            self.latlayer2 = nn.Conv2d(128, WIDTH, 1)
        self.register_buffer("latent_avg", torch.zeros(config.num_ws, WIDTH))

    def level(self, row: int) -> int:
        """The level that a row's head reads: 0 coarse, 1 middle, 2 fine."""
        if not self.config.pyramid or row < COARSE_ROWS:
            return 0
        return 1 if row < MIDDLE_ROWS else 2

    def levels(self, x: Float[Tensor, "n i h w"]) -> list[Float[Tensor, "n c h2 w2"]]:
        """Coarse, middle and fine features: each the one above, upsampled, plus a projection of the body's.

        Without a pyramid the coarse ones alone.
        """
        if not self.config.pyramid:
            return self.features(x, TAPS[-1:])
        fine, middle, coarse = self.features(x, TAPS)
        p2 = _upsampled(coarse, middle) + self.latlayer1(middle)
        p1 = _upsampled(p2, fine) + self.latlayer2(fine)
        return [coarse, p2, p1]

    def codes(self, x: Float[Tensor, "n i h w"]) -> Float[Tensor, "n l d"]:
        """What the heads make of inputs of the encoder's own size: codes relative to the mean, or to the last ones."""
        levels = self.levels(x)
        rows = [head(levels[self.level(i)]) for i, head in enumerate(self.styles)]
        if self.config.residual:
            rows = [rows[0], *(rows[0] + row for row in rows[1:])]
        return torch.stack(rows, dim=1)

    def forward(self, x: Float[Tensor, "n 3 h w"]) -> Float[Tensor, "n l d"]:
        """Images of the encoder's own input size, in [-1, 1], to w_plus."""
        return self.codes(x) + self.latent_avg

    def invert(self, images: Float[Tensor, "n 3 r r"]) -> Float[Tensor, "n l d"]:
        """w_plus of images.

        Args:
            images: RGB in [-1, 1], framed as the encoder's training images, any size; see ``framed``.
        Returns:
            [n, num_ws, 512].
        """
        return self(self.framed(images))

    def residual(self, images: Float[Tensor, "n 3 r r"], drawn: Float[Tensor, "n 3 r r"]) -> Float[Tensor, "n l d"]:
        """What to add to the w_plus that ``drawn`` was rendered from, [n, num_ws, 512]; both images as in ``invert``.

        Source: Alaluf et al. 2021, "ReStyle", Eq. 2.
        """
        return self.codes(torch.cat([self.framed(images), self.framed(drawn)], dim=1))

    def framed(self, images: Float[Tensor, "n 3 r r"]) -> Float[Tensor, "n 3 h w"]:
        """Images resized (bilinear, antialiased) until they cover the input, and cut to it around the centre."""
        wanted = (self.config.height, self.config.width)
        scale = max(wanted[0] / images.shape[2], wanted[1] / images.shape[3])
        size = [max(w, round(s * scale)) for w, s in zip(wanted, images.shape[2:], strict=True)]
        x = images
        if tuple(images.shape[2:]) != tuple(size):
            x = F.interpolate(images, size=size, mode="bilinear", antialias=True, align_corners=False)
        top, left = ((s - w) // 2 for s, w in zip(size, wanted, strict=True))
        return x[:, :, top : top + wanted[0], left : left + wanted[1]]


def _upsampled(x: Tensor, like: Tensor) -> Tensor:
    return F.interpolate(x, size=like.shape[2:], mode="bilinear", align_corners=True)
