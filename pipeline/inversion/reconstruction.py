"""What a pack draws from latents, measured against the pictures that they were found for.

Letters: n picture, r resolution, l row of w_plus, d w_dim.
"""

import math
from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Float, UInt8
from torch import Tensor

from pipeline.inversion.likeness import Likeness
from pipeline.machine.plans import synthesis_plan
from pipeline.packs.pack import Pack
from pipeline.pixels import from_rgb_arrays, to_rgb_arrays


@dataclass(frozen=True)
class Reconstruction:
    """What is drawn from one latent.

    Attributes:
        drawn: the picture.
        error: mean absolute pixel difference, on [-1, 1]; NaN where the generator drew no finite picture.
        perceptual: distance of features.
        identity: cosine of identities; None without such a network.
        agreement: share of attributes seen alike; None without an oracle.
    """

    drawn: UInt8[np.ndarray, "r r 3"]
    error: float
    perceptual: float
    identity: float | None
    agreement: float | None


def reconstruct(
    pack: Pack, likeness: Likeness, pictures: UInt8[np.ndarray, "n r r 3"], w_plus: Float[Tensor, "n l d"]
) -> list[Reconstruction]:
    """Draw latents with the pack's generator and compare with the pictures, without gradients.

    Compared is what is kept, in 8 bits: against a picture of 8 bits the numbers before rounding are 0.002 off already.
    """
    with torch.no_grad():
        shown = from_rgb_arrays(pictures).to(pack.device)
        generator = pack.generator
        raw = generator.render(generator.styles(w_plus), plan=synthesis_plan(generator))
        finite = torch.isfinite(raw).flatten(1).all(dim=1).tolist()
        arrays = to_rgb_arrays(torch.nan_to_num(raw))
        drawn = from_rgb_arrays(arrays).to(pack.device)
        terms = likeness.terms(likeness.see(drawn), likeness.see(shown)).tolist()
        agreement: list[float | None] = [None] * len(pictures)
        if pack.description.oracle is not None:
            alike = [
                a.argmax(dim=1) == b.argmax(dim=1)
                for a, b in zip(pack.oracle.logits(drawn), pack.oracle.logits(shown), strict=True)
            ]
            agreement = list(torch.stack(alike).float().mean(dim=0).tolist())
    has_identity = pack.description.identity is not None
    return [
        Reconstruction(array, pixel if good else math.nan, perceptual, 1 - identity if has_identity else None, alike)
        for array, good, (pixel, perceptual, identity), alike in zip(arrays, finite, terms, agreement, strict=True)
    ]
