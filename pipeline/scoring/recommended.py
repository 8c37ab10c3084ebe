"""Recommended settings, wherever they come from: trials of their own, or the dose-response of a comparison."""

from collections.abc import Mapping, Sequence
from typing import Any

import storage
from pipeline.errors import MissingInputError
from pipeline.runs.shard import find_optional_input
from storage import Store

KEPT = 0.95  # share of the other attributes that a recommended dose keeps
CURVES = "comparison_curves.parquet"
CHEAPEST = ("global", "mapper", "optimize", "tedigan")  # of equal methods the one that costs least


def load_recommended(store: Store) -> list[dict[str, Any]]:
    """Rows with prompt, method, rule, num_channels and strength; ``target`` where it is known.

    From ``recommended_settings``, else ``chosen_settings``, else the curves of a comparison.

    Raises:
        MissingInputError: if the run holds none of them.
    """
    for stage in ("recommended_settings", "chosen_settings"):
        found = find_optional_input(stage, store)
        if found is not None:
            return [row for row in found.table().to_pylist() if row["status"] == "ok"]
    if storage.read_stage(store, "comparison") is not None:
        return recommend_doses(storage.read_table(store, CURVES).to_pylist())
    raise MissingInputError(
        f"`settings_from` must name a run with recommended settings or a comparison; {store.uri} holds neither. Run "
        f"`styleclip recommend-settings` or `styleclip compare-methods` there."
    )


def recommend_doses(curves: Sequence[Mapping[str, Any]], *, kept: float = KEPT) -> list[dict[str, Any]]:
    """Per prompt the method and strength of the most hits that keep a share of the rest, from dose-response curves.

    Equals go to the method that costs least, then to the weaker strength. A prompt that no dose both moves and keeps
    has no row. Where nothing sees what was kept (no oracle), the curves have no such column, and hits alone decide.
    """
    rows = []
    for prompt in dict.fromkeys(row["prompt"] for row in curves):
        of_prompt = [row for row in curves if row["prompt"] == prompt]
        fits = [r for r in of_prompt if r.get("hit") and (share := r.get("kept", 1.0)) is not None and share >= kept]
        if fits:
            best = max(fits, key=lambda r: (r["hit"], -CHEAPEST.index(r["method"]), -abs(r["strength"])))
            taken = {name: best.get(name) for name in ("prompt", "method", "strength", "hit", "kept")}
            rows.append({**taken, "rule": None, "num_channels": None})
    return rows
