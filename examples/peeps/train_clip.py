"""Train the small open_clip model of the pack on drawings and captions.

    python -m examples.peeps.train_clip --data build/peeps/renders --out build/peeps

The usual contrastive loss, with the truth in place of the diagonal: a caption that claims a beard fits every bearded
image of the batch. Linear attribute heads on the image embedding help in training and are thrown away. Images
are blurred, shifted and made noisy at random, so that the generator's softer pictures stay inside the domain.
Resumes from its checkpoint.
"""

import argparse
import json
import math
from pathlib import Path

import numpy as np
import open_clip
import torch
from open_clip.tokenizer import SimpleTokenizer
from torch import Tensor, nn
from torch.nn import functional as F
from tqdm import tqdm

from examples.peeps.captions import WORDS, add_unknown_words, claims_hold, frame, visible_labels, write_caption
from examples.peeps.domain import ATTRIBUTES
from examples.peeps.images import augment
from examples.peeps.tokenizer import write_merges
from kernels import resize_normalize
from pipeline.pixels import from_rgb_arrays

MEAN = (0.5, 0.5, 0.5)
STD = (0.5, 0.5, 0.5)
CONTEXT_LENGTH = 48
BATCH = 64
LEARNING_RATE = 1e-3
WARMUP = 100
HEADS_WEIGHT = 0.5
UNKNOWN_WORDS = 0.3  # share of the captions with made-up words in them


def model_config(vocab_size: int) -> dict[str, object]:
    """open_clip's model configuration: about 2.2 million parameters."""
    return {
        "embed_dim": 128,
        "vision_cfg": {"image_size": 112, "layers": 3, "width": 192, "head_width": 64, "patch_size": 16},
        "text_cfg": {
            "context_length": CONTEXT_LENGTH,
            "vocab_size": vocab_size,
            "width": 128,
            "heads": 4,
            "layers": 2,
        },
    }


def match_loss(logits: Tensor, holds: Tensor) -> Tensor:
    """Cross-entropy to the uniform distribution over each row's matches; rows without a match do not count."""
    target = holds.float()
    rows = target.sum(dim=1) > 0
    target = target[rows] / target[rows].sum(dim=1, keepdim=True)
    return -(target * F.log_softmax(logits[rows], dim=1)).sum(dim=1).mean()


def evaluate(model: nn.Module, tokenize: SimpleTokenizer, images: np.ndarray, labels: np.ndarray) -> dict[str, float]:
    """Zero-shot accuracy per attribute on held-out combinations, prompts in held-out sentence forms."""
    rng = np.random.default_rng(7)
    model.eval()
    accuracy = {}
    with torch.no_grad():
        features = [
            model.encode_image(resize_normalize(from_rgb_arrays(images[i : i + 100]), 112, mean=MEAN, std=STD))
            for i in range(0, len(images), 100)
        ]
        embedded = F.normalize(torch.cat(features), dim=-1)
        for number, attribute in enumerate(ATTRIBUTES):
            classes = []
            for category in attribute.categories:
                nouns = WORDS[attribute.name][category][0]
                texts = [frame(f"face with {noun}", rng, held_out_forms=True) for noun in nouns for _ in range(3)]
                classes.append(F.normalize(F.normalize(model.encode_text(tokenize(texts)), dim=-1).mean(0), dim=-1))
            guess = (embedded @ torch.stack(classes).T).argmax(dim=1).numpy()
            seen = labels[:, number] >= 0
            accuracy[attribute.name] = float((guess[seen] == labels[seen, number]).mean())
    model.train()
    return accuracy


