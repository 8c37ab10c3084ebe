"""Large images band by band: the last blocks' features, the bulk of a render's memory, are never whole in memory."""

import torch
from jaxtyping import Float
from torch import Tensor
from torch.func import functional_call

from pipeline.models.stylegan2 import Generator
from pipeline.models.synthesis import SynthesisLayer
from pipeline.models.synthesis_plan import Activations

BASE = 128  # px; the blocks up to here are run whole
BAND = 8  # rows of the base's features in a band
HALO = 3  # rows on either side that a block needs of the one below; its convolutions and filters reach 2.5


def render_banded(generator: Generator, styles: Float[Tensor, "1 s"]) -> Float[Tensor, "1 3 r r"]:
    """The image of ``generator.render(styles)``, with a fifth of its memory at 1024 px and half again the work.

    Above 128 px every layer is a convolution of at most 3 x 3 taps and a filter of 4, so a row of the image depends on
    few rows of the features at 128 px. Those are cut into bands with a halo, and every block cuts off what of the halo
    the blocks above it can do without. At the image's own edges a band ends where the image does, and is padded as the
    image is.

    Args:
        generator: up to 128 px it is run as ever.
        styles: one style vector.
    Returns:
        the image, about [-1, 1].
    """
    above = [layer.index for layer in generator.space.layers if layer.resolution > BASE]
    if not above:
        return generator.render(styles)
    whole = generator.activations(styles, above[0])
    size = BAND * generator.space.resolution // BASE
    starts = range(0, generator.space.resolution, size)
    return torch.cat([_render_rows(generator, styles, whole, start, start + size) for start in starts], dim=2)


def _needed_rows(resolution: int, first: int, last: int) -> dict[int, tuple[int, int]]:
    """Which rows of each block's output, by resolution from 128 px, the image's rows ``first`` to ``last`` need."""
    rows = {resolution: (first, last)}
    while resolution > BASE:
        resolution //= 2
        first, last = max(0, first // 2 - HALO), min(resolution, -(-last // 2) + HALO)
        rows[resolution] = (first, last)
    return rows


def _render_rows(
    generator: Generator, styles: Float[Tensor, "1 s"], whole: Activations, first: int, last: int
) -> Float[Tensor, "1 3 h r"]:
    """The image's rows ``first`` up to, not including, ``last``, of the features at 128 px."""
    rows = _needed_rows(generator.space.resolution, first, last)
    parts = generator.space.split(styles)
    features, rgb, have = whole.features, whole.rgb, (0, BASE)
    for layer in generator.space.layers[whole.layer :]:
        if layer.kind == "conv0":  # the block below is done: its halo goes, and the rest is twice as many rows here
            keep = slice(*(row - have[0] for row in rows[layer.resolution // 2]))
            features, rgb = features[:, :, keep], None if rgb is None else rgb[:, :, keep]
            have = tuple(2 * row for row in rows[layer.resolution // 2])
        module = generator.synthesis.layer(layer.index)
        features = features.to(generator.synthesis.precision(layer.index, features.device, styles.dtype))
        arguments = (features, rgb, parts[layer.index])
        if isinstance(module, SynthesisLayer):
            own = {"noise_const": module.noise_const[slice(*have)]}
            features, rgb = functional_call(module, own, arguments, {"impl": "auto"})
        else:
            features, rgb = module(*arguments, impl="auto")
    assert rgb is not None
    return rgb[:, :, first - have[0] : last - have[0]].clone()
