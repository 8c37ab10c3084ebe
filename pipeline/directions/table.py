"""The channel table: directions and statistics of all style channels side by side, from a run or from the pack."""

from dataclasses import dataclass

import numpy as np
import pyarrow as pa
import torch
from jaxtyping import Float
from torch import Tensor

import storage
from pipeline.errors import MissingInputError, PipelineError
from pipeline.packs.pack import DIRECTIONS_FILE, STATISTICS_FILE, Pack
from pipeline.reference import CORRECTED, LAST_PUBLISHED_LAYER, OFFICIAL, Reference
from pipeline.runs.shard import find_input, find_optional_input
from storage import Store

OF_THE_TABLE = ("relevance_base", "relevance_cumulative_bug")  # what cannot be changed once it is measured


@dataclass(frozen=True)
class ChannelTable:
    """Channel directions and statistics side by side, one row per editable channel.

    Attributes:
        layer: [c].
        channel: [c].
        direction: unit vectors [c, d], zero for channels without effect.
        std: standard deviation of each channel, [c].
        source: hash of the settings that the table was made with.
        effect: mean differences of unit embeddings [c, d], not normalised; None where the table holds none.
        agreement: length of the mean unit difference [c]; None where the table holds none.
        state: hash of what it holds; that of a prompt list's screening changes with the list.
    """

    layer: np.ndarray
    channel: np.ndarray
    direction: Float[Tensor, "c d"]
    std: Float[Tensor, "c"]
    source: str
    effect: Float[Tensor, "c d"] | None = None
    agreement: Float[Tensor, "c"] | None = None
    state: str = ""


def load_channel_table(pack: Pack, *stores: Store | None) -> ChannelTable:
    """Channel directions of a run if it has them, else those that ship with the pack.

    Raises:
        MissingInputError: if neither has them.
    """
    found = find_channel_table(pack, *stores)
    if found is None:
        raise MissingInputError(
            f"global directions need channel directions; neither the run nor pack {pack.description.name!r} has any. "
            f"Run `styleclip channel-directions` first, or take mode screened, which measures what the prompts need."
        )
    return found


def find_channel_table(pack: Pack, *stores: Store | None) -> ChannelTable | None:
    """As ``load_channel_table``, but None where there are none."""
    directions = find_optional_input("channel_directions", *stores)
    statistics = find_optional_input("style_statistics", *stores)
    if directions is not None and statistics is not None:
        return _channel_table(
            directions.table(), statistics.table(), source=directions.config_hash, state=directions.state
        )
    if pack.has(DIRECTIONS_FILE) and pack.has(STATISTICS_FILE):
        return _channel_table(
            pack.table(DIRECTIONS_FILE), pack.table(STATISTICS_FILE), source=pack.digest, state=pack.digest
        )
    return None


def load_screened_table(pack: Pack, run: Store, other: Store | None = None) -> ChannelTable:
    """Directions that this run's screening found (``screened_directions``).

    Raises:
        MissingInputError: if the run's screening is not finished, or the statistics it used are gone.
    """
    directions = find_input("screened_directions", run)
    statistics = find_optional_input("style_statistics", run, other)
    table = pack.table(STATISTICS_FILE) if statistics is None else statistics.table()
    return _channel_table(directions.table(), table, source=directions.config_hash, state=directions.state)


def _channel_table(directions: pa.Table, statistics: pa.Table, *, source: str, state: str) -> ChannelTable:
    keys = zip(statistics["layer"].to_pylist(), statistics["channel"].to_pylist(), strict=True)
    std = dict(zip(keys, statistics["std"].to_pylist(), strict=True))
    layer, channel = directions["layer"].to_numpy(), directions["channel"].to_numpy()
    return ChannelTable(
        layer=layer,
        channel=channel,
        direction=torch.from_numpy(storage.stack(directions["direction"]).copy()),
        std=torch.tensor([std[int(a), int(b)] for a, b in zip(layer, channel, strict=True)]),
        source=source,
        state=state,
        effect=_effect(directions),
        agreement=_agreement(directions),
    )


def published_layers(channels: ChannelTable) -> ChannelTable:
    """The rows of layers that the published table holds."""
    rows = channels.layer <= LAST_PUBLISHED_LAYER
    kept = torch.from_numpy(rows)
    return ChannelTable(
        layer=channels.layer[rows],
        channel=channels.channel[rows],
        direction=channels.direction[kept],
        std=channels.std[kept],
        source=channels.source,
        state=channels.state,
        effect=None if channels.effect is None else channels.effect[kept],
        agreement=None if channels.agreement is None else channels.agreement[kept],
    )


def check_measured_as(reference: Reference, pack: Pack, *stores: Store | None, screened: bool = False) -> None:
    """Whether the table at hand was measured with the switches that a reference sets.

    Args:
        reference: the switches.
        pack: may hold a table.
        stores: runs that may hold one; they come first.
        screened: directions are measured for the prompts, by the paper, whatever tables there are.

    Raises:
        MissingInputError: if there is no table, which screening cannot stand in for.
        PipelineError: if it was measured otherwise.
    """
    wanted = {key: value for key, value in reference.settings("channel_directions").items() if key in OF_THE_TABLE}
    if all(value == getattr(CORRECTED, key) for key, value in wanted.items()) and (screened or not wanted):
        return
    directions = None if screened else find_optional_input("channel_directions", *stores)
    if directions is not None:
        found = (storage.read_stage(directions.store, "channel_directions") or {}).get("config", {})
        where = f"the run {directions.store.uri}"
    elif pack.has(DIRECTIONS_FILE) and not screened:
        imported = any(record.get("format") == "fs3" for record in pack.description.imported.values())
        found, where = OFFICIAL.settings("channel_directions") if imported else {}, f"pack {pack.description.name!r}"
    else:
        raise MissingInputError(
            "`reference` sets how the whole table of channel directions is measured, and needs that table; screening "
            "measures without one, by the paper. Run `styleclip channel-directions --reference ...` first, or import "
            "fs3.npy, and take mode exact."
        )
    for key, value in wanted.items():
        got = found.get(key, getattr(CORRECTED, key))
        if got != value:
            raise PipelineError(
                f"`reference` wants channel directions measured with {key}={value}; those of {where} have {got}. "
                f"Measure them with `styleclip channel-directions --reference ...` in a run of their own, and name it "
                f"with --inputs."
            )


def _agreement(directions: pa.Table) -> Tensor | None:
    column = directions["agreement"]
    return None if column.null_count else torch.from_numpy(column.to_numpy().copy())


def _effect(directions: pa.Table) -> Tensor | None:
    if "effect" not in directions.column_names:
        return None
    return torch.from_numpy(storage.stack(directions["effect"]).copy())
