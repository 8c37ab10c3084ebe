"""Captions of what an image shows, each in other words, from the categories that a judge saw in it."""

import hashlib
import random
from collections.abc import Mapping, Sequence

from pipeline.config import ExportedDatasetConfig

# attribute -> category -> phrases that follow "with"; an empty tuple: not worth a word
PHRASES: Mapping[str, Mapping[str, tuple[str, ...]]] = {
    "head": {
        "afro": ("an afro", "a round afro"),
        "bald": ("a bald head", "no hair"),
        "bangs": ("bangs", "a fringe"),
        "beanie": ("a beanie", "a knit cap"),
        "bob": ("a bob", "a bob cut"),
        "bun": ("hair in a bun", "a hair bun"),
        "curly": ("curly hair", "long curls"),
        "dreadlocks": ("dreadlocks", "dreads"),
        "flat_top": ("a flat top", "a flat top haircut"),
        "hat": ("a hat", "a brimmed hat"),
        "hijab": ("a hijab", "a headscarf"),
        "long": ("long hair", "long flowing hair"),
        "mohawk": ("a mohawk", "a mohawk haircut"),
        "pompadour": ("a pompadour", "a quiff"),
        "short": ("short hair", "a short haircut"),
        "turban": ("a turban", "a wrapped turban"),
    },
    "expression": {
        "neutral": ("a neutral expression", "a calm look"),
        "smile": ("a smile", "a big smile", "a grin"),
        "laugh": ("a laughing mouth", "a big laugh"),
        "angry": ("an angry look", "an angry expression"),
        "sad": ("a sad look", "a frown"),
        "surprised": ("a surprised look", "wide open eyes"),
        "old": ("wrinkles", "age lines"),
        "loving": ("a loving look", "heart eyes"),
    },
    "facial_hair": {
        "none": (),
        "beard": ("a beard", "a full beard"),
        "goatee": ("a goatee", "a chin beard"),
        "moustache": ("a moustache", "a mustache"),
        "handlebar": ("a handlebar moustache", "a long curled moustache"),
    },
    "accessories": {
        "none": (),
        "glasses": ("glasses", "eyeglasses", "spectacles"),
        "sunglasses": ("sunglasses", "dark glasses", "shades"),
        "eyepatch": ("an eyepatch", "an eye patch"),
    },
    "skin": {
        "pale": ("pale skin", "fair skin"),
        "tan": ("tan skin", "tanned skin"),
        "brown": ("brown skin", "medium brown skin"),
        "dark": ("dark skin", "very dark skin"),
    },
    "hair_color": {
        "black": ("black hair", "jet black hair"),
        "brown": ("brown hair", "chestnut hair"),
        "blond": ("blond hair", "golden hair"),
        "red": ("red hair", "ginger hair"),
        "gray": ("gray hair", "grey hair"),
        "pink": ("pink hair", "hair dyed pink"),
    },
    "clothing": {c: (f"{c} clothes", f"a {c} top") for c in ("blue", "green", "yellow", "pink", "red")},
    "background": {c: (f"a {c} background", f"a background in {c}") for c in ("white", "blue", "green", "gray")},
}
ABSENT = ("none",)
FORMS = (
    "{subject} with {list}",
    "a picture of {subject} with {list}",
    "{subject}, {plain}",
    "{subject} that has {list}",
    "an image showing {subject} with {list}",
)
ATTEMPTS = 40  # tries for another caption before fewer are given


def compute_captions(
    config: ExportedDatasetConfig,
    shown: Mapping[str, tuple[str, float | None]],
    *,
    subject: str,
    first: str | None,
    name: str,
) -> list[str]:
    """Captions that differ in words, order and form, the same on every machine.

    Args:
        config: how many, from what probability on, and whose words.
        shown: attribute to category and its probability; None counts as sure.
        subject: what every image shows, such as ``a face``.
        first: the attribute that was edited, which every caption names if it shows anything; None for originals.
        name: of the image; the seed of the choice.
    Returns:
        at most ``config.captions``; fewer where the words do not suffice.
    """
    phrases = {}
    for attribute, (category, probability) in shown.items():
        words = phrases_of(config, attribute, category)
        sure = probability is None or probability >= config.min_caption_probability
        if words and (sure or attribute == first):
            phrases[attribute] = words
    dice = random.Random(hashlib.sha256(name.encode()).digest())
    captions: list[str] = []
    for _ in range(ATTEMPTS):
        if len(captions) == config.captions:
            break
        caption = _caption(phrases, subject, first, dice)
        if caption not in captions:
            captions.append(caption)
    return captions


def prompt_captions(config: ExportedDatasetConfig, text: str) -> list[str]:
    """Captions where no judge has looked: the text that was asked for."""
    forms = (text, f"a picture of {text}", f"an image showing {text}", f"{text}, rendered", f"a view of {text}")
    return list(forms[: config.captions])


def _caption(phrases: Mapping[str, Sequence[str]], subject: str, first: str | None, dice: random.Random) -> str:
    others = [attribute for attribute in phrases if attribute != first]
    chosen = dice.sample(others, min(len(others), dice.randint(2, 4)))
    if first in phrases:
        chosen = [first, *chosen]
    if not chosen:
        return dice.choice((subject, f"a picture of {subject}", f"an image showing {subject}"))
    words = [dice.choice(phrases[attribute]) for attribute in chosen]
    listed = words[0] if len(words) == 1 else f"{', '.join(words[:-1])} and {words[-1]}"
    return dice.choice(FORMS).format(subject=subject, list=listed, plain=", ".join(words))


def phrases_of(config: ExportedDatasetConfig, attribute: str, category: str) -> tuple[str, ...]:
    """Words for a category: the settings', else the built-in ones, else its names, as ``blue background``."""
    for known in (config.phrases, PHRASES):
        if category in known.get(attribute, {}):
            return known[attribute][category]
    if category in ABSENT:
        return ()
    noun = " ".join(word for word in attribute.split("_") if word != "color")
    return (f"{category.replace('_', ' ')} {noun}".strip(),)
