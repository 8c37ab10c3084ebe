"""Style directions: a prompt becomes a sparse move in StyleSpace that fits any image (StyleCLIP section 6)."""

from dataclasses import dataclass
from typing import Literal

import numpy as np
import pyarrow as pa
import torch
from jaxtyping import Float
from torch import Tensor

import storage
from kernels import (
    count_channels,
    normalize_relevance,
    relevance,
    select_channels,
    threshold_for_count,
)
from pipeline.channel_score import Rule, channel_score
from pipeline.config import StyleDirectionsConfig
from pipeline.errors import MissingInputError, PipelineError, PromptError
from pipeline.pack import DIRECTIONS_FILE, STATISTICS_FILE, Pack
from pipeline.prompts import Prompt, templates
from pipeline.reference import CORRECTED, LAST_PUBLISHED_LAYER, OFFICIAL, Reference
from pipeline.sampling import count_shards, shard_bounds
from pipeline.schemas import PROMPTS, STYLE_DIRECTIONS
from pipeline.shard import Made, ShardReport, find_input, find_optional_input, part_path, run_shard, stage_hash
from storage import Store

Guard = Literal["error", "zeros"]
STAGE = STYLE_DIRECTIONS.name
OF_THE_TABLE = ("relevance_base", "relevance_cumulative_bug")  # what cannot be changed once it is measured
CURVE = torch.arange(51) / 100  # thresholds of the channel-count curve


@dataclass(frozen=True)
class ChannelTable:
    """Channel directions and statistics side by side, one row per editable channel.

    Attributes:
        layer: [c].
        channel: [c].
        direction: unit vectors [c, d], zero for channels without effect.
        std: standard deviation of each channel, [c].
        source: hash of what the table was made from.
        effect: mean differences of unit embeddings [c, d], not normalised; None where the table holds none.
        agreement: length of the mean unit difference [c]; None where the table holds none.
    """

    layer: np.ndarray
    channel: np.ndarray
    direction: Float[Tensor, "c d"]
    std: Float[Tensor, "c"]
    source: str
    effect: Float[Tensor, "c d"] | None = None
    agreement: Float[Tensor, "c"] | None = None


@dataclass(frozen=True)
class StyleDirection:
    """A prompt's direction: the kept channels only.

    Attributes:
        rows: row numbers into the channel table.
        relevance: cosine of channel and text direction, per kept channel.
        value: move of the raw style at strength 1.
        threshold: smallest absolute relevance kept.
        max_relevance: largest absolute relevance of all channels.
    """

    rows: np.ndarray
    relevance: np.ndarray
    value: np.ndarray
    threshold: float
    max_relevance: float


def compute_style_direction(
    channels: ChannelTable,
    text_direction: Float[Tensor, "d"],
    *,
    relevance_threshold: float | None = None,
    num_channels: int = 20,
    rule: Rule = "paper",
    guard: Guard = "error",
) -> StyleDirection:
    """``ds_c = S_c sigma_c / max|S|`` of the kept; the paper's score S is R_c = <direction_c, text_direction>.

    Args:
        channels: directions and standard deviations.
        text_direction: unit vector from neutral to target text.
        relevance_threshold: the paper's beta, keeps ``|R_c| >= beta``; None keeps the ``num_channels`` of largest
            ``|S_c|`` and, by the paper's rule, every channel that ties with the last of them.
        num_channels: used where no threshold is given.
        rule: see ``channel_score``.
        guard: what comes of a threshold that no channel reaches: an error, or with ``zeros`` a direction without
            channels, which moves nothing. (The published code divides by zero there.)
    Raises:
        ValueError: if no channel passes the threshold, or the rule needs effects and the table has none.
    """
    found = relevance(channels.direction, text_direction)
    score = channel_score(
        channels.direction, text_direction, rule=rule, agreement=channels.agreement, effect=channels.effect
    )
    if guard == "zeros" and relevance_threshold is not None and not bool((found.abs() >= relevance_threshold).any()):
        none = np.zeros(0, np.float32)
        return StyleDirection(none.astype(np.int64), none, none, relevance_threshold, float(found.abs().max()))
    if relevance_threshold is None:
        keep = select_channels(score, threshold_for_count(score, num_channels))
    else:
        keep = select_channels(found, relevance_threshold)
    value = normalize_relevance(score, keep) * channels.std
    rows = torch.nonzero(keep).flatten()
    smallest = float(found[rows].abs().min())
    return StyleDirection(
        rows=rows.numpy(),
        relevance=found[rows].numpy(),
        value=value[rows].numpy(),
        threshold=smallest if relevance_threshold is None else relevance_threshold,
        max_relevance=float(found.abs().max()),
    )


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
        return _channel_table(directions.table(), statistics.table(), source=directions.config_hash)
    if pack.has(DIRECTIONS_FILE) and pack.has(STATISTICS_FILE):
        return _channel_table(pack.table(DIRECTIONS_FILE), pack.table(STATISTICS_FILE), source=pack.digest)
    return None


def load_screened_table(pack: Pack, run: Store, other: Store | None = None) -> ChannelTable:
    """Directions that this run's screening found (``screened_directions``).

    Raises:
        MissingInputError: if the run's screening is not finished, or the statistics it used are gone.
    """
    directions = find_input("screened_directions", run)
    statistics = find_optional_input("style_statistics", run, other)
    table = pack.table(STATISTICS_FILE) if statistics is None else statistics.table()
    return _channel_table(directions.table(), table, source=directions.config_hash)


