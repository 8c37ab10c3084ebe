"""Where captions and drawings meet: the place in CLIP's embedding of every category of every attribute.

The categories of one attribute are the corners of a regular simplex, and the attributes have orthogonal subspaces. So
a picture's change of one attribute is the same vector whatever the others are, no category is the opposite of another
one, and what is said of several attributes is the sum of what is said of each. A contrastive loss alone left four
kinds of eyewear in a plane, where "no glasses" and "an eyepatch" were one direction (cosine 0.99).

Letters: n pictures, a attributes, d embedding width.
"""

from functools import cache

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from examples.peeps.domain import ATTRIBUTES, COLORED_HEADS

WIDTH = 128
SHARED = 0.2  # squared length of what all pictures have in common
# Squared length of each attribute's part; with SHARED they add up to 1.
SHARES = {
    "head": 0.15,
    "expression": 0.13,
    "facial_hair": 0.1,
    "accessories": 0.1,
    "skin": 0.08,
    "hair_color": 0.08,
    "clothing": 0.08,
    "background": 0.08,
}
INK = 0.4  # of its part is left of the hair colour on heads that are drawn in black ink
EMPHASIS = 3.0  # a claim's length against the same attribute's in a picture
SEED = 11
_HEADS = list(ATTRIBUTES[0].categories)


def simplex(count: int) -> np.ndarray:
    """Corners of a regular simplex round the origin: unit rows [count, count - 1], any two at cosine -1/(count - 1)."""
    centered = np.eye(count) - 1 / count
    axes = np.linalg.svd(centered)[2][: count - 1]
    corners = centered @ axes.T
    return corners / np.linalg.norm(corners, axis=1, keepdims=True)


@cache
def places() -> tuple[Float[Tensor, "d"], list[Float[Tensor, "k d"]]]:
    """The shared direction, and per attribute the unit vectors of its k categories."""
    width = 1 + sum(len(a.categories) - 1 for a in ATTRIBUTES)
    axes = np.linalg.qr(np.random.default_rng(SEED).standard_normal((WIDTH, width)))[0].T
    found, start = [], 1
    for attribute in ATTRIBUTES:
        corners = simplex(len(attribute.categories))
        found.append(torch.from_numpy(corners @ axes[start : start + corners.shape[1]]).float())
        start += corners.shape[1]
    return torch.from_numpy(axes[0]).float(), found


def shared_direction() -> Float[Tensor, "d"]:
    """Where a text lies that says nothing."""
    return places()[0]


def picture_places(labels: np.ndarray) -> Float[Tensor, "n d"]:
    """Unit embeddings of pictures with visible labels [n, a]; -1 where an attribute does not show."""
    shared, corners = places()
    total = np.sqrt(SHARED) * shared.expand(len(labels), -1).clone()
    ink = torch.from_numpy(~np.isin(labels[:, 0], [_HEADS.index(h) for h in COLORED_HEADS]))
    for number, attribute in enumerate(ATTRIBUTES):
        shown = torch.from_numpy(labels[:, number] >= 0)
        part = np.sqrt(SHARES[attribute.name]) * corners[number][torch.from_numpy(labels[:, number].clip(min=0))]
        if attribute.name == "hair_color":
            part = torch.where(ink[:, None], INK * part, part)
        total += torch.where(shown[:, None], part, torch.zeros_like(part))
    return total / total.norm(dim=1, keepdim=True)
