"""Recommended settings: what serves each prompt best, found on a few latents, for other runs to take over."""

from typing import TYPE_CHECKING, Any

from flows.commands import Request, command
from flows.global_directions import DIRECTIONS, prepare_directions
from flows.parameters import (
    INPUTS,
    MODE,
    PROMPTS,
    REFERENCE,
    REUSE_DIRECTIONS,
    RUN,
    RUN_ON,
    WORKERS,
    Parameter,
    Uri,
    settings_of,
)
from flows.settings_trials import run_trials
from pipeline.config import ScreeningConfig, StyleDirectionsConfig, TrialsConfig

if TYPE_CHECKING:
    from pipeline.prompts import Prompt
    from storage import Store

LIST = "recommended_settings.csv"  # a prompt list, for people and for --prompts
SETTINGS_FROM = Parameter(
    "settings_from",
    Uri | None,
    None,
    "A run of recommend-settings or compare-methods: its prompts get method, rule, channels and strength from there, "
    "as far as the list does not give them.",
    shown="the list and the pack",
)


@command(
    "Rule, channels and strength that serve each prompt best, by trial.",
    PROMPTS,
    RUN,
    INPUTS,
    *RUN_ON,
    DIRECTIONS,
    MODE,
    REUSE_DIRECTIONS,
    settings_of(ScreeningConfig),
    settings_of(StyleDirectionsConfig, only=["shard_size"]),
    settings_of(TrialsConfig),
    REFERENCE,
    WORKERS,
)
def recommend_settings(request: Request) -> dict[str, Any]:
    """Try settings for each global prompt on a few latents; take the most hits that keep the rest.

    Writes RUN/recommended_settings, with every trial beside it in RUN/recommended_settings_tried, and
    RUN/recommended_settings.csv, which is a prompt list. ``edit-dataset --settings-from RUN`` takes them over. Where no
    oracle can tell a hit, CLIP's similarity and the identity decide, as with settings auto.
    """
    prompts, directions, screened = prepare_directions(request)
    config = request.config(TrialsConfig, by="hit")
    closed, rows = run_trials(request, config, prompts, directions, screened=screened)
    write_list(request.job().store, rows)
    return closed | {"renders": sum(row["renders"] for row in rows)}


def write_list(store: "Store", rows: list[dict[str, Any]]) -> None:
    """The recommendation as a prompt list."""
    import csv
    import io

    text = io.StringIO()
    columns = ("name", "target", "neutral", "method", "rule", "num_channels", "strength")
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(columns)
    for row in rows:
        if row["status"] == "ok":
            given = {**row, "name": row["prompt"]}
            writer.writerow(["" if given[column] is None else given[column] for column in columns])
    store.write_bytes(LIST, text.getvalue().encode())


def take_over(prompts: "list[Prompt]", run: str) -> "tuple[list[Prompt], list[str]]":
    """Prompts with what a run recommends, and the names of those that it does not know.

    Found by name and target text. What a prompt gives itself stays; one that names another method than global, or gives
    any of the settings of one, keeps its method.

    Raises:
        MissingInputError: if the run recommends nothing.
    """
    from pipeline.scoring.recommended import load_recommended
    from storage import Store

    known = {row["prompt"]: row for row in load_recommended(Store(run))}
    taken, unknown = [], []
    for prompt in prompts:
        row = known.get(prompt.name)
        if row is None or row.get("target") not in (None, prompt.target):
            unknown.append(prompt.name)
            taken.append(prompt)
        else:
            taken.append(_taken(prompt, row))
    return taken, unknown


def _taken(prompt: "Prompt", row: dict[str, Any]) -> "Prompt":
    strengths = prompt.strengths or (row["strength"],)
    if row["method"] != "global":
        own = (prompt.rule, prompt.num_channels, prompt.relevance_threshold, prompt.settings, prompt.strengths)
        if prompt.method == "global" and all(value is None for value in own):
            return prompt.model_copy(update={"method": row["method"], "strengths": strengths})
        return prompt.model_copy(update={"strengths": strengths}) if prompt.method == row["method"] else prompt
    if prompt.method != "global":
        return prompt
    update: dict[str, Any] = {"rule": prompt.rule or row["rule"], "strengths": strengths, "settings": "default"}
    if prompt.num_channels is None and prompt.relevance_threshold is None:
        update["num_channels"] = row["num_channels"]
    return prompt.model_copy(update=update)
