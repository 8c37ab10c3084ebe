"""Prompts as people write them, and where in the embedding each belongs.

A prompt makes claims: an attribute shows a category, or does not show some. Wordings come in any order, with or
without articles and commas, as descriptions, lists of words and wishes ("remove the glasses").
"""

import json
import re
from dataclasses import dataclass
from functools import cache
from pathlib import Path

import numpy as np
from open_clip import OPENAI_IMAGENET_TEMPLATES

from examples.peeps import phrases
from examples.peeps.captions import HELD_OUT_TEMPLATES, HELD_OUT_WORDS
from examples.peeps.claims import HAS_HAIR, Claim
from examples.peeps.domain import ATTRIBUTES
from examples.peeps.phrases import TABLES, Phrases

COVERINGS = ("hat", "beanie", "hijab", "turban")
# What "not X" rules out, where it is more than the category itself.
RULED_OUT = {
    ("head", "hat"): ("hat", "beanie"),
    ("expression", "smile"): ("smile", "laugh"),
    ("facial_hair", "moustache"): ("moustache", "handlebar"),
    ("accessories", "none"): ("none",),
}
LEXICON = json.loads(Path(__file__).with_name("lexicon.json").read_text())


def _split(text: str) -> tuple[str, ...]:
    return tuple(text.split("|"))


# Negations with words of their own: attribute, what is ruled out, phrases.
ABSENT: tuple[tuple[str, tuple[str, ...], Phrases], ...] = (
    (
        "expression",
        ("old",),
        Phrases(
            things=_split(
                "smooth skin|young skin|a young face|a youthful face|a smooth face|fewer wrinkles|less wrinkles|"
                "a smooth forehead|a baby face|flawless skin|clear smooth skin|youthful skin|a wrinkle-free face|"
                "zero wrinkles|no signs of age|smoother skin|a younger face|skin without wrinkles|unwrinkled skin|"
                "a youthful look|the skin of a teenager|no lines on the face|soft smooth skin|a smooth complexion"
            ),
            adjectives=(
                *_split("young|youthful|younger|unwrinkled|smooth-skinned|wrinkle-free|ageless|fresh-faced|teenage"),
                *_split("young-looking|juvenile|smooth-faced|wrinkleless|baby-faced|twenty year old|rejuvenated"),
                *LEXICON["adjectives"]["young"],
            ),
            doing=_split("looking young|looking younger|looking youthful|in the prime of youth|growing younger"),
            people=_split("young man|young woman|youngster|teenager|young lady|youth|young person|young guy|young boy"),
        ),
    ),
    ("expression", ("smile", "laugh"), Phrases(adjectives=_split("unsmiling|non-smiling|humourless|smileless"))),
    ("expression", ("neutral",), Phrases(adjectives=("expressive", "emotional"))),
    (
        "head",
        COVERINGS,
        Phrases(
            things=_split(
                "a bare head|an uncovered head|nothing on the head|no headgear|no headwear|no head covering|"
                "nothing on top of the head|a head that is bare|nothing covering the hair|visible hair|bare hair"
            ),
            adjectives=_split("hatless|bare-headed|bareheaded|capless"),
            doing=_split("without headgear|without a head covering|without headwear|wearing nothing on the head"),
        ),
    ),
    (
        "head",
        ("bald",),
        Phrases(
            things=_split(
                "a full head of hair|more hair|thick hair|plenty of hair|a lot of hair|"
                "a head full of hair|lots of hair|a hairy head|a good head of hair"
            ),
            adjectives=_split("haired|unbald|non-bald"),
        ),
    ),
    ("accessories", ("glasses", "sunglasses"), Phrases(adjectives=_split("glasses-free|non-spectacled"))),
)


HAIR_ALONE = _split("hair|some hair|hair on the head|the hair")


@dataclass(frozen=True)
class Wording:
    """A prompt and the claims it makes."""

    text: str
    claims: tuple[Claim, ...]


@dataclass(frozen=True)
class HeldOut:
    """What no prompt of a training holds: phrases, and numbers of ImageNet templates."""

    phrases: tuple[str, ...]
    templates: frozenset[int]


@cache
def held_out_of_guide() -> HeldOut:
    """What the CLIP that guides edits is tested with."""
    phrases = tuple(text for table in HELD_OUT_WORDS.values() for text in table.values())
    return HeldOut(phrases, HELD_OUT_TEMPLATES)


