"""Train the inverter: images to w_plus, in the manner of e4e (Tov et al., 2021).

    python -m examples.peeps.train_inverter --build build/peeps

Learns w of the generator's samples, the one-hot w of drawings, and towards the end the drawing itself through the
frozen generator. Offsets of single rows are kept small, so that what is inverted can be edited. Resumes from its
checkpoint.
"""

import argparse
from pathlib import Path

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

from examples.peeps.captions import visible_labels
from examples.peeps.domain import ATTRIBUTES, W_DIM, w_block
from examples.peeps.fit import device_of, fit
from examples.peeps.images import augment
from examples.peeps.mapping import load_generator
from examples.peeps.train_generator import CONFIG as GENERATOR
from pipeline.models.inverter import ResidualInverter, ResidualInverterConfig
from pipeline.pixels import from_rgb_arrays

CONFIG = ResidualInverterConfig(
    resolution=GENERATOR.resolution, widths=(48, 96, 192), num_ws=GENERATOR.style_space.num_ws, w_dim=W_DIM
)
BATCH_RENDERS, BATCH_SAMPLES, BATCH_PIXELS = 32, 24, 6
LEARNING_RATE = 2e-3
OFFSET_WEIGHT = 2.0
PIXEL_WEIGHT = 0.5
PIXELS_FROM = 0.7  # share of the steps


def one_hot_w(labels: np.ndarray) -> tuple[Tensor, Tensor]:
    """One-hot w [n, W_DIM] of visible labels, and which of its numbers the picture tells [n, W_DIM]."""
    w, known = torch.zeros(len(labels), W_DIM), torch.ones(len(labels), W_DIM, dtype=torch.bool)
    for number, attribute in enumerate(ATTRIBUTES):
        column = torch.from_numpy(labels[:, number])
        w[:, w_block(number)] = F.one_hot(column.clamp(min=0), len(attribute.categories)).float()
        known[:, w_block(number)] = (column >= 0)[:, None]
    return w, known


def main() -> None:
    """Command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--build", type=Path, default=Path("build/peeps"))
    parser.add_argument("--device", default="auto", help="auto, cpu or cuda")
    parser.add_argument("--seed", type=int, default=31)
    parser.add_argument("--steps", type=int, default=600)
    args = parser.parse_args()
    device = device_of(args.device)
    renders = np.load(args.build / "renders/train_images.npy", mmap_mode="r")
    labels = visible_labels(np.load(args.build / "renders/train_labels.npy"))
    samples = np.load(args.build / "samples/images.npy", mmap_mode="r")
    sample_labels = visible_labels(np.load(args.build / "samples/labels.npy"))
    sample_w = torch.from_numpy(np.load(args.build / "samples/w.npy"))
    held_out = np.load(args.build / "renders/validation_images.npy")[:100]
    generator = load_generator(args.build).to(device)
    torch.manual_seed(args.seed)
    inverter = ResidualInverter(CONFIG).to(device)
    inverter.w_avg.copy_(generator.mapping.w_avg)

    def loss(step: int) -> Tensor:
        rng = np.random.default_rng((args.seed, step))
        a = np.sort(rng.choice(len(renders), BATCH_RENDERS, replace=False))
        b = np.sort(rng.choice(len(samples), BATCH_SAMPLES, replace=False))
        clean = torch.cat([from_rgb_arrays(renders[a]), from_rgb_arrays(samples[b])])
        images = augment(clean, torch.Generator().manual_seed(args.seed * 1_000_003 + step)).to(device)
        drawn_w, known = one_hot_w(np.concatenate([labels[a], sample_labels[b]]))
        target = torch.cat([drawn_w[:BATCH_RENDERS], sample_w[b]]).to(device)
        base, offsets = inverter.base_and_offsets(images)
        wrong = ((base - target).square() * known.to(device)).mean() * 10
        total = wrong + OFFSET_WEIGHT * offsets.square().mean()
        if step >= PIXELS_FROM * args.steps:
            some = slice(0, BATCH_PIXELS)
            drawn = generator(base[some, None] + offsets[some])
            total = total + PIXEL_WEIGHT * (drawn - clean[some].to(device)).abs().mean()
        return total

    def report() -> str:
        drawn = generator(inverter.invert(from_rgb_arrays(held_out).to(device))).clamp(-1, 1).cpu()
        return f"held-out L1 {float((drawn - from_rgb_arrays(held_out)).abs().mean()):.4f}"

    checkpoint = args.build / "inverter.pt"
    fit(inverter, loss, checkpoint=checkpoint, steps=args.steps, learning_rate=LEARNING_RATE, report=report)


if __name__ == "__main__":
    main()
