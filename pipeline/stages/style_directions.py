"""Style directions: a prompt becomes a sparse move in StyleSpace that fits any image (StyleCLIP section 6)."""

from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import pyarrow as pa
import torch

import storage
from kernels import count_channels, relevance
from pipeline.config import StyleDirectionsConfig
from pipeline.directions.groups import Controls
from pipeline.directions.of_prompt import controls_for, direction_of, editable_channels, rule_of
from pipeline.directions.table import ChannelTable
from pipeline.errors import PromptError
from pipeline.packs.pack import Pack
from pipeline.prompts import Prompt, templates
from pipeline.rows import PromptRow, artifact_table
from pipeline.runs.contents import keys_of
from pipeline.runs.shard import (
    Contents,
    Made,
    ShardReport,
    count_shards,
    part_path,
    run_shard,
    shard_bounds,
    stage_hash,
)
from pipeline.schemas import PROMPTS, STYLE_DIRECTIONS
from storage import Store

STAGE = STYLE_DIRECTIONS.name
NUM_THRESHOLDS = 51  # of the channel-count curve: 0.00, 0.01, ... 0.50


def style_directions_hash(config: StyleDirectionsConfig, pack: Pack, channels: ChannelTable) -> str:
    """The config hash of the directions, of whatever prompts."""
    return stage_hash(STAGE, config, pack, {"channel_directions": channels.source})


def style_directions_contents(
    config: StyleDirectionsConfig, prompts: Sequence[Prompt], channels: ChannelTable, *, shard: int
) -> Contents:
    """What a shard is made of: a range of prompts, and the channels as they were measured."""
    chosen = [prompts[i] for i in shard_bounds(len(prompts), config.shard_size, shard)]
    listed = keys_of((p.prompt_id, p.model_dump(mode="json")) for p in chosen)
    return {"prompts": listed, "channel_directions": channels.state}


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
        table = editable_channels(config, channels)
        chosen = [prompts[i] for i in shard_bounds(len(prompts), config.shard_size, shard)]
        controls = controls_for({rule_of(prompt, config) for prompt in chosen}, pack, table)
        rows, parts = [], []
        for prompt in chosen:
            row, part = _direct(prompt, config, pack, table, controls)
            rows.append(row)
            if part is not None:
                parts.append(part)
        failures = sum(row.status == "failed" for row in rows)
        directions = pa.concat_tables(parts) if parts else STYLE_DIRECTIONS.schema().empty_table()
        listed = artifact_table(PROMPTS, rows, widths={"text_direction": channels.direction.shape[1]})
        files = {
            part_path(STAGE, shard): storage.table_bytes(directions),
            part_path(PROMPTS.name, shard): storage.table_bytes(listed),
        }
        return Made(files, rows=len(chosen), failures=failures)

    config_hash = style_directions_hash(config, pack, channels)
    contents = style_directions_contents(config, prompts, channels, shard=shard)
    return run_shard(store, STAGE, shard, config_hash=config_hash, contents=contents, pack=pack, make=make)


def _direct(
    prompt: Prompt, config: StyleDirectionsConfig, pack: Pack, channels: ChannelTable, controls: Controls | None
) -> tuple[PromptRow, pa.Table | None]:
    """One prompt's row, and its channels where it has a direction."""
    row = PromptRow.of(prompt, strengths=prompt.strengths or (), status="failed", error=None)
    try:
        text = pack.clip.text_direction(prompt.target, prompt.neutral, templates(config.templates)).cpu()
        row = replace(row, text_direction=text.tolist())
        relevances = relevance(channels.direction, text)
        counts = count_channels(relevances, torch.arange(NUM_THRESHOLDS) / 100)
        row = replace(row, max_relevance=float(relevances.abs().max()), channel_counts=counts.tolist())
        direction = direction_of(prompt, text, config=config, pack=pack, channels=channels, controls=controls)
    except (PromptError, ValueError) as error:
        return replace(row, error=f"prompt {prompt.name!r}: {error}"), None
    row = replace(
        row,
        rule=rule_of(prompt, config),
        relevance_threshold=direction.threshold,
        num_channels=len(direction.rows),
        status="ok",
    )
    part = STYLE_DIRECTIONS.table(
        {
            "prompt_id": [prompt.prompt_id] * len(direction.rows),
            "layer": channels.layer[direction.rows],
            "channel": channels.channel[direction.rows],
            "value": direction.value,
            "relevance": direction.relevance,
            "limit": [None if np.isnan(limit) else limit for limit in direction.limit],
        }
    )
    return row, part
