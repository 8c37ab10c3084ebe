"""Captions of peeps: several words for every category, many sentence forms, any subset of the attributes."""

from dataclasses import dataclass

import numpy as np
from open_clip import OPENAI_IMAGENET_TEMPLATES

from examples.peeps.domain import ATTRIBUTES, COLORED_HEADS

# category -> (phrases that follow "with", adjectives that stand before the subject)
WORDS: dict[str, dict[str, tuple[tuple[str, ...], tuple[str, ...]]]] = {
    "head": {
        "afro": (("an afro", "afro hair", "a round afro hairstyle", "a big afro"), ()),
        "bald": (("no hair", "a bald head", "a shaved head", "a bare scalp"), ("bald", "hairless")),
        "bangs": (("bangs", "a fringe", "shoulder length hair with bangs", "hair with a fringe"), ()),
        "beanie": (("a beanie", "a knit cap", "a woolen cap", "a beanie hat"), ()),
        "bob": (("a bob", "a bob cut", "straight black bob hair", "a bob haircut"), ()),
        "bun": (("a bun", "hair in a bun", "a hair bun", "a top knot"), ()),
        "curly": (("curly hair", "long curly hair", "curls", "big curls"), ()),
        "dreadlocks": (("dreadlocks", "dreads", "a dreadlock hairstyle"), ()),
        "flat_top": (("a flat top", "a hi-top fade", "a flat top haircut", "hi-top fade hair"), ()),
        "hat": (("a hat", "a brimmed hat", "a wide hat", "a black hat"), ()),
        "hijab": (("a hijab", "a headscarf", "a veil", "a head scarf"), ()),
        "long": (("long hair", "long black hair", "long flowing hair", "long straight hair"), ("long-haired",)),
        "mohawk": (("a mohawk", "mohawk hair", "a mohawk haircut", "a punk mohawk"), ()),
        "pompadour": (("a pompadour", "a quiff", "swept back hair", "pompadour hair"), ()),
        "short": (("short hair", "a short haircut", "neat short hair"), ("short-haired",)),
        "turban": (("a turban", "a wrapped turban", "a turban on the head"), ()),
    },
    "expression": {
        "neutral": (("a neutral expression", "a blank look", "a blank face"), ("neutral", "expressionless", "calm")),
        "smile": (("a smile", "a big smile", "a toothy smile", "a wide grin"), ("smiling", "grinning", "happy")),
        "laugh": (("a laugh", "tears of joy", "a laughing mouth"), ("laughing", "amused")),
        "angry": (("an angry look", "rage", "an angry expression"), ("angry", "furious", "mad")),
        "sad": (("a sad look", "a sad expression", "a frown"), ("sad", "unhappy", "frowning")),
        "surprised": (("a surprised look", "wide open eyes", "big round eyes"), ("surprised", "astonished", "amazed")),
        "old": (("wrinkles", "an old wrinkled face", "age lines"), ("old", "elderly", "wrinkled", "aged")),
        "loving": (("heart eyes", "hearts for eyes", "a loving look"), ("loving", "infatuated")),
    },
    "facial_hair": {
        "none": (("no beard", "no facial hair", "a clean chin"), ("clean-shaven", "beardless", "shaved")),
        "beard": (("a beard", "a full beard", "a thick beard", "a bushy beard"), ("bearded",)),
        "goatee": (("a goatee", "a chin beard", "a goatee beard"), ()),
        "moustache": (("a moustache", "a mustache", "a thick moustache"), ()),
        "handlebar": (("a handlebar moustache", "a long curled moustache", "a handlebar mustache"), ()),
    },
    "accessories": {
        "none": (("no glasses", "uncovered eyes", "no eyewear"), ()),
        "glasses": (("glasses", "eyeglasses", "spectacles", "reading glasses"), ()),
        "sunglasses": (("sunglasses", "dark glasses", "black shades", "shades"), ()),
        "eyepatch": (("an eyepatch", "an eye patch", "a pirate eyepatch"), ()),
    },
    "skin": {
        "pale": (("pale skin", "fair skin", "white skin", "light skin"), ("pale", "fair-skinned")),
        "tan": (("tan skin", "tanned skin", "olive skin"), ("tanned",)),
        "brown": (("brown skin", "medium brown skin"), ("brown-skinned",)),
        "dark": (("dark skin", "black skin", "very dark skin"), ("dark-skinned",)),
    },
    "hair_color": {
        "black": (("black hair", "dark hair", "jet black hair"), ("black-haired",)),
        "brown": (("brown hair", "brunette hair", "chestnut hair"), ("brown-haired", "brunette")),
        "blond": (("blond hair", "blonde hair", "golden hair", "fair hair"), ("blond", "blonde")),
        "red": (("red hair", "ginger hair", "bright red hair"), ("red-haired", "ginger")),
        "gray": (("gray hair", "grey hair", "white hair", "silver hair"), ("gray-haired", "grey-haired")),
        "pink": (("pink hair", "rose hair", "hair dyed pink"), ("pink-haired",)),
    },
    "clothing": {
        "blue": (("a blue shirt", "a blue top", "blue clothes"), ()),
        "green": (("a green shirt", "a green top", "green clothes"), ()),
        "yellow": (("a yellow shirt", "a yellow top", "yellow clothes"), ()),
        "pink": (("a pink shirt", "a pink top", "pink clothes", "a purple shirt"), ()),
        "red": (("a red shirt", "a red top", "red clothes"), ()),
    },
    "background": {
        "white": (("a white background", "a plain white background"), ()),
        "blue": (("a blue background", "a light blue background"), ()),
        "green": (("a green background", "a light green background"), ()),
        "gray": (("a gray background", "a grey background"), ()),
    },
}

