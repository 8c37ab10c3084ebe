"""Plans of balanced requests: how many faces to look at, and which of them to give which edit.

Both are linear programs over expected numbers: faces of each cell times the chances of what an edit makes of them.
"""

import hashlib
from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from pipeline.config import BalanceConfig
from pipeline.errors import PipelineError
from pipeline.export.balance import Cell, add_request, is_wanted, missing_words
from pipeline.export.linear_program import LinearProgram
from pipeline.export.yields import AS_IT_IS, Move, Yields, categories_of

FACE = 0.5  # what a face that is looked at costs, an image that is off its cell's number being 1
EDIT = 0.05  # and an edit that is rendered
LARGEST = 20_000  # pairs of a cell and a move that a plan may weigh
SAFETY = 1.1  # faces looked at for each that is expected to be needed


@dataclass(frozen=True)
class Plan:
    """What is to be done, in expected numbers.

    Attributes:
        faces: to look at.
        moves: faces of every cell to give every move.
        images: that come of it, by cell.
    """

    faces: float
    moves: Mapping[tuple[Cell, Move], float]
    images: Mapping[Cell, float]

    @property
    def edits(self) -> float:
        """Edits to render."""
        return sum(number for (_, move), number in self.moves.items() if move != AS_IT_IS)


def plan_request(
    request: BalanceConfig,
    yields: Yields,
    *,
    total: float,
    there: Mapping[Cell, float] | None = None,
    faces: Mapping[Cell, int] | None = None,
    most: int,
) -> Plan:
    """The plan that misses least, then needs fewest faces and edits, then comes nearest to the cells wanted.

    Args:
        request: kind and tolerance.
        yields: what faces and edits give.
        total: images to plan for.
        there: images of each cell that are there already and count.
        faces: of each cell, those at hand; None: as many as are needed, as often as ``yields`` saw each cell.
        most: faces that may be looked at.
    """
    cells = sorted((cell for cell in (faces or yields.faces)), key=repr)
    moves = [*([] if request.kind == "pairs" else [AS_IT_IS]), *yields.moves]
    if len(cells) * len(moves) > LARGEST:
        raise PipelineError(
            f"a plan must weigh at most {LARGEST:,} pairs of a combination of categories and a prompt; got "
            f"{len(cells):,} x {len(moves)}. Balance fewer attributes, or name fewer prompts."
        )
    program = LinearProgram()
    looked_at = program.variable(cost=0.0 if faces is not None else FACE, most=most)
    seen = sum(yields.faces.values())
    given: dict[tuple[Cell, Move], int] = {}
    made: dict[tuple[Cell, ...], dict[int, float]] = defaultdict(dict)
    for cell in cells:
        mine: dict[int, float] = {}
        for move in moves:
            outcomes = _useful(request, yields, cell, move)
            if not outcomes:
                continue
            variable = program.variable(cost=0.0 if move == AS_IT_IS else EDIT)
            given[cell, move] = variable
            mine[variable] = 1.0
            for outcome, chance in outcomes.items():
                made[outcome][variable] = made[outcome].get(variable, 0.0) + chance
        for sums in [{variable: 1.0} for variable in mine] if request.kind == "images" else [mine] if mine else []:
            if faces is None:
                program.sum_between({**sums, looked_at: -yields.faces[cell] / seen}, -np.inf, 0)
            else:
                program.sum_between(sums, 0, faces[cell])
    images: dict[Cell, dict[int, float]] = defaultdict(dict)
    for outcome, sums in sorted(made.items(), key=repr):
        taken = program.variable()  # not all that comes of the edits need be taken
        program.sum_between({**sums, taken: -1.0}, 0, np.inf)
        for cell in outcome:
            images[cell][taken] = images[cell].get(taken, 0.0) + 1.0
    for cell, number in (there or {}).items():
        fixed = program.variable()
        program.sum_between({fixed: 1.0}, number, number)
        images[cell][fixed] = 1.0
    if not images:
        return Plan(0.0, {}, {})
    add_request(program, total, request.tolerance, yields.shares, images)
    values = program.solve()
    counts = {cell: sum(values[v] * factor for v, factor in sums.items()) for cell, sums in images.items()}
    return Plan(
        float(values[looked_at]),
        {key: float(values[v]) for key, v in given.items() if values[v] > 1e-6},
        {cell: float(number) for cell, number in counts.items()},
    )


