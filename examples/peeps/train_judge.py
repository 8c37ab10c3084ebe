"""Train the CLIP that judges edits: smaller than the one that guides them, and apart from it.

    python -m examples.peeps.train_judge --build build/peeps

It shares no weight, no seed and no kind of network with the guide: a ResNet instead of a vision transformer, on
drawings of its own with another sixteenth held out, and a text tower with a vocabulary of its own, on prompts that
leave out other phrases and templates. What it has in common with the guide is what a cosine means: both send pictures
and prompts to places of one shape (``examples.peeps.meaning``), so that gains of the two can be compared. Either tower
resumes from its checkpoint.
"""

import argparse
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import open_clip
import torch
from jaxtyping import Float
from open_clip.tokenizer import SimpleTokenizer
from torch import Tensor, nn
from torch.nn import functional as F

from examples.peeps import phrases
from examples.peeps.captions import frame, visible_labels
from examples.peeps.domain import ATTRIBUTES
from examples.peeps.fit import fit
from examples.peeps.images import augment
from examples.peeps.meaning import picture_places, places
from examples.peeps.render import render_dataset, sample_split
from examples.peeps.tokenizer import learn_merges, word_counts, write_merges
from examples.peeps.train_images import MEAN, STD, naming_loss
from examples.peeps.train_text import ALONG, batch_of, encode_by_length, losses
from examples.peeps.wording import HeldOut, Writer
from kernels import resize_normalize, unit_vectors
from pipeline.pixels import from_rgb_arrays

EMBED = 64
VISION = {"image_size": 128, "layers": [1, 1, 1, 1], "width": 8, "head_width": 64}
CONTEXT_LENGTH = 64
MERGES = 1000
SEED = 40
SIXTEENTH = 5  # of the (head, expression, accessory) triples, that it never sees
DRAWINGS = 16_000
BATCH = 64
NAMED = 0.2  # weight of naming every attribute beside the cosine
IMAGES_FILE, TEXT_FILE, MERGES_FILE = "judge_images.pt", "judge_text.pt", "judge_merges.txt.gz"


def text_config(vocab_size: int) -> dict[str, int]:
    """open_clip's text configuration."""
    return {"context_length": CONTEXT_LENGTH, "vocab_size": vocab_size, "width": 64, "heads": 2, "layers": 3}


def open_model(vocab_size: int) -> Any:
    """The judge, untrained."""
    model: Any = open_clip.CLIP
    return model(embed_dim=EMBED, vision_cfg=VISION, text_cfg=text_config(vocab_size))


@cache
def judge_frame() -> Float[Tensor, "64 128"]:
    """From the judge's embeddings to the space of ``examples.peeps.meaning``: orthonormal rows that span its places.

    The axes are turned at random, so that no number of an embedding means what it means to the guide.
    """
    rng = np.random.default_rng(SEED)
    shared, corners = places()
    known = torch.cat([shared[None], *corners]).numpy().astype(np.float64)
    axes = np.linalg.svd(known)[2]  # what spans the places comes first
    turn = np.linalg.qr(rng.standard_normal((EMBED, EMBED)))[0]
    return torch.from_numpy(turn @ axes[:EMBED]).float()


@cache
def held_out_phrases() -> dict[str, dict[str, str]]:
    """Attribute to category to a phrase that no prompt of the judge's training holds."""
    rng = np.random.default_rng(SEED)
    every = [thing for table in phrases.TABLES.values() for entry in table.values() for thing in entry.things]
    found: dict[str, dict[str, str]] = {}
    for attribute in ATTRIBUTES:
        found[attribute.name] = {}
        for category in attribute.categories:
            if attribute.name in phrases.COLORS:
                color = str(rng.choice(phrases.COLORS[attribute.name][category]))
                nouns = {"background": phrases.WALLS, "hair_color": phrases.HAIR[1:], "clothing": phrases.GARMENTS}
                noun = str(rng.choice(nouns.get(attribute.name, ("skin",))))
                found[attribute.name][category] = f"{color} {noun}"
            else:
                things = phrases.TABLES[attribute.name][category].things
                alone = [t for t in things if len(t.split()) > 2 and sum(t in other for other in every) == 1]
                taught = [t for t in alone if any(_says_the_same(t, other) for other in things if other != t)]
                found[attribute.name][category] = str(rng.choice(taught or alone or things[-1:]))
    return found


def _says_the_same(phrase: str, other: str) -> bool:
    """Whether two phrases share a word that names something: what the one teaches, the other tests."""
    return any(len(word) > 3 and word != "hair" for word in {*phrase.split()} & {*other.split()})


@cache
def held_out_of_judge() -> HeldOut:
    """What the judge is tested with: phrases of its own, and another fifth of the templates than the guide's."""
    texts = tuple(text for table in held_out_phrases().values() for text in table.values())
    return HeldOut(texts, frozenset(range(1, 80, 5)))


def in_meaning(embedded: Float[Tensor, "n 64"]) -> Float[Tensor, "n 128"]:
    """The judge's embeddings, unit length, where the places are."""
    return F.normalize(embedded, dim=-1) @ judge_frame()


def embed_drawings(visual: nn.Module, images: np.ndarray) -> Float[Tensor, "n 64"]:
    """Unit embeddings of uint8 drawings, without gradients."""
    with torch.no_grad():
        parts = [
            visual(resize_normalize(from_rgb_arrays(images[i : i + 100]), 128, mean=MEAN, std=STD))
            for i in range(0, len(images), 100)
        ]
    return unit_vectors(torch.cat(parts))


