"""Standard deviations of the style channels, from a run or from the pack."""

from dataclasses import dataclass

import pyarrow as pa
import torch
from jaxtyping import Float
from torch import Tensor

from pipeline.pack import STATISTICS_FILE, Pack
from pipeline.shard import find_optional_input
from storage import Store


@dataclass(frozen=True)
class Statistics:
    """What a measurement needs to know of the channels.

    Attributes:
        std: standard deviation of every style channel, toRGB included, [s].
        source: hash of what they were made from.
    """

    std: Float[Tensor, "s"]
    source: str


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
