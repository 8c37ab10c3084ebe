"""Direction sums as rows: what a shard of measurements writes and a merge reads."""

from collections.abc import Iterable, Mapping, Sequence
from typing import Literal

import pyarrow as pa
import torch
from torch import Tensor

import storage
from kernels import ChannelDirection, DirectionSums
from pipeline.schemas import CHANNEL_DIRECTIONS, CHANNEL_SUMS
from pipeline.style_space import StyleSpace


def sums_table(
    space: StyleSpace,
    positions: Sequence[int],
    sums: DirectionSums,
    *,
    metadata: Mapping[str, object] | None = None,
) -> pa.Table:
    """``CHANNEL_SUMS`` of some channels, in the order given; ``metadata`` goes into the schema as JSON."""
    located = [space.locate(p) for p in positions]
    width = sums.total.shape[1]
    return CHANNEL_SUMS.table(
        {
            "layer": [layer for layer, _ in located],
            "channel": [channel for _, channel in located],
            "total": pa.FixedSizeListArray.from_arrays(pa.array(sums.total.numpy().reshape(-1)), width),
            "effect": pa.FixedSizeListArray.from_arrays(pa.array(sums.effect.numpy().reshape(-1)), width),
            "count": sums.count.numpy(),
            "seen": sums.seen.numpy(),
        },
        widths={"total": width, "effect": width},
        metadata=metadata,
    )


def merge_sums(space: StyleSpace, positions: Sequence[int], tables: Iterable[pa.Table]) -> DirectionSums:
    """Sums of ``positions`` over all tables, exact; rows of other channels are passed over.

    Args:
        space: layout of the styles.
        positions: channels wanted.
        tables: ``CHANNEL_SUMS``, at least one; held one at a time.
    """
    sums: DirectionSums | None = None
    rows = {position: row for row, position in enumerate(positions)}
    for table in tables:
        if sums is None:
            sums = DirectionSums.empty(len(positions), table.schema.field("total").type.list_size)
        found = [space.position(a, b) for a, b in _keys(table)]
        wanted = [i for i, position in enumerate(found) if position in rows]
        if wanted:
            sums = sums.add_at(torch.tensor([rows[found[i]] for i in wanted]), _sums(table).at(torch.tensor(wanted)))
    assert sums is not None, "at least one table"
    return sums


def directions_table(
    space: StyleSpace,
    positions: Sequence[int],
    found: ChannelDirection,
    effect: Tensor,
    std: Tensor,
    *,
    no_count: Literal["no_effect", "not_measured"] = "no_effect",
) -> pa.Table:
    """``CHANNEL_DIRECTIONS``: direction, agreement, count and status of every channel.

    Args:
        space: layout of the styles.
        positions: channels, in the order of ``found``.
        found: their directions.
        effect: their mean differences of unit embeddings, [c, d].
        std: standard deviation of every style channel.
        no_count: status of a channel that varies but has count 0.
    """
    located = [space.locate(p) for p in positions]
    status = [
        "constant" if std[p] <= 0 else "ok" if n > 0 else no_count for p, n in zip(positions, found.count, strict=True)
    ]
    return CHANNEL_DIRECTIONS.table(
        {
            "layer": [layer for layer, _ in located],
            "channel": [channel for _, channel in located],
            "direction": storage.vectors(found.direction.numpy()),
            "effect": storage.vectors(effect.numpy()),
            "agreement": found.agreement.numpy(),
            "count": found.count.int().numpy(),
            "status": status,
        },
        widths={"direction": found.direction.shape[1], "effect": effect.shape[1]},
    )


def _keys(table: pa.Table) -> Iterable[tuple[int, int]]:
    return zip(table["layer"].to_pylist(), table["channel"].to_pylist(), strict=True)


def _sums(table: pa.Table) -> DirectionSums:
    def column(name: str) -> Tensor:
        return torch.from_numpy(table[name].to_numpy().copy())

    total, effect = (torch.from_numpy(storage.stack(table[name]).copy()) for name in ("total", "effect"))
    return DirectionSums(total, effect, column("count"), column("seen"))
