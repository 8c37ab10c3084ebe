"""Byte-pair merges for the peeps CLIP, in the file format of open_clip's SimpleTokenizer."""

import gzip
from collections import Counter
from collections.abc import Iterable, Mapping
from itertools import pairwise
from pathlib import Path

import numpy as np
import regex
from open_clip import OPENAI_IMAGENET_TEMPLATES

from examples.peeps.phrases import CLOTH, COLORS, CUTS, GARMENTS, HAIR, PLACES, PLAIN, SUBJECTS, TABLES, WALLS
from examples.peeps.wording import ABSENT, HAIR_ALONE, LEXICON, Writer

SAMPLED = 20_000

_WORD = regex.compile(r"'s|[\p{L}]+|[\p{N}]|[^\s\p{L}\p{N}]+")


def known_words() -> list[str]:
    """Every word of the prompts that training writes, and of the ImageNet templates, sorted."""
    writer = Writer(np.random.default_rng(0))
    texts = [writer.write().text for _ in range(SAMPLED)]  # the words of the sentence forms
    texts += [template("face") for template in OPENAI_IMAGENET_TEMPLATES]
    texts += [*SUBJECTS, *HAIR_ALONE, *PLAIN, *PLACES, *GARMENTS, *CLOTH, *HAIR, *WALLS]
    texts += [words for table in (*COLORS.values(), CUTS) for group in table.values() for words in group]
    texts += [*LEXICON["people"], *(word for near in LEXICON["adjectives"].values() for word in near)]
    entries = [entry for table in TABLES.values() for entry in table.values()] + [entry for _, _, entry in ABSENT]
    for entry in entries:
        texts += [*entry.things, *entry.adjectives, *entry.doing, *entry.people, *entry.sizes]
    return sorted({word for text in texts for word in _WORD.findall(text.replace("{color}", "").lower())})


def word_counts(count: int) -> Counter[str]:
    """How often the words of so many prompts occur, and every known word once."""
    writer = Writer(np.random.default_rng(1))
    found = Counter(word for _ in range(count) for word in _WORD.findall(writer.write().text.lower()))
    return found + Counter(known_words())


def learn_merges(words: Iterable[str] | Mapping[str, int], *, limit: int | None = None) -> list[tuple[str, str]]:
    """Merge the most frequent pair until every word is one token, or ``limit`` times (Sennrich et al. 2016)."""
    counts = Counter(words)
    split, often = [[*word[:-1], word[-1] + "</w>"] for word in counts], list(counts.values())
    merges: list[tuple[str, str]] = []
    while True:
        pairs: Counter[tuple[str, str]] = Counter()
        for word, times in zip(split, often, strict=True):
            for pair in pairwise(word):
                pairs[pair] += times
        if not pairs or len(merges) == limit:
            return merges
        best = min(pairs, key=lambda pair: (-pairs[pair], pair))
        merges.append(best)
        split = [_merge(word, best) for word in split]


def _merge(word: list[str], pair: tuple[str, str]) -> list[str]:
    merged: list[str] = []
    for piece in word:
        if merged and (merged[-1], piece) == pair:
            merged[-1] += piece
        else:
            merged.append(piece)
    return merged


def write_merges(path: Path, merges: list[tuple[str, str]] | None = None) -> int:
    """Write the gzipped merges and return the vocabulary size: 256 bytes twice, the merges, two special tokens.

    Without ``merges`` they are those that make every known word one token.
    """
    merges = learn_merges(known_words()) if merges is None else merges
    text = "\n".join(["#version: peeps", *(" ".join(pair) for pair in merges)])
    path.write_bytes(gzip.compress(text.encode(), mtime=0))
    return 512 + len(merges) + 2


if __name__ == "__main__":
    print(len(known_words()), len(learn_merges(known_words())), np.__version__)
