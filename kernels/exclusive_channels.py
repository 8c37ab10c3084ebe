"""Which style channels exclude each other: samples that are high in one are hardly ever high in the other.

Letters: n sample, k channel.
"""

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from kernels.impl import Impl, check_impl

SHARE = 0.1  # of the samples that independent channels would both be high in
LEAST_EXPECTED = 5.0  # samples; with fewer, none at all would prove little


def exclusive_channels(styles: Float[Tensor, "n k"], *, impl: Impl = "auto") -> Bool[Tensor, "k k"]:
    """Pairs of channels that are high (above mean plus deviation) together in less than a tenth of the samples
    in which independent channels would be.

    What is drawn in one place is one thing at a time: eyewear is glasses or sunglasses. Channels that merely vary
    against each other are high together now and then. A pair that independence would find high together in fewer than
    five samples is not decided, and so not exclusive; nor is a channel with itself.

    Args:
        styles: style vectors of random latents; some thousand.
        impl: the reference counts pair by pair.
    """
    check_impl(impl)
    high = styles > styles.mean(dim=0) + styles.std(dim=0, correction=0)
    count = styles.shape[1]
    if impl == "ref":
        both = torch.zeros(count, count, dtype=torch.float64)
        for i in range(count):
            for j in range(count):
                both[i, j] = (high[:, i] & high[:, j]).sum()
    else:
        both = (high.float().T @ high.float()).double()
    each = high.double().sum(dim=0)
    expected = each[:, None] * each[None, :] / max(1, len(styles))
    found = (expected >= LEAST_EXPECTED) & (both < SHARE * expected)
    return found & ~torch.eye(count, dtype=torch.bool)
