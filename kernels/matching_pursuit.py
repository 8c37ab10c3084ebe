"""Which few channels together make a text direction: orthogonal matching pursuit.

Letters: c channel, d CLIP width, k chosen channel.
"""

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from kernels.channel_relevance import ZERO_NORM
from kernels.impl import Impl, check_impl

SMALLEST_REST = 1e-4  # of a unit direction, outside those that are chosen


def matching_pursuit(
    directions: Float[Tensor, "c d"],
    target: Float[Tensor, "d"],
    *,
    smallest_gain: float,
    max_chosen: int = 32,
    impl: Impl = "auto",
) -> Float[Tensor, "c"]:
    """Coefficients of the few channels whose directions add up to the target; zero for all others.

    Takes the channel with the largest absolute product with what is left of the target, refits the coefficients of
    all that are chosen by least squares, and goes on until the next one would explain less than ``smallest_gain`` of
    what the first one explained. So a target that is the sum of several channels is taken apart into all of them,
    where ranking channels by relevance fills the places with neighbours of the first.

    Args:
        directions: unit vectors; zero for channels without effect, which are never chosen.
        target: the text direction; its length scales the coefficients.
        smallest_gain: in (0, 1]; gains are of the squared length that is explained.
        max_chosen: at most so many are chosen.
        impl: the reference solves the least squares of every step from the start.
    Raises:
        ValueError: if ``smallest_gain`` is not in (0, 1], or nothing has a product with the target.
    Source: Pati, Rezaiifar, Krishnaprasad 1993, "Orthogonal matching pursuit".
    """
    check_impl(impl)
    if not 0 < smallest_gain <= 1:
        raise ValueError(f"`smallest_gain` must be in (0, 1]; got {smallest_gain}.")
    if not bool(((directions @ target).abs() > ZERO_NORM).any()):
        raise ValueError("every channel's relevance is zero: the prompt has nothing in common with any channel.")
    run = _pursue_from_start if impl == "ref" else _pursue
    return run(directions, target, smallest_gain, max_chosen)


def pursuit_contest(
    directions: Float[Tensor, "c d"], target: Float[Tensor, "d"], *, smallest_gain: float, max_chosen: int = 32
) -> Float[Tensor, "c"]:
    """How near every channel comes to being chosen by ``matching_pursuit``, in [0, 1]; above 1 for those that are.

    At every step, products with what is left of the target, as shares of the largest one; of these the largest over
    all steps. So the rivals of a second wish count as much as those of the first. Whoever is chosen has 1 and the gain
    as a share of the first one's, so that no two of them tie.

    Args:
        directions: unit vectors; zero for channels without effect.
        target: the text direction.
        smallest_gain: as in ``matching_pursuit``; a smaller one adds the rivals of what nearly was chosen.
        max_chosen: steps at most.
    """
    closeness = directions.new_zeros(len(directions))
    free = directions.norm(dim=1) > ZERO_NORM
    chosen: list[int] = []
    left, first = target, None
    while len(chosen) < max_chosen and bool(free.any()):
        products = torch.where(free, (directions @ left).abs(), 0.0)
        best = int(products.argmax())
        tried = [*chosen, best]
        basis = torch.linalg.qr(directions[tried].double().T).Q
        if (
            not float(products[best]) > ZERO_NORM
            or float((basis[:, -1] @ directions[best].double()).abs()) < SMALLEST_REST
        ):
            break
        rest = (target.double() - basis @ (basis.T @ target.double())).to(target)
        gain = float(left.square().sum() - rest.square().sum())
        first = gain if first is None else first
        if gain < smallest_gain * first:
            break
        closeness = torch.maximum(closeness, products / products[best])
        closeness[best] = 1.0 + gain / first
        chosen, left = tried, rest
        free[best] = False
    return closeness


def _pursue(
    directions: Float[Tensor, "c d"], target: Float[Tensor, "d"], smallest_gain: float, limit: int
) -> Float[Tensor, "c"]:
    free = directions.norm(dim=1) > ZERO_NORM
    basis: list[Tensor] = []  # orthonormal, of the chosen directions
    upper = directions.new_zeros(limit, limit)  # the chosen directions in that basis
    chosen: list[int] = []
    parts: list[Tensor] = []  # of the target in that basis
    left = target.clone()
    while len(basis) < limit and bool(free.any()):
        best = _most_relevant(directions, left, free)
        size, rest = len(basis), directions[best].clone()
        for _ in range(2):  # once more for what rounding left
            for i, axis in enumerate(basis):
                along = axis @ rest
                upper[i, size] += along
                rest = rest - along * axis
        length = rest.norm()
        if length <= SMALLEST_REST:  # made of the others: explains nothing more
            break
        axis = rest / length
        part = axis @ left
        if parts and part**2 < smallest_gain * parts[0] ** 2:
            break
        upper[size, size] = length
        basis.append(axis)
        chosen.append(best)
        parts.append(part)
        left = left - part * axis
        free[best] = False
    count = len(basis)
    solved = torch.linalg.solve_triangular(upper[:count, :count], torch.stack(parts)[:, None], upper=True)[:, 0]
    return _dense(chosen, solved, directions)


def _pursue_from_start(
    directions: Float[Tensor, "c d"], target: Float[Tensor, "d"], smallest_gain: float, limit: int
) -> Float[Tensor, "c"]:
    free = directions.norm(dim=1) > ZERO_NORM
    chosen: list[int] = []
    solved, left, first = directions.new_zeros(0), target, None
    while len(chosen) < limit and bool(free.any()):
        tried = [*chosen, _most_relevant(directions, left, free)]
        columns = directions[tried].T
        if int(torch.linalg.matrix_rank(columns, rtol=SMALLEST_REST)) < len(tried):
            break
        fitted = torch.linalg.lstsq(columns, target[:, None]).solution[:, 0]
        gain = left.square().sum() - (target - columns @ fitted).square().sum()
        first = gain if first is None else first
        if gain < smallest_gain * first:
            break
        chosen, solved, left = tried, fitted, target - columns @ fitted
        free[chosen] = False
    return _dense(chosen, solved, directions)


def _most_relevant(directions: Float[Tensor, "c d"], left: Float[Tensor, "d"], free: Bool[Tensor, "c"]) -> int:
    return int(torch.where(free, (directions @ left).abs(), -1.0).argmax())


def _dense(chosen: list[int], values: Float[Tensor, "k"], directions: Float[Tensor, "c d"]) -> Float[Tensor, "c"]:
    coefficients = directions.new_zeros(len(directions))
    coefficients[chosen] = values
    return coefficients
