"""Methods side by side: per prompt, per class, at every strength and at equal strength, with intervals over latents.

Letters: n latent, p prompt, s strength.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from jaxtyping import Float

from pipeline.scoring.statistics import (
    at_equal_change,
    bootstrap_interval,
    diversity,
    kernel_distance,
    largest_common_change,
    nan_mean,
)

KEPT = 0.9  # share of the other attributes that an edit must keep to count as one that keeps the rest
MOVES = 0.1  # mean change of the target's score below which a method does not move a prompt at all
Row = Mapping[str, Any]


@dataclass(frozen=True)
class Dose:
    """One prompt by one method at one strength, one entry per latent where an array; NaN: says nothing.

    Attributes:
        prompt: name of the prompt.
        kind: its class; None where it has none.
        method: how it was edited.
        strength: of the edit.
        hit: 1 or 0; NaN where the target was there already or cannot be seen.
        kept: share of the other attributes that stayed.
        change: of the target's score.
        identity: similarity before and after.
        clip_gain: in the eyes of the guide.
        judge_gain: in the eyes of the judge.
        outside: change outside the region the edit should touch.
        changed: attribute to 1 where the oracle sees another category of it after the edit, 0 where not.
        features: unit feature vectors of the edits, [n, d].
    """

    prompt: str
    kind: str | None
    method: str
    strength: float
    hit: Float[np.ndarray, "n"]
    kept: Float[np.ndarray, "n"]
    change: Float[np.ndarray, "n"]
    identity: Float[np.ndarray, "n"]
    clip_gain: Float[np.ndarray, "n"]
    judge_gain: Float[np.ndarray, "n"]
    outside: Float[np.ndarray, "n"]
    changed: Mapping[str, Float[np.ndarray, "n"]]
    features: Float[np.ndarray, "n d"]


def mean_of(values: Float[np.ndarray, "n"]) -> float | None:
    """Mean of what is not NaN, None where there is nothing: a table's null."""
    mean = float(nan_mean(values)) if len(values) else float("nan")
    return None if np.isnan(mean) else mean


def _with_interval(name: str, values: Float[np.ndarray, "n"]) -> dict[str, float | None]:
    low, high = bootstrap_interval(values)
    ends = {f"{name}_low": low, f"{name}_high": high}
    return {name: mean_of(values)} | {key: None if np.isnan(end) else end for key, end in ends.items()}


def dose_row(dose: Dose, unedited: Float[np.ndarray, "n d"]) -> dict[str, Any]:
    """A point of a dose-response curve: means, intervals of hit and kept, and how alike the edits are.

    ``changed_<attribute>`` is the share of latents whose attribute another edit changed: attribute dependency, on
    labels, as StyleSpace (Wu et al. 2021) counts it on logits. ``kid`` is the kernel distance of the edits' features
    to those of the unedited images.
    """
    enough = min(len(dose.features), len(unedited)) >= 2
    spread = diversity(dose.features)
    return {
        "prompt": dose.prompt,
        "class": dose.kind,
        "method": dose.method,
        "strength": dose.strength,
        "images": len(dose.hit),
        "judged": int((~np.isnan(dose.hit)).sum()),
        **_with_interval("hit", dose.hit),
        **_with_interval("kept", dose.kept),
        "target_gain": mean_of(dose.change),
        "identity": mean_of(dose.identity),
        "clip_gain": mean_of(dose.clip_gain),
        "judge_gain": mean_of(dose.judge_gain),
        "outside_change": mean_of(dose.outside),
        "diversity": None if np.isnan(spread) else spread,
        "kid": kernel_distance(dose.features, unedited) if enough else None,
        **{f"changed_{name}": mean_of(values) for name, values in dose.changed.items()},
    }


def group_doses(doses: Sequence[Dose]) -> dict[tuple[str, str], list[Dose]]:
    """(prompt, method) to its doses, weakest first, in the order they came."""
    found: dict[tuple[str, str], list[Dose]] = {}
    for dose in doses:
        found.setdefault((dose.prompt, dose.method), []).append(dose)
    return {key: sorted(part, key=lambda dose: abs(dose.strength)) for key, part in found.items()}


