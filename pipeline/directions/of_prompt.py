"""The direction of a prompt: settings of the run, the prompt's own and the pack's, put together."""

from jaxtyping import Float
from torch import Tensor

from pipeline.config import SelectionRule, StyleDirectionsConfig
from pipeline.directions.direction import StyleDirection, compute_style_direction
from pipeline.directions.groups import Controls, find_controls
from pipeline.directions.table import ChannelTable, published_layers
from pipeline.packs.pack import Pack
from pipeline.prompts import Prompt


def editable_channels(config: StyleDirectionsConfig, channels: ChannelTable) -> ChannelTable:
    """The rows of a table that these settings may move."""
    return published_layers(channels) if config.relevance_layers == "res<=128" else channels


def controls_for(rules: set[SelectionRule], pack: Pack, channels: ChannelTable) -> Controls | None:
    """The table's controls, where one of the rules asks for them."""
    return find_controls(pack, channels) if "pursuit" in rules else None


def rule_of(prompt: Prompt, config: StyleDirectionsConfig) -> SelectionRule:
    """The prompt's own rule, else the run's."""
    return prompt.rule or config.rule


def count_of(prompt: Prompt, config: StyleDirectionsConfig, pack: Pack) -> int | None:
    """How many channels a direction keeps: the prompt's number, the run's, the pack's; None where pursuit finds it."""
    count = prompt.num_channels or config.num_channels
    return pack.description.num_channels if count is None and rule_of(prompt, config) != "pursuit" else count


def direction_of(
    prompt: Prompt,
    text_direction: Float[Tensor, "d"],
    *,
    config: StyleDirectionsConfig,
    pack: Pack,
    channels: ChannelTable,
    controls: Controls | None,
) -> StyleDirection:
    """The style direction of a prompt.

    Args:
        prompt: what it gives wins over ``config``.
        text_direction: unit vector from its neutral to its target text.
        config: of the run.
        pack: its number of channels is taken where nothing else is said.
        channels: see ``editable_channels``.
        controls: see ``controls_for``; used by rule pursuit.
    Raises:
        ValueError: as ``compute_style_direction``.
    """
    threshold = prompt.relevance_threshold
    if threshold is None and prompt.num_channels is None:
        threshold = config.relevance_threshold
    rule = rule_of(prompt, config)
    return compute_style_direction(
        channels,
        text_direction,
        relevance_threshold=threshold,
        num_channels=count_of(prompt, config, pack),
        rule=rule,
        guard=config.guard,
        controls=controls if rule == "pursuit" else None,
        lowering=config.lowering,
    )
