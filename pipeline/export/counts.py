"""What a dataset holds, counted from its labels one shard at a time."""

from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field

import pyarrow as pa

from pipeline.export.rows import SUBSET, label_name
from pipeline.prompts import ORIGINAL

AVERAGED = ("hit", "kept", "identity_similarity", "clip_gain")


@dataclass
class PromptCounts:
    """Edits of one prompt: how many, how many accepted, and sums of the scores that there are."""

    edits: int = 0
    accepted: int = 0
    sums: Counter[str] = field(default_factory=Counter)
    seen: Counter[str] = field(default_factory=Counter)

    def mean(self, score: str) -> float | None:
        """Mean over the edits that have the score; None where none has."""
        return self.sums[score] / self.seen[score] if self.seen[score] else None


@dataclass
class Counts:
    """A whole dataset.

    Attributes:
        rows: by subset.
        latents: how many faces.
        prompts: by prompt_id.
        categories: by attribute and category, rows of every subset.
        reasons: edits by the reason that they were rejected, numbers left out.
    """

    rows: Counter[str] = field(default_factory=Counter)
    latents: int = 0
    prompts: dict[str, PromptCounts] = field(default_factory=dict)
    categories: dict[tuple[str, str], Counter[str]] = field(default_factory=dict)
    reasons: Counter[str] = field(default_factory=Counter)


def count_labels(tables: Iterable[pa.Table], attributes: Sequence[str]) -> Counts:
    """Counts over the labels of a run, one table of whole latents at a time."""
    counts = Counts()
    for table in tables:
        counts.rows.update(table[SUBSET].to_pylist())
        counts.latents += len(set(table["latent_id"].to_pylist()))
        for attribute in attributes:
            for category, subset in zip(
                table[label_name(attribute)].to_pylist(), table[SUBSET].to_pylist(), strict=True
            ):
                if category is not None:
                    counts.categories.setdefault((attribute, category), Counter())[subset] += 1
        for row in table.select(["prompt_id", "accept", "reject_reason", *AVERAGED]).to_pylist():
            if row["prompt_id"] != ORIGINAL:
                _count_edit(counts, row)
    counts.categories = dict(sorted(counts.categories.items()))
    return counts


def _count_edit(counts: Counts, row: dict) -> None:
    of = counts.prompts.setdefault(row["prompt_id"], PromptCounts())
    of.edits += 1
    of.accepted += row["accept"]
    for score in AVERAGED:
        if row[score] is not None:
            of.sums[score] += row[score]
            of.seen[score] += 1
    for reason in (row["reject_reason"] or "").split("; "):
        if reason:
            counts.reasons[_kind(reason)] += 1


def _kind(reason: str) -> str:
    """A reason without its own number: ``kept below 0.8``."""
    words = reason.split(" ")
    return " ".join([words[0], *words[2:]]) if len(words) == 4 and words[2] in ("below", "above") else reason
