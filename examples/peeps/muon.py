"""The Muon optimiser for convolutions (Jordan et al., 2024): momentum, then every update made orthogonal.

An orthogonal update moves all directions of a weight alike, the rare ones too: a category that a fortieth of the
pictures show learns as fast as the background. From nothing, 300 batches bring the 64-px generator to a held-out L1
of 0.08; Adam stands at 0.26 then. ``torch.optim.Muon`` works in bfloat16, which takes 50 times longer than float32 on
a CPU without bfloat16 units; this one stays in the weights' own type and iterates on the Gram matrix.
"""

from collections.abc import Iterable

import torch
from torch import Tensor

# Quintic Newton-Schulz coefficients of Jordan et al.: five rounds bring singular values into about [0.7, 1.2].
_A, _B, _C = 3.4445, -4.7750, 2.0315
_ROUNDS = 5


def orthogonalize(matrix: Tensor) -> Tensor:
    """About U V^T of the singular value decomposition U S V^T, same shape [rows, columns].

    Every round multiplies from the left by a polynomial of the Gram matrix; the polynomials commute, so they are
    multiplied up as small [rows, rows] matrices and meet the wide matrix once.
    """
    if matrix.shape[0] > matrix.shape[1]:
        return orthogonalize(matrix.T).T
    x = matrix / (matrix.norm() + 1e-7)
    gram = x @ x.T
    product = torch.eye(len(gram), dtype=gram.dtype, device=gram.device)
    for _ in range(_ROUNDS):
        factor = _A * torch.eye(len(gram), dtype=gram.dtype, device=gram.device) + _B * gram + _C * gram @ gram
        product = factor @ product
        gram = factor @ gram @ factor
    return product @ x


class Muon(torch.optim.Optimizer):
    """Nesterov momentum and orthogonal updates for weights [out, in, ...], seen as [out, in * ...].

    Args:
        params: weights of two or more dimensions.
        lr: root mean square of an update is 0.2 times this, so rates are those of Adam (Liu et al., 2025).
        momentum: decay of the running gradient, in [0, 1).
    """

    def __init__(self, params: Iterable[Tensor], lr: float, momentum: float = 0.95) -> None:
        super().__init__(params, {"lr": lr, "momentum": momentum})

    @torch.no_grad()
    def step(self, closure: None = None) -> None:
        """Take one step from the gradients at hand; weights without one stay."""
        assert closure is None
        for group in self.param_groups:
            for weight in group["params"]:
                if weight.grad is None:
                    continue
                state = self.state[weight]
                if not state:
                    state["mean"] = torch.zeros_like(weight)
                state["mean"].lerp_(weight.grad, 1 - group["momentum"])
                ahead = weight.grad.lerp(state["mean"], group["momentum"])
                update = orthogonalize(ahead.reshape(ahead.shape[0], -1)).reshape(weight.shape)
                weight.add_(update, alpha=-0.2 * group["lr"] * max(ahead.shape[0], ahead[0].numel()) ** 0.5)
