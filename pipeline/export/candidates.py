"""What a balanced request can draw on: labels of rendered runs and of surveyed faces, as cells of the request."""

from collections.abc import Iterator, Sequence
from typing import Any

from pipeline.config import BalanceConfig
from pipeline.export.balance import Option, Shares, options_of
from pipeline.export.rows import REJECTED, SUBSET, label_name
from pipeline.export.yields import Cell, Yields, cell_of, measure_yields
from pipeline.prompts import ORIGINAL
from pipeline.runs.shard import Input

KEYS = ("image_id", "original_id", "latent_id", "prompt_id", "strength", SUBSET)


def label_cells(labels: Input, shares: Shares) -> Iterator[dict[str, Any]]:
    """Rows of a run's labels with the request's attributes under their own names, an original's under ``before_``."""
    renamed = {f"{when}{label_name(a)}": f"{when}{a}" for a in shares for when in ("", "before_")}
    for shard in range(labels.num_shards):
        table = labels.shard_table(shard).select([*KEYS, *renamed])
        yield from table.rename_columns([*KEYS, *renamed.values()]).to_pylist()


def load_options(request: BalanceConfig, shares: Shares, labels: Sequence[Input]) -> list[Option]:
    """What can be taken of the accepted images of runs."""
    rows = (row for of in labels for row in label_cells(of, shares) if row[SUBSET] != REJECTED)
    return options_of(request, shares, rows)


def surveyed_cells(survey: Input, shares: Shares) -> dict[str, Cell]:
    """Cells of surveyed faces by latent_id, in the order of the survey."""
    table = survey.table(["latent_id", *shares])
    return {row["latent_id"]: cell_of(row, shares) for row in table.to_pylist()}


def load_yields(shares: Shares, surveys: Sequence[Input], labels: Sequence[Input]) -> Yields:
    """What surveyed faces show, and what came of the edits of runs."""
    faces = [cell for survey in surveys for cell in surveyed_cells(survey, shares).values()]
    edits = [
        (
            (row["prompt_id"], row["strength"]),
            cell_of(row, shares, prefix="before_"),
            cell_of(row, shares),
            row[SUBSET] != REJECTED,
        )
        for of in labels
        for row in label_cells(of, shares)
        if row["prompt_id"] != ORIGINAL
    ]
    return measure_yields(shares, faces, edits)