def _channel_table(directions: pa.Table, statistics: pa.Table, *, source: str) -> ChannelTable:
    keys = zip(statistics["layer"].to_pylist(), statistics["channel"].to_pylist(), strict=True)
    std = dict(zip(keys, statistics["std"].to_pylist(), strict=True))
    layer, channel = directions["layer"].to_numpy(), directions["channel"].to_numpy()
    return ChannelTable(
        layer=layer,
        channel=channel,
        direction=torch.from_numpy(storage.stack(directions["direction"]).copy()),
        std=torch.tensor([std[int(a), int(b)] for a, b in zip(layer, channel, strict=True)]),
        source=source,
        effect=_effect(directions),
        agreement=_agreement(directions),
    )


def _published_layers(channels: ChannelTable) -> ChannelTable:
    """The rows of layers that the published table holds."""
    rows = channels.layer <= LAST_PUBLISHED_LAYER
    kept = torch.from_numpy(rows)
    return ChannelTable(
        layer=channels.layer[rows],
        channel=channels.channel[rows],
        direction=channels.direction[kept],
        std=channels.std[kept],
        source=channels.source,
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
        found = (storage.read_run(directions.store, "channel_directions") or {}).get("config", {})
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


def style_directions_hash(
    config: StyleDirectionsConfig, pack: Pack, prompts: list[Prompt], channels: ChannelTable
) -> str:
    """What the directions of these prompts are known by."""
    listed = [p.model_dump(mode="json") for p in prompts]
    return stage_hash(STAGE, config, pack, {"prompts": listed, "channel_directions": channels.source})


def style_directions_num_shards(config: StyleDirectionsConfig, prompts: list[Prompt]) -> int:
    """Shards of a run."""
    return count_shards(len(prompts), config.shard_size)


def run_style_directions_shard(
    config: StyleDirectionsConfig,
    store: Store,
    pack: Pack,
    shard: int,
    *,
    prompts: list[Prompt],
    channels: ChannelTable,
) -> ShardReport:
    """Directions of one range of prompts. A prompt without a direction becomes a failed row; the others go on."""

    def make() -> Made:
        table = _published_layers(channels) if config.relevance_layers == "res<=128" else channels
        chosen = [prompts[i] for i in shard_bounds(len(prompts), config.shard_size, shard)]
        rows, parts = [], []
        for prompt in chosen:
            row, part = _direct(prompt, config, pack, table)
            rows.append(row)
            if part is not None:
                parts.append(part)
        failures = sum(row["status"] == "failed" for row in rows)
        directions = pa.concat_tables(parts) if parts else STYLE_DIRECTIONS.schema().empty_table()
        files = {
            part_path(STAGE, shard): storage.table_bytes(directions),
            part_path(PROMPTS.name, shard): storage.table_bytes(_prompt_table(rows, channels)),
        }
        return Made(files, rows=len(chosen), failures=failures)

    config_hash = style_directions_hash(config, pack, prompts, channels)
    return run_shard(store, STAGE, shard, config_hash=config_hash, pack=pack, make=make)


def _direct(
    prompt: Prompt, config: StyleDirectionsConfig, pack: Pack, channels: ChannelTable
) -> tuple[dict[str, object], pa.Table | None]:
    """One prompt's row, and its channels where it has a direction."""
    row: dict[str, object] = {
        "prompt_id": prompt.prompt_id,
        "prompt": prompt.name,
        "target": prompt.target,
        "neutral": prompt.neutral,
        "method": prompt.method,
        "strengths": list(prompt.strengths or ()),
        "relevance_threshold": None,
        "num_channels": None,
        "max_relevance": None,
        "channel_counts": None,
        "text_direction": None,
        "status": "failed",
        "error": None,
    }
    count = prompt.num_channels or config.num_channels or pack.description.num_channels
    threshold = prompt.relevance_threshold
    if threshold is None and prompt.num_channels is None:
        threshold = config.relevance_threshold
    try:
        text = pack.clip.text_direction(prompt.target, prompt.neutral, templates(config.templates)).cpu()
        row["text_direction"] = text.tolist()
        relevances = relevance(channels.direction, text)
        row["max_relevance"] = float(relevances.abs().max())
        row["channel_counts"] = count_channels(relevances, CURVE).tolist()
        found = compute_style_direction(
            channels,
            text,
            relevance_threshold=threshold,
            num_channels=count,
            rule=config.rule,
            guard=config.guard,
        )
    except (PromptError, ValueError) as error:
        return {**row, "error": f"prompt {prompt.name!r}: {error}"}, None
    row.update(relevance_threshold=found.threshold, num_channels=len(found.rows), status="ok")
    part = STYLE_DIRECTIONS.table(
        {
            "prompt_id": [prompt.prompt_id] * len(found.rows),
            "layer": channels.layer[found.rows],
            "channel": channels.channel[found.rows],
            "value": found.value,
            "relevance": found.relevance,
        }
    )
    return row, part


def _prompt_table(rows: list[dict[str, object]], channels: ChannelTable) -> pa.Table:
    columns = {column.name: [row[column.name] for row in rows] for column in PROMPTS.columns}
    return PROMPTS.table(columns, widths={"text_direction": channels.direction.shape[1]})
