"""A comparison of methods as Markdown: who is ahead of the baseline, the table by class and the table by prompt."""

from collections.abc import Callable, Collection, Mapping, Sequence
from typing import Any

BASELINE = "tedigan"
Row = Mapping[str, Any]
Cells = tuple[tuple[str, str, Callable[[Row], str]], ...]  # heading, the column it needs, what it shows


def share(value: float | None) -> str:
    """A share in percent."""
    return "-" if value is None else f"{value:.0%}"


def interval(row: Row, name: str = "hit_at_kept") -> str:
    """The ends of a column's interval in percent."""
    low, high = row[f"{name}_low"], row[f"{name}_high"]
    return "-" if low is None or high is None else f"{low:.0%} to {high:.0%}"


def whole(value: float | None) -> str:
    """A number without decimals."""
    return "-" if value is None else f"{value:,.0f}"


def _strength(row: Row) -> str:
    return "none keeps it" if row["strength"] is None else f"{row['strength']:g}"


def _number(value: float | None) -> str:
    return "-" if value is None else f"{value:.2f}"


OF_CLASSES: Cells = (
    ("class", "class", lambda r: str(r["class"])),
    ("method", "method", lambda r: r["method"]),
    ("prompts", "prompts", lambda r: str(r["prompts"])),
    ("judged", "judged", lambda r: str(r["judged"])),
    ("target reached", "hit_at_kept", lambda r: share(r["hit_at_kept"])),
    ("95 %", "hit_at_kept", interval),
    ("others kept", "kept", lambda r: share(r["kept"])),
    ("renders a prompt", "renders", lambda r: whole(r["renders"])),
)
OF_PROMPTS: Cells = (
    ("prompt", "prompt", lambda r: r["prompt"]),
    ("class", "class", lambda r: str(r["class"])),
    ("method", "method", lambda r: r["method"]),
    ("judged", "judged", lambda r: str(r["judged"])),
    ("strength", "strength", _strength),
    ("target reached", "hit_at_kept", lambda r: share(r["hit_at_kept"])),
    ("95 %", "hit_at_kept", interval),
    ("kept", "kept", lambda r: share(r["kept"])),
    ("identity", "identity", lambda r: _number(r["identity"])),
    ("at equal change: reached", "matched_hit", lambda r: share(r["matched_hit"])),
    ("kept", "matched_kept", lambda r: share(r["matched_kept"])),
    ("renders", "renders", lambda r: whole(r["renders"])),
)


def comparison_text(
    table: Sequence[Row], classes: Sequence[Row], *, kept: float, columns: Collection[str], missing: Sequence[str]
) -> str:
    """The comparison as Markdown.

    Args:
        table: a row per prompt and method.
        classes: a row per class and method.
        kept: share of the other attributes that an edit must keep to count.
        columns: columns that the tables have; of the others nothing is shown.
        missing: why columns are missing, one line each.
    """
    knows = "kept" in columns
    which = f"best strength that keeps {kept:.0%} of the other attributes" if knows else "strength of the most hits"
    lines = ["# Comparison of methods", "", f"Target reached at the {which}, mean over latents.", ""]
    lines += [*_sentences(classes), ""]
    lines += [f"Missing here: {line}." for line in missing] + ([""] if missing else [])
    return "\n".join([*lines, *_table(OF_CLASSES, classes, columns), "", *_table(OF_PROMPTS, table, columns)]) + "\n"


def _sentences(classes: Sequence[Row]) -> list[str]:
    """The order of the methods in every class, and who is not ahead of the baseline."""
    lines = []
    for kind in dict.fromkeys(row["class"] for row in classes):
        part = {row["method"]: row["hit_at_kept"] or 0.0 for row in classes if row["class"] == kind}
        order = sorted(part, key=lambda method: -part[method])
        line = f"- {kind}: " + ", ".join(f"{method} {part[method]:.0%}" for method in order) + "."
        if BASELINE in part:
            behind = [method for method in part if method != BASELINE and part[method] <= part[BASELINE]]
            line += f" Not ahead of {BASELINE}: {', '.join(behind)}." if behind else f" All are ahead of {BASELINE}."
        lines.append(line)
    return lines


def _table(cells: Cells, rows: Sequence[Row], columns: Collection[str]) -> list[str]:
    shown = [(heading, show) for heading, column, show in cells if column in columns]
    head = [f"| {' | '.join(heading for heading, _ in shown)} |", "|---" * len(shown) + "|"]
    return head + [f"| {' | '.join(show(row) for _, show in shown)} |" for row in rows]
