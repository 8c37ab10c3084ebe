"""What every network at hand sees in a set of images, computed once and indexed per edit.

Letters: n image, r resolution; d, j, e width of guide, judge and identity network; a attribute, k category of all
attributes side by side, m side of a thumbnail.
"""

from dataclasses import dataclass

import numpy as np
from jaxtyping import Float, Int, UInt8
from torch import Tensor

from pipeline.models.clip import Clip
from pipeline.packs.pack import Pack
from pipeline.scoring.distances import thumbnails
from pipeline.scoring.judgement import read_labels
from pipeline.scoring.networks import compute_embeddings, identity_embeddings, oracle_probabilities


@dataclass(frozen=True)
class Seen:
    """Images and what is seen in them; None where the network is not there.

    Attributes:
        images: 8-bit RGB [n, r, r, 3].
        clip: the guide's unit embeddings [n, d].
        judge: the judge's unit embeddings [n, j].
        identity: unit embeddings of who it is [n, e].
        probabilities: the oracle's, of all attributes side by side [n, k].
        labels: the oracle's category numbers [n, a].
        thumbnails: grey levels [n, m, m], 0 to 1.
    """

    images: UInt8[np.ndarray, "n r r 3"]
    clip: Float[Tensor, "n d"]
    judge: Float[Tensor, "n j"] | None
    identity: Float[Tensor, "n e"] | None
    probabilities: Float[Tensor, "n k"] | None
    labels: Int[np.ndarray, "n a"] | None
    thumbnails: Float[np.ndarray, "n m m"]

    def rows(self, numbers: list[int]) -> "Seen":
        """Some of the images, in the order given."""

        def of(tensor: Tensor | None) -> Tensor | None:
            return None if tensor is None else tensor[numbers]

        return Seen(
            images=self.images[numbers],
            clip=self.clip[numbers],
            judge=of(self.judge),
            identity=of(self.identity),
            probabilities=of(self.probabilities),
            labels=None if self.labels is None else self.labels[numbers],
            thumbnails=self.thumbnails[numbers],
        )


def see(pack: Pack, judge: Clip | None, images: UInt8[np.ndarray, "n r r 3"], *, batch_size: int) -> Seen:
    """Show images to the pack's networks and to the judge."""
    probabilities = oracle_probabilities(pack, images, batch_size=batch_size)
    labels = None
    if probabilities is not None:
        assert pack.description.oracle is not None
        labels = read_labels(pack.description.oracle, probabilities)
    judged = None
    if judge is not None:
        judged = compute_embeddings(judge.encode_images, images, batch_size=batch_size, device=pack.device)
    return Seen(
        images=images,
        clip=compute_embeddings(pack.clip.encode_images, images, batch_size=batch_size, device=pack.device),
        judge=judged,
        identity=identity_embeddings(pack, images, batch_size=batch_size),
        probabilities=probabilities,
        labels=labels,
        thumbnails=thumbnails(images),
    )
