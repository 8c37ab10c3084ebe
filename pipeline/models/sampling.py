"""Latents from seeds: one integer per latent, so that a latent depends on nothing but its seed."""

from collections.abc import Iterable, Sequence

import torch
from jaxtyping import Float
from torch import Tensor

from pipeline.models.stylegan2 import Generator


def sample_z(seeds: Iterable[int], z_dim: int) -> Float[Tensor, "n z"]:
    """Standard normal z, each from a CPU generator of its own seed: the same on every device and in every batch."""
    return torch.stack([torch.randn(z_dim, generator=torch.Generator().manual_seed(seed)) for seed in seeds])


def sample_w_plus(
    generator: Generator, seeds: Sequence[int], *, psi: float, cutoff: int | None = None
) -> Float[Tensor, "n l d"]:
    """w_plus of seeds, truncated; see ``Generator.map``."""
    device = generator.mapping.w_avg.device
    with torch.no_grad():
        return generator.map(sample_z(seeds, generator.config.z_dim).to(device), psi=psi, cutoff=cutoff)