def train_images(build: Path, *, steps: int, rate: float) -> None:
    """Train the image tower, on drawings of its own."""
    data = build / "renders"
    render_dataset(data, "judge", sample_split(DRAWINGS, SEED, validation=False, sixteenth=SIXTEENTH))
    render_dataset(data, "judge_test", sample_split(1000, SEED + 1, validation=True, sixteenth=SIXTEENTH))
    images = np.load(data / "judge_images.npy", mmap_mode="r")
    labels = visible_labels(np.load(data / "judge_labels.npy"))
    test = np.load(data / "judge_test_images.npy")[:400], visible_labels(np.load(data / "judge_test_labels.npy")[:400])
    torch.manual_seed(SEED)
    visual: Any = open_model(8).visual.to(memory_format=torch.channels_last)  # takes half the time

    def loss(step: int) -> Tensor:
        pick = np.sort(np.random.default_rng((SEED, step)).choice(len(labels), BATCH, replace=False))
        batch = augment(from_rgb_arrays(images[pick]), torch.Generator().manual_seed(SEED * 1_000_003 + step))
        embedded = in_meaning(visual(resize_normalize(batch, 128, mean=MEAN, std=STD)))
        apart = 1 - (embedded * picture_places(labels[pick])).sum(dim=1).mean()
        return apart + NAMED * naming_loss(embedded, torch.from_numpy(labels[pick]))

    def report() -> str:
        embedded = embed_drawings(visual, test[0]) @ judge_frame()
        cosine = float((embedded * picture_places(test[1])).sum(dim=1).mean())
        right = []
        for i, (attribute, corners) in enumerate(zip(ATTRIBUTES, places()[1], strict=True)):
            seen = test[1][:, i] >= 0
            guess = (embedded @ corners.T).argmax(dim=1).numpy()
            right.append(f"{attribute.name} {float((guess == test[1][:, i])[seen].mean()):.3f}")
        return f"cosine {cosine:.3f} {' '.join(right)}"

    matrices = [p for p in visual.parameters() if p.ndim >= 2 and p is not visual.attnpool.positional_embedding]
    fit(
        visual,
        loss,
        checkpoint=build / IMAGES_FILE,
        steps=steps,
        learning_rate=rate,
        report=report,
        matrices=matrices,
    )


class TextTower(nn.Module):
    """The text part of an open_clip model, as a module of its own."""

    def __init__(self, vocab_size: int) -> None:
        super().__init__()
        model = open_model(vocab_size)
        del model.visual, model.logit_scale
        self.clip = model

    def forward(self, tokens: Tensor) -> Float[Tensor, "n 64"]:
        """Embeddings of token rows, not normalised."""
        return encode_by_length(self.clip, tokens)


def train_text(build: Path, *, steps: int, rate: float) -> None:
    """Train the text tower, with a vocabulary and prompts of its own."""
    merges = build / MERGES_FILE
    vocab_size = write_merges(merges, learn_merges(word_counts(20_000), limit=MERGES))
    tokenize = SimpleTokenizer(bpe_path=str(merges), context_length=CONTEXT_LENGTH)
    torch.manual_seed(SEED + 2)
    tower = TextTower(vocab_size)
    seen: list[tuple[float, float]] = []

    def loss(step: int) -> Tensor:
        writer = Writer(np.random.default_rng((SEED, step)), held_out_of_judge())
        texts, wanted = batch_of(writer, 96)
        apart, along = losses(in_meaning(tower(tokenize(texts))), wanted)
        seen.append((float(apart.detach()), float(along.detach())))
        return apart + ALONG * along

    def report() -> str:
        apart, along = np.mean(seen[-100:], axis=0)
        right = named_phrases(tower, tokenize)
        return f"apart {apart:.4f}  along {along:.4f}  held-out phrases {right:.3f}"

    matrices = [p for p in tower.clip.transformer.parameters() if p.ndim == 2]
    fit(
        tower,
        loss,
        checkpoint=build / TEXT_FILE,
        steps=steps,
        learning_rate=rate,
        report=report,
        matrices=matrices,
    )


def named_phrases(tower: TextTower, tokenize: SimpleTokenizer) -> float:
    """Share of the held-out phrases, in a sentence never seen, whose nearest category is the one they name."""
    rng = np.random.default_rng(SEED)
    right = []
    for i, attribute in enumerate(ATTRIBUTES):
        texts = [
            frame(f"face with {phrase}", rng, held_out_forms=True)
            for phrase in held_out_phrases()[attribute.name].values()
        ]
        embedded = in_meaning(tower(tokenize(texts)))
        right += ((embedded @ places()[1][i].T).argmax(dim=1) == torch.arange(len(texts))).tolist()
    return float(np.mean(right))


def main() -> None:
    """Command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--build", type=Path, default=Path("build/peeps"))
    parser.add_argument("--tower", choices=("images", "text"), help="train one of the two; default both")
    parser.add_argument("--image-steps", type=int, default=480)
    parser.add_argument("--text-steps", type=int, default=1600)
    parser.add_argument("--rate", type=float, default=3e-3, help="largest learning rate")
    args = parser.parse_args()
    args.build.mkdir(parents=True, exist_ok=True)
    if args.tower != "text":
        train_images(args.build, steps=args.image_steps, rate=args.rate)
    if args.tower != "images":
        train_text(args.build, steps=args.text_steps, rate=args.rate)


if __name__ == "__main__":
    main()
