"""Move every shape category into one style channel.

    python -m examples.peeps.distill_homes --out build/peeps

Takes the generator trained with ``WIDE_HOMES`` as the teacher. The student has ``HOMES``; its layers up to b16.conv0
learn to give the teacher's features for the winning categories, whatever the losing ones score. It runs on 4 to 16
px only and costs minutes. All above is kept. Writes ``generator.pt`` for ``train_generator --homes final``, which
goes on end to end, and keeps the teacher as ``generator_wide.pt``.
"""

import argparse
import math
from pathlib import Path

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F
from tqdm import tqdm

from examples.peeps.domain import ATTRIBUTES, W_DIM, w_block
from examples.peeps.train_generator import CONFIG, HOMES, WIDE_HOMES, sample_scores, structure_affines
from pipeline.models.stylegan2 import Activations, Generator

BATCH = 32
LEARNING_RATE = 5e-3
EDIT_PROBABILITY = 0.35
FIRST_KEPT = "b16.conv1"  # the student learns the layers below this one


def one_hot_w(labels: Tensor) -> Tensor:
    """Plain labels as w: every winner scores 1."""
    w = torch.zeros(len(labels), W_DIM)
    for number, attribute in enumerate(ATTRIBUTES):
        w[:, w_block(number)] = F.one_hot(labels[:, number], len(attribute.categories)).float()
    return w


def feature_loss(student: Activations, teacher: Activations) -> Tensor:
    """Squared error of the features, relative to their variance, plus that of the image so far."""
    assert student.rgb is not None
    assert teacher.rgb is not None
    scale = teacher.features.var(dim=(0, 2, 3), keepdim=True) + 1e-2
    return ((student.features - teacher.features).square() / scale).mean() + F.mse_loss(student.rgb, teacher.rgb)


def distill(labels: np.ndarray, out: Path, *, steps: int, seed: int) -> None:
    """Train the student's lower layers and write the checkpoint."""
    saved = torch.load(out / "generator.pt", map_location="cpu", weights_only=True)
    torch.save(saved, out / "generator_wide.pt")
    teacher = Generator(CONFIG).requires_grad_(False).to(memory_format=torch.channels_last)
    teacher.synthesis.load_state_dict(saved["ema"])
    structure_affines(teacher, WIDE_HOMES)
    student = Generator(CONFIG).requires_grad_(False).to(memory_format=torch.channels_last)
    student.synthesis.load_state_dict(saved["ema"])
    structure_affines(student, HOMES)
    stop = next(x.index for x in student.space.layers if x.name == FIRST_KEPT)
    names = [x.name for x in student.space.layers[:stop]]
    learned = [
        p
        for k, p in student.synthesis.named_parameters()
        if (k == "b4.const" or any(k.startswith(f"{n}.") for n in names)) and "affine" not in k and "noise" not in k
    ]
    for parameter in learned:
        parameter.requires_grad_(True)
    optimizer = torch.optim.Adam(learned, lr=LEARNING_RATE, betas=(0.9, 0.99))
    rng = torch.Generator().manual_seed(seed)
    everything = torch.from_numpy(labels)
    progress = tqdm(range(steps), mininterval=5)
    for step in progress:
        optimizer.param_groups[0]["lr"] = LEARNING_RATE * (0.05 + 0.95 * 0.5 * (1 + math.cos(math.pi * step / steps)))
        pick = everything[torch.randint(0, len(everything), (BATCH,), generator=rng)]
        with torch.no_grad():
            wanted = teacher.activations(teacher.styles(one_hot_w(pick)), stop)
        edits = EDIT_PROBABILITY * min(1.0, step / 300)
        styles = student.styles(sample_scores(pick, student.space.num_ws, edits, rng))
        loss = feature_loss(student.activations(styles, stop), wanted)
        optimizer.zero_grad(set_to_none=True)
        loss.backward()
        optimizer.step()
        if (step + 1) % 100 == 0:
            progress.write(f"step {step + 1}  relative feature error {float(loss):.4f}")
    all_learned = [p for k, p in student.synthesis.named_parameters() if "affine" not in k and "noise" not in k]
    fresh = torch.optim.Adam(all_learned, betas=(0.9, 0.99))
    state = student.synthesis.state_dict()
    torch.save(
        {"model": state, "ema": state, "optimizer": fresh.state_dict(), "rng": saved["rng"], "step": saved["step"]},
        out / "generator.pt",
    )


def main() -> None:
    """Command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, default=Path("build/peeps/renders"))
    parser.add_argument("--out", type=Path, default=Path("build/peeps"))
    parser.add_argument("--steps", type=int, default=1500)
    parser.add_argument("--seed", type=int, default=0)
    args = parser.parse_args()
    distill(np.load(args.data / "train_labels.npy"), args.out, steps=args.steps, seed=args.seed)


if __name__ == "__main__":
    main()
