"""Differences of +- renders as the published code measures them, each departure on its own switch.

What ``pipeline/directions/differences.py`` does by the paper, with other base images: a channel may move around its
mean, and channels measured before it may have been left at theirs. Letters: n image, s style, d CLIP width.
"""

from collections.abc import Sequence

import torch
from jaxtyping import Float
from torch import Tensor

from kernels import DirectionSums
from pipeline.config import ChannelDirectionsConfig
from pipeline.directions.differences import IMAGES_TOGETHER, embedding_width, measured_positions
from pipeline.machine.plans import synthesis_plan
from pipeline.models.clip import Clip
from pipeline.models.sampling import sample_w_plus
from pipeline.models.stylegan2 import Generator
from pipeline.models.synthesis_plan import Activations
from pipeline.pixels import from_uint8, to_uint8
from pipeline.runs.progress import advance


def is_published(config: ChannelDirectionsConfig) -> bool:
    """Whether a switch asks for the measurement of this module."""
    return (
        config.relevance_base == "mean_anchored"
        or config.relevance_cumulative_bug
        or config.uint8 != "round"
        or config.cutoff is not None
    )


def truncated_styles(generator: Generator, seeds: Sequence[int], *, psi: float, cutoff: int | None) -> Tensor:
    """Style vectors of the base images, [n, s], truncated in the first ``cutoff`` rows of w_plus only."""
    groups = [seeds[i : i + IMAGES_TOGETHER] for i in range(0, len(seeds), IMAGES_TOGETHER)]
    with torch.no_grad():
        return torch.cat([generator.styles(sample_w_plus(generator, g, psi=psi, cutoff=cutoff)) for g in groups])


def sum_published_differences(
    generator: Generator,
    clip: Clip,
    styles: Float[Tensor, "n s"],
    *,
    positions: Sequence[int],
    mean: Float[Tensor, "s"],
    std: Float[Tensor, "s"],
    config: ChannelDirectionsConfig,
) -> DirectionSums:
    """Sum over images of ``E(G(b + a sigma_c e_c)) - E(G(b - a sigma_c e_c))`` around the base b of channel c.

    b is the image's own style vector, with c at its mean where ``relevance_base`` is mean_anchored, and with every
    channel measured before c at its mean where ``relevance_cumulative_bug`` is on: in the published code a shallow copy
    lets each change stay. A shard works out the earlier channels from its positions, so no shard depends on another.

    Args:
        generator: renders.
        clip: embeds.
        styles: style vectors of the images.
        positions: channels of this shard, as positions in a style vector.
        mean: of every style channel.
        std: of every style channel; channels with 0 are not rendered.
        config: the switches, and ``step``.
    Returns:
        sums in the order of ``positions``.
    """
    sums = DirectionSums.empty(len(positions), embedding_width(generator, clip))
    measured = torch.tensor(measured_positions(config, generator.space))
    mean = mean.to(styles)
    order = sorted((row for row, p in enumerate(positions) if std[p] > 0), key=lambda row: positions[row])
    with torch.no_grad():
        for images in styles.split(IMAGES_TOGETHER):
            below: Activations | None = None
            for row in order:
                position = positions[row]
                base = images.clone()
                if config.relevance_cumulative_bug:
                    earlier = measured[measured < position].to(base.device)
                    base[:, earlier] = mean[earlier]
                if config.relevance_base == "mean_anchored":
                    base[:, position] = mean[position]
                layer = generator.space.locate(position)[0]
                if below is None or below.layer != layer:  # lower layers are the same for all channels of one layer
                    below = generator.activations(base, layer, plan=synthesis_plan(generator, config.precision))
                found = _difference(generator, clip, base, below, position, float(config.step * std[position]), config)
                advance(2 * len(images))
                sums = sums.add_at(torch.tensor([row]), DirectionSums.of(found[None]))
    return sums


def _difference(
    generator: Generator,
    clip: Clip,
    base: Float[Tensor, "n s"],
    below: Activations,
    position: int,
    distance: float,
    config: ChannelDirectionsConfig,
) -> Float[Tensor, "n d"]:
    """Embedding of the plus render minus that of the minus render, for every image."""
    moved = torch.cat([base, base])
    moved[: len(base), position] += distance
    moved[len(base) :, position] -= distance
    images = generator.render(moved, since=below, plan=synthesis_plan(generator, config.precision))
    if config.uint8 != "round":
        images = from_uint8(to_uint8(images, config.uint8))
    plus, minus = clip.encode_images(images).split(len(base))
    return plus - minus
