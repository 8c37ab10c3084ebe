"""The edits of a run: what each prompt's method came to, at which strengths, and what the edit depends on."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import lru_cache
from typing import Any

from pipeline.config import EditedLatentsConfig
from pipeline.errors import PipelineError, PromptError
from pipeline.packs.pack import Pack
from pipeline.prompts import Method, Prompt, templates
from pipeline.rows import PromptRow, rows_of
from pipeline.runs.contents import keys_of
from pipeline.runs.shard import Input
from pipeline.schemas import PROMPTS

SOURCES: dict[Method, str] = {
    "global": "style_directions",
    "mapper": "mappers",
    "optimize": "optimized_latents",
    "tedigan": "tedigan_latents",
}


@dataclass(frozen=True)
class Edits:
    """The prompts of a run, judged: what is rendered and what failed.

    Attributes:
        rows: one per prompt in list order; strengths are filled in.
        sources: the artifact behind each method in use.
        keys: ``[prompt_id, digest]`` of each; the digest is of all that its edits depend on beside the latent.
    """

    rows: list[PromptRow]
    sources: Mapping[Method, Input]
    keys: list[list[str]]

    @property
    def usable(self) -> list[PromptRow]:
        """Prompts with an edit."""
        return [row for row in self.rows if row.status == "ok"]

    @property
    def per_latent(self) -> int:
        """Rows of the artifact for one latent: every usable prompt at every strength."""
        return sum(len(row.strengths) for row in self.usable)

    @property
    def text_width(self) -> int:
        """Length of a text direction."""
        return next(len(row.text_direction) for row in self.usable if row.text_direction is not None)


def load_edits(
    config: EditedLatentsConfig, pack: Pack, prompts: Sequence[Prompt], sources: Mapping[Method, Input]
) -> Edits:
    """Collect what each method says of its prompts. ``sources`` holds the artifact of every method in the list.

    Raises:
        PipelineError: if no prompt is usable, with the first prompt's error.
    """
    outcomes: dict[str, _Outcome] = {}
    for method, source in sources.items():
        outcomes |= _outcomes(method, source)
    rows = []
    for prompt in prompts:
        absent = prompt.prompt_id not in outcomes
        if absent and (reasons := _set_aside(sources[prompt.method])):
            error = f"prompt {prompt.name!r}: its shard of {SOURCES[prompt.method]} failed: {reasons}"
            outcomes[prompt.prompt_id] = _Outcome("failed", error, (sources[prompt.method].config_hash,))
        elif absent:
            raise PromptError(
                f"prompt {prompt.name!r} (method {prompt.method!r}) must be in {SOURCES[prompt.method]} of the run; "
                f"it is not. Give every step the same prompt list."
            )
        rows.append(_edit_row(prompt, config, pack, outcomes[prompt.prompt_id]))
    found = [(row.prompt_id, [*_edit_facts(row), outcomes[row.prompt_id].made_from]) for row in rows]
    edits = Edits(rows, sources, keys_of(found))
    if not edits.usable:
        raise PipelineError(
            f"rendering needs at least one usable prompt; all {len(rows)} failed, the first: {rows[0].error}"
        )
    return edits


@dataclass(frozen=True)
class _Outcome:
    """What a method says of a prompt; ``row`` is all that global directions record of it.

    ``made_from`` is what the edit is made from: the settings of its method, and the mapper's weights by their hash.
    """

    status: str
    error: str | None
    made_from: Sequence[str]
    row: PromptRow | None = None


@lru_cache(maxsize=8)
def _outcomes(method: Method, source: Input) -> Mapping[str, _Outcome]:
    """By prompt_id. Every shard asks for them."""
    if method == "global":
        rows = rows_of(PromptRow, source.table(folder=PROMPTS.name))
        return {row.prompt_id: _Outcome(row.status, row.error, (source.config_hash,), row) for row in rows}
    weights = _mapper_digests(source) if method == "mapper" else {}
    outcomes: dict[str, _Outcome] = {}
    table = source.table(["prompt_id", "status", "error"])
    for prompt_id, status, error in zip(*(column.to_pylist() for column in table.columns), strict=True):
        if status == "ok" or prompt_id not in outcomes:  # one latent that worked makes a prompt usable
            made_from = (source.config_hash, weights[prompt_id]) if prompt_id in weights else (source.config_hash,)
            outcomes[prompt_id] = _Outcome(status, error, made_from)
    return outcomes


def _set_aside(source: Input) -> str:
    return "; ".join(dict.fromkeys(reason for _, reason in source.set_aside))


def is_provisional(prompts: Sequence[Prompt], sources: Mapping[Method, Input]) -> bool:
    """Whether a rerun may find more of the prompts usable, because shards of the methods behind them failed."""
    return any(source.provisional or not _is_settled(prompts, m, source) for m, source in sources.items())


def _is_settled(prompts: Sequence[Prompt], method: Method, source: Input) -> bool:
    """Whether the shards that the source lacks could change nothing for its prompts."""
    if not source.set_aside:
        return True
    usable = {prompt_id for prompt_id, outcome in _outcomes(method, source).items() if outcome.status == "ok"}
    return all(prompt.prompt_id in usable for prompt in prompts if prompt.method == method)


def _mapper_digests(mappers: Input) -> dict[str, str]:
    """prompt_id to the SHA-256 of the mapper's weights."""
    recorded = {path: x["sha256"] for i in mappers.present for path, x in mappers.receipt(i).outputs.items()}
    return {prompt_id: recorded[path] for prompt_id, (path, _) in trained_mappers(mappers).items() if path}