class Writer:
    """Writes prompts; one random generator decides everything."""

    def __init__(self, rng: np.random.Generator, held_out: HeldOut | None = None) -> None:
        self.rng = rng
        self.held_out = held_out or held_out_of_guide()

    def chance(self, p: float) -> bool:
        """True with probability p."""
        return bool(self.rng.random() < p)

    def pick(self, options: tuple[str, ...] | list[str]) -> str:
        """One of several."""
        return options[int(self.rng.integers(len(options)))]

    def claims(self) -> list[Claim]:
        """Zero to six claims, on different attributes but for a few that add what is not there."""
        count = int(self.rng.choice([0, 1, 2, 3, 4, 5, 6], p=[0.07, 0.34, 0.24, 0.18, 0.11, 0.04, 0.02]))
        if count == 1 and self.chance(0.06):
            return [HAS_HAIR]
        weights = np.array([0.22, 0.2, 0.14, 0.18, 0.06, 0.08, 0.08, 0.04])
        numbers = self.rng.choice(len(ATTRIBUTES), size=count, replace=False, p=weights)
        found = []
        for number in numbers:
            attribute = ATTRIBUTES[int(number)]
            often = attribute.name == "accessories" and self.chance(0.3)
            category = "glasses" if often else self.pick(list(attribute.categories))
            colored = attribute.name in phrases.COLORS
            missing = category == "none" or self.chance(0.06 if colored or attribute.name == "skin" else 0.3)
            if missing and category != "none":
                out = RULED_OUT.get((attribute.name, category), (category,))
                special = [a[1] for a in ABSENT if a[0] == attribute.name]
                if special and self.chance(0.4):
                    out = special[int(self.rng.integers(len(special)))]
                plain = out == ("bald",) and self.chance(0.6)
                found.append(HAS_HAIR if plain else Claim(attribute.name, out, absent=True))
            else:
                found.append(Claim(attribute.name, (category,)))
        return found

    def parts(self, claim: Claim) -> tuple[str, str]:
        """A claim in words: ("before", adjective), ("thing", noun phrase), ("after", phrase) or ("subject", noun)."""
        if claim == HAS_HAIR:
            return "thing", self.pick(HAIR_ALONE)
        if claim.attribute in phrases.COLORS:
            return self._colored(claim)
        if claim.absent:
            return self._absent(claim)
        entry = TABLES[claim.attribute][claim.categories[0]]
        near = LEXICON["adjectives"].get(claim.categories[0], [])
        kinds = ["thing"] * 4 + ["adjective"] * (3 if entry.adjectives else 0) + ["doing"] * (2 if entry.doing else 0)
        kind = self.pick(kinds + ["subject"] * bool(entry.people) + ["near"] * bool(near))
        if kind == "thing":
            return self._thing(entry)
        if kind == "doing":
            words = self.pick(entry.doing)
            return "after", self.pick([words, words, f"who is {words}", f"{words} a lot", f"that is {words}"])
        if kind == "subject":
            return "subject", self.pick(entry.people)
        return self._adjective(self.pick(near if kind == "near" else entry.adjectives))

    def _adjective(self, word: str) -> tuple[str, str]:
        if self.chance(0.6):
            return "before", self.pick([word, word, word, f"very {word}", f"really {word}"])
        return "after", self.pick([f"who is {word}", f"that is {word}", f"who looks {word}", f"looking {word}", word])

    def _thing(self, entry: Phrases) -> tuple[str, str]:
        thing = self.pick(entry.things)
        if entry.sizes and self.chance(0.25):
            thing = _sized(thing, self.pick(entry.sizes))
        if entry.worn and self.chance(0.5):
            link = self.pick(["wearing", "in", "who wears", "who is wearing", "that wears", "with", "who has put on"])
            return "after", f"{link} {thing}"
        if thing.startswith(("no ", "not ", "zero ", "nothing ", "one eye", "hair ", "uncovered")) and self.chance(0.5):
            return "after", f"{self.pick(['with', 'who has', 'having'])} {thing}"
        return "thing", thing

    def _absent(self, claim: Claim) -> tuple[str, str]:
        own = [p for attribute, out, p in ABSENT if attribute == claim.attribute and out == claim.categories]
        if own and self.chance(0.6 if claim.categories[0] == "old" or len(own[0].things) > 4 else 0.25):
            entry = own[0]
            pools = [("thing", entry.things), ("adjective", entry.adjectives), ("doing", entry.doing)]
            pools.append(("subject", entry.people))
            kind, words = [p for p in pools if p[1]][int(self.rng.integers(sum(bool(p[1]) for p in pools)))]
            if kind == "adjective":
                return self._adjective(self.pick(words))
            return {"thing": "thing", "doing": "after", "subject": "subject"}[kind], self.pick(words)
        entry = TABLES[claim.attribute][self.pick(claim.categories)]
        if set(claim.categories) == set(COVERINGS):
            entry = TABLES["head"]["hat"]
            return "after", self.pick(
                [
                    "without headgear",
                    "with no headwear",
                    "without anything on the head",
                    "with nothing on the head",
                    "not wearing anything on the head",
                    "without a head covering",
                    "wearing no headgear",
                ]
            )
        things = tuple(t for t in entry.things if not t.startswith(("no ", "zero", "not ", "more ")))
        thing, bare = (t := self.pick(things)), _bare(t)
        if claim.categories[0] == "bald" or (entry.adjectives and self.chance(0.25)):
            word = self.pick(entry.adjectives)
            form = self.pick(
                ["not {}", "who is not {}", "who isn't {}", "that is not {}", "no longer {}", "not at all {}"]
            )
            return "after", form.format(word)
        if entry.doing and self.chance(0.3):
            word = self.pick(tuple(d for d in entry.doing if not d.startswith("without")) or entry.doing)
            return "after", self.pick(["not {}", "who is not {}", "who isn't {}", "without {}", "no longer {}"]).format(
                word
            )
        if entry.worn and self.chance(0.5):
            form = self.pick(
                [
                    "not wearing {t}",
                    "who is not wearing {t}",
                    "who isn't wearing {t}",
                    "wearing no {b}",
                    "who does not wear {t}",
                    "who took off the {b}",
                    "with the {b} off",
                    "not in {t}",
                    "who wears no {b}",
                    "not wearing any {b}",
                    "who doesn't wear {t}",
                    "who never wears {t}",
                    "no longer wearing {t}",
                ]
            )
            return "after", form.format(t=thing, b=bare)
        if self.chance(0.15):
            return "thing", f"no {bare}"
        form = self.pick(
            [
                "without {t}",
                "without {t}",
                "without {t}",
                "without {b}",
                "with no {b}",
                "with no {b}",
                "without any {b}",
                "who has no {b}",
                "lacking {t}",
                "not having {t}",
                "who does not have {t}",
                "who doesn't have {t}",
                "minus the {b}",
                "free of {b}",
                "having no {b}",
                "with the {b} removed",
                "without the {b}",
                "that has no {b}",
                "missing the {b}",
                "w/o {b}",
                "not with {t}",
                "but no {b}",
            ]
        )
        return "after", form.format(t=thing, b=bare)

    def _colored(self, claim: Claim) -> tuple[str, str]:
        color = self.pick(phrases.COLORS[claim.attribute][claim.categories[0]])
        an = "an" if color[0] in "aeiou" else "a"
        if claim.attribute == "background":
            wall = self.pick(phrases.WALLS)
            thing = self.pick([f"{an} {color} {wall}", f"{an} {color} {wall}", f"a {wall} in {color}"])
            if claim.absent:
                return "after", self.pick([f"without {thing}", f"with no {color} {wall}", f"not on {thing}"])
            links = ["on", "in front of", "against", "before", "with", "with", "standing before"]
            links = [f"{link} {thing}" for link in links] + [f"{color} {wall}", f"where the {wall} is {color}"]
            return "after", self.pick(links)
        if claim.attribute == "hair_color":
            hair = self.pick(phrases.HAIR)
            hair_forms = [f"{color} hair", f"{color} {hair}", f"{hair} dyed {color}", f"hair that is {color}"]
            if claim.absent:
                return "after", self.pick(
                    [f"without {color} hair", f"whose hair is not {color}", f"with no {color} hair"]
                )
            if self.chance(0.2):
                return "before", f"{color}-haired"
            if self.chance(0.1) and claim.categories[0] in ("blond", "brown", "red"):
                people = {"blond": ["blonde", "blond"], "brown": ["brunette"], "red": ["redhead", "ginger"]}
                return "subject", self.pick(people[claim.categories[0]])
            if self.chance(0.15):
                return "after", self.pick(
                    [f"whose hair is {color}", f"who dyed the hair {color}", f"with the hair in {color}"]
                )
            return "thing", self.pick(hair_forms)
        cloth, garment = self.pick(phrases.CLOTH), self.pick(phrases.GARMENTS)
        thing = self.pick([f"{an} {color} {garment}"] * 3 + [f"{color} {cloth}", f"a {garment} in {color}"])
        if claim.absent:
            return "after", self.pick(
                [f"without {thing}", f"not wearing {thing}", f"not in {color}", f"wearing no {color}"]
            )
        if self.chance(0.15):
            return "after", self.pick([f"whose {garment} is {color}", f"wearing {color}", f"dressed in {color}"])
        if self.chance(0.15):
            return "after", self.pick([f"in {color}", f"clad in {color}", f"all in {color}", f"clothed in {color}"])
        return "after", f"{self.pick(['in', 'wearing', 'with', 'who wears', 'dressed in', 'in'])} {thing}"

    def cut_and_color(self, claims: list[Claim]) -> str | None:
        """One phrase for a cut and the hair's colour, where both are claimed."""
        said = {c.attribute: c for c in claims if not c.absent}
        if {"head", "hair_color"} <= said.keys() and said["head"].categories[0] in phrases.CUTS and self.chance(0.6):
            color = self.pick(phrases.COLORS["hair_color"][said["hair_color"].categories[0]])
            return self.pick(phrases.CUTS[said["head"].categories[0]]).format(color=color)
        return None

    def body(self, claims: list[Claim]) -> str:
        """A description of a subject, without article."""
        words: dict[str, list[str]] = {"before": [], "thing": [], "after": [], "subject": []}
        merged = self.cut_and_color(claims)
        if merged:
            words["thing"].append(merged)
            claims = [c for c in claims if c.attribute not in ("head", "hair_color") or c.absent]
        for claim in claims:
            place, text = self.parts(claim)
            while (place == "subject" and words["subject"]) or (place == "before" and len(words["before"]) > 2):
                place, text = self.parts(claim)
            words[place].append(text)
        if self.chance(0.1) and not words["subject"] and len(claims) > 0:
            return self.listed(words)
        subject = words["subject"][0] if words["subject"] else self.subject()
        if self.chance(0.08):
            words["before"].insert(0, self.pick(phrases.PLAIN))
        glue = ", " if self.chance(0.15) else " and " if self.chance(0.15) else " "
        before = glue.join(words["before"])
        after = list(words["after"])
        if words["thing"]:
            link = self.pick(["with", "with", "with", "with", "who has", "having", "that has", "sporting", "showing"])
            after.insert(int(self.rng.integers(len(after) + 1)), f"{link} {self.joined(words['thing'])}")
        if self.chance(0.1):
            after.insert(int(self.rng.integers(len(after) + 1)), self.pick(phrases.PLACES))
        text = f"{before} {subject}".strip()
        for i, part in enumerate(after):
            text += (" " if i == 0 and self.chance(0.85) else self.pick([" ", ", ", " and ", ", and "])) + part
        return text

    def listed(self, words: dict[str, list[str]]) -> str:
        """Only the claims, separated by commas."""
        found = [*words["before"], *words["thing"], *words["after"]]
        self.rng.shuffle(found)
        if not words["before"] and len(found) == 1 and words["thing"]:
            return self.pick(["add {}", "{}", "give them {}", "give him {}", "make it have {}", "put on {}"]).format(
                found[0]
            )
        return self.pick([", ", ", ", " and ", " "]).join(found)

    def subject(self) -> str:
        """A word for whoever is seen."""
        if self.chance(0.3):
            return self.pick(LEXICON["people"])
        return self.pick(phrases.SUBJECTS)

    def joined(self, items: list[str]) -> str:
        """Things in a row."""
        if len(items) == 1:
            return items[0]
        last = self.pick([" and ", " and ", " and ", ", ", ", and ", " & ", " plus "])
        return self.pick([", ", ", ", " and "]).join(items[:-1]) + last + items[-1]

    def framed(self, body: str) -> str:
        """A sentence or a template round a description."""
        first = body.split()[0]
        article = "" if self.chance(0.15) or first in phrases.NO_ARTICLE else "an " if first[0] in "aeiou" else "a "
        text = article + body
        if self.chance(0.25):
            text = self.pick(phrases.FRAMES).format(body if self.chance(0.3) else text)
        if self.chance(0.5):
            numbers = [i for i in range(len(OPENAI_IMAGENET_TEMPLATES)) if i not in self.held_out.templates]
            text = OPENAI_IMAGENET_TEMPLATES[numbers[int(self.rng.integers(len(numbers)))]](text)
        return text

    def write(self) -> Wording:
        """One prompt that holds none of the phrases kept for the tests."""
        while True:
            claims = self.claims()
            said = self.negated_wish(claims) if self.chance(0.15) else None
            text = self.framed(self.body(claims)) if said is None else said
            if not any(held in text for held in self.held_out.phrases):
                return Wording(text, tuple(claims))

    def negated_wish(self, claims: list[Claim]) -> str | None:
        """A wish to take something away, where that is all that is claimed."""
        if len(claims) != 1 or not claims[0].absent or claims[0].attribute in phrases.COLORS:
            return None
        entry = TABLES[claims[0].attribute][self.pick(claims[0].categories)]
        if claims[0].categories[0] in ("bald", "none") or set(claims[0].categories) == set(COVERINGS):
            return None
        bare = _bare(self.pick(entry.things))
        if bare.startswith(("no ", "zero")):
            return None
        forms = ["remove the {}", "take off the {}", "no {}", "take away the {}", "no {} please", "get rid of the {}"]
        return self.pick(forms).format(bare)


def _bare(thing: str) -> str:
    return re.sub(r"^(a|an|the) ", "", thing)


def _sized(thing: str, size: str) -> str:
    bare = _bare(thing)
    if bare == thing:
        return f"{size} {thing}"
    return f"{'an' if size[0] in 'aeiou' else 'a'} {size} {bare}"
