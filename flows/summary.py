"""The closing table of a run: a line per prompt and strength, and where to look."""

from rich.console import Console
from rich.table import Table
from rich.text import Text

GALLERY = "gallery/index.html"


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
    for heading in ("prompt", "method", "strength", "images", "mean CLIP gain"):
        table.add_column(heading, justify="left" if heading in ("prompt", "method") else "right", overflow="fold")
    for row in read_table(store, SUMMARY_FILE).to_pylist():
        method = row.get("method") or "-"
        strength = "-" if row["strength"] is None else f"{row['strength']:g}"
        if row["status"] == "ok":
            gain = f"{row['mean_clip_gain']:+.3f}" if row["mean_clip_gain"] is not None else "-"
            notes = [f"{row[what]} {what}" for what in ("failed", "saturated") if row[what]]
            table.add_row(row["prompt"], method, strength, ", ".join([str(row["images"]), *notes]), gain)
        else:
            table.add_row(row["prompt"], method, strength, "0", Text(row["error"], "red"))
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
