"""Slopes: the derivative of CLIP's embedding along every style channel, by backward passes, no renders to compare.

Letters: n image, c editable channel, s style, d CLIP width, r probe row.
"""

import torch
from jaxtyping import Float
from torch import Tensor

from kernels import DirectionSums, Probes
from pipeline.differences import editable_positions
from pipeline.models.clip import Clip
from pipeline.models.stylegan2 import Generator

MIN_SLOPE = 1e-7  # per standard deviation; below this a derivative is rounding


def sum_slopes(
    generator: Generator,
    clip: Clip,
    styles: Float[Tensor, "n s"],
    *,
    std: Float[Tensor, "s"],
    probes: Probes,
    batch_size: int,
) -> DirectionSums:
    """Derivatives of the unit embedding E(G(s)) along every editable channel, times its standard deviation.

    One forward pass of a batch of images, then one backward pass per probe row q: ``sigma_c d<q, E>/ds_c`` for all
    channels at once. Probe rows span the text directions, so the component along every text is exact; random rows
    give the length of the rest (``kernels.probe_rows``). With d rows the derivative is exact altogether.

    Memory is that of one batch, whatever the number of images and, above d, of texts.

    Args:
        generator: renders.
        clip: embeds.
        styles: style vectors of the images, at least one.
        std: standard deviation of every style channel; a channel with 0 gets slope 0.
        probes: directions to differentiate along.
        batch_size: images at a time.
    Returns:
        sums over the images of the derivatives of ``editable_positions``, in CLIP's space.
    """
    columns = torch.tensor(editable_positions(generator.space), device=styles.device)
    sigma = std.to(styles.device)[columns]
    found: DirectionSums | None = None
    for images in styles.split(batch_size):
        found_here = _batch_slopes(generator, clip, images, columns=columns, sigma=sigma, probes=probes)
        found = found_here if found is None else found.merge(found_here)
    assert found is not None, "at least one image"
    return found


def _batch_slopes(
    generator: Generator, clip: Clip, images: Tensor, *, columns: Tensor, sigma: Tensor, probes: Probes
) -> DirectionSums:
    x = images.detach().clone().requires_grad_()
    coordinates = torch.empty(len(columns), len(x), len(probes.rows))  # [c n r]
    with torch.enable_grad():  # a caller may have turned gradients off
        projected = clip.encode_images(generator.render(x)) @ probes.rows.to(x.device).T  # [n r]
        for row in range(len(probes.rows)):
            last = row + 1 == len(probes.rows)
            (gradient,) = torch.autograd.grad(projected[:, row].sum(), x, retain_graph=not last)
            coordinates[:, :, row] = (gradient[:, columns] * sigma * probes.weight[row]).T.cpu()
    return DirectionSums.of(probes.lift(coordinates), shortest=MIN_SLOPE)
