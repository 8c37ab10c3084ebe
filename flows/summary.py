"""The closing table of a run: a line per prompt and strength, and where to look."""

import json
from collections.abc import Mapping, Sequence
from typing import Any

from rich.console import Console
from rich.table import Table
from rich.text import Text

GALLERY = "gallery/index.html"
SECONDS = "comparison_seconds.json"  # method to seconds for its edits and for their images, beside a comparison


def print_summary(run: str, console: Console) -> None:
    """Print what the report of a run found.

    Args:
        run: the run's folder.
        console: where to print.
    """
    from pipeline.stages.report import CONTACT_SHEET, SUMMARY_FILE
    from storage import Store, read_table

    store = Store(run)
    table = Table(title_justify="left")
    words = ("prompt", "method", "verdict")
    rows = read_table(store, SUMMARY_FILE).to_pylist()
    judged = any(row.get("mean_judge_gain") is not None for row in rows)
    gain = "mean gain: guide, judge" if judged else "mean CLIP gain"
    for heading in ("prompt", "method", "strength", "images", gain, "verdict"):
        table.add_column(heading, justify="left" if heading in words else "right", overflow="fold")
    for row in rows:
        method = row.get("method") or "-"
        strength = "-" if row["strength"] is None else f"{row['strength']:g}"
        if row["status"] == "ok":
            gains = [row["mean_clip_gain"], *([row["mean_judge_gain"]] if judged else [])]
            gain = ", ".join("-" if x is None else f"{x:+.3f}" for x in gains)
            notes = [f"{row[what]} {what}" for what in ("failed", "saturated") if row[what]]
            images = ", ".join([str(row["images"]), *notes])
            table.add_row(row["prompt"], method, strength, images, gain, row["verdict"] or "-")
        else:
            table.add_row(row["prompt"], method, strength, "0", "-", Text(row["error"], "red"))
    console.print(table)
    console.print(f"contact sheet: {store.uri}/{CONTACT_SHEET}{fate(store.uri)}", soft_wrap=True)
    if store.exists(GALLERY):
        console.print(f"gallery:       {store.uri}/{GALLERY}{fate(store.uri)}", soft_wrap=True)
    if not fate(store.uri):
        console.print(f'open it:       pandas.read_parquet("{store.uri}/dataset")', soft_wrap=True)


def fate(uri: str) -> str:
    """What to add to the place of a result that ends with the process; empty where it stays."""
    return (
        " (in memory only: gone when this process ends; give --run a folder or bucket)"
        if uri.startswith("memory:")
        else ""
    )


def print_reachability(rows: Sequence[Mapping[str, Any]], console: Console, *, as_json: bool) -> None:
    """Print what is known of prompts before they are tried: a table, or one JSON object a prompt and line."""
    if as_json:
        for row in rows:
            console.print(json.dumps(row), soft_wrap=True, highlight=False)
        return
    table = Table(title_justify="left")
    for heading in ("prompt", "reachable", "score", "needed", "unknown words", "suggestions"):
        table.add_column(heading, justify="right" if heading in ("score", "needed") else "left", overflow="fold")
    for row in rows:
        answer = Text("yes", "green") if row["reachable"] else Text("no", "red")
        numbers = (f"{row['score']:.3f}", f"{row['threshold']:.3f}")
        table.add_row(row["name"], answer, *numbers, ", ".join(row["unknown_words"]), " ".join(row["suggestions"]))
    console.print(table)


def comparison_rows(run: str) -> list[dict[str, Any]]:
    """The comparison of a run's methods by class as a table shows it: cells as text, without what nobody could see.

    Renders are of one prompt and all latents; seconds are of the method's whole list, on the machine it ran on: to find
    the edits, and to draw and score them at every strength.
    """
    from pipeline.scoring.comparison_text import interval, share, whole
    from pipeline.stages.comparison import CLASSES
    from storage import Store, read_table

    store = Store(run)
    seconds = json.loads(store.read_bytes(SECONDS)) if store.exists(SECONDS) else {}
    found = []
    for row in read_table(store, CLASSES).to_pylist():
        spent = seconds.get(row["method"], {})
        cells = {name: str(row[name]) for name in ("class", "method", "prompts", "latents")}
        cells |= {"target reached": share(row["hit_at_kept"]), "95 %": interval(row)}
        cells |= {"others kept": share(row["kept"])} if "kept" in row else {}
        cells |= {"renders a prompt": whole(row["renders"])}
        cells |= {"s to find": whole(spent.get("edits")), "s to draw": whole(spent.get("images"))}
        found.append(cells)
    return found


def print_comparison(run: str, console: Console) -> None:
    """Print the comparison of a run's methods by class, and where the rest is."""
    from pipeline.stages.comparison import TEXT
    from storage import Store

    rows = comparison_rows(run)
    table = Table(title_justify="left")
    for heading in rows[0]:
        table.add_column(heading, justify="left" if heading in ("class", "method") else "right")
    for row in rows:
        table.add_row(*row.values())
    console.print(table)
    console.print(f"tables, plots and pictures: {Store(run).uri}/{TEXT} and beside it", soft_wrap=True)
