"""Is a render an image? A floating-point overflow gives NaN, a black picture or a flat one, none of which is an edit.

Letters: n image, s style channel, r pixel.
"""

import torch
from jaxtyping import Float
from torch import Tensor

# Demodulation sums styles^2 * weights^2 over some thousand weights in float32, which ends at 3.4e38. From 1e18 on the
# sums of usual weights are infinite, every feature becomes 0 and the image one flat colour, finite and wrong.
LARGEST_STYLE = 1e15
FAR = 1.5  # a colour this far from 0 lies far outside [-1, 1]; a generator's own images hardly ever get there
SATURATED_SHARE = 0.05  # of the pixels: above it, what the picture shows is in part cut off


def render_faults(styles: Float[Tensor, "n s"], images: Float[Tensor, "n 3 r r"]) -> list[str | None]:
    """Why each image is none: one reason, or None where it is an image.

    Args:
        styles: what was rendered.
        images: what came out, before rounding.
    """
    finite_styles = torch.isfinite(styles).all(dim=1).tolist()
    largest = styles.abs().amax(dim=1).tolist()
    finite_images = torch.isfinite(images).flatten(1).all(dim=1).tolist()
    faults: list[str | None] = []
    for i in range(len(styles)):
        if not finite_styles[i]:
            faults.append("the styles must be finite; they hold NaN or infinity. Lower the strength.")
        elif largest[i] > LARGEST_STYLE:
            faults.append(
                f"the styles must stay below {LARGEST_STYLE:g} in size, or float32 overflows in the generator; the "
                f"largest is {largest[i]:.2g}. Lower the strength."
            )
        elif not finite_images[i]:
            faults.append("the image must be finite; the render holds NaN or infinity. Lower the strength.")
        else:
            faults.append(None)
    return faults


def saturation(images: Float[Tensor, "n 3 r r"]) -> list[float]:
    """Share of each image's pixels of which a colour lies beyond ``FAR``, 0 to 1; rounding cuts them to [-1, 1]."""
    return (images.abs().amax(dim=1) > FAR).float().mean(dim=(1, 2)).tolist()
