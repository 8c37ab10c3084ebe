"""Identity networks: images to unit vectors that stay when expression, accessories or clothing change (the paper's R).

Letters: n image, r resolution, d width of the embedding.
"""

from typing import Literal, Protocol, runtime_checkable

from jaxtyping import Float
from pydantic import BaseModel, ConfigDict, Field
from torch import Tensor, nn

from kernels import unit_vectors
from pipeline.models.residual_encoder import ResidualEncoder


@runtime_checkable
class IdentityNetwork(Protocol):
    """What losses and scores ask of an identity network; IR-SE50 and the embedded network both answer it."""

    def embed(self, images: Float[Tensor, "n 3 r r"]) -> Float[Tensor, "n d"]:
        """Unit embeddings of images in [-1, 1] of any size; differentiable in the images."""
        ...


class ResidualIdentityConfig(BaseModel):
    """Architecture of the embedded identity network."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    kind: Literal["residual"] = "residual"
    resolution: int = Field(description="Input size in pixels.")
    widths: tuple[int, ...] = Field(description="Channels of each scale.")
    embed_dim: int = Field(ge=2, description="Width of the embedding.")
    attributes: tuple[str, ...] = Field(description="Labels that make an identity; documentation only.")


class ResidualIdentity(nn.Module):
    """A residual encoder on the unit sphere, trained as ArcFace (Deng et al., 2019) trains."""

    def __init__(self, config: ResidualIdentityConfig) -> None:
        super().__init__()
        self.config = config
        self.encoder = ResidualEncoder(config.resolution, config.widths, config.embed_dim)

    def embed(self, images: Float[Tensor, "n 3 r r"]) -> Float[Tensor, "n d"]:
        """Unit embeddings of images in [-1, 1] of any size; differentiable in the images."""
        return unit_vectors(self.encoder(images))
