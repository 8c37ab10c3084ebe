"""Pictures to latents by a pack's inverter: one pass, or the steps of an encoder that also sees its reconstruction.

Letters: n picture, r resolution, l row of w_plus, d w_dim.
"""

import torch
from jaxtyping import Float
from torch import Tensor

from pipeline.errors import PipelineError
from pipeline.models.e4e import E4e
from pipeline.models.inverter import Inverter
from pipeline.models.stylegan2 import Generator

PUBLISHED_STEPS = 5  # of ReStyle's inference (Alaluf et al. 2021)


def sees_reconstruction(inverter: Inverter) -> bool:
    """Whether the encoder takes a picture beside its reconstruction, as ReStyle's do."""
    return isinstance(inverter, E4e) and inverter.config.sees_reconstruction


def check_encoder_steps(inverter: Inverter, steps: int | None) -> int:
    """How many passes an encoder takes: 1, or what was asked for, else the published 5.

    Raises:
        PipelineError: if steps are asked of an encoder that knows one pass only.
    """
    if sees_reconstruction(inverter):
        return PUBLISHED_STEPS if steps is None else steps
    if steps not in (None, 1):
        raise PipelineError(
            f"`encoder_steps` above 1 needs an encoder that also sees its reconstruction (ReStyle); this pack's takes "
            f"the image alone; got {steps}. Leave it out, or refine by optimisation with `refine`."
        )
    return 1


def encode(
    inverter: Inverter, generator: Generator, pictures: Float[Tensor, "n 3 r r"], *, steps: int
) -> Float[Tensor, "n l d"]:
    """w_plus of pictures in [-1, 1], without gradients.

    An encoder that sees its reconstruction starts at its mean latent and adds, step by step,
    ``w_{t+1} = w_t + E(x, G(w_t))``.

    Args:
        inverter: the pack's.
        generator: draws the reconstructions; not used for one pass.
        pictures: framed for the pack.
        steps: from ``check_encoder_steps``.
    Source: Alaluf et al. 2021, "ReStyle", Eq. 2-4.
    """
    with torch.no_grad():
        if not isinstance(inverter, E4e) or not inverter.config.sees_reconstruction:
            return inverter.invert(pictures)
        w_plus = inverter.latent_avg.expand(len(pictures), -1, -1)
        drawn = generator(w_plus[:1]).expand(len(pictures), -1, -1, -1)  # the mean face, for all
        for step in range(steps):
            w_plus = w_plus + inverter.residual(pictures, drawn)
            if step + 1 < steps:
                drawn = generator(w_plus)
        return w_plus
