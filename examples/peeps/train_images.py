"""Train the image tower of the pack's CLIP on drawings: every picture goes to its place (``examples.peeps.meaning``).

    python -m examples.peeps.train_images --data build/peeps/renders --out build/peeps

Pictures are blurred, shifted and made noisy at random, so that the generator's softer pictures stay inside the domain.
Resumes from its checkpoint.
"""

import argparse
import math
from pathlib import Path

import numpy as np
import open_clip
import torch
from torch import Tensor, nn
from torch.nn import functional as F
from tqdm import tqdm

from examples.peeps.captions import visible_labels
from examples.peeps.domain import ATTRIBUTES
from examples.peeps.images import augment
from examples.peeps.meaning import picture_places, places
from kernels import resize_normalize
from pipeline.pixels import from_rgb_arrays

MEAN = (0.5, 0.5, 0.5)
STD = (0.5, 0.5, 0.5)
VISION = {"image_size": 112, "layers": 3, "width": 192, "head_width": 64, "patch_size": 16}
TEXT = {
    "context_length": 8,
    "vocab_size": 8,
    "width": 64,
    "heads": 1,
    "layers": 1,
}  # stands in
BATCH = 64
WARMUP = 100
SHARPNESS = 30.0  # scale of the logits
NAMED = 0.2  # weight of naming every attribute beside the cosine


def naming_loss(embedded: Tensor, labels: Tensor) -> Tensor:
    """Mean cross-entropy of each attribute's category, by the inner products with the places of its categories."""
    _, corners = places()
    losses = [F.cross_entropy(SHARPNESS * embedded @ c.T, labels[:, i], ignore_index=-1) for i, c in enumerate(corners)]
    return torch.stack(losses).mean()


def evaluate(model: nn.Module, images: np.ndarray, labels: np.ndarray) -> str:
    """Share of the categories named right per attribute, and the mean cosine with the places."""
    _, corners = places()
    model.eval()
    with torch.no_grad():
        parts = [
            model.encode_image(resize_normalize(from_rgb_arrays(images[i : i + 100]), 112, mean=MEAN, std=STD))
            for i in range(0, len(images), 100)
        ]
    model.train()
    embedded = F.normalize(torch.cat(parts), dim=-1)
    right = []
    for number, attribute in enumerate(ATTRIBUTES):
        seen = labels[:, number] >= 0
        guess = (embedded @ corners[number].T).argmax(dim=1).numpy()
        right.append(f"{attribute.name} {float((guess == labels[:, number])[seen].mean()):.3f}")
    cosine = float((embedded * picture_places(labels)).sum(dim=1).mean())
    return f"cosine {cosine:.3f} {' '.join(right)}"


def train(data: Path, out: Path, *, steps: int, rate: float, seed: int, start: Path | None, blocks: int | None) -> None:
    """Train for ``steps`` batches, going on from ``out/clip_images.pt`` if it is there."""
    images = np.load(data / "train_images.npy", mmap_mode="r")
    labels = visible_labels(np.load(data / "train_labels.npy"))
    validation = (
        np.load(data / "validation_images.npy")[:500],
        visible_labels(np.load(data / "validation_labels.npy")[:500]),
    )
    torch.manual_seed(seed)
    model = open_clip.CLIP(embed_dim=128, vision_cfg=VISION, text_cfg=TEXT)
    if blocks is not None:
        model.visual.requires_grad_(False)
        model.visual.proj.requires_grad_(True)
        model.visual.ln_post.requires_grad_(True)
        model.visual.transformer.resblocks[-blocks:].requires_grad_(True)
    trained = [p for p in model.visual.parameters() if p.requires_grad]
    optimizer = torch.optim.AdamW(trained, lr=rate, betas=(0.9, 0.98), weight_decay=0.05)
    rng = torch.Generator().manual_seed(seed)
    first, checkpoint = 0, out / "clip_images.pt"
    if checkpoint.exists():
        saved = torch.load(checkpoint, map_location="cpu", weights_only=True)
        model.visual.load_state_dict(saved["model"])
        optimizer.load_state_dict(saved["optimizer"])
        first = saved["step"]
    elif start is not None:
        from safetensors.torch import load_file

        old = {k.removeprefix("visual."): v.float() for k, v in load_file(start).items() if k.startswith("visual.")}
        model.visual.load_state_dict(old)
    progress = tqdm(range(first, steps), initial=first, total=steps, mininterval=30)
    for step in progress:
        rng.manual_seed(seed * 1_000_003 + step)
        choice = np.random.default_rng((seed, step))
        share = min(1.0, (step + 1) / WARMUP) * (0.02 + 0.98 * 0.5 * (1 + math.cos(math.pi * step / steps)))
        optimizer.param_groups[0]["lr"] = rate * share
        pick = np.sort(choice.choice(len(labels), BATCH, replace=False))
        batch = augment(from_rgb_arrays(images[pick]), rng)
        embedded = F.normalize(model.encode_image(resize_normalize(batch, 112, mean=MEAN, std=STD)), dim=-1)
        apart = 1 - (embedded * picture_places(labels[pick])).sum(dim=1).mean()
        named = naming_loss(embedded, torch.from_numpy(labels[pick]))
        optimizer.zero_grad(set_to_none=True)
        (apart + NAMED * named).backward()
        nn.utils.clip_grad_norm_(trained, 1.0)
        optimizer.step()
        if (step + 1) % 100 == 0 or step + 1 == steps:
            progress.write(f"step {step + 1}  apart {float(apart):.4f}  named {float(named):.4f}  ", end="")
            progress.write(evaluate(model, *validation))
            state = {"model": model.visual.state_dict(), "optimizer": optimizer.state_dict(), "step": step + 1}
            torch.save(state, checkpoint.with_suffix(".tmp"))
            checkpoint.with_suffix(".tmp").replace(checkpoint)


def main() -> None:
    """Command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, default=Path("build/peeps/renders"))
    parser.add_argument("--out", type=Path, default=Path("build/peeps"))
    parser.add_argument("--start", type=Path, help="CLIP weights of a pack to begin with instead of nothing")
    parser.add_argument("--steps", type=int, default=1500)
    parser.add_argument("--rate", type=float, default=1e-3, help="largest learning rate")
    parser.add_argument("--blocks", type=int, help="train only so many of the last blocks and what follows them")
    parser.add_argument("--seed", type=int, default=0)
    args = parser.parse_args()
    train(args.data, args.out, steps=args.steps, rate=args.rate, seed=args.seed, start=args.start, blocks=args.blocks)


if __name__ == "__main__":
    main()