# Phrases that no caption of the training holds: what free wording looks like to the model. Each has at least one word
# whose meaning the training captions teach by itself.
HELD_OUT_WORDS: dict[str, dict[str, str]] = {
    "head": {
        "afro": "big round afro hair",
        "bald": "a shaved scalp",
        "bangs": "hair with a shoulder length fringe",
        "beanie": "a knit beanie",
        "bob": "straight bob hair",
        "bun": "a top knot of hair",
        "curly": "long curls",
        "dreadlocks": "long dreads",
        "flat_top": "a hi-top haircut",
        "hat": "a wide brimmed hat",
        "hijab": "a head veil",
        "long": "very long flowing hair",
        "mohawk": "hair in a punk mohawk",
        "pompadour": "a swept back quiff",
        "short": "neat hair in a short haircut",
        "turban": "a big wrapped turban",
    },
    "expression": {
        "neutral": "a calm expression",
        "smile": "a happy grin",
        "laugh": "tears of a big laugh",
        "angry": "a mad expression",
        "sad": "an unhappy frown",
        "surprised": "an astonished look",
        "old": "an aged face with wrinkles",
        "loving": "an infatuated look",
    },
    "facial_hair": {
        "none": "a cleanly shaven chin",
        "beard": "a big bushy beard",
        "goatee": "a goatee on the chin",
        "moustache": "a bushy moustache",
        "handlebar": "a long handlebar moustache",
    },
    "accessories": {
        "none": "eyes with no glasses",
        "glasses": "reading spectacles",
        "sunglasses": "dark sunglasses",
        "eyepatch": "a black pirate patch on the eye",
    },
    "skin": {
        "pale": "very fair skin",
        "tan": "tanned olive skin",
        "brown": "very brown skin",
        "dark": "very black skin",
    },
    "hair_color": {
        "black": "dark black hair",
        "brown": "dark chestnut hair",
        "blond": "fair golden hair",
        "red": "bright ginger hair",
        "gray": "silver gray hair",
        "pink": "hair dyed in rose",
    },
    "clothing": {
        "blue": "clothes in blue",
        "green": "clothes in green",
        "yellow": "clothes in yellow",
        "pink": "clothes in pink",
        "red": "clothes in red",
    },
    "background": {
        "white": "a very plain white background",
        "blue": "a background in light blue",
        "green": "a background in light green",
        "gray": "a background in grey",
    },
}

SUBJECTS = ("face", "person", "portrait", "character", "head", "peep", "cartoon face", "human face", "guy", "someone")
FRAMES = ("{}", "{}.", "this is {}", "a picture of {}", "an image showing {}", "here we see {}")
HELD_OUT_FRAMES = ("look at {}", "one more drawing: {}", "there is {}", "we meet {} here", "{}, drawn by hand")
HELD_OUT_TEMPLATES = frozenset(range(3, 80, 5))  # a fifth of the ImageNet templates is never trained on
HIDES_HAIR = frozenset({"bald", "beanie", "hat", "hijab", "turban"})

