"""Large images band by band: the last blocks' features, the bulk of a render's memory, are never whole in memory."""

import torch
from jaxtyping import Float
from torch import Tensor
from torch.func import functional_call

from pipeline.models.stylegan2 import Activations, Generator, SynthesisLayer

BASE = 128  # px; the blocks up to here are run whole
BAND = 4  # rows of the base's features in a band
HALO = 6  # rows on either side of a band, computed and cut off: what its edges spoil, less than 5 at any resolution


def render_banded(generator: Generator, styles: Float[Tensor, "1 s"]) -> Float[Tensor, "1 3 r r"]:
    """The image of ``generator.render(styles)``, with a quarter of its memory at 1024 px and twice the work.

    Above 128 px every layer is a convolution of at most 3 x 3 taps and a filter of 4, so a row of the image depends on
    few rows of the features at 128 px. Those are cut into bands with a halo; each is rendered alone and its halo cut
    off. At the image's own edges a band ends where the image does, and is padded as the image is.

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
    factor = generator.space.resolution // BASE
    bands = []
    for top in range(0, BASE, BAND):
        first, last = max(0, top - HALO), min(BASE, top + BAND + HALO)
        image = _render_rows(generator, styles, whole, first, last)
        skip = (top - first) * factor
        bands.append(image[:, :, skip : skip + BAND * factor].clone())
    return torch.cat(bands, dim=2)


def _render_rows(
    generator: Generator, styles: Float[Tensor, "1 s"], whole: Activations, first: int, last: int
) -> Float[Tensor, "1 3 h r"]:
    """The image of the base's rows ``first`` up to, not including, ``last``, as if there were no others."""
    features, rgb = whole.features[:, :, first:last], whole.rgb
    rgb = None if rgb is None else rgb[:, :, first:last]
    parts = generator.space.split(styles)
    for layer in generator.space.layers[whole.layer :]:
        module = generator.synthesis.layer(layer.index)
        features = features.to(generator.synthesis.precision(layer.index, features.device, styles.dtype))
        arguments = (features, rgb, parts[layer.index])
        if isinstance(module, SynthesisLayer):
            start, rows = first * layer.resolution // BASE, (last - first) * layer.resolution // BASE
            own = {"noise_const": module.noise_const[start : start + rows]}
            features, rgb = functional_call(module, own, arguments, {"impl": "auto"})
        else:
            features, rgb = module(*arguments, impl="auto")
    assert rgb is not None
    return rgb
