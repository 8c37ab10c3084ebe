"""Take words from WordNet: people and things that say nothing about a peep, and adjectives near the ones that do.

    apt-get install wordnet-base
    python -m examples.peeps.make_lexicon --wordnet /usr/share/wordnet

Writes ``lexicon.json`` beside this file, which is in git: training needs no WordNet. WordNet 3.0 is copyright 2006 by
Princeton University; its licence allows use and distribution for any purpose with that notice.
"""

import argparse
import json
import re
from collections import Counter
from pathlib import Path

from examples.peeps import phrases

LEXICON = Path(__file__).with_name("lexicon.json")
NOTICE = (
    "Words from WordNet 3.0, Copyright 2006 by Princeton University. All rights reserved. Permission to use, copy, "
    "modify "
    "and distribute this software and database and its documentation for any purpose and without fee or royalty is "
    "granted, provided that the copyright notice and statements appear on all copies; WordNet is provided 'as is', "
    "without "
    "warranty. https://wordnet.princeton.edu/license-and-commercial-use"
)
PERSON, ARTIFACT = "18", "06"  # lexicographer files
KEPT_PEOPLE, KEPT_THINGS = 330, 900
FEWEST_USES = 2  # in WordNet's tagged texts
# Sense numbers of adjectives (WordNet's own order) whose neighbours mean the same to a viewer.
SEEDS = {
    "angry": ("angry#1",),
    "sad": ("sad#1",),
    "surprised": ("surprised#1",),
    "old": ("old#1",),
    "smile": ("happy#1", "cheerful#1"),
    "neutral": ("calm#1",),
    "young": ("young#1",),
}


class WordNet:
    """The part of WordNet that is read: senses of nouns, neighbours of adjectives, and how often a word is used."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.uses: Counter[str] = Counter()
        for line in (folder / "cntlist.rev").read_text().splitlines():
            key, _, count = line.split()
            self.uses[key.split("%")[0] + "%" + key.split("%")[1][0]] += int(count)

    def senses(self, part: str) -> dict[str, list[str]]:
        """Word -> offsets of its senses, the most frequent first."""
        found = {}
        for line in (self.folder / f"index.{part}").read_text().splitlines():
            if not line.startswith("  "):
                fields = line.split()
                found[fields[0]] = fields[-int(fields[2]) :]
        return found

    def synsets(self, part: str) -> dict[str, list[str]]:
        """Offset -> fields of the line, with the gloss as the last."""
        lines = (self.folder / f"data.{part}").read_text().splitlines()
        parts = [line.split(" | ", 1) for line in lines if not line.startswith("  ")]
        return {fields[:8]: [*fields.split(), gloss] for fields, gloss in parts}

    def disowned(self, fields: list[str], word: str) -> bool:
        """Whether a sense is a name, or a word that insults people."""
        names = any(w.lower() == word and w != word for w in fields[4 : 4 + 2 * int(fields[3], 16) : 2])
        return names or any(w in fields[-1] for w in ("offensive", "disparag", "derogatory", "slur", "contempt"))


def words_of(fields: list[str]) -> list[str]:
    """Lemmas of a synset in lower case, adjectives without their position mark."""
    count = int(fields[3], 16)
    return [re.sub(r"\(.*\)", "", w).lower() for w in fields[4 : 4 + 2 * count : 2]]


def near(net: WordNet, seed: str) -> list[str]:
    """Lemmas of an adjective's synset and of those marked as similar (``&``) to it."""
    word, number = seed.split("#")
    synsets = net.synsets("adj")
    fields = synsets[net.senses("adj")[word][int(number) - 1]]
    found = words_of(fields)
    for i, field in enumerate(fields):
        if field == "&":
            found += words_of(synsets[fields[i + 1]])
    return [w.replace("_", " ") for w in found]


def spoken_for() -> set[str]:
    """Every word of the phrases: these say something, so none of them may be a filler."""
    texts = [*phrases.GARMENTS, *phrases.CLOTH, *phrases.HAIR, *phrases.WALLS]
    for table in phrases.TABLES.values():
        for entry in table.values():
            texts += [*entry.things, *entry.adjectives, *entry.doing, *entry.people]
    texts += [word for table in phrases.COLORS.values() for group in table.values() for word in group]
    return {w for text in texts for w in re.findall(r"[a-z]+", text)} | set(phrases.NOT_FILLERS)


def frequent(net: WordNet, file: str, kept: int, taken: set[str]) -> list[str]:
    """Nouns whose first sense is in a lexicographer file, the most used first, without those that say something."""
    senses, synsets = net.senses("noun"), net.synsets("noun")
    found = [
        (net.uses[f"{word}%1"], word)
        for word, offsets in senses.items()
        if word.isalpha()
        and len(word) > 2
        and word not in taken
        and synsets[offsets[0]][1] == file
        and not any(net.disowned(synsets[offset], word) for offset in offsets)
    ]
    ordered = sorted(((n, w) for n, w in found if n >= FEWEST_USES), key=lambda x: (-x[0], x[1]))
    return [w for _, w in ordered[:kept]]


def main() -> None:
    """Command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--wordnet", type=Path, default=Path("/usr/share/wordnet"))
    args = parser.parse_args()
    net = WordNet(args.wordnet)
    close = {
        name: sorted({w for s in seeds for w in near(net, s)} - phrases.NOT_MEANT) for name, seeds in SEEDS.items()
    }
    taken = spoken_for() | {w for words in close.values() for text in words for w in text.split()}
    lexicon = {
        "notice": NOTICE,
        "people": frequent(net, PERSON, KEPT_PEOPLE, taken),
        "things": frequent(net, ARTIFACT, KEPT_THINGS, taken),
        "adjectives": close,
    }
    LEXICON.write_text(json.dumps(lexicon, indent=1, ensure_ascii=True) + "\n")
    print({k: len(v) for k, v in lexicon.items()})


if __name__ == "__main__":
    main()
