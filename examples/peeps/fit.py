"""The training loop that the oracle, the identity network and the inverter share."""

import math
from collections.abc import Callable, Sequence
from pathlib import Path

import torch
from torch import Tensor, nn
from tqdm import tqdm

from examples.peeps.muon import Muon

WARMUP = 50
WEIGHT_DECAY = 0.02


def device_of(name: str) -> str:
    """``auto`` is CUDA where there is one."""
    return ("cuda" if torch.cuda.is_available() else "cpu") if name == "auto" else name


def fit(
    module: nn.Module,
    loss: Callable[[int], Tensor],
    *,
    checkpoint: Path,
    steps: int,
    learning_rate: float,
    report: Callable[[], str],
    every: int = 100,
    matrices: Sequence[nn.Parameter] = (),
) -> None:
    """AdamW with warm-up and a cosine to zero; goes on from ``checkpoint`` if it is there.

    Args:
        module: what is trained; every parameter.
        loss: step number to loss; whatever is random in it is seeded by the step, so a resumed run sees the same.
        checkpoint: module, optimiser and step, written every ``every`` steps and at the end.
        steps: batches in all.
        learning_rate: highest rate.
        report: words on how good the module is, shown with each checkpoint; called in eval mode.
        every: steps between checkpoints.
        matrices: parameters that Muon trains instead, at the same rate.
    """
    others = [p for p in module.parameters() if all(p is not m for m in matrices)]
    optimizers: dict[str, torch.optim.Optimizer] = {
        "optimizer": torch.optim.AdamW(others, lr=learning_rate, betas=(0.9, 0.99), weight_decay=WEIGHT_DECAY)
    }
    if matrices:
        optimizers["muon"] = Muon(matrices, lr=learning_rate)
    first = 0
    if checkpoint.exists():
        saved = torch.load(checkpoint, map_location=next(module.parameters()).device, weights_only=True)
        module.load_state_dict(saved["model"])
        for name, optimizer in optimizers.items():
            optimizer.load_state_dict(saved[name])
        first = saved["step"]
    progress = tqdm(range(first, steps), initial=first, total=steps, mininterval=5)
    for step in progress:
        rate = min(1.0, (step + 1) / WARMUP) * (0.01 + 0.99 * 0.5 * (1 + math.cos(math.pi * step / steps)))
        module.train()
        value = loss(step)
        module.zero_grad(set_to_none=True)
        value.backward()
        nn.utils.clip_grad_norm_(module.parameters(), 1.0)
        for optimizer in optimizers.values():
            optimizer.param_groups[0]["lr"] = learning_rate * rate
            optimizer.step()
        if (step + 1) % every == 0 or step + 1 == steps:
            module.eval()
            with torch.no_grad():
                words = report()
            progress.write(f"step {step + 1}  loss {value.item():.4f}  {words}")
            state = {name: optimizer.state_dict() for name, optimizer in optimizers.items()}
            torch.save({**state, "model": module.state_dict(), "step": step + 1}, checkpoint.with_suffix(".tmp"))
            checkpoint.with_suffix(".tmp").replace(checkpoint)
    module.eval()
