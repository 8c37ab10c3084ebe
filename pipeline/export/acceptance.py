"""Which edits are good enough, by the thresholds of the export's settings, and why the others are not."""

from collections.abc import Mapping
from typing import Any

from pipeline.config import AcceptRules

# rule -> the score it bounds from below, and from above
LEAST = {
    "min_kept": "kept",
    "min_identity": "identity_similarity",
    "min_clip_gain": "clip_gain",
    "min_clip_direction": "clip_direction",
    "min_judge_probability": "judged_probability",
}
MOST = {"max_pixel_distance": "pixel_distance"}


def reject_reason(rules: AcceptRules, row: Mapping[str, Any]) -> str | None:
    """Why an edit is rejected, the reasons of all rules it breaks; None where it is accepted.

    A rule on a score that the edit does not have (null: no such network, or a prompt that no judge can read) does not
    apply to it.

    Args:
        rules: the thresholds.
        row: the edit's scores.
    """
    broken = []
    if rules.require_hit and row.get("hit") is False:
        broken.append(f"no hit: {row.get('judged_attribute')} is {row.get('judged_after')}")
    if rules.reject_already and row.get("already"):
        broken.append(f"already {row.get('judged_wanted')} before the edit")
    for rule, score in LEAST.items():
        broken += _bound(getattr(rules, rule), score, row.get(score), below=True)
    for rule, score in MOST.items():
        broken += _bound(getattr(rules, rule), score, row.get(score), below=False)
    return "; ".join(broken) or None


def _bound(limit: float | None, score: str, value: float | None, *, below: bool) -> list[str]:
    if limit is None or value is None or (value >= limit if below else value <= limit):
        return []
    return [f"{score} {value:.3g} {'below' if below else 'above'} {limit:g}"]
