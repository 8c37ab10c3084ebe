"""Differences of +- renders, summed over images (StyleCLIP section 6): what every measurement is made of.

Letters: n image, c channel, s style, d CLIP width.
"""

from collections.abc import Iterator, Sequence
from itertools import groupby
from typing import NamedTuple

import torch
from jaxtyping import Float
from torch import Tensor

from kernels import DirectionSums
from pipeline.config import ChannelDirectionsConfig, Precision
from pipeline.machine.batch_size import Batches
from pipeline.machine.cores import map_on_cores
from pipeline.machine.plans import synthesis_plan
from pipeline.models.clip import Clip
from pipeline.models.sampling import sample_w_plus
from pipeline.models.stylegan2 import Generator
from pipeline.models.synthesis_plan import Activations, SynthesisPlan
from pipeline.reference import LAST_PUBLISHED_LAYER
from pipeline.runs.progress import advance
from pipeline.style_space import StyleSpace

PENDING_BYTES = 2**26  # of differences that wait to be summed: 32,000 of 512 numbers
IMAGES_TOGETHER = 8  # images of one batch, counted from the first: the same groups in every split into shards


def image_styles(generator: Generator, seeds: Sequence[int], *, psi: float) -> Float[Tensor, "n s"]:
    """Style vectors of the base images, mapped ``IMAGES_TOGETHER`` at a time so that a split changes no bit."""
    groups = [seeds[i : i + IMAGES_TOGETHER] for i in range(0, len(seeds), IMAGES_TOGETHER)]
    with torch.no_grad():
        return torch.cat([generator.styles(sample_w_plus(generator, group, psi=psi)) for group in groups])


def editable_positions(space: StyleSpace) -> list[int]:
    """Positions of all convolution channels, layer by layer."""
    return [p for layer in space.editable for p in range(layer.offset, layer.slice.stop)]


def measured_positions(config: ChannelDirectionsConfig, space: StyleSpace) -> list[int]:
    """Positions of the channels to measure: all convolution channels, or those up to the published last layer."""
    if config.relevance_layers == "all_conv":
        return editable_positions(space)
    layers = [layer for layer in space.editable if layer.index <= LAST_PUBLISHED_LAYER]
    return [p for layer in layers for p in range(layer.offset, layer.slice.stop)]


def embedding_width(generator: Generator, clip: Clip) -> int:
    """Length of CLIP's embedding of the generator's images."""
    size = generator.space.resolution
    with torch.no_grad():
        return clip.encode_images(torch.zeros(1, 3, size, size)).shape[1]


class _Group(NamedTuple):
    """Images measured together, and what all channels of a layer share of them."""

    styles: Float[Tensor, "n s"]
    below: Activations
    sums: Float[Tensor, "n o h w"] | None
    plan: SynthesisPlan

    def moved(self, generator: Generator, position: int, moves: Sequence[float]) -> Activations:
        """From where renders with the moves of one channel start."""
        if self.sums is None:
            return self.below
        return generator.moved_activations(
            self.styles, self.below, self.sums, position=position, moves=moves, plan=self.plan
        )


