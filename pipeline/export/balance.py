"""Balanced requests: which images to take so that every wanted attribute has its share, or why that cannot be.

A cell is one combination of categories of the wanted attributes.
"""

import hashlib
from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from itertools import product
from math import prod

from pipeline.config import BalanceConfig
from pipeline.errors import PipelineError
from pipeline.export.linear_program import LinearProgram

EVEN = "even"
MOST_CELLS = 2_000  # beyond, the attributes are balanced each by itself, not their combinations
SHORT, MARGIN, JOINT = 1_000.0, 10.0, 1.0  # what an image costs that is missing, off its category's share, its cell's
Cell = tuple[str | None, ...]
Shares = Mapping[str, Mapping[str, float]]  # attribute -> category -> share


@dataclass(frozen=True)
class Option:
    """What can be taken of a face: an image, or an original and its edit.

    Attributes:
        face: of which one option may be taken; for images that do not exclude each other, the image's own name.
        images: names of what is taken.
        cells: of each.
    """

    face: str
    images: tuple[str, ...]
    cells: tuple[Cell, ...]


@dataclass(frozen=True)
class Choice:
    """What was taken.

    Attributes:
        images: their names.
        cells: how many of each cell.
        missing: what the request lacks, in words; empty where it is met.
    """

    images: frozenset[str]
    cells: Counter[Cell]
    missing: tuple[str, ...]


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
        even = known if wanted == EVEN else wanted
        named = dict(even) if isinstance(even, Mapping) else dict.fromkeys(even, 1 / max(len(even), 1))
        if set(named) - set(known) or abs(sum(named.values()) - 1) > 1e-6 or any(s < 0 for s in named.values()):
            raise PipelineError(
                f"`balance` of {attribute!r} must give shares of {list(known)} that add up to 1, name some of them, or "
                f"be '{EVEN}'; got {wanted}."
            )
        shares[attribute] = named
    return shares


def wanted_cells(shares: Shares) -> dict[Cell, float]:
    """Every combination of categories with the product of their shares; none where there are too many of them."""
    named = [{category: share for category, share in of.items() if share > 0} for of in shares.values()]
    if prod(map(len, named)) > MOST_CELLS:
        return {}
    return {cell: prod(of[c] for of, c in zip(named, cell, strict=True)) for cell in product(*named)}


def is_wanted(cell: Cell, shares: Shares) -> bool:
    """Whether all categories of a cell have a share."""
    return all(
        category is not None and of.get(category, 0) > 0 for category, of in zip(cell, shares.values(), strict=True)
    )


def options_of(request: BalanceConfig, shares: Shares, rows: Iterable[Mapping[str, str | None]]) -> list[Option]:
    """What can be taken of accepted images.

    Args:
        request: for its kind.
        shares: of the wanted attributes.
        rows: of every image ``image_id``, ``original_id``, ``latent_id``, and of every attribute the category, under
            its name, and the original's, under ``before_`` and its name.
    """
    options = []
    for row in rows:
        cell = tuple(row[attribute] for attribute in shares)
        name, original = str(row["image_id"]), str(row["original_id"])
        if request.kind == "pairs":
            if name != original:
                before = tuple(row[f"before_{attribute}"] for attribute in shares)
                options.append(Option(str(row["latent_id"]), (original, name), (before, cell)))
        else:
            face = name if request.kind == "images" else str(row["latent_id"])
            options.append(Option(face, (name,), (cell,)))
    return [option for option in options if all(is_wanted(cell, shares) for cell in option.cells)]


