"""Balanced requests: which images to take so that every wanted attribute has its share, or why that cannot be.

Letters: c cell, one combination of categories of the wanted attributes.
"""

import hashlib
from collections import Counter
from collections.abc import Mapping, Sequence
from itertools import product
from math import prod

import numpy as np

from pipeline.config import BalanceConfig
from pipeline.errors import PipelineError

EVEN = "even"
ROUNDS = 500  # of fitting; each brings every attribute's shares nearer
SETTLED = 1e-6  # images by which no cell changes any more
Cell = tuple[str, ...]


def wanted_shares(request: BalanceConfig, attributes: Mapping[str, Sequence[str]]) -> dict[str, dict[str, float]]:
    """Share of every category of the wanted attributes; categories that are not named get none.

    Raises:
        PipelineError: if an attribute or category is none that the judge knows, or shares do not add up to 1.
    """
    shares = {}
    for attribute, wanted in request.attributes.items():
        known = attributes.get(attribute)
        if known is None:
            raise PipelineError(f"`balance` must name attributes of {sorted(attributes)}; got {attribute!r}.")
        named = dict.fromkeys(known, 1 / len(known)) if wanted == EVEN else dict(wanted)
        if set(named) - set(known) or abs(sum(named.values()) - 1) > 1e-6 or min(named.values()) < 0:
            raise PipelineError(
                f"`balance` of {attribute!r} must give shares of {list(known)} that add up to 1, or be '{EVEN}'; got "
                f"{named}."
            )
        shares[attribute] = named
    return shares


def choose_balanced(
    request: BalanceConfig, shares: Mapping[str, Mapping[str, float]], images: Mapping[str, Cell]
) -> set[str]:
    """The images to take, ``request.total`` of them, each attribute's shares within ``request.tolerance``.

    First every cell is to have the product of its shares. Where a cell holds fewer images, the others are scaled up,
    attribute by attribute, until the shares of each attribute hold (iterative proportional fitting, Deming and Stephan
    1940, with the images at hand as upper bounds). Within a cell a hash of the name decides.

    Args:
        request: total and tolerance.
        shares: of every category of the wanted attributes.
        images: the categories of every image that may be taken, in the order of ``shares``.
    Raises:
        PipelineError: if there is no such choice, with the numbers.
    """
    cells = list(product(*(list(of) for of in shares.values())))
    there = Counter(images.values())
    most = np.array([there[cell] for cell in cells], dtype=float)
    counts = _fitted(request, shares, cells, most)
    missing = _missing(request, shares, cells, counts)
    if missing:
        raise PipelineError(
            f"{request.total} balanced images must have shares within {request.tolerance:g} of those asked for; the "
            f"run has {int(most.sum())} that may be taken, and cannot give: {'; '.join(missing)}. Render more faces or "
            f"edits towards these categories, ask for fewer images, or allow a wider tolerance."
        )
    chosen: set[str] = set()
    for cell, count in zip(cells, counts, strict=True):
        names = [name for name, of in images.items() if of == cell]
        chosen.update(sorted(names, key=_shuffled)[: int(count)])
    return chosen


def _fitted(
    request: BalanceConfig, shares: Mapping[str, Mapping[str, float]], cells: Sequence[Cell], most: np.ndarray
) -> np.ndarray:
    """Whole numbers of images per cell, none above ``most``."""
    products = [prod(of[category] for of, category in zip(shares.values(), cell, strict=True)) for cell in cells]
    counts = np.minimum(request.total * np.array(products), most)
    for _ in range(ROUNDS):
        before = counts.copy()
        for axis, of in enumerate(shares.values()):
            for category, share in of.items():
                inside = np.array([cell[axis] == category for cell in cells])
                counts[inside] = _scaled(counts[inside], most[inside], request.total * share)
        if np.abs(counts - before).max() < SETTLED:
            break
    return _filled(request, shares, cells, most, np.floor(counts + 1e-9))


def _filled(
    request: BalanceConfig,
    shares: Mapping[str, Mapping[str, float]],
    cells: Sequence[Cell],
    most: np.ndarray,
    counts: np.ndarray,
) -> np.ndarray:
    """The images that rounding and bounds left out, each where its categories are furthest below their shares."""
    members = [
        (np.array([cell[axis] == category for cell in cells]), request.total * share)
        for axis, of in enumerate(shares.values())
        for category, share in of.items()
    ]
    asked = np.all([inside.astype(float) * wanted + ~inside for inside, wanted in members], axis=0)
    while counts.sum() < request.total:
        lacking = sum(inside * (wanted - counts[inside].sum()) for inside, wanted in members)
        lacking = np.where((counts < most) & asked, lacking, -np.inf)
        place = int(np.argmax(lacking))
        if not np.isfinite(lacking[place]):
            break
        counts[place] += 1
    return counts


def _scaled(counts: np.ndarray, most: np.ndarray, wanted: float) -> np.ndarray:
    """Counts scaled to add up to ``wanted``, none above its bound; all at their bounds where that is less."""
    counts = np.where((counts == 0) & (most > 0), 1e-9, counts)
    if most.sum() <= wanted:
        return most.copy()
    for _ in range(len(counts) + 1):
        total = counts.sum()
        if abs(total - wanted) < 1e-9 or total == 0:
            break
        free = counts < most if total < wanted else np.ones(len(counts), dtype=bool)
        fixed = counts[~free].sum()
        counts = np.where(free, np.minimum(counts * max(wanted - fixed, 0) / counts[free].sum(), most), counts)
    return counts


def _missing(
    request: BalanceConfig, shares: Mapping[str, Mapping[str, float]], cells: Sequence[Cell], counts: np.ndarray
) -> list[str]:
    missing = []
    if counts.sum() < request.total:
        missing.append(f"{int(counts.sum())} of {request.total} images in all")
    for axis, (attribute, of) in enumerate(shares.items()):
        for category, share in of.items():
            found = sum(n for cell, n in zip(cells, counts, strict=True) if cell[axis] == category)
            if abs(found / request.total - share) > request.tolerance + 1e-9:
                missing.append(f"{attribute}={category}: {int(found)} where {request.total * share:.0f} are wanted")
    return missing


def _shuffled(name: str) -> str:
    return hashlib.sha256(name.encode()).hexdigest()
