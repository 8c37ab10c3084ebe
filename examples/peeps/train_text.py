"""Train the text tower of the pack's CLIP: every prompt goes to its place (``examples.peeps.meaning``).

    python -m examples.peeps.train_text --out build/peeps

The places are those that ``train_images`` trains the pictures to reach, so neither tower needs the other. Three
prompts in ten have words in them that say nothing (made up, or things from WordNet), so that words which the model
does not know move an embedding little. Resumes from its checkpoint; --start begins with the text tower of another one.
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

from examples.peeps.captions import add_unknown_words
from examples.peeps.claims import wording_place
from examples.peeps.meaning import places
from examples.peeps.muon import Muon
from examples.peeps.tokenizer import write_merges
from examples.peeps.wording import LEXICON, Wording, Writer
from pipeline.models.clip import encode_tokens

CONTEXT_LENGTH = 64
BATCH = 96
WARMUP = 100
UNKNOWN_WORDS = 0.3  # share of the prompts with words that say nothing
ALONG = 0.5  # weight of the angle from the subject to the prompt


def text_config(vocab_size: int) -> dict[str, int]:
    """open_clip's text configuration."""
    return {"context_length": CONTEXT_LENGTH, "vocab_size": vocab_size, "width": 128, "heads": 4, "layers": 3}


def with_strange_words(wording: Wording, writer: Writer) -> str:
    """The text, three times in ten with made-up words or nouns of things that are never drawn."""
    if not writer.chance(UNKNOWN_WORDS):
        return wording.text
    if writer.chance(0.5):
        return add_unknown_words(wording.text, writer.rng)
    thing = writer.pick(LEXICON["things"])
    form = writer.pick(["{t} with a {x}", "{t} near the {x}", "{t}, {x}", "{x} {t}", "{t} and a {x}", "{t} at the {x}"])
    return form.format(t=wording.text, x=thing)


def losses(embedded: Tensor, wanted: Tensor) -> tuple[Tensor, Tensor]:
    """One less the cosine with the place, and with the place as seen from a text that says nothing."""
    shared, _ = places()
    unit = F.normalize(embedded, dim=-1)
    moved, wish = unit - shared, wanted - shared
    says = wish.norm(dim=1) > 1e-3
    along = 1 - F.cosine_similarity(moved[says], wish[says], dim=-1).mean()
    return 1 - (unit * wanted).sum(dim=1).mean(), along


def encode_by_length(model: nn.Module, tokens: Tensor, parts: int = 4) -> Tensor:
    """Embeddings [n, d] of token rows, short ones together: each part costs no more than its longest."""
    order = tokens.argmax(dim=1).argsort()
    found = torch.cat([encode_tokens(model, tokens[rows]) for rows in order.chunk(parts)])
    return found[order.argsort()]


def carried_over(rows: Tensor, old: SimpleTokenizer, new: SimpleTokenizer) -> Tensor:
    """Token embeddings for another vocabulary: common tokens keep theirs, others get the mean of their pieces."""
    found = []
    for token in new.encoder:
        pieces = [old.encoder[token]] if token in old.encoder else old.encode(token.replace("</w>", ""))
        found.append(rows[pieces].mean(dim=0) if pieces else rows.mean(dim=0))
    return torch.stack(found)


def batch_of(writer: Writer, count: int) -> tuple[list[str], Tensor]:
    """Texts and their places [count, d]."""
    wordings = [writer.write() for _ in range(count)]
    return [with_strange_words(w, writer) for w in wordings], torch.stack([wording_place(w.claims) for w in wordings])


def train(out: Path, *, steps: int, rate: float, seed: int, start: Path | None, first: int) -> None:
    """Train for ``steps`` batches, going on from ``out/clip_text.pt`` if it is there."""
    out.mkdir(parents=True, exist_ok=True)
    torch.manual_seed(seed)
    merges = out / "merges.txt.gz"
    text = text_config(write_merges(merges))
    (out / "clip_text.json").write_text(json.dumps(text, indent=2) + "\n")
    tokenize = SimpleTokenizer(bpe_path=str(merges), context_length=CONTEXT_LENGTH)
    vision = {"image_size": 16, "layers": 1, "width": 64, "head_width": 64, "patch_size": 16}  # stands in
    model = open_clip.CLIP(embed_dim=128, vision_cfg=vision, text_cfg=text)
    parameters = [p for name, p in model.named_parameters() if not name.startswith("visual.") and name != "logit_scale"]
    matrices = [p for p in model.transformer.parameters() if p.ndim == 2]
    others = [p for p in parameters if all(p is not m for m in matrices)]
    optimizers = {
        "muon": Muon(matrices, lr=rate),
        "adam": torch.optim.AdamW(others, lr=rate, betas=(0.9, 0.98), weight_decay=0.01),
    }
    checkpoint = out / "clip_text.pt"
    if checkpoint.exists():
        saved = torch.load(checkpoint, map_location="cpu", weights_only=True)
        model.load_state_dict(saved["model"], strict=False)
        for name, optimizer in optimizers.items():
            optimizer.load_state_dict(saved[name])
        first = saved["step"]
    elif start is not None:
        known = torch.load(start, map_location="cpu", weights_only=True)["model"]
        known["token_embedding.weight"] = carried_over(
            known["token_embedding.weight"],
            SimpleTokenizer(bpe_path=str(start.with_name("merges.txt.gz")), context_length=CONTEXT_LENGTH),
            tokenize,
        )
        model.load_state_dict(known, strict=False)
    progress = tqdm(range(first, steps), initial=first, total=steps, mininterval=30)
    seen = np.zeros(2)
    for step in progress:
        writer = Writer(np.random.default_rng((seed, step)))
        share = min(1.0, (step + 1) / WARMUP) * (0.02 + 0.98 * 0.5 * (1 + math.cos(math.pi * step / steps)))
        for optimizer in optimizers.values():
            optimizer.param_groups[0]["lr"] = rate * share
            optimizer.zero_grad(set_to_none=True)
        texts, wanted = batch_of(writer, BATCH)
        apart, along = losses(encode_by_length(model, tokenize(texts)), wanted)
        (apart + ALONG * along).backward()
        nn.utils.clip_grad_norm_(parameters, 1.0)
        for optimizer in optimizers.values():
            optimizer.step()
        seen += (float(apart), float(along))
        if (step + 1) % 100 == 0 or step + 1 == steps:
            progress.write(f"step {step + 1}  apart {seen[0] / 100:.4f}  along {seen[1] / 100:.4f}")
            seen[:] = 0
            kept = {k: v for k, v in model.state_dict().items() if not k.startswith("visual.")}
            state = {name: optimizer.state_dict() for name, optimizer in optimizers.items()}
            torch.save({**state, "model": kept, "step": step + 1}, checkpoint.with_suffix(".tmp"))
            checkpoint.with_suffix(".tmp").replace(checkpoint)


def main() -> None:
    """Command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, default=Path("build/peeps"))
    parser.add_argument("--start", type=Path, help="a clip_text.pt to begin with, its merges beside it")
    parser.add_argument("--steps", type=int, default=1600)
    parser.add_argument("--rate", type=float, default=3e-3, help="largest learning rate")
    parser.add_argument("--first", type=int, default=0, help="where in the schedule to begin with --start")
    parser.add_argument("--seed", type=int, default=0)
    args = parser.parse_args()
    train(args.out, steps=args.steps, rate=args.rate, seed=args.seed, start=args.start, first=args.first)


if __name__ == "__main__":
    main()
