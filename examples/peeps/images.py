"""What training does to the images of the data sets."""

import torch
from torch import Tensor
from torch.nn import functional as F


def augment(images: Tensor, rng: torch.Generator) -> Tensor:
    """Random shift by up to 2 px, blur, contrast and noise; a quarter of the images stay as they are."""
    n = images.shape[0]
    dy, dx = (int(v) for v in torch.randint(-2, 3, (2,), generator=rng))
    shifted = torch.roll(images, (dy, dx), dims=(2, 3))
    blurred = F.avg_pool2d(F.pad(shifted, (1, 1, 1, 1), mode="replicate"), 3, stride=1)
    mix = torch.rand(n, 1, 1, 1, generator=rng)
    out = torch.lerp(shifted, blurred, mix)
    out = out * (1 + 0.1 * torch.randn(n, 1, 1, 1, generator=rng))
    out = out + 0.08 * torch.rand(n, 1, 1, 1, generator=rng) * torch.randn(out.shape, generator=rng)
    plain = torch.rand(n, 1, 1, 1, generator=rng) < 0.25
    return torch.where(plain, images, out)
