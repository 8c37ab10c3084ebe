"""How every style channel spreads over sampled latents: measured as a stream, or found in a run or the pack."""

from collections.abc import Sequence
from dataclasses import dataclass

import pyarrow as pa
import torch
from jaxtyping import Float
from torch import Tensor

from kernels import RunningMoments
from pipeline.models.sampling import sample_w_plus
from pipeline.models.stylegan2 import Generator
from pipeline.packs.pack import STATISTICS_FILE, Pack
from pipeline.runs.progress import advance
from pipeline.runs.shard import find_optional_input
from storage import Store

BATCH = 500  # samples mapped at a time; memory, not result


@dataclass(frozen=True)
class Statistics:
    """What a measurement needs to know of the channels.

    Attributes:
        std: standard deviation of every style channel, toRGB included, [s].
        source: hash of what they were made from.
    """

    std: Float[Tensor, "s"]
    source: str


def compute_style_moments(
    generator: Generator, seeds: Sequence[int], *, psi: float, cutoff: int | None = None
) -> RunningMoments:
    """Moments of every style channel over the seeds' latents, as a stream: one batch is held, however many seeds.

    Args:
        generator: maps seeds to styles.
        seeds: one per latent.
        psi: truncation.
        cutoff: truncate only the first rows of w_plus; None means all.
    """
    moments = RunningMoments.empty(generator.space.num_channels)
    for start in range(0, len(seeds), BATCH):
        w_plus = sample_w_plus(generator, seeds[start : start + BATCH], psi=psi, cutoff=cutoff)
        with torch.no_grad():
            moments = moments.update(generator.styles(w_plus))
        advance(len(w_plus))
    return moments


def find_statistics(pack: Pack, *stores: Store | None) -> Statistics | None:
    """The first run's statistics, else those that ship with the pack, else None."""
    found = find_optional_input("style_statistics", *stores)
    if found is not None:
        return Statistics(_std(found.table(["std"])), found.config_hash)
    if pack.has(STATISTICS_FILE):
        return Statistics(_std(pack.table(STATISTICS_FILE)), pack.digest)
    return None


def _std(table: pa.Table) -> Tensor:
    return torch.from_numpy(table["std"].to_numpy().copy())