_LETTERS = "abcdefghijklmnopqrstuvwxyzaaeeiioo"  # vowels more often, as in words
_HEAD = [a.name for a in ATTRIBUTES].index("head")
_COLOR = [a.name for a in ATTRIBUTES].index("hair_color")


@dataclass(frozen=True)
class Caption:
    """A sentence and what it claims: attribute number -> category number."""

    text: str
    claims: dict[int, int]


def visible_labels(labels: np.ndarray) -> np.ndarray:
    """Labels with the hair colour a viewer sees: black ink where the drawing ignores it, -1 where no hair shows."""
    labels = labels.copy()
    heads = list(ATTRIBUTES[_HEAD].categories)
    hidden = [i for i, h in enumerate(heads) if h in HIDES_HAIR]
    inked = [i for i, h in enumerate(heads) if h not in HIDES_HAIR and h not in COLORED_HEADS]
    labels[np.isin(labels[:, _HEAD], inked), _COLOR] = list(ATTRIBUTES[_COLOR].categories).index("black")
    labels[np.isin(labels[:, _HEAD], hidden), _COLOR] = -1
    return labels


def write_caption(label: np.ndarray, rng: np.random.Generator, *, held_out_forms: bool = False) -> Caption:
    """A caption of one visible label row, claiming a random subset of its attributes (sometimes none)."""
    known = np.flatnonzero(label >= 0)
    count = int(rng.choice([0, 1, 2, 3, 4, 6, 8], p=[0.04, 0.28, 0.22, 0.16, 0.12, 0.1, 0.08]))
    chosen = rng.permutation(known)[:count]
    claims = {int(i): int(label[i]) for i in chosen}
    return Caption(sentence(claims, rng, held_out_forms=held_out_forms), claims)


def sentence(claims: dict[int, int], rng: np.random.Generator, *, held_out_forms: bool = False) -> str:
    """Words for the claims: at most two adjectives before the subject, the rest after "with"."""
    adjectives: list[str] = []
    phrases: list[str] = []
    for number, category in claims.items():
        attribute = ATTRIBUTES[number]
        nouns, adjective_words = WORDS[attribute.name][list(attribute.categories)[category]]
        if adjective_words and len(adjectives) < 2 and rng.random() < 0.5:
            adjectives.append(str(rng.choice(adjective_words)))
        else:
            phrases.append(str(rng.choice(nouns)))
    subject = " ".join([*adjectives, str(rng.choice(SUBJECTS))])
    link = str(rng.choice(["with", "with", "with", "wearing", "who has"]))
    body = subject if not phrases else f"{subject} {link} {_join(phrases, rng)}"
    return frame(body, rng, held_out_forms=held_out_forms)


def frame(body: str, rng: np.random.Generator, *, held_out_forms: bool) -> str:
    """Put a noun phrase into a sentence form or an ImageNet template of the wanted side of the split."""
    if rng.random() < 0.5:
        numbers = [i for i in range(len(OPENAI_IMAGENET_TEMPLATES)) if (i in HELD_OUT_TEMPLATES) == held_out_forms]
        return OPENAI_IMAGENET_TEMPLATES[int(rng.choice(numbers))](body)
    article = "" if rng.random() < 0.3 else "an " if body[0] in "aeiou" else "a "
    return str(rng.choice(HELD_OUT_FRAMES if held_out_forms else FRAMES)).format(article + body)


def add_unknown_words(text: str, rng: np.random.Generator) -> str:
    """One or two made-up words somewhere in the text: they claim nothing, so training learns to pass them over."""
    words = text.split()
    for _ in range(int(rng.integers(1, 3))):
        made_up = "".join(rng.choice(list(_LETTERS), size=int(rng.integers(3, 10))))
        words.insert(int(rng.integers(0, len(words) + 1)), made_up)
    return " ".join(words)


def _join(phrases: list[str], rng: np.random.Generator) -> str:
    if len(phrases) == 1:
        return phrases[0]
    last = " and " if rng.random() < 0.7 else ", "
    return ", ".join(phrases[:-1]) + last + phrases[-1]


def claims_hold(claims: list[dict[int, int]], labels: np.ndarray) -> np.ndarray:
    """Bool [n_labels, n_captions]: whether every claim of the caption is true of the label row."""
    holds = np.ones((len(labels), len(claims)), dtype=bool)
    for j, claim in enumerate(claims):
        for number, category in claim.items():
            holds[:, j] &= labels[:, number] == category
    return holds