def best_keeping(doses: Sequence[Dose], *, kept: float = KEPT) -> Dose | None:
    """The dose of the most hits among those that keep a share of the rest; the weakest of equals.

    Doses without judged latents are passed over. None where no dose keeps so much. Where nobody can tell what is kept,
    which takes an oracle, every dose will do.
    """
    known = [(dose, mean_of(dose.kept)) for dose in doses if mean_of(dose.hit) is not None]
    fits = [dose for dose, share in known if share is None or share >= kept]
    return max(fits, key=lambda d: (mean_of(d.hit) or 0.0, -abs(d.strength))) if fits else None


def method_rows(doses: Sequence[Dose], *, kept: float = KEPT) -> list[dict[str, Any]]:
    """One row per prompt and method: the best dose that keeps the rest, and what holds at equal strength.

    ``hit_at_kept`` is the hit of ``best_keeping``; a method that nowhere keeps so much has 0. Columns that begin with
    ``matched`` are read where the method's edits change the target's score as much as the weakest of those methods'
    that move the prompt at all (``MOVES``); null where a method does not get there.
    """
    rows = []
    groups = group_doses(doses)
    for prompt in dict.fromkeys(dose.prompt for dose in doses):
        of_prompt = {method: part for (name, method), part in groups.items() if name == prompt}
        curves = {method: [0.0, *((mean_of(d.change) or 0.0) for d in part)] for method, part in of_prompt.items()}
        moving = [curve for curve in curves.values() if max(curve) >= MOVES]
        wanted = largest_common_change(moving) if moving else float("nan")
        for method, part in of_prompt.items():
            best = best_keeping(part, kept=kept)
            curve = curves[method]
            matched = {
                "hit": [0.0, *((mean_of(d.hit) or 0.0) for d in part)],
                "kept": [1.0, *(np.nan if mean_of(d.kept) is None else mean_of(d.kept) for d in part)],
                "identity": [1.0, *(np.nan if mean_of(d.identity) is None else mean_of(d.identity) for d in part)],
            }
            values = {f"matched_{name}": at_equal_change(curve, ys, wanted) for name, ys in matched.items()}
            empty = np.zeros(0)
            rows.append(
                {
                    "prompt": prompt,
                    "class": part[0].kind,
                    "method": method,
                    "images": len(part[0].hit),
                    "judged": int((~np.isnan(part[0].hit)).sum()),
                    "strength": None if best is None else best.strength,
                    **_with_interval("hit_at_kept", _hits_at(part, best)),
                    **_with_interval("kept", empty if best is None else best.kept),
                    "identity": None if best is None else mean_of(best.identity),
                    "largest_target_gain": max(curve),
                    "matched_target_gain": None if np.isnan(wanted) else wanted,
                    **{name: None if np.isnan(value) else value for name, value in values.items()},
                }
            )
    return rows


def _hits_at(part: Sequence[Dose], best: Dose | None) -> Float[np.ndarray, "n"]:
    """Hits of the best dose; where none keeps the rest, 0 for every latent that could have been hit."""
    return best.hit if best is not None else np.where(np.isnan(part[0].hit), np.nan, 0.0)


def class_rows(doses: Sequence[Dose], *, kept: float = KEPT) -> list[dict[str, Any]]:
    """One row per class and method: the mean over prompts of the hits that keep the rest.

    The interval is over latents: every latent's mean over the class's prompts, drawn again with replacement.
    """
    groups = group_doses(doses)
    rows = []
    for kind in dict.fromkeys(dose.kind for dose in doses):
        for method in dict.fromkeys(dose.method for dose in doses if dose.kind == kind):
            parts = [part for (_, m), part in groups.items() if m == method and part[0].kind == kind]
            best = [best_keeping(part, kept=kept) for part in parts]
            hits = np.stack([_hits_at(part, dose) for part, dose in zip(parts, best, strict=True)])
            found = [dose for dose in best if dose is not None]
            keeps = np.stack([dose.kept for dose in found]) if found else np.zeros((1, 0))
            rows.append(
                {
                    "class": kind,
                    "method": method,
                    "prompts": len(parts),
                    "latents": hits.shape[1],
                    "judged": int((~np.isnan(hits)).sum()),
                    **_with_interval("hit_at_kept", nan_mean(hits, axis=0)),
                    "kept": mean_of(keeps.reshape(-1)),
                }
            )
    return rows
