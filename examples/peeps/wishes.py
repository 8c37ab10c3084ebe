"""What a prompt in free wording should do, in the oracle's words, and whether it did.

A wish is ``attribute=category|category`` or ``attribute!=category|category`` (none of these); several are joined by
semicolons and must all hold.
"""

import csv
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from examples.peeps.domain import ATTRIBUTES, COLORED_HEADS, label_names
from examples.peeps.judge import Verdict, decided

FREE_WORDING = Path(__file__).with_name("free_wording.csv")
SECOND_LIST = Path(__file__).with_name("free_wording_2.csv")
KINDS = ("one wish", "negation", "several")


@dataclass(frozen=True)
class Wish:
    """One condition on an attribute: its category is among these, or among the others."""

    attribute: int
    categories: frozenset[int]

    def holds(self, labels: np.ndarray) -> np.ndarray:
        """Bool [n] for labels [n, attributes]."""
        return np.isin(labels[:, self.attribute], list(self.categories))


@dataclass(frozen=True)
class FreePrompt:
    """A prompt and its wishes."""

    name: str
    kind: str
    target: str
    neutral: str
    wishes: tuple[Wish, ...]


def parse_wishes(text: str) -> tuple[Wish, ...]:
    """Wishes of a ``want`` column.

    Raises:
        ValueError: if an attribute or category does not exist.
    """
    found = []
    for part in text.split(";"):
        name, listed = part.split("!=" if "!=" in part else "=")
        number = label_names().index(name)
        known = list(ATTRIBUTES[number].categories)
        named = frozenset(known.index(c) for c in listed.split("|"))
        found.append(Wish(number, frozenset(range(len(known))) - named if "!=" in part else named))
    return tuple(found)


def read_free_prompts(path: Path = FREE_WORDING) -> list[FreePrompt]:
    """Prompts of a file with the columns name, kind, target, neutral and want."""
    with path.open(newline="") as file:
        return [
            FreePrompt(row["name"], row["kind"], row["target"], row["neutral"], parse_wishes(row["want"]))
            for row in csv.DictReader(file)
        ]


def judge_wishes(before: np.ndarray, after: np.ndarray, wishes: tuple[Wish, ...]) -> Verdict:
    """Hit and kept of the faces that did not show all wishes before.

    A hair colour is only wanted where the hair has a colour of its own, and does not count as kept where the head is
    wanted: another head shows another colour.
    """
    head, color = label_names().index("head"), label_names().index("hair_color")
    wanted = {wish.attribute for wish in wishes}
    fresh = ~np.all([wish.holds(before) for wish in wishes], axis=0)
    if color in wanted and head not in wanted:
        heads = list(ATTRIBUTES[head].categories)
        fresh &= np.isin(before[:, head], [heads.index(h) for h in COLORED_HEADS])
    others = [i for i in range(len(ATTRIBUTES)) if i not in wanted and not (i == color and head in wanted)]
    counts = decided(before, after)[:, others]
    same = (before == after)[:, others] & counts
    hit = np.all([wish.holds(after) for wish in wishes], axis=0)
    return Verdict(hit=hit[fresh], kept=(same.sum(axis=1) / counts.sum(axis=1))[fresh])
