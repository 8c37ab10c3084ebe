"""From embeddings of +- renders to a style direction (StyleCLIP section 6).

Letters: n image, c channel, d CLIP width.
"""

from dataclasses import dataclass

import torch
from jaxtyping import Bool, Float, Int, Real
from torch import Tensor

from kernels.impl import Impl, check_impl

ZERO_NORM = 1e-12  # below this a vector has no direction and stays zero
MIN_DIFFERENCE = 1e-5  # two unit vectors in float32 that differ by less differ by rounding


@dataclass(frozen=True)
class ChannelDirection:
    """What a channel does to CLIP's embedding.

    Attributes:
        direction: unit vectors [c, d]; zero where the channel changes nothing.
        agreement: length of the mean unit difference, [c] in [0, 1]; 1 means all images move the same way.
        count: images with a usable difference, [c].
    """

    direction: Float[Tensor, "c d"]
    agreement: Float[Tensor, "c"]
    count: Real[Tensor, "c"]


def unit_vectors(x: Float[Tensor, "... d"], *, shortest: float = ZERO_NORM) -> Float[Tensor, "... d"]:
    """``x / ||x||`` along the last axis; vectors not longer than ``shortest`` become zero, never NaN."""
    norm = torch.linalg.vector_norm(x, dim=-1, keepdim=True)
    return torch.where(norm > shortest, x / norm.clamp_min(ZERO_NORM), torch.zeros_like(x))


def channel_direction(total: Float[Tensor, "c d"], count: Real[Tensor, "c"]) -> ChannelDirection:
    """Mean unit difference of each channel, as a direction and a length.

    ``total`` is the sum over images of their unit differences, so that sums from any split of the images add up
    to the same table. The mean of unit vectors has length in [0, 1]: the agreement across images.

    Args:
        total: sums of unit differences.
        count: how many non-zero unit differences each sum holds.
    """
    mean = total / count.clamp_min(1)[:, None]
    agreement = torch.linalg.vector_norm(mean, dim=-1).clamp(max=1.0)
    return ChannelDirection(unit_vectors(mean), agreement, count)


def relevance(
    directions: Float[Tensor, "c d"], text_direction: Float[Tensor, "d"], *, impl: Impl = "auto"
) -> Float[Tensor, "c"]:
    """``R_c = <direction_c, text_direction>``, in [-1, 1] for unit vectors.

    Raises:
        ValueError: if the widths differ.
    """
    check_impl(impl)
    if directions.shape[-1] != text_direction.shape[-1]:
        raise ValueError(
            f"channel directions and text direction must come from one CLIP; "
            f"got widths {directions.shape[-1]} and {text_direction.shape[-1]}."
        )
    if impl != "ref":
        return directions @ text_direction
    return torch.stack(
        [sum((a * b for a, b in zip(row, text_direction, strict=True)), torch.zeros(())) for row in directions]
    )


def weigh_by_effect(
    relevance: Float[Tensor, "c"], effect: Float[Tensor, "c d"], text_direction: Float[Tensor, "d"], *, power: float
) -> Float[Tensor, "c"]:
    """``R_c |<effect_c, text_direction>|^power``: purity, weighed by how far the channel moves along the text.

    The paper's rule (power 0) looks at the angle alone, so a channel that hardly changes the image may be kept and set
    the scale; effect alone (power 1 and relevance 1) entangles attributes.

    Args:
        relevance: ``R_c``.
        effect: mean difference of the unit embeddings of each channel's +- renders, not normalised.
        text_direction: unit vector.
        power: 0 is the paper's rule.
    """
    return relevance * (effect @ text_direction).abs() ** power


def count_channels(relevance: Float[Tensor, "c"], thresholds: Float[Tensor, "t"]) -> Int[Tensor, "t"]:
    """How many channels each threshold keeps: those with ``|R_c| >= threshold`` that are not zero."""
    size = relevance.abs()
    ordered = size[size > 0].sort().values
    return len(ordered) - torch.searchsorted(ordered, thresholds.to(ordered).contiguous(), right=False)


def threshold_for_count(relevance: Float[Tensor, "c"], num_channels: int) -> float:
    """The largest threshold that keeps at least ``num_channels`` channels: the k-th largest ``|R_c|``.

    Channels with relevance zero never count: with fewer than ``num_channels`` others, all those are kept.

    Raises:
        ValueError: if ``num_channels`` is below 1 or every relevance is zero.
    """
    size = relevance.abs()
    nonzero = int((size > 0).sum())
    if num_channels < 1:
        raise ValueError(f"`num_channels` must be at least 1; got {num_channels}.")
    if nonzero == 0:
        raise ValueError("every channel's relevance is zero: the prompt has nothing in common with any channel.")
    return float(size.sort(descending=True).values[min(num_channels, nonzero) - 1])


def select_channels(relevance: Float[Tensor, "c"], threshold: float) -> Bool[Tensor, "c"]:
    """Channels with ``|R_c| >= threshold`` (and not zero).

    Raises:
        ValueError: if no channel passes.
    """
    keep = (relevance.abs() >= threshold) & (relevance != 0)
    if not bool(keep.any()):
        largest = float(relevance.abs().max()) if relevance.numel() else 0.0
        raise ValueError(
            f"`relevance_threshold` must not exceed the largest absolute relevance; got {threshold:.4g}, "
            f"largest is {largest:.4g}. Lower it to keep at least one channel."
        )
    return keep


def normalize_relevance(relevance: Float[Tensor, "c"], keep: Bool[Tensor, "c"]) -> Float[Tensor, "c"]:
    """``R_c / max|R|`` over the kept channels, zero elsewhere; the most relevant channel gets +1 or -1.

    Multiplied by each channel's standard deviation this is the style direction: at strength a, the most relevant
    channel moves by a standard deviations.

    Raises:
        ValueError: if no channel with a relevance other than zero is kept.
    """
    kept = torch.where(keep, relevance, torch.zeros_like(relevance))
    if not bool((kept != 0).any()):
        raise ValueError(
            "at least one kept channel must have a relevance other than zero; got none. See `select_channels`."
        )
    return kept / kept.abs().max()