def sum_differences(
    generator: Generator,
    clip: Clip,
    styles: Float[Tensor, "n s"],
    *,
    positions: Sequence[int],
    std: Float[Tensor, "s"],
    step: float,
    batch_size: int,
    images_together: int = IMAGES_TOGETHER,
    precision: Precision = "full",
) -> DirectionSums:
    """Sum over images of ``E(G(s + a sigma_c e_c)) - E(G(s - a sigma_c e_c))``, and of its unit vector.

    1. Images are taken ``images_together`` at a time; activations below a channel's layer are those of the untouched
       images, computed once per layer and group of images and shared by all its channels and both signs. On a CPU so
       is the layer's own convolution: a move adds the one channel's part of it.
    2. A batch holds both signs of these images for as many channels of the layer as ``batch_size`` allows, at least
       one. While it holds one (a CPU's default), a sum depends on nothing but channel and images, to the bit.
    3. On a CPU, convolutions of many channels are Winograd's, with weights transformed once a call.
    4. Batches go through generator and CLIP side by side, one on each core.
    5. Differences and unit differences are summed as whole numbers: nothing grows with the number of images. They
       wait on the device until there are ``PENDING_BYTES`` of them.
    6. Where the device's memory does not hold a batch, its channels are halved.

    Args:
        generator: renders.
        clip: embeds.
        styles: style vectors of the images; a group's first image has a number divisible by ``IMAGES_TOGETHER``.
        positions: channels, as positions in a style vector.
        std: standard deviation of every style channel; channels with 0 are not rendered.
        step: a, in standard deviations.
        batch_size: renders at a time.
        images_together: images of one batch; with fewer than ``IMAGES_TOGETHER`` more channels share a batch.
        precision: of the renders. CLIP stays in full precision: a weak channel's difference is a small one of two
            embeddings, and half precision of CLIP moved its direction by up to 0.06 in cosine.
    Returns:
        sums in the order of ``positions``.
    """
    live = sorted((i for i, p in enumerate(positions) if std[p] > 0), key=lambda i: positions[i])
    together = min(images_together, max(1, batch_size // 2))
    plan = synthesis_plan(generator, precision, winograd=bool(live))
    channels = Batches(max(1, batch_size // (2 * together)))

    def batches() -> Iterator[tuple[_Group, list[int]]]:
        """Images measured together and rows of the channels."""
        for layer, members in groupby(live, key=lambda i: generator.space.locate(positions[i])[0]):
            rows = list(members)
            for images in styles.split(together):
                below = generator.activations(images, layer, plan=plan)
                group = _Group(images, below, generator.sums(images, below, plan=plan), plan)
                for chosen in _chunks(rows, channels.size):
                    yield group, chosen

    def measure(batch: tuple[_Group, list[int]]) -> tuple[list[int], Float[Tensor, "c n d"]]:
        group, chosen = batch

        def differences(rows: Sequence[int]) -> list[Tensor]:
            here = [positions[i] for i in rows]
            return list(_differences(generator, clip, group, here, std=std, step=step))

        return chosen, torch.stack(channels.run(differences, chosen))

    sums = DirectionSums.empty(len(positions), embedding_width(generator, clip))
    pending: list[tuple[list[int], Tensor]] = []
    with torch.no_grad():
        for found in map_on_cores(measure, batches(), device=styles.device):
            advance(2 * found[1].shape[0] * found[1].shape[1])
            pending.append(found)
            if sum(x.nbytes for _, x in pending) > PENDING_BYTES:
                sums, pending = _added(sums, pending), []
    return _added(sums, pending)


def sum_control_differences(
    generator: Generator,
    clip: Clip,
    styles: Float[Tensor, "n s"],
    *,
    controls: Sequence[Sequence[tuple[int, float]]],
    std: Float[Tensor, "s"],
    step: float,
    precision: Precision = "full",
) -> DirectionSums:
    """``sum_differences`` where several channels are one control and move together.

    Args:
        generator: renders.
        clip: embeds.
        styles: style vectors of the images.
        controls: of each, position and sign of its channels; a channel moves by sign, step and its standard deviation.
        std: standard deviation of every style channel.
        step: in standard deviations.
        precision: of the renders.
    Returns:
        sums in the order of ``controls``.
    """
    plan = synthesis_plan(generator, precision, winograd=False)
    sums = DirectionSums.empty(len(controls), embedding_width(generator, clip))
    with torch.no_grad():
        for row, control in enumerate(controls):
            move = torch.zeros_like(styles[0])
            for position, sign in control:
                move[position] = sign * step * float(std[position])
            embedded = clip.encode_images(generator.render(torch.cat([styles + move, styles - move]), plan=plan))
            plus, minus = embedded.split(len(styles))
            sums = sums.add_at(torch.tensor([row]), DirectionSums.of((plus - minus)[None]))
            advance(2 * len(styles))
    return sums


def _added(sums: DirectionSums, pending: list[tuple[list[int], Tensor]]) -> DirectionSums:
    """Sums with differences [c n d] of some rows added; these leave their device together."""
    if not pending:
        return sums
    here = torch.cat([x.flatten() for _, x in pending]).cpu().split([x.numel() for _, x in pending])
    for (rows, x), values in zip(pending, here, strict=True):
        sums = sums.add_at(torch.tensor(rows), DirectionSums.of(values.view(x.shape)))
    return sums


def _differences(
    generator: Generator, clip: Clip, group: _Group, positions: list[int], *, std: Tensor, step: float
) -> Float[Tensor, "c n d"]:
    """Differences of embeddings for some channels of one layer, all images and both signs in one batch."""
    num_channels, n = len(positions), len(group.styles)
    moved = group.styles.repeat(2 * num_channels, 1).reshape(num_channels, 2, n, -1)
    since = []
    for row, position in enumerate(positions):
        move = step * float(std[position])
        moved[row, 0, :, position] += move
        moved[row, 1, :, position] -= move
        since.append(group.moved(generator, position, (move, -move)))
    rendered = generator.render(moved.flatten(0, 2), since=_joined(since), plan=group.plan)
    plus, minus = clip.encode_images(rendered).reshape(num_channels, 2, n, -1).unbind(1)
    return plus - minus


def _joined(parts: list[Activations]) -> Activations:
    """One after another; where all are the same one, it is taken once, since ``render`` wraps around."""
    if all(part is parts[0] for part in parts):
        return parts[0]
    images = [part.rgb for part in parts if part.rgb is not None]
    return Activations(
        parts[0].layer, torch.cat([part.features for part in parts]), torch.cat(images) if images else None
    )


def _chunks(rows: list[int], size: int) -> Iterator[list[int]]:
    for start in range(0, len(rows), size):
        yield rows[start : start + size]
