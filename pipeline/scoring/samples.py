"""Unedited samples of a pack: what it draws when nothing is asked of it, and what its networks say of that.

Letters: n sample, d CLIP width, k category of all attributes side by side, m side of a thumbnail.
"""

from dataclasses import dataclass
from functools import lru_cache
from threading import Lock

import numpy as np
import torch
from jaxtyping import Float, Int
from torch import Tensor

from pipeline.models.sampling import sample_w_plus
from pipeline.packs.pack import Pack
from pipeline.pixels import to_rgb_arrays
from pipeline.scoring.distances import thumbnails
from pipeline.scoring.judgement import read_labels
from pipeline.scoring.networks import compute_embeddings, oracle_probabilities

FIRST_SEED = 4_000_000  # apart from the seeds of latents, statistics, directions and training
PSI = 0.7
BATCH = 16
_lock = Lock()


@dataclass(frozen=True)
class Samples:
    """Unedited images in the eyes of the pack's networks.

    Attributes:
        embeddings: CLIP's unit embeddings [n, d].
        labels: the oracle's category numbers [n, a]; None without an oracle.
        thumbnails: grey levels [n, m, m], 0 to 1.
    """

    embeddings: Float[Tensor, "n d"]
    labels: Int[np.ndarray, "n a"] | None
    thumbnails: Float[np.ndarray, "n m m"]

    def seed(self, number: int) -> int:
        """Seed of a sample."""
        return FIRST_SEED + number


def draw_samples(pack: Pack, num_samples: int) -> Samples:
    """The pack's first samples, psi 0.7, the same in every process; kept, because every shard of a run asks."""
    with _lock:  # threads that ask together draw once
        return _draw(pack, num_samples)


@lru_cache(maxsize=2)
def _draw(pack: Pack, num_samples: int) -> Samples:
    parts = []
    with torch.no_grad():
        w_plus = sample_w_plus(pack.generator, range(FIRST_SEED, FIRST_SEED + num_samples), psi=PSI).to(pack.device)
        for batch in pack.generator.styles(w_plus).split(BATCH):
            parts.append(to_rgb_arrays(pack.generator.render(batch)))
    images = np.concatenate(parts)
    probabilities = oracle_probabilities(pack, images, batch_size=BATCH)
    labels = None
    if probabilities is not None:
        assert pack.description.oracle is not None
        labels = read_labels(pack.description.oracle, probabilities)
    embeddings = compute_embeddings(pack.clip.encode_images, images, batch_size=BATCH, device=pack.device)
    return Samples(embeddings, labels, thumbnails(images))