def train(data: Path, out: Path, *, steps: int, device: str, seed: int) -> None:
    """Train for ``steps`` batches, going on from ``out/clip.pt`` if it is there."""
    images = np.load(data / "train_images.npy", mmap_mode="r")
    labels = visible_labels(np.load(data / "train_labels.npy"))
    validation = (
        np.load(data / "validation_images.npy")[:500],
        visible_labels(np.load(data / "validation_labels.npy")[:500]),
    )
    torch.manual_seed(seed)
    merges = out / "merges.txt.gz"
    config = model_config(write_merges(merges))
    (out / "clip_config.json").write_text(json.dumps(config, indent=2))
    tokenize = SimpleTokenizer(bpe_path=str(merges), context_length=CONTEXT_LENGTH)
    model = open_clip.CLIP(**config).to(device)
    heads = nn.ModuleList(nn.Linear(128, len(a.categories)) for a in ATTRIBUTES).to(device)
    parameters = [*model.parameters(), *heads.parameters()]
    optimizer = torch.optim.AdamW(parameters, lr=LEARNING_RATE, betas=(0.9, 0.98), weight_decay=0.05)
    rng = torch.Generator().manual_seed(seed)
    first, checkpoint = 0, out / "clip.pt"
    if checkpoint.exists():
        saved = torch.load(checkpoint, map_location=device, weights_only=True)
        model.load_state_dict(saved["model"])
        heads.load_state_dict(saved["heads"])
        optimizer.load_state_dict(saved["optimizer"])
        first = saved["step"]
    progress = tqdm(range(first, steps), initial=first, total=steps, mininterval=5)
    for step in progress:
        rng.manual_seed(seed * 1_000_003 + step)
        words = np.random.default_rng((seed, step))
        rate = min(1.0, (step + 1) / WARMUP) * (0.02 + 0.98 * 0.5 * (1 + math.cos(math.pi * step / steps)))
        optimizer.param_groups[0]["lr"] = LEARNING_RATE * rate
        pick = np.sort(words.choice(len(labels), BATCH, replace=False))
        batch = augment(from_rgb_arrays(images[pick]), rng).to(device)
        captions = [write_caption(label, words) for label in labels[pick]]
        holds = torch.from_numpy(claims_hold([c.claims for c in captions], labels[pick])).to(device)
        embedded = model.encode_image(resize_normalize(batch, 112, mean=MEAN, std=STD))
        image = F.normalize(embedded, dim=-1)
        texts = [add_unknown_words(c.text, words) if words.random() < UNKNOWN_WORDS else c.text for c in captions]
        text = F.normalize(model.encode_text(tokenize(texts).to(device)), dim=-1)
        logits = model.logit_scale.exp().clamp(max=100) * image @ text.T
        loss = (match_loss(logits, holds) + match_loss(logits.T, holds.T)) / 2
        truth = torch.from_numpy(labels[pick]).to(device)
        guesses = [F.cross_entropy(head(image) * 10, truth[:, i], ignore_index=-1) for i, head in enumerate(heads)]
        total = loss + HEADS_WEIGHT * torch.stack(guesses).mean()
        optimizer.zero_grad(set_to_none=True)
        total.backward()
        nn.utils.clip_grad_norm_(parameters, 1.0)
        optimizer.step()
        if (step + 1) % 100 == 0 or step + 1 == steps:
            scores = evaluate(model, tokenize, *validation) if (step + 1) % 200 == 0 or step + 1 == steps else {}
            line = " ".join(f"{k} {v:.2f}" for k, v in scores.items())
            progress.write(f"step {step + 1}  loss {float(loss):.3f}  heads {float(total - loss):.3f}  {line}")
            state = {"model": model.state_dict(), "heads": heads.state_dict(), "optimizer": optimizer.state_dict()}
            torch.save({**state, "step": step + 1}, checkpoint.with_suffix(".tmp"))
            checkpoint.with_suffix(".tmp").replace(checkpoint)


def main() -> None:
    """Command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, default=Path("build/peeps/renders"))
    parser.add_argument("--out", type=Path, default=Path("build/peeps"))
    parser.add_argument("--device", default="auto", help="auto, cpu or cuda")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--steps", type=int, default=2900)
    args = parser.parse_args()
    device = ("cuda" if torch.cuda.is_available() else "cpu") if args.device == "auto" else args.device
    train(args.data, args.out, steps=args.steps, device=device, seed=args.seed)


if __name__ == "__main__":
    main()