def choose_balanced(request: BalanceConfig, shares: Shares, options: Sequence[Option]) -> Choice:
    """The images to take: ``request.total`` of them, each attribute's shares within ``request.tolerance``.

    Of all choices that keep the tolerance the one is taken whose shares are nearest to those asked for, then the one
    whose cells are nearest to the products of the shares. Where none keeps it, as much is taken as comes nearest, and
    ``missing`` has the numbers. Among equals a hash of the name decides.

    Args:
        request: total, tolerance and kind.
        shares: of every category of the wanted attributes.
        options: see ``options_of``.
    """
    faces: dict[str, list[Option]] = defaultdict(list)
    for option in sorted(options, key=lambda option: option.images):
        faces[option.face].append(option)
    kinds: dict[tuple[tuple[Cell, ...], ...], list[str]] = defaultdict(list)  # faces that offer the same
    for face, offered in faces.items():
        kinds[tuple(sorted({option.cells for option in offered}, key=repr))].append(face)
    program = LinearProgram()
    taken: dict[tuple[Cell, ...], dict[int, float]] = defaultdict(dict)
    variables: list[tuple[int, list[str], tuple[Cell, ...]]] = []
    for kind, members in sorted(kinds.items(), key=repr):
        mine = {}
        for cells in kind:
            variable = program.variable(most=len(members), whole=True)
            mine[variable] = 1.0
            taken[cells][variable] = 1.0
            variables.append((variable, members, cells))
        program.sum_between(mine, 0, len(members))
    add_request(program, request.total, request.tolerance, shares, counted(taken))
    values = program.solve()
    chosen: set[str] = set()
    taken_cells: Counter[Cell] = Counter()
    used: Counter[int] = Counter()  # faces of each kind that are given away
    for variable, members, of in variables:
        count = round(values[variable])
        ordered = sorted(members, key=_shuffled)[used[id(members)] : used[id(members)] + count]
        used[id(members)] += count
        for face in ordered:
            fitting = [option for option in faces[face] if option.cells == of]
            chosen.update(min(fitting, key=lambda option: _shuffled(option.images[-1])).images)
            taken_cells.update(of)
    return Choice(frozenset(chosen), taken_cells, missing_words(request, shares, taken_cells))


def counted(taken: Mapping[tuple[Cell, ...], Mapping[int, float]]) -> dict[Cell, dict[int, float]]:
    """Images of every cell as sums of the variables that count what is taken, by the cells of one."""
    sums: dict[Cell, dict[int, float]] = defaultdict(dict)
    for cells, variables in taken.items():
        for cell in cells:
            for variable, factor in variables.items():
                sums[cell][variable] = sums[cell].get(variable, 0.0) + factor
    return sums


def add_request(
    program: LinearProgram, total: float, tolerance: float, shares: Shares, images: Mapping[Cell, Mapping[int, float]]
) -> list[int]:
    """Add what a request asks of the numbers of images of each cell; the variables that count what is missing.

    Args:
        program: what is to be minimised.
        total: images in all.
        tolerance: how far a category's share may be off.
        shares: of every category.
        images: of every cell, as a sum of variables.
    """
    everything = _added(images.values())
    short = program.variable(cost=SHORT)
    program.sum_between({**everything, short: 1.0}, total, total)
    missing = [short]
    for axis, of in enumerate(shares.values()):
        for category, share in of.items():
            if share > 0:
                inside = _added(sums for cell, sums in images.items() if cell[axis] == category)
                free = tolerance * total + 1e-7
                missing += program.near(inside, total * share, cost=MARGIN, free=free, beyond=SHORT)
    for cell, share in wanted_cells(shares).items():
        program.near(images.get(cell, {}), total * share, cost=JOINT)
    return missing


def missing_words(request: BalanceConfig, shares: Shares, cells: Mapping[Cell, float]) -> tuple[str, ...]:
    """What the images of each cell lack of the request."""
    total = sum(cells.values())
    missing = [f"{total:.0f} of {request.total} images in all"] if total < request.total - 0.5 else []
    for axis, (attribute, of) in enumerate(shares.items()):
        for category, share in of.items():
            found = sum(number for cell, number in cells.items() if cell[axis] == category)
            if abs(found / request.total - share) > request.tolerance + 1e-6:
                missing.append(
                    f"{attribute}={category}: {found:.0f} where {round(request.total * share, 1):g} are wanted"
                )
    return tuple(missing)


def _added(sums: Iterable[Mapping[int, float]]) -> dict[int, float]:
    total: dict[int, float] = {}
    for factors in sums:
        for variable, factor in factors.items():
            total[variable] = total.get(variable, 0.0) + factor
    return total


def _shuffled(name: str) -> str:
    return hashlib.sha256(name.encode()).hexdigest()
