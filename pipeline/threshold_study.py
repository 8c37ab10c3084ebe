"""A prompt list at several thresholds: the grid of strengths and thresholds that StyleCLIP's own interface explores."""

from collections.abc import Sequence
from typing import Any

from pipeline.errors import PromptError
from pipeline.prompts import Prompt

AUTO = "auto"
WIDEST = 4  # times the usual number of channels that the lowest threshold of ``auto`` keeps


def threshold_rows(prompts: Sequence[Prompt], thresholds: str, *, usual: int) -> list[dict[str, Any]]:
    """Rows of a prompt list in which every global prompt stands once per threshold; the others stay as they are.

    ``auto:n`` sets thresholds by what they keep: numbers of channels from 1 to ``WIDEST`` times the usual one, each
    about the same factor above the last, fewer than n where they would repeat.

    Args:
        prompts: the list.
        thresholds: relevances from 0 to 1 separated by commas, or ``auto:n``.
        usual: channels that a direction has by default.
    Raises:
        PromptError: if the thresholds are neither, or the list has no global prompt.
    """
    if not any(prompt.method == "global" for prompt in prompts):
        raise PromptError(
            "`thresholds` needs a prompt of method global; the list has none. Leave `thresholds` out: mappers and "
            "searches have no threshold."
        )
    rows = []
    for prompt in prompts:
        row = prompt.row()
        if prompt.method != "global":
            rows.append(row)
            continue
        plain = {key: value for key, value in row.items() if key not in ("relevance_threshold", "num_channels")}
        rows += [{**plain, **setting, "name": name} for setting, name in _settings(prompt.name, thresholds, usual)]
    return rows


def _settings(name: str, thresholds: str, usual: int) -> list[tuple[dict[str, float | int], str]]:
    kind, _, count = thresholds.strip().partition(":")
    try:
        if kind == AUTO:
            kept = channel_counts(int(count), most=WIDEST * usual)
            return [({"num_channels": k}, f"{name} ({k} channel{'s' if k > 1 else ''})") for k in kept]
        relevances = [float(word) for word in thresholds.replace(",", " ").split()]
        if not relevances or not all(0 <= relevance <= 1 for relevance in relevances):
            raise ValueError("relevances go from 0 to 1")
        return [({"relevance_threshold": r}, f"{name} @{r:g}") for r in sorted(set(relevances))]
    except ValueError as error:
        raise PromptError(
            f"`thresholds` must be relevances as in '0.1,0.15' or 'auto:5'; got {thresholds!r} ({error})."
        ) from error


def channel_counts(count: int, *, most: int) -> list[int]:
    """Numbers of channels from 1 to ``most``, about evenly spaced by factor, without repeats.

    Raises:
        ValueError: if fewer than two are asked for.
    """
    if count < 2:
        raise ValueError("a study needs at least two thresholds")
    return sorted({max(1, round(most ** (i / (count - 1)))) for i in range(count)})
