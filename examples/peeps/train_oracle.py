"""Train the oracle: the judge of every edit.

    python -m examples.peeps.train_oracle --build build/peeps

Learns from drawings that the CLIP model never saw and from the generator's own samples; ends with one temperature for
every attribute, fitted on held-out drawings and samples of their own. Resumes from its checkpoint.
"""

import argparse
from pathlib import Path

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

from examples.peeps.captions import visible_labels
from examples.peeps.domain import ATTRIBUTES, COLORED_HEADS
from examples.peeps.fit import device_of, fit
from examples.peeps.images import augment
from examples.peeps.mapping import load_generator
from examples.peeps.render import render_dataset, sample_split
from examples.peeps.sample import draw_samples
from pipeline.models.oracle import Oracle, OracleConfig
from pipeline.pixels import from_rgb_arrays

CONFIG = OracleConfig(
    resolution=128,
    widths=(48, 96, 192),
    attributes={a.name: tuple(a.categories) for a in ATTRIBUTES},
    shown_by={"hair_color": {"head": tuple(sorted(COLORED_HEADS))}},
)
RENDERS = 12000
BATCH_RENDERS, BATCH_SAMPLES = 40, 24
LEARNING_RATE = 2e-3


def unseen_labels(count: int, seed: int, seen: np.ndarray) -> np.ndarray:
    """Training combinations that are not among ``seen``: no picture of one set is a picture of the other."""
    labels = sample_split(2 * count, seed, validation=False)
    known = {row.tobytes() for row in seen}
    return np.stack([row for row in labels if row.tobytes() not in known][:count])


def cross_entropy(logits: list[Tensor], labels: Tensor) -> Tensor:
    """Mean over attributes; label -1 (not visible) does not count."""
    losses = [F.cross_entropy(part, labels[:, i], ignore_index=-1) for i, part in enumerate(logits)]
    return torch.stack(losses).mean()


def accuracies(oracle: Oracle, images: np.ndarray, labels: np.ndarray) -> dict[str, float]:
    """Share of visible labels that the oracle finds, per attribute."""
    guesses = predict(oracle, images)
    return {a.name: float((guesses[:, i] == labels[:, i])[labels[:, i] >= 0].mean()) for i, a in enumerate(ATTRIBUTES)}


def predict(oracle: Oracle, images: np.ndarray) -> np.ndarray:
    """Most likely category numbers [n, attributes] of uint8 images."""
    device = oracle.temperature.device
    parts = []
    with torch.no_grad():
        for start in range(0, len(images), 100):
            found = oracle.probabilities(from_rgb_arrays(images[start : start + 100]).to(device))
            parts.append(torch.stack([p.argmax(dim=1) for p in found.values()], dim=1).cpu().numpy())
    return np.concatenate(parts)


def calibrate(oracle: Oracle, images: Tensor, labels: Tensor) -> None:
    """Fit the temperatures by likelihood (Guo et al., 2017); accuracy does not change."""
    oracle.temperature.fill_(1.0)
    with torch.no_grad():
        logits = [torch.cat(p) for p in zip(*(oracle.logits(x) for x in images.split(100)), strict=True)]
    log_temperature = torch.zeros(len(logits), device=labels.device, requires_grad=True)
    optimizer = torch.optim.LBFGS([log_temperature], max_iter=100)

    def closure() -> Tensor:
        optimizer.zero_grad()
        loss = cross_entropy([part / log_temperature[i].exp() for i, part in enumerate(logits)], labels)
        loss.backward()
        return loss

    optimizer.step(closure)
    oracle.temperature.copy_(log_temperature.detach().exp().clamp(0.2, 5.0))


def main() -> None:
    """Command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--build", type=Path, default=Path("build/peeps"))
    parser.add_argument("--device", default="auto", help="auto, cpu or cuda")
    parser.add_argument("--seed", type=int, default=11)
    parser.add_argument("--steps", type=int, default=800)
    args = parser.parse_args()
    device = device_of(args.device)
    data = args.build / "renders"
    wanted = unseen_labels(RENDERS, args.seed, np.load(data / "train_labels.npy"))
    render_dataset(data, "oracle", wanted)
    render_dataset(data, "calibration", sample_split(500, args.seed + 1, validation=True))
    renders, labels = np.load(data / "oracle_images.npy"), torch.from_numpy(visible_labels(wanted))
    samples = np.load(args.build / "samples/images.npy", mmap_mode="r")
    sample_labels = torch.from_numpy(visible_labels(np.load(args.build / "samples/labels.npy")))
    held_out = np.load(data / "calibration_images.npy"), visible_labels(np.load(data / "calibration_labels.npy"))
    torch.manual_seed(args.seed)
    oracle = Oracle(CONFIG).to(device)

    def loss(step: int) -> Tensor:
        rng = np.random.default_rng((args.seed, step))
        drawn = np.sort(rng.choice(len(renders), BATCH_RENDERS, replace=False))
        made = np.sort(rng.choice(len(samples), BATCH_SAMPLES, replace=False))
        images = torch.cat([from_rgb_arrays(renders[drawn]), from_rgb_arrays(samples[made])])
        images = augment(images, torch.Generator().manual_seed(args.seed * 1_000_003 + step))
        truth = torch.cat([labels[drawn], sample_labels[made]])
        return cross_entropy(oracle.logits(images.to(device)), truth.to(device))

    def report() -> str:
        return " ".join(f"{name} {value:.3f}" for name, value in accuracies(oracle, *held_out).items())

    checkpoint = args.build / "oracle.pt"
    fit(oracle, loss, checkpoint=checkpoint, steps=args.steps, learning_rate=LEARNING_RATE, report=report)
    made, made_labels, _ = draw_samples(load_generator(args.build), 500, seed=args.seed + 2, psi=(0.7, 1.0))
    images = torch.cat([from_rgb_arrays(held_out[0]), from_rgb_arrays(made)]).to(device)
    truth = torch.from_numpy(np.concatenate([held_out[1], visible_labels(made_labels)])).to(device)
    calibrate(oracle, images, truth)
    saved = torch.load(checkpoint, map_location=device, weights_only=True)
    torch.save({**saved, "model": oracle.state_dict()}, checkpoint)
    print("temperatures", " ".join(f"{t:.2f}" for t in oracle.temperature.tolist()))


if __name__ == "__main__":
    main()