def _edit_facts(row: PromptRow) -> list[Any]:
    """What of a prompt its edits and their labels depend on; the numbers behind a direction are not among it."""
    told = (row.prompt, row.target, row.neutral, row.method, row.wants, row.status, row.error)
    return [*told, [float(strength) for strength in row.strengths]]


def default_strengths(method: str, config: EditedLatentsConfig, pack: Pack) -> tuple[float, ...]:
    """Of prompts that give none: the run's or the pack's for global directions; else the pack's share of the move."""
    if method == "global":
        return config.strengths or (pack.description.strength,)
    return (pack.description.move_strengths.get(method, 1.0),)


def _edit_row(prompt: Prompt, config: EditedLatentsConfig, pack: Pack, outcome: _Outcome) -> PromptRow:
    default = default_strengths(prompt.method, config, pack)
    strengths = prompt.strengths or default
    row = PromptRow.of(prompt, strengths=strengths, status=outcome.status, error=outcome.error)
    if (known := outcome.row) is not None:
        return replace(
            row,
            strengths=prompt.strengths or known.strengths or default,  # those that trials chose stand there
            rule=known.rule,
            relevance_threshold=known.relevance_threshold,
            num_channels=known.num_channels,
            max_relevance=known.max_relevance,
            channel_counts=known.channel_counts,
            text_direction=known.text_direction,
        )
    if row.status != "ok":
        return row
    try:
        return replace(row, text_direction=_text_direction(pack, prompt.target, prompt.neutral, config.templates))
    except PromptError as error:  # too long with this template set
        return replace(row, status="failed", error=f"prompt {prompt.name!r}: {error}")


@lru_cache(maxsize=8)
def trained_mappers(mappers: Input) -> Mapping[str, tuple[str, str]]:
    """prompt_id to weights file and description. Every shard asks for every prompt's."""
    columns = mappers.table(["prompt_id", "weights_file", "description"]).columns
    rows = zip(*(column.to_pylist() for column in columns), strict=True)
    return {prompt_id: (weights_file, description) for prompt_id, weights_file, description in rows}


@lru_cache(maxsize=4096)
def _text_direction(pack: Pack, target: str, neutral: str, template_set: str) -> list[float]:
    """Every shard asks for all prompts."""
    return pack.clip.text_direction(target, neutral, templates(template_set)).cpu().tolist()
