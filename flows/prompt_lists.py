"""Prompt lists in steps: read and checked once a run, warned of before they cost anything."""

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from flows.engine import ENGINE

if TYPE_CHECKING:
    from pipeline.packs.pack import Pack
    from pipeline.prompts import Prompt


def load_prompts(prompts: str | Sequence[Any], *, neutral: str) -> "list[Prompt]":
    """Checked prompts from a URI, from rows, or as an earlier step of the same run has checked them.

    Args:
        prompts: URI, rows, or prompts.
        neutral: text of the image before the edit, where a row has none.
    """
    from pipeline.prompts import check_prompts, read_prompts

    if isinstance(prompts, str):
        return read_prompts(prompts, default_neutral=neutral)
    return check_prompts(prompts, default_neutral=neutral)


def prompt_contents(prompts: "Sequence[Prompt]") -> Mapping[str, Any]:
    """The prompts as a stage's contents: a digest of each by name, none of which may change, and their order."""
    from pipeline.runs.contents import digest

    return {
        "prompt": {p.name: digest(p.model_dump(mode="json")) for p in prompts},
        "order": digest([p.prompt_id for p in prompts]),
    }


def warn_of_unknown_words(prompts: "Sequence[Prompt]", pack: "Pack") -> None:
    """A warning for every prompt with words that the pack's CLIP never saw: they move the edit at random."""
    for prompt in prompts:
        words = [*pack.clip.unknown_words(prompt.target), *pack.clip.unknown_words(prompt.neutral)]
        if words:
            ENGINE.get().log.warning(
                "prompt %r: CLIP of pack %r does not know %s; choose other words or expect them to do nothing",
                prompt.name,
                pack.description.name,
                ", ".join(repr(word) for word in dict.fromkeys(words)),
            )


def warn_of_missing_identity(weight: float, pack: "Pack") -> None:
    """A warning where the identity loss is weighed by default but the pack has no network to see it with."""
    if weight > 0 and pack.description.identity is None:
        ENGINE.get().log.warning(
            "pack %r has no identity network: the identity loss (weight %g) is left out", pack.description.name, weight
        )
