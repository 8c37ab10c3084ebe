"""Plots of a comparison, as PNG bytes; matplotlib is the optional extra ``plots``."""

import importlib.util
import io
from collections.abc import Mapping, Sequence
from typing import Any

Row = Mapping[str, Any]
SIZE = (5.0, 3.6)  # inches of one panel
MARKS = "osD^vPX*"


def can_plot() -> bool:
    """Whether matplotlib is installed."""
    return importlib.util.find_spec("matplotlib") is not None


def plot_hit_against_kept(rows: Sequence[Row], *, kept: float) -> bytes:
    """One panel per class: every prompt's hits at its best strength against what it kept, with intervals."""
    figure, panels = _panels(list(dict.fromkeys(str(row["class"]) for row in rows)))
    for number, method in enumerate(dict.fromkeys(row["method"] for row in rows)):
        for kind, panel in panels.items():
            part = [r for r in rows if r["method"] == method and str(r["class"]) == kind and r["kept"] is not None]
            if part:
                panel.errorbar(
                    [r["kept"] for r in part],
                    [r["hit_at_kept"] for r in part],
                    xerr=_whiskers(part, "kept"),
                    yerr=_whiskers(part, "hit_at_kept"),
                    fmt=MARKS[number % len(MARKS)],
                    label=method,
                    alpha=0.7,
                    capsize=2,
                )
    for kind, panel in panels.items():
        panel.axvline(kept, color="gray", linewidth=0.8, linestyle=":")
        panel.set(title=kind, xlabel="other attributes kept", ylabel="target reached", ylim=(-0.05, 1.05))
    return _png(figure, panels)


def plot_dose_response(rows: Sequence[Row]) -> bytes:
    """One panel per method: change of the target's score, hits and kept against strength, means over prompts."""
    figure, panels = _panels(list(dict.fromkeys(row["method"] for row in rows)))
    for method, panel in panels.items():
        of_method = [row for row in rows if row["method"] == method]
        strengths = sorted({row["strength"] for row in of_method})
        for number, (column, name) in enumerate((("target_gain", "score gained"), ("hit", "hit"), ("kept", "kept"))):
            values = [_mean([r[column] for r in of_method if r["strength"] == strength]) for strength in strengths]
            panel.plot(strengths, values, marker=MARKS[number], label=name)
        panel.set(title=method, xlabel="strength", ylim=(-0.15, 1.05))
    return _png(figure, panels)


def plot_cost_against_quality(rows: Sequence[Row]) -> bytes:
    """Hits that keep the rest against the renders behind them, one mark per prompt and method."""
    figure, panels = _panels(["renders and hits"])
    (panel,) = panels.values()
    for number, method in enumerate(dict.fromkeys(row["method"] for row in rows)):
        part = [row for row in rows if row["method"] == method]
        cost = [max(row["renders"] or 0.0, 1.0) for row in part]
        panel.plot(cost, [r["hit_at_kept"] for r in part], MARKS[number % len(MARKS)], label=method, alpha=0.7)
    panel.set(xscale="log", xlabel="renders per prompt, all latents", ylabel="target reached", ylim=(-0.05, 1.05))
    return _png(figure, panels)


def _panels(names: Sequence[str]) -> tuple[Any, dict[str, Any]]:
    from matplotlib.figure import Figure  # an optional extra

    figure = Figure(figsize=(SIZE[0] * len(names), SIZE[1]), layout="constrained")
    axes = figure.subplots(1, len(names), squeeze=False)[0]
    return figure, dict(zip(names, axes, strict=True))


def _png(figure: Any, panels: Mapping[str, Any]) -> bytes:
    for panel in panels.values():
        panel.grid(alpha=0.3)
        if panel.get_legend_handles_labels()[0]:
            panel.legend(fontsize="small")
    buffer = io.BytesIO()
    figure.savefig(buffer, format="png", dpi=100, metadata={"Software": None})
    return buffer.getvalue()


def _whiskers(rows: Sequence[Row], name: str) -> list[list[float]]:
    """Lengths of the whiskers below and above."""
    below = [max(row[name] - row[f"{name}_low"], 0.0) for row in rows]
    return [below, [max(row[f"{name}_high"] - row[name], 0.0) for row in rows]]


def _mean(values: Sequence[float | None]) -> float:
    seen = [value for value in values if value is not None]
    return sum(seen) / len(seen) if seen else float("nan")
