"""The oracle: a judge that reads the labelled attributes off an image, with calibrated probabilities.

Letters: n image, r resolution, k category.
"""

from typing import Literal

import torch
from jaxtyping import Float
from pydantic import BaseModel, ConfigDict, Field, model_validator
from torch import Tensor, nn

from pipeline.models.residual_encoder import ResidualEncoder


class OracleConfig(BaseModel):
    """Architecture of an oracle and the words it answers in."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    kind: Literal["residual"] = "residual"
    resolution: int = Field(description="Input size in pixels.")
    widths: tuple[int, ...] = Field(description="Channels of each scale.")
    attributes: dict[str, tuple[str, ...]] = Field(description="Attribute to its categories, in order.")
    shown_by: dict[str, dict[str, tuple[str, ...]]] = Field(
        default_factory=dict,
        description="Attribute that not every image can show, to the categories of other attributes that show it, as "
        "hair colour needs a head with hair; none: every image shows every attribute.",
    )

    @model_validator(mode="after")
    def _shown_by_names_its_own(self) -> "OracleConfig":
        for attribute, shown_by in self.shown_by.items():
            for name, categories in {attribute: (), **shown_by}.items():
                unknown = set(categories) - set(self.attributes.get(name, ()))
                if name not in self.attributes or unknown:
                    raise ValueError(f"`shown_by` must name the oracle's attributes and categories; got {name!r}.")
        return self


class Oracle(nn.Module):
    """A residual encoder with one softmax for every attribute.

    Attributes:
        temperature: what each attribute's logits are divided by [attributes]; fitted on held-out images.
    """

    def __init__(self, config: OracleConfig) -> None:
        super().__init__()
        self.config = config
        self.sizes = [len(categories) for categories in config.attributes.values()]
        self.encoder = ResidualEncoder(config.resolution, config.widths, sum(self.sizes))
        self.temperature: Tensor
        self.register_buffer("temperature", torch.ones(len(self.sizes)))

    def logits(self, images: Float[Tensor, "n 3 r r"]) -> list[Float[Tensor, "n k"]]:
        """Calibrated logits of every attribute in order; differentiable in the images."""
        parts = self.encoder(images).split(self.sizes, dim=1)
        return [part / self.temperature[i] for i, part in enumerate(parts)]

    def probabilities(self, images: Float[Tensor, "n 3 r r"]) -> dict[str, Float[Tensor, "n k"]]:
        """Attribute to the probabilities of its categories, for images in [-1, 1] of any size."""
        names = self.config.attributes
        return {name: part.softmax(dim=1) for name, part in zip(names, self.logits(images), strict=True)}
