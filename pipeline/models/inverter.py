"""Inverters: images to the latents that a generator draws them from.

Letters: n image, r resolution, l rows of w_plus, d width of w.
"""

from typing import Literal, Protocol, runtime_checkable

import torch
from jaxtyping import Float
from pydantic import BaseModel, ConfigDict, Field
from torch import Tensor, nn

from pipeline.models.residual_encoder import ResidualEncoder


@runtime_checkable
class Inverter(Protocol):
    """What the inversion stage asks of an inverter; e4e and the embedded one both answer it."""

    def invert(self, images: Float[Tensor, "n 3 r r"]) -> Float[Tensor, "n l d"]:
        """w_plus of images in [-1, 1]."""
        ...


class ResidualInverterConfig(BaseModel):
    """Architecture of the embedded inverter."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    kind: Literal["residual"] = "residual"
    resolution: int = Field(description="Input size in pixels.")
    widths: tuple[int, ...] = Field(description="Channels of each scale.")
    num_ws: int = Field(ge=1, description="Rows of w_plus.")
    w_dim: int = Field(ge=1, description="Width of w.")


class ResidualInverter(nn.Module):
    """One w for the whole image and a small offset for every row, as e4e does (Tov et al., 2021, section 4)."""

    def __init__(self, config: ResidualInverterConfig) -> None:
        super().__init__()
        self.config = config
        self.encoder = ResidualEncoder(config.resolution, config.widths, (config.num_ws + 1) * config.w_dim)
        self.w_avg: Tensor
        self.register_buffer("w_avg", torch.zeros(config.w_dim))

    def base_and_offsets(self, images: Float[Tensor, "n 3 r r"]) -> tuple[Tensor, Tensor]:
        """The common w [n, d] and what every row adds to it [n, l, d]."""
        out = self.encoder(images).unflatten(1, (self.config.num_ws + 1, self.config.w_dim))
        return self.w_avg + out[:, 0], out[:, 1:]

    def invert(self, images: Float[Tensor, "n 3 r r"]) -> Float[Tensor, "n l d"]:
        """w_plus of images in [-1, 1] of any size; differentiable in the images."""
        base, offsets = self.base_and_offsets(images)
        return base[:, None] + offsets
