"""Unedited samples of a pack: what it draws when nothing is asked of it, and what its networks say of that.

A pack may bring what was found in its first few hundred samples (``SAMPLES_FILE``, written by ``samples_bytes``): then
nothing is drawn. The file says which weights it was found with; where the pack has others by now, samples are drawn.

Letters: n sample, d CLIP width, a attribute, m side of a thumbnail.
"""

from dataclasses import dataclass
from functools import lru_cache
from threading import Lock

import numpy as np
import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

import storage
from kernels import unit_vectors
from pipeline.models.clip import CONFIG_FILE, WEIGHTS_FILE
from pipeline.models.sampling import sample_w_plus
from pipeline.packs.pack import GENERATOR_FILE, ORACLE_FILE, SAMPLES_FILE, Pack
from pipeline.pixels import to_rgb_arrays
from pipeline.scoring.distances import attribute_regions, thumbnails
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
        regions: where each of the oracle's attributes shows [a, m, m]; None without an oracle.
    """

    embeddings: Float[Tensor, "n d"]
    labels: Int[np.ndarray, "n a"] | None
    regions: Bool[np.ndarray, "a m m"] | None

    def seed(self, number: int) -> int:
        """Seed of a sample."""
        return FIRST_SEED + number


def draw_samples(pack: Pack, num_samples: int) -> Samples:
    """The pack's first samples, psi 0.7, the same in every process; kept, because every shard of a run asks."""
    with _lock:  # threads that ask together draw once
        return _find(pack, num_samples)


@lru_cache(maxsize=2)
def _find(pack: Pack, num_samples: int) -> Samples:
    return _brought(pack, num_samples) or compute_samples(pack, num_samples)


def _drawn_with(pack: Pack) -> np.ndarray:
    """The digest of what samples depend on, as bytes."""
    names = (GENERATOR_FILE, WEIGHTS_FILE, CONFIG_FILE, ORACLE_FILE)
    facts = {"files": [pack.description.files.get(name) for name in names], "first_seed": FIRST_SEED, "psi": PSI}
    return np.frombuffer(storage.config_hash(facts).encode(), dtype=np.uint8)


def samples_bytes(pack: Pack, samples: Samples) -> bytes:
    """What was found in samples, as the pack's ``SAMPLES_FILE``."""
    assert samples.labels is not None, "regions need an oracle"
    assert samples.regions is not None
    arrays = {
        "embeddings": samples.embeddings.half().numpy(),
        "labels": samples.labels.astype(np.int16),
        "regions": samples.regions,
        "drawn_with": _drawn_with(pack),
    }
    return storage.arrays_bytes(arrays)


def _brought(pack: Pack, num_samples: int) -> Samples | None:
    """The first of the samples that the pack brings; None where it brings none, too few, or those of other weights."""
    if not pack.has(SAMPLES_FILE):
        return None
    pack.read(SAMPLES_FILE)  # checks its sha256
    arrays = storage.read_arrays(pack.store, SAMPLES_FILE)
    if len(arrays["labels"]) < num_samples or not np.array_equal(arrays["drawn_with"], _drawn_with(pack)):
        return None
    embeddings = unit_vectors(torch.from_numpy(arrays["embeddings"][:num_samples]).float())
    return Samples(embeddings, arrays["labels"][:num_samples].astype(np.int64), arrays["regions"])


def compute_samples(pack: Pack, num_samples: int) -> Samples:
    """The pack's first samples, drawn and looked at."""
    parts = []
    with torch.no_grad():
        w_plus = sample_w_plus(pack.generator, range(FIRST_SEED, FIRST_SEED + num_samples), psi=PSI).to(pack.device)
        for batch in pack.generator.styles(w_plus).split(BATCH):
            parts.append(to_rgb_arrays(pack.generator.render(batch)))
    images = np.concatenate(parts)
    probabilities = oracle_probabilities(pack, images, batch_size=BATCH)
    labels = regions = None
    if probabilities is not None:
        oracle = pack.description.oracle
        assert oracle is not None
        labels = read_labels(oracle, probabilities)
        regions = attribute_regions(thumbnails(images), labels, oracle.attributes)
    embeddings = compute_embeddings(pack.clip.encode_images, images, batch_size=BATCH, device=pack.device)
    return Samples(embeddings, labels, regions)
