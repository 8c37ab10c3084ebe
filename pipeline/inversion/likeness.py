"""How like two pictures are: pixels, features of a network the pack has, and identity.

Letters: n picture, r resolution, e identity width, c channel, h w place.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

import torch
from jaxtyping import Float
from torch import Tensor

from kernels import unit_vectors
from pipeline.errors import PipelineError
from pipeline.inversion.frame import Canvas
from pipeline.models.identity import IdentityNetwork
from pipeline.packs.pack import Pack

Perceptual = Literal["auto", "oracle", "clip"]
Features = Callable[[Tensor], list[Tensor]]
"""Images in [-1, 1] to maps [n, places, channels]; differentiable."""


@dataclass(frozen=True)
class Seen:
    """What is compared, of some pictures.

    Attributes:
        pixels: the pictures in [-1, 1].
        features: unit vectors of every layer, [n, places, channels].
        identity: unit embeddings; None where the pack has no such network.
    """

    pixels: Float[Tensor, "n 3 r r"]
    features: list[Tensor]
    identity: Float[Tensor, "n e"] | None

    def at(self, i: int) -> "Seen":
        """One of them."""
        one = slice(i, i + 1)
        identity = None if self.identity is None else self.identity[one]
        return Seen(self.pixels[one], [layer[one] for layer in self.features], identity)

    @classmethod
    def joined(cls, parts: "list[Seen]") -> "Seen":
        """Several, one after the other."""
        identities = [part.identity for part in parts if part.identity is not None]
        features = [torch.cat(layers) for layers in zip(*(part.features for part in parts), strict=True)]
        return cls(torch.cat([p.pixels for p in parts]), features, torch.cat(identities) if identities else None)


TERMS = ("pixel_loss", "perceptual_loss", "identity_loss")


class Likeness:
    """Distances between pictures of a pack.

    Args:
        features: of the network that sees likeness.
        identity: who is shown; None leaves that distance 0.
        canvas: the part of the picture that counts.
    """

    def __init__(self, features: Features, identity: IdentityNetwork | None, canvas: Canvas) -> None:
        self.features, self.identity = features, identity
        left, top, width, height = canvas.box
        self.rows, self.columns = slice(top, top + height), slice(left, left + width)

    @classmethod
    def of_pack(cls, pack: Pack, canvas: Canvas, perceptual: Perceptual = "auto") -> "Likeness":
        """With the pack's networks: by default the oracle's features, and CLIP's where it has no oracle.

        Raises:
            PackError: if the oracle is asked for and the pack has none.
        """
        has_oracle = pack.description.oracle is not None
        if perceptual == "oracle" or (perceptual == "auto" and has_oracle):
            features = _map_features(pack.oracle.encoder.maps)
        else:
            features = _token_features(pack.clip.image_tokens)
        return cls(features, pack.identity if pack.description.identity is not None else None, canvas)

    def see(self, pictures: Float[Tensor, "n 3 r r"]) -> Seen:
        """What is compared of pictures in [-1, 1]; differentiable in them."""
        identity = None if self.identity is None else self.identity.embed(pictures)
        return Seen(pictures, self.features(pictures), identity)

    def terms(self, found: Seen, wanted: Seen) -> Float[Tensor, "n 3"]:
        """Distances of each pair, in the order of ``TERMS``; differentiable.

        pixel: mean absolute difference on [-1, 1], 0 to 2. perceptual: mean over layers and places of the squared
        distance between unit features, 0 to 4 (Zhang et al. 2018, LPIPS, without its learnt weights). identity: 1 less
        the cosine.
        """
        difference = (found.pixels - wanted.pixels)[:, :, self.rows, self.columns]
        pixel = difference.abs().flatten(1).mean(dim=1)
        layers = [(a - b).square().sum(dim=2).mean(dim=1) for a, b in zip(found.features, wanted.features, strict=True)]
        perceptual = torch.stack(layers).mean(dim=0)
        identity = torch.zeros_like(pixel)
        if found.identity is not None and wanted.identity is not None:
            identity = 1 - (found.identity * wanted.identity).sum(dim=1)
        return torch.stack([pixel, perceptual, identity], dim=1)


def _map_features(maps: Features) -> Features:
    """From feature maps [n, c, h, w]."""
    return lambda images: [unit_vectors(found.flatten(2).transpose(1, 2)) for found in maps(images)]


def _token_features(tokens: Features) -> Features:
    """From tokens, channels last."""
    return lambda images: [unit_vectors(found) for found in tokens(images)]


def check_rows(w_plus: Float[Tensor, "n l d"], pack: Pack) -> None:
    """Raise unless an encoder's latents are the generator's.

    Raises:
        PipelineError: if rows or width differ.
    """
    wanted = (pack.generator.space.num_ws, pack.generator.config.w_dim)
    if tuple(w_plus.shape[1:]) != wanted:
        raise PipelineError(
            f"the inverter's latents must be {list(wanted)}, as pack {pack.description.name!r} draws from; they are "
            f"{list(w_plus.shape[1:])}. Take the inverter that was trained with this generator."
        )
