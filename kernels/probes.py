"""Which directions of CLIP's space to differentiate: the texts' own, and a few random ones for the length of the rest.

Letters: p text, r row, d CLIP width.
"""

from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor

RELATIVE_RANK = 1e-5  # singular values below this share of the largest are rounding


@dataclass(frozen=True)
class Probes:
    """Orthonormal rows of CLIP's space and the weight that makes the sampled ones stand for all others.

    A vector x of CLIP's space is seen as ``weight * (rows @ x)``: exact along every text direction, and of the same
    expected length as x, since m random orthonormal rows of the other ``d - r`` directions hold ``m / (d - r)`` of the
    squared length there.

    Attributes:
        rows: [r, d], orthonormal.
        weight: [r]; 1 for the texts' rows, ``sqrt((d - r) / m)`` for the m random ones.
    """

    rows: Float[Tensor, "r d"]
    weight: Float[Tensor, "r"]

    def lift(self, coordinates: Float[Tensor, "... r"]) -> Float[Tensor, "... d"]:
        """Weighted coordinates as vectors of CLIP's space; lengths are kept."""
        return coordinates @ self.rows


def probe_rows(text_directions: Float[Tensor, "p d"], *, num_probes: int, seed: int = 0) -> Probes:
    """Rows that span all text directions, and ``num_probes`` random ones orthogonal to them.

    One backward pass per row then gives the gradient of every ``<embedding, text_direction>`` and an estimate of the
    length of the embedding's whole derivative. Never more rows than d: with that many, they are the axes, exact.

    Args:
        text_directions: unit vectors; parallel ones cost nothing extra.
        num_probes: m; the squared length of what the texts do not span is then known to a share of about sqrt(2 / m).
        seed: of the random rows.
    Raises:
        ValueError: if there is no text direction other than zero, or ``num_probes`` is negative.
    Source: random projections as in Johnson and Lindenstrauss 1984.
    """
    if num_probes < 0:
        raise ValueError(f"`num_probes` must be 0 or more; got {num_probes}.")
    x = text_directions.double()
    _, size, basis = torch.linalg.svd(x, full_matrices=False)
    if not size.numel() or float(size[0]) == 0.0:
        raise ValueError(f"at least one text direction must not be zero; got {tuple(x.shape)} of zeros.")
    basis = basis[size > RELATIVE_RANK * size[0]]
    width, rank = x.shape[1], len(basis)
    if rank + num_probes >= width:
        return Probes(torch.eye(width), torch.ones(width))
    noise = torch.randn(num_probes, width, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)
    random = torch.linalg.qr((noise - noise @ basis.T @ basis).T).Q.T if num_probes else noise
    share = torch.full((num_probes,), ((width - rank) / max(num_probes, 1)) ** 0.5)
    return Probes(torch.cat([basis, random]).float(), torch.cat([torch.ones(rank), share]))
