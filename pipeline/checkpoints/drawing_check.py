"""The end of every import: does the generator draw?"""

from dataclasses import replace

import torch
from jaxtyping import UInt8
from torch import Tensor
from torch.nn import functional as F

from pipeline.errors import CheckpointError
from pipeline.models.banded_rendering import render_banded
from pipeline.models.sampling import sample_w_plus
from pipeline.models.stylegan2 import Generator
from pipeline.pixels import to_uint8

SEEDS = (0, 1, 2, 3)
PSI = 0.7
SMALLEST_SPREAD = 1e-3  # standard deviation of an image's pixels on [-1, 1]; a flat image has 0
PREVIEW_SIDE = 512  # pixels of one image on the preview, at most


def check_generator(generator: Generator, *, source: str) -> UInt8[Tensor, "h w 3"]:
    """Render four seeds, one at a time, and look at them.

    Args:
        generator: the imported generator.
        source: name of the file, for messages.
    Returns:
        the four images side by side, two by two, 8 bits.
    Raises:
        CheckpointError: if an image is not finite or flat, or all four are the same.
    """
    images = []
    with torch.no_grad():
        for seed in SEEDS:
            image = render_banded(generator, generator.styles(sample_w_plus(generator, [seed], psi=PSI)))
            if not bool(torch.isfinite(image).all()):
                raise CheckpointError(f"{source}: pixels must be finite; seed {seed} gives NaN or infinity.")
            spread = float(image.std())
            if spread < SMALLEST_SPREAD:
                raise CheckpointError(
                    f"{source}: a generator must draw something; seed {seed} is one flat colour (spread {spread:.1g})."
                )
            if image.shape[-1] > PREVIEW_SIDE:
                image = F.adaptive_avg_pool2d(image, PREVIEW_SIDE)
            images.append(image[0])
    if all(torch.equal(images[0], image) for image in images[1:]):
        raise CheckpointError(f"{source}: a generator must draw different images; seeds 0 to 3 give the same one.")
    rows = [torch.cat(images[i : i + 2], dim=2) for i in (0, 2)]
    return to_uint8(torch.cat(rows, dim=1)[None])[0].permute(1, 2, 0)


def clamp_reach(generator: Generator) -> str:
    """Which of the test seeds' images the generator's clamp changes, in words for the pack's record.

    Args:
        generator: with a ``conv_clamp``; seeds are rendered as in ``check_generator``.
    """
    with torch.device("meta"):
        unclamped = Generator(replace(generator.config, conv_clamp=None))
    unclamped.load_state_dict(generator.state_dict(), strict=True, assign=True)
    moved = {}
    with torch.no_grad():
        for seed in SEEDS:
            styles = generator.styles(sample_w_plus(generator, [seed], psi=PSI))
            largest = (render_banded(generator, styles) - render_banded(unclamped, styles)).abs().amax()
            if float(largest) > 0:
                moved[seed] = float(largest)
    if not moved:
        return f"by none of seeds {SEEDS[0]} to {SEEDS[-1]}"
    seeds = ", ".join(map(str, moved))
    return f"by seeds {seeds} of {len(SEEDS)}; without it their pixels differ by up to {max(moved.values()):.2g}"
