"""Yields: how often faces show each combination of the wanted attributes, and what an edit makes of one.

Both are counted on a few faces that were rendered and read; a plan is made from them. An edit's chances are taken
attribute by attribute: given what the attribute was, what it becomes, whatever the others are.

Letters: k category of one attribute; the last one stands for all that is not wanted or cannot be seen.
"""

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float

from pipeline.export.balance import Cell, Shares

AS_IT_IS = ("", 0.0)  # the move that is none
LEAST = 1e-3  # chances below this are taken for none
PRIOR = 1.0  # faces' worth of what an edit does to the others, for a category that was seldom tried
Move = tuple[str, float]  # prompt_id and strength


@dataclass(frozen=True)
class MoveYield:
    """What one edit does, from the faces it was tried on.

    Attributes:
        tried: faces.
        accepted: of them, those whose edit meets the rules.
        becomes: per wanted attribute the chances of what it becomes, by what it was [k, k]; rows add up to 1.
    """

    tried: int
    accepted: int
    becomes: tuple[Float[np.ndarray, "k k"], ...]


@dataclass(frozen=True)
class Yields:
    """What is known before a plan is made.

    Attributes:
        shares: of the request, which fixes the attributes and the order of their categories.
        faces: unedited faces by cell; None in a cell for what is not wanted or cannot be seen.
        moves: by prompt and strength.
    """

    shares: Shares
    faces: Counter[Cell]
    moves: Mapping[Move, MoveYield]

    def outcomes(self, cell: Cell, move: Move) -> dict[Cell, float]:
        """Cells that an edit of a face ends in, with their chances; what is not accepted ends in none."""
        if move == AS_IT_IS:
            return {cell: 1.0}
        known = self.moves[move]
        found: dict[tuple[str | None, ...], float] = {(): known.accepted / known.tried}
        for matrix, category, of in zip(known.becomes, cell, self.shares.values(), strict=True):
            names = categories_of(of)
            row = matrix[names.index(category)]
            found = {
                (*done, name): chance * p
                for done, chance in found.items()
                for name, p in zip(names, row.tolist(), strict=True)
                if chance * p > LEAST
            }
        return found


def categories_of(of: Mapping[str, float]) -> list[str | None]:
    """The wanted categories of an attribute, and None for all others."""
    return [*(category for category, share in of.items() if share > 0), None]


def cell_of(row: Mapping[str, str | None], shares: Shares, *, prefix: str = "") -> Cell:
    """The cell that an image's labels say; None where a category is not wanted or not seen."""
    cell = (row[f"{prefix}{attribute}"] for attribute in shares)
    return tuple(c if c is not None and of.get(c, 0) > 0 else None for c, of in zip(cell, shares.values(), strict=True))


def measure_yields(
    shares: Shares,
    faces: Iterable[Cell],
    edits: Iterable[tuple[Move, Cell, Cell, bool]],
) -> Yields:
    """Count.

    Args:
        shares: of the request.
        faces: cells of unedited faces.
        edits: of every edit that was tried its move, the cells before and after, and whether it is accepted.
    """
    tried: dict[Move, list[tuple[Cell, Cell, bool]]] = {}
    for move, before, after, accepted in edits:
        tried.setdefault(move, []).append((before, after, accepted))
    moves = {}
    for move, rows in tried.items():
        good = [(before, after) for before, after, accepted in rows if accepted]
        becomes = tuple(
            chances_of([(b[axis], a[axis]) for b, a in good], categories_of(of))
            for axis, of in enumerate(shares.values())
        )
        moves[move] = MoveYield(len(rows), len(good), becomes)
    return Yields(shares, Counter(faces), moves)


def chances_of(pairs: Sequence[tuple[str | None, str | None]], names: Sequence[str | None]) -> Float[np.ndarray, "k k"]:
    """Chances of what an attribute becomes, by what it was.

    Where a category was tried on few faces, or on none, the edit's behaviour over all of them counts as ``PRIOR`` more:
    with some chance it leaves the category alone, else it goes where the others that changed went.
    """
    counts = np.zeros((len(names), len(names)))
    for before, after in pairs:
        counts[names.index(before), names.index(after)] += 1
    changed = counts.copy()
    np.fill_diagonal(changed, 0)
    total, moved = counts.sum(), changed.sum()
    arrives = np.diag(counts) * (changed.sum(axis=0) > 0)  # was there already, and others came
    stays = np.diag(counts).sum() - arrives.sum()
    share = stays / (stays + moved) if stays + moved else 1.0
    went = changed.sum(axis=0) / moved if moved else np.zeros(len(names))
    prior = share * np.eye(len(names)) + (1 - share) * went if total else np.eye(len(names))
    tried = counts.sum(axis=1, keepdims=True)
    return (counts + PRIOR * prior) / (tried + PRIOR)
