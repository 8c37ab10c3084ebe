"""TediGAN's instance-level optimisation and style mixing, many (latent, prompt) pairs at a time: a baseline.

Letters: n pair in the batch, l row of w_plus, d w_dim, x the optimised vector, e identity width, r resolution.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from pipeline.config import TediganLatentsConfig
from pipeline.errors import PipelineError
from pipeline.optimization.latents import Outcome, Pair, Slot, search
from pipeline.packs.pack import Pack

TERMS = ("clip_loss", "pixel_loss", "feature_loss", "latent_loss")


@dataclass(frozen=True)
class _Source:
    """What the terms need of a source: its image [1, 3, r, r] and its features [1, e]."""

    image: Float[Tensor, "1 3 r r"]
    features: Float[Tensor, "1 e"] | None


class TediganObjective:
    """``clip (1 - <E(G(w)), t>) + pixel MSE(G(w), x) + feature |R(G(w)) - R(x)|^2 + latent MSE(w, w_x)``.

    x is the source image and w_x its inverted latent. The published feature term is of VGG16's conv4_3; here it is of
    the pack's identity network, and 0 without one.

    Source: Xia et al. 2021, Towards Open-World Text-Guided Face Image Generation and Manipulation, and its code.
    """

    def __init__(self, pack: Pack, originals: Mapping[str, Float[Tensor, "l d"]], config: TediganLatentsConfig) -> None:
        self.clip, self.generator, self.originals = pack.clip, pack.generator, originals
        sees_identity = config.feature_weight > 0 and pack.description.identity is not None
        self.identity = pack.identity if sees_identity else None
        self.row = (config.clip_weight, config.pixel_weight, config.feature_weight, config.latent_weight)

    def embed(self, slots: Sequence[Slot], images: Float[Tensor, "n 3 r r"]) -> None:
        """Keep the images of the original latents, which inversion may have changed, and their features."""
        latents = torch.stack([self.originals[slot.pair.latent_id] for slot in slots])
        images = self.generator.render(self.generator.styles(latents))
        features = None if self.identity is None else self.identity.embed(images)
        for i, slot in enumerate(slots):
            slot.embeddings = _Source(images[i : i + 1], None if features is None else features[i : i + 1])

    def terms(
        self, slots: Sequence[Slot], vectors: Float[Tensor, "n x"], images: Float[Tensor, "n 3 r r"]
    ) -> Float[Tensor, "n 4"]:
        """Unweighted terms in the order of ``TERMS``."""
        targets = torch.stack([slot.pair.text.target for slot in slots])
        clip = 1 - (self.clip.encode_images(images) * targets).sum(dim=1)
        sources = torch.cat([slot.embeddings.image for slot in slots])
        pixel = (images - sources).square().mean(dim=(1, 2, 3))
        feature = torch.zeros_like(clip)
        if self.identity is not None:
            known = torch.cat([slot.embeddings.features for slot in slots])
            feature = (self.identity.embed(images) - known).square().sum(dim=1)
        latent = (vectors - torch.stack([slot.source for slot in slots])).square().mean(dim=1)
        return torch.stack([clip, pixel, feature, latent], dim=1)

    def weights(self, slots: Sequence[Slot]) -> Float[Tensor, "n 4"]:
        """One row for every slot."""
        return torch.tensor([self.row] * len(slots), device=slots[0].descent.vector.device)


def invert_images(pack: Pack, w_plus: Float[Tensor, "n l d"]) -> Float[Tensor, "n l d"]:
    """The inverter's latents of the images of latents; the latents themselves where the pack has no inverter."""
    if pack.description.inverter is None or len(w_plus) == 0:
        return w_plus
    with torch.no_grad():
        images = pack.generator.render(pack.generator.styles(w_plus)).clamp(-1, 1)
        return pack.inverter.invert(images)


def mix_styles(
    source: Float[np.ndarray, "x"],
    found: Float[np.ndarray, "x"],
    *,
    num_rows: int,
    rows: Sequence[int] | None,
    share: float,
) -> Float[np.ndarray, "x"]:
    """Layer-wise style mixing: some rows of w_plus go a share of the way to the found style, the rest are the source's.

    Raises:
        PipelineError: if a row is not one of the generator's.
    """
    wrong = [row for row in rows or () if not 0 <= row < num_rows]
    if wrong:
        raise PipelineError(f"`mix_rows` must be rows of w_plus, 0 to {num_rows - 1}; got {wrong[0]}.")
    a, b = source.reshape(num_rows, -1), found.reshape(num_rows, -1)
    mixed = a.copy()
    chosen = list(range(num_rows)) if rows is None else list(rows)
    mixed[chosen] = b[chosen] if share == 1.0 else a[chosen] + share * (b[chosen] - a[chosen])
    return mixed.reshape(-1).astype(np.float32)


def optimize_tedigan(pack: Pack, pairs: Sequence[Pair], config: TediganLatentsConfig) -> list[Outcome]:
    """TediGAN's latent of every pair, in order; resumable, batched and independent of its neighbours as ``search`` is.

    With start ``inverted`` the search starts from the inverter's latent of the source image, with ``mean`` from the
    mean latent; either way the latent term holds it to the inverted one. Rows that are not mixed keep the pair's own
    latent.
    """
    usable = [pair for pair in pairs if bool(torch.isfinite(pair.w_plus).all())]
    known = {pair.latent_id: pair.w_plus for pair in usable}
    inverted: dict[str, Tensor] = {}
    for latent_id, w_plus in known.items():  # one by one: a batch would change the last bits
        inverted[latent_id] = invert_images(pack, w_plus[None])[0]
    started = [replace(pair, w_plus=inverted.get(pair.latent_id, pair.w_plus)) for pair in pairs]
    outcomes = search(pack.generator, TediganObjective(pack, known, config), started, config.search())
    for pair, outcome in zip(pairs, outcomes, strict=True):
        if outcome.vector is not None:
            source = pair.w_plus.cpu().numpy().reshape(-1)
            outcome.vector = mix_styles(
                source, outcome.vector, num_rows=len(pair.w_plus), rows=config.mix_rows, share=config.mix_share
            )
    return outcomes