def plan_faces(
    request: BalanceConfig, yields: Yields, *, spare: float, most: int, there: Mapping[Cell, float] | None = None
) -> Plan:
    """How many faces to look at for a request, with the plan behind it.

    Args:
        request: what is wanted.
        yields: what faces and edits give.
        spare: images to plan for beyond those asked for, as a share.
        most: faces that may be looked at; a request that needs more is refused.
        there: images of each cell that are there already.
    Raises:
        PipelineError: if no number up to ``most`` gives what is asked for; with the numbers.
    """
    bare = plan_request(request, yields, total=request.total, there=there, most=most)
    missing = missing_words(request, yields.shares, bare.images)
    if missing:
        raise PipelineError(_refusal(request, yields, missing, most))
    return plan_request(request, yields, total=request.total * (1 + spare), there=there, most=most)


def assign_moves(plan: Plan, faces: Mapping[str, Cell], *, exclusive: bool) -> list[tuple[str, Move]]:
    """Which face gets which move, in whole numbers: of each cell the plan's numbers, rounded so that none is lost.

    Args:
        plan: made for these faces.
        faces: cell of every face at hand.
        exclusive: whether a face gets one move at most.
    """
    members: dict[Cell, list[str]] = defaultdict(list)
    for face in sorted(faces, key=_shuffled):
        members[faces[face]].append(face)
    wanted: dict[Cell, dict[Move, float]] = defaultdict(dict)
    for (cell, move), number in plan.moves.items():
        wanted[cell][move] = number
    assigned = []
    for cell, moves in sorted(wanted.items(), key=repr):
        if not exclusive:
            for move, number in moves.items():
                assigned += [(face, move) for face in members[cell][: int(np.ceil(number - 1e-6))]]
            continue
        free = iter(members[cell])
        for move, number in _whole(moves, len(members[cell])).items():
            assigned += [(face, move) for _, face in zip(range(number), free, strict=False)]
    return assigned


def _whole(moves: Mapping[Move, float], most: int) -> dict[Move, int]:
    """Numbers rounded up, as far as there are faces; those with the largest rest first."""
    counts = {move: int(np.floor(number + 1e-6)) for move, number in moves.items()}
    for move in sorted(moves, key=lambda move: counts[move] - moves[move]):
        if moves[move] - counts[move] > 1e-6 and sum(counts.values()) < most:
            counts[move] += 1
    return counts


def _useful(request: BalanceConfig, yields: Yields, cell: Cell, move: Move) -> dict[tuple[Cell, ...], float]:
    """What can be taken of a face once it has had a move, with the chances."""
    outcomes = yields.outcomes(cell, move).items()
    if request.kind == "pairs":
        good = is_wanted(cell, yields.shares)
        return {(cell, after): chance for after, chance in outcomes if good and is_wanted(after, yields.shares)}
    return {(after,): chance for after, chance in outcomes if is_wanted(after, yields.shares)}


def _refusal(request: BalanceConfig, yields: Yields, missing: Sequence[str], most: int) -> str:
    """Why a request cannot be met, with what was measured of each category that is short."""
    reasons = []
    seen = sum(yields.faces.values())
    for axis, (attribute, of) in enumerate(yields.shares.items()):
        for category, share in of.items():
            there = sum(number for cell, number in yields.faces.items() if cell[axis] == category)
            short = any(f"{attribute}={category}:" in text for text in missing)
            if share > 0 and (short or not there):
                reasons.append(
                    f"{attribute}={category} in {there} of {seen} faces, {_best_move(yields, axis, category)}"
                )
    return (
        f"{request.total:,} balanced images with shares within {request.tolerance:g} cannot be had from up to {most:,} "
        f"faces; expected at best: {'; '.join(missing)}. Measured: {'; '.join(reasons) or 'see the pilot'}. Add "
        f"prompts towards what is short, ask for fewer images, allow a wider tolerance, or raise max_latents."
    )


def _best_move(yields: Yields, axis: int, category: str) -> str:
    """The prompt that most often turns another category into this one."""
    best: tuple[float, str] = (0.0, "no prompt gives it")
    for (prompt, _), of in yields.moves.items():
        names = categories_of(list(yields.shares.values())[axis])
        k = names.index(category)
        others = [i for i in range(len(names)) if i != k]
        chance = of.accepted / of.tried * float(of.becomes[axis][others, k].mean())
        if chance > max(best[0], 5e-3):
            best = (chance, f"prompt {prompt!r} turns {100 * chance:.0f} % of the others into it")
    return best[1]


def _shuffled(name: str) -> str:
    return hashlib.sha256(f"plan:{name}".encode()).hexdigest()
