"""What a pack's networks say of 8-bit images: batches on every core, no gradients.

Letters: n image, r resolution, d width of the answer.
"""

from collections.abc import Callable

import numpy as np
import torch
from jaxtyping import Float, UInt8
from torch import Tensor

from pipeline.machine.cores import map_on_cores
from pipeline.packs.pack import Pack
from pipeline.pixels import from_rgb_arrays


def compute_embeddings(
    embed: Callable[[Tensor], Tensor], images: UInt8[np.ndarray, "n r r 3"], *, batch_size: int, device: str
) -> Float[Tensor, "n d"]:
    """What a network on ``device`` makes of 8-bit RGB images, given to it in [-1, 1], in batches without gradients."""

    def of_batch(start: int) -> Tensor:
        return embed(from_rgb_arrays(images[start : start + batch_size]).to(device)).cpu()

    with torch.no_grad():
        return torch.cat(list(map_on_cores(of_batch, range(0, len(images), batch_size), device=torch.device(device))))


def oracle_probabilities(
    pack: Pack, images: UInt8[np.ndarray, "n r r 3"], *, batch_size: int
) -> Float[Tensor, "n d"] | None:
    """Probabilities of all attributes' categories side by side; None where the pack has no oracle."""
    if pack.description.oracle is None:
        return None
    return compute_embeddings(
        lambda x: torch.cat(list(pack.oracle.probabilities(x).values()), dim=1),
        images,
        batch_size=batch_size,
        device=pack.device,
    )


def identity_embeddings(
    pack: Pack, images: UInt8[np.ndarray, "n r r 3"], *, batch_size: int
) -> Float[Tensor, "n d"] | None:
    """Unit vectors of who an image shows; None where the pack has no identity network."""
    if pack.description.identity is None:
        return None
    return compute_embeddings(pack.identity.embed, images, batch_size=batch_size, device=pack.device)
