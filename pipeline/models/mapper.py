"""The latent mapper (StyleCLIP section 5): w_plus to an offset of w_plus, trained for one prompt."""

from typing import Literal

import torch
from jaxtyping import Float
from pydantic import BaseModel, ConfigDict, Field
from torch import Tensor, nn

from pipeline.models.stylegan2 import MAPPING_LR_MULTIPLIER, Z_NORM_EPS, FullyConnected

Part = Literal["coarse", "medium", "fine", "single"]
PARTS: tuple[Part, ...] = ("coarse", "medium", "fine", "single")
BOUNDS = {"coarse": (0, 4), "medium": (4, 8), "fine": (8, None), "single": (0, None)}  # rows of w_plus
NUM_LAYERS = 4
PUBLISHED_SCALE = 0.1  # w_hat = w + 0.1 M(w) in the published code


class MapperConfig(BaseModel):
    """A mapper's architecture and switches."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    parts: tuple[Part, ...] = Field(
        min_length=1, description="Sub-networks: levels that are moved, or single for all rows at once."
    )
    num_ws: int = Field(ge=1, description="Rows of w_plus.")
    width: int = Field(ge=1, description="Length of w.")
    pixelnorm_axis: Literal["layer", "channel"] = Field(
        default="channel",
        description="What the input's norm runs over: channels, or rows as in the published code and its weights.",
    )
    scale: float = Field(default=PUBLISHED_SCALE, description="Factor on the mapper's output.")


class LatentMapper(nn.Module):
    """One network of four layers per level.

    Args:
        config: architecture and switches.
    """

    def __init__(self, config: MapperConfig) -> None:
        super().__init__()
        self.config = config
        for part in config.parts:
            layers = {
                f"fc{i}": FullyConnected(config.width, config.width, lr=MAPPING_LR_MULTIPLIER, act=True)
                for i in range(NUM_LAYERS)
            }
            self.add_module(part, nn.ModuleDict(layers))

    def forward(self, w_plus: Float[Tensor, "n l d"]) -> Float[Tensor, "n l d"]:
        """The offset ``scale * M(w_plus)``; zero in the rows of levels that the mapper leaves alone.

        Raises:
            ValueError: if the shape is not [n, num_ws, width].
        """
        if w_plus.ndim != 3 or w_plus.shape[1:] != (self.config.num_ws, self.config.width):
            raise ValueError(
                f"w_plus must be [n, {self.config.num_ws}, {self.config.width}]; got {tuple(w_plus.shape)}."
            )
        out = torch.zeros_like(w_plus)
        axis = 1 if self.config.pixelnorm_axis == "layer" else 2
        for part in self.config.parts:
            rows = slice(*BOUNDS[part])
            x = w_plus[:, rows]
            x = x * torch.rsqrt(x.square().mean(dim=axis, keepdim=True) + Z_NORM_EPS)
            for i in range(NUM_LAYERS):
                x = self.get_submodule(f"{part}.fc{i}")(x)
            out[:, rows] = self.config.scale * x
        return out
