"""Which settings to try for a prompt: a small grid around the pack's own."""

from collections.abc import Sequence

from pipeline.config import SelectionRule, StyleDirectionsConfig
from pipeline.directions.of_prompt import count_of, rule_of
from pipeline.packs.pack import Pack
from pipeline.prompts import Prompt

COUNTS = (1.0, 0.25, 0.5, 2.0, 4.0)  # times the pack's number of channels
SCORED: tuple[SelectionRule, ...] = ("paper", "effect")


def variants(prompt: Prompt, config: StyleDirectionsConfig, pack: Pack, *, has_effect: bool) -> list[Prompt]:
    """The prompt with each setting to try written into it, the one it would have without trials first.

    Rule pursuit by itself, the paper's rule at a quarter to four times the pack's number of channels, and the rule
    of effects at that number, where the channel table holds effects. What the prompt or the run gives stays as given.

    Args:
        prompt: as listed.
        config: of the run's style directions.
        pack: whose recommended number of channels the grid is around.
        has_effect: whether the channel table holds effects.
    """
    usual = rule_of(prompt, config)
    found = [(usual, count_of(prompt, config, pack))]
    rules: Sequence[SelectionRule] = [usual] if prompt.rule is not None else ["pursuit", *SCORED]
    given = prompt.num_channels or config.num_channels
    fixed = given is not None or (prompt.relevance_threshold or config.relevance_threshold) is not None
    for rule in rules:
        if rule in ("agreement", "effect") and not has_effect:
            continue
        if fixed:
            found.append((rule, given))
        elif rule == "pursuit":
            found.append((rule, None))
        else:
            factors = COUNTS if rule == "paper" or len(rules) == 1 else COUNTS[:1]
            found += [(rule, max(1, round(pack.description.num_channels * factor))) for factor in factors]
    return [prompt.model_copy(update={"rule": rule, "num_channels": n}) for rule, n in dict.fromkeys(found)]


def strengths_to_try(prompt: Prompt, pack: Pack, factors: Sequence[float]) -> list[tuple[float, ...]]:
    """Strengths, each to be tried alone: multiples of the pack's; those that the prompt gives, together."""
    if prompt.strengths is not None:
        return [prompt.strengths]
    return [(pack.description.strength,), *((pack.description.strength * f,) for f in factors if f != 1.0)]
