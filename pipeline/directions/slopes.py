"""Slopes: the derivative of CLIP's embedding along every style channel, by backward passes, no renders to compare.

Letters: n image, c editable channel, s style, d CLIP width, r probe row, p text.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from jaxtyping import Float, Int
from torch import Tensor

from kernels import ChannelGroups, DirectionSums, Probes
from kernels.direction_sums import FRACTION_BITS
from pipeline.config import Precision
from pipeline.directions.differences import editable_positions
from pipeline.machine.batch_size import Batches
from pipeline.machine.plans import clip_for, synthesis_plan
from pipeline.models.clip import Clip
from pipeline.models.stylegan2 import Generator
from pipeline.models.synthesis_plan import SynthesisPlan
from pipeline.runs.progress import advance

MIN_SLOPE = 1e-7  # per standard deviation; below this a derivative is rounding


@dataclass(frozen=True)
class Slopes:
    """Sums over images.

    Attributes:
        sums: of the derivatives.
        aligned: of ``|cos(derivative, text)|`` for every text, units of 2^-40. A channel that pulls some faces towards
            the text and others away counts in full; +- 5 sigma, which go past the turn, mostly have one sign. Lengths
            do not count: what switches at a threshold has a short derivative everywhere before it.
    """

    sums: DirectionSums
    aligned: Int[Tensor, "c p"]

    def merge(self, other: "Slopes") -> "Slopes":
        """Sums over both sets of images; exact, associative and commutative."""
        return Slopes(self.sums.merge(other.sums), self.aligned + other.aligned)


def sum_slopes(
    generator: Generator,
    clip: Clip,
    styles: Float[Tensor, "n s"],
    *,
    std: Float[Tensor, "s"],
    probes: Probes,
    text_directions: Float[Tensor, "p d"],
    batch_size: int,
    precision: Precision = "full",
    groups: ChannelGroups | None = None,
) -> Slopes:
    """Derivatives of the unit embedding E(G(s)) along every editable channel, times its standard deviation.

    One forward pass of a batch of images, then one backward pass per probe row q: ``sigma_c d<q, E>/ds_c`` for all
    channels at once. Probe rows span the text directions, so the component along every text is exact; random rows
    give the length of the rest (``kernels.probe_rows``). With d rows the derivative is exact altogether.

    Memory is that of one batch, whatever the number of images and, above d, of texts, but for a number per channel
    and text.

    Args:
        generator: renders.
        clip: embeds.
        styles: style vectors of the images, at least one.
        std: standard deviation of every style channel; a channel with 0 gets slope 0.
        probes: directions to differentiate along; they span the texts.
        text_directions: unit vectors.
        batch_size: images at a time; halved where the memory does not hold them.
        precision: of the renders and of CLIP's image tower.
        groups: channels that move together: the first of a group then stands for all, the others get slope 0.
    Returns:
        sums over the images of the derivatives of ``editable_positions``, in CLIP's space.
    """
    columns = torch.tensor(editable_positions(generator.space), device=styles.device)
    sigma = std.to(styles.device)[columns]
    plan, clip = synthesis_plan(generator, precision), clip_for(clip, precision)
    found: Slopes | None = None

    def add(images: Sequence[Tensor]) -> Sequence[Tensor]:
        nonlocal found
        x = torch.stack(list(images))
        coordinates = _coordinates(generator, clip, x, columns=columns, sigma=sigma, probes=probes, plan=plan)
        if groups is not None:
            coordinates = groups.gather(coordinates)
        sums = DirectionSums.of(probes.lift(coordinates), shortest=MIN_SLOPE)
        found_here = Slopes(sums, _alignment(coordinates, probes, text_directions))
        found = found_here if found is None else found.merge(found_here)
        advance(len(x))
        return images

    Batches(batch_size).run(add, list(styles))
    assert found is not None, "at least one image"
    return found


def _coordinates(
    generator: Generator,
    clip: Clip,
    images: Tensor,
    *,
    columns: Tensor,
    sigma: Tensor,
    probes: Probes,
    plan: SynthesisPlan,
) -> Float[Tensor, "c n r"]:
    """Derivatives along every probe row, weighted. Styles above the last channel that varies get no gradient."""
    x = images.detach().clone().requires_grad_()
    live = columns[sigma > 0].tolist()
    if not live:
        return torch.zeros(len(columns), len(x), len(probes.rows))
    weight = probes.weight.tolist()
    above = generator.space.locate(max(live))[0] + 1
    coordinates = torch.empty(len(columns), len(x), len(probes.rows), device=x.device)
    with torch.enable_grad():  # a caller may have turned gradients off
        rendered = generator.render(images, since=generator.activations(x, above, plan=plan), plan=plan)
        projected = clip.encode_images(rendered) @ probes.rows.to(x.device).T  # [n r]
        for row in range(len(probes.rows)):
            last = row + 1 == len(probes.rows)
            (gradient,) = torch.autograd.grad(projected[:, row].sum(), x, retain_graph=not last)
            coordinates[:, :, row] = (gradient[:, columns] * sigma * weight[row]).T
    return coordinates.cpu()


def _alignment(coordinates: Float[Tensor, "c n r"], probes: Probes, texts: Float[Tensor, "p d"]) -> Int[Tensor, "c p"]:
    """Sums over images of ``|cos(derivative, text)|`` as whole numbers; one image at a time, for memory's sake.

    Products with the texts are exact, since the rows span them; lengths are estimates, as far as the rows tell.
    """
    along = texts @ probes.rows.T
    total = torch.zeros(len(coordinates), len(texts), dtype=torch.int64)
    for image in coordinates.unbind(dim=1):
        length = torch.linalg.vector_norm(image, dim=1, keepdim=True)
        cosine = ((image / probes.weight) @ along.T).abs() / length.clamp_min(MIN_SLOPE)
        total += (cosine.clamp(max=1.0).double() * 2.0**FRACTION_BITS).round().long()
    return total
