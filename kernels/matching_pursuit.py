"""Which few channels together make a text direction: orthogonal matching pursuit.

Letters: c channel, d CLIP width, k chosen group.
"""

import torch
from jaxtyping import Float
from torch import Tensor

from kernels.channel_relevance import ZERO_NORM, unit_vectors
from kernels.impl import Impl, check_impl


def matching_pursuit(
    directions: Float[Tensor, "c d"],
    target: Float[Tensor, "d"],
    *,
    smallest_gain: float,
    twin_cosine: float = 1.0,
    max_groups: int = 32,
    impl: Impl = "auto",
) -> Float[Tensor, "c"]:
    """Coefficients of the few channels whose directions add up to the target; zero for all others.

    Takes the channel with the largest absolute product with what is left of the target, refits the coefficients of
    all that are chosen by least squares, and goes on until the next one would explain less than ``smallest_gain`` of
    what the first one explained. So a target that is the sum of several channels is taken apart into all of them,
    where ranking channels by relevance fills the places with neighbours of the first.

    A chosen channel takes its twins along, the channels whose direction agrees with its own: they do the same to the
    image, each a part of it. A group has the mean of its signed directions as its direction and one coefficient.

    Args:
        directions: unit vectors; zero for channels without effect, which are never chosen.
        target: the text direction; its length scales the coefficients.
        smallest_gain: in (0, 1]; gains are of the squared length that is explained.
        twin_cosine: smallest absolute cosine between a chosen channel and its twins; at 1 or above there are none.
        max_groups: at most so many are chosen.
        impl: the reference solves the least squares of every step from the start.
    Raises:
        ValueError: if the widths differ, ``smallest_gain`` is not in (0, 1], or nothing has a product with the target.
    Source: Pati, Rezaiifar, Krishnaprasad 1993, "Orthogonal matching pursuit". The twins are ours.
    """
    check_impl(impl)
    if directions.shape[-1] != target.shape[-1]:
        raise ValueError(
            f"channel directions and text direction must come from one CLIP; "
            f"got widths {directions.shape[-1]} and {target.shape[-1]}."
        )
    if not 0 < smallest_gain <= 1:
        raise ValueError(f"`smallest_gain` must be in (0, 1]; got {smallest_gain}.")
    if not bool(((directions @ target).abs() > ZERO_NORM).any()):
        raise ValueError("every channel's relevance is zero: the prompt has nothing in common with any channel.")
    run = _pursue_from_start if impl == "ref" else _pursue
    return run(directions, target, smallest_gain, twin_cosine, max_groups)


def _pursue(
    directions: Float[Tensor, "c d"], target: Float[Tensor, "d"], smallest_gain: float, twin_cosine: float, limit: int
) -> Float[Tensor, "c"]:
    free = directions.norm(dim=1) > ZERO_NORM
    basis: list[Tensor] = []  # orthonormal, of the chosen groups' directions
    upper = directions.new_zeros(limit, limit)  # group directions in that basis
    signs: list[Tensor] = []
    gains: list[Tensor] = []
    left = target.clone()
    while len(basis) < limit:
        members = _next_group(directions, left, free, twin_cosine)
        direction = _group_direction(directions, members)
        size, rest = len(basis), direction.clone()
        for _ in range(2):  # once more for what rounding left
            for i, axis in enumerate(basis):
                part = axis @ rest
                upper[i, size] += part
                rest = rest - part * axis
        length = rest.norm()
        if length <= 1e-4:  # made of the others: explains nothing more
            break
        axis = rest / length
        gain = axis @ left
        if gains and gain**2 < smallest_gain * gains[0] ** 2:
            break
        upper[size, size] = length
        basis.append(axis)
        signs.append(members)
        gains.append(gain)
        left = left - gain * axis
        free &= members == 0
        if not bool(free.any()):
            break
    count = len(basis)
    solved = torch.linalg.solve_triangular(upper[:count, :count], torch.stack(gains)[:, None], upper=True)[:, 0]
    return torch.stack(signs).T @ solved


def _pursue_from_start(
    directions: Float[Tensor, "c d"], target: Float[Tensor, "d"], smallest_gain: float, twin_cosine: float, limit: int
) -> Float[Tensor, "c"]:
    free = directions.norm(dim=1) > ZERO_NORM
    signs = directions.new_zeros(0, len(directions))
    solved, left, first = directions.new_zeros(0), target, None
    while len(signs) < limit and bool(free.any()):
        members = _next_group(directions, left, free, twin_cosine)
        tried = torch.cat([signs, members[None]])
        columns = torch.stack([_group_direction(directions, row) for row in tried], dim=1)
        if int(torch.linalg.matrix_rank(columns, rtol=1e-4)) < len(tried):
            break
        fitted = torch.linalg.lstsq(columns, target[:, None]).solution[:, 0]
        gain = left.square().sum() - (target - columns @ fitted).square().sum()
        first = gain if first is None else first
        if gain < smallest_gain * first:
            break
        signs, solved, left = tried, fitted, target - columns @ fitted
        free = free & (members == 0)
    return signs.T @ solved


def _next_group(
    directions: Float[Tensor, "c d"], left: Float[Tensor, "d"], free: Tensor, twin_cosine: float
) -> Float[Tensor, "c"]:
    """+1 or -1 for the most relevant free channel and its free twins, 0 for the others."""
    products = torch.where(free, (directions @ left).abs(), -1.0)
    best = int(products.argmax())
    cosines = directions @ directions[best]
    members = torch.where(free & (cosines.abs() >= twin_cosine), cosines.sign(), torch.zeros_like(cosines))
    members[best] = 1.0
    return members


def _group_direction(directions: Float[Tensor, "c d"], members: Float[Tensor, "c"]) -> Float[Tensor, "d"]:
    return unit_vectors(members @ directions)
