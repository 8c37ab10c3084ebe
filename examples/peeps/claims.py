"""What a wording says of a peep, and where in the embedding that belongs."""

from dataclasses import dataclass
from functools import cache, lru_cache

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from examples.peeps.domain import ATTRIBUTES
from examples.peeps.meaning import EMPHASIS, SHARED, SHARES, places, shared_direction


@dataclass(frozen=True)
class Claim:
    """What a wording says of one attribute: it shows a category, or it shows none of some."""

    attribute: str
    categories: tuple[str, ...]
    absent: bool = False
    weight: float = 1.0


# "Hair" alone says a little that nobody is bald, and so does hair of any colour: the two must not differ in that.
HAS_HAIR = Claim("head", ("bald",), absent=True, weight=0.2)


@cache
def _corners() -> dict[tuple[str, str], Tensor]:
    _, corners = places()
    return {
        (a.name, category): corners[i][j] for i, a in enumerate(ATTRIBUTES) for j, category in enumerate(a.categories)
    }


@lru_cache(maxsize=4096)
def claim_vector(claim: Claim) -> Float[Tensor, "d"]:
    """Where a claim moves the embedding: to the category's corner, or away from those ruled out."""
    total = torch.stack([_corners()[claim.attribute, c] for c in claim.categories]).sum(dim=0)
    size = claim.weight * EMPHASIS * np.sqrt(SHARES[claim.attribute])
    return (-size if claim.absent else size) * total / total.norm()


@lru_cache(maxsize=4096)
def wording_place(claims: tuple[Claim, ...]) -> Float[Tensor, "d"]:
    """Unit embedding of what is said."""
    total = np.sqrt(SHARED) * shared_direction()
    said = {claim.attribute for claim in claims}
    if "hair_color" in said and "head" not in said:
        claims = (*claims, HAS_HAIR)
    for claim in claims:
        total = total + claim_vector(claim)
    return total / total.norm()
