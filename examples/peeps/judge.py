"""What the oracle says of an edit: was the target hit, and how much of the rest was kept."""

from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from examples.peeps.domain import ATTRIBUTES, COLORED_HEADS, label_names
from pipeline.models.oracle import Oracle

_COLORED = [i for i, name in enumerate(ATTRIBUTES[0].categories) if name in COLORED_HEADS]


@dataclass(frozen=True)
class Verdict:
    """Edits of one prompt.

    Attributes:
        hit: per image that did not show the target before: does it now?
        kept: per image: share of the other attributes that stayed.
    """

    hit: np.ndarray
    kept: np.ndarray


def read_labels(oracle: Oracle, images: Float[Tensor, "n 3 r r"]) -> np.ndarray:
    """Most likely category numbers [n, attributes] of images in [-1, 1]."""
    with torch.no_grad():
        parts = [oracle.probabilities(x) for x in images.clamp(-1, 1).split(50)]
    return torch.cat([torch.stack([p.argmax(dim=1) for p in part.values()], dim=1) for part in parts]).cpu().numpy()


def decided(before: np.ndarray, after: np.ndarray) -> np.ndarray:
    """Which labels [n, attributes] can be compared: all, but the hair colour only between heads drawn in it.

    The other heads are black ink, whatever the latent says.
    """
    names = label_names()
    head, color = names.index("head"), names.index("hair_color")
    counts = np.ones(before.shape, dtype=bool)
    counts[:, color] = np.isin(before[:, head], _COLORED) & np.isin(after[:, head], _COLORED)
    return counts


def judge(before: np.ndarray, after: np.ndarray, *, attribute: str, category: str) -> Verdict:
    """Verdict on edits towards one category, from the oracle's labels [n, attributes] before and after."""
    names = label_names()
    number = names.index(attribute)
    target = list(ATTRIBUTES[number].categories).index(category)
    fresh = before[:, number] != target
    others = [i for i in range(len(names)) if i != number]
    counts = decided(before, after)[:, others]
    same = (before == after)[:, others] & counts
    return Verdict(hit=(after[:, number] == target)[fresh], kept=(same.sum(axis=1) / counts.sum(axis=1))[fresh])
