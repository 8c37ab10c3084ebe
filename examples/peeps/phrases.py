"""What people call the things that a peep can have, and words that mean nothing here: ``phrases.toml``, read."""

import tomllib
from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True)
class Phrases:
    """Ways to say one category.

    Attributes:
        things: follow "with" or "who has", and "wearing" or "in" where they are worn.
        adjectives: stand before the subject or after "who is".
        doing: participles.
        people: subjects that say it by themselves.
        sizes: adjectives of the things that change nothing.
        worn: whether the things are put on.
    """

    things: tuple[str, ...] = ()
    adjectives: tuple[str, ...] = ()
    doing: tuple[str, ...] = ()
    people: tuple[str, ...] = ()
    sizes: tuple[str, ...] = ()
    worn: bool = False


def _entry(fields: dict[str, list[str] | bool]) -> Phrases:
    return Phrases(**{k: tuple(v) if isinstance(v, list) else v for k, v in fields.items()})  # pyright: ignore[reportArgumentType]


_READ = tomllib.loads(Path(__file__).with_suffix(".toml").read_text())
_WORDS: dict[str, tuple[str, ...]] = {name: tuple(words) for name, words in _READ["words"].items()}
# attribute -> category -> ways to say it
TABLES: dict[str, dict[str, Phrases]] = {
    attribute: {category: _entry(fields) for category, fields in table.items()}
    for attribute, table in _READ["categories"].items()
}
# attribute -> category -> words of the colour
COLORS: dict[str, dict[str, tuple[str, ...]]] = {
    attribute: {category: tuple(words) for category, words in table.items()}
    for attribute, table in _READ["colors"].items()
}
# Looks of the hair that may stand with a colour: "long pink hair", "a red mohawk".
CUTS: dict[str, tuple[str, ...]] = {category: tuple(forms) for category, forms in _READ["cuts"].items()}
GARMENTS, CLOTH, HAIR, WALLS = (_WORDS[name] for name in ("garments", "cloth", "hair", "walls"))
SUBJECTS, PLAIN, PLACES, FRAMES = (_WORDS[name] for name in ("subjects", "plain", "places", "frames"))
NO_ARTICLE = frozenset(_WORDS["no_article"])
# Nouns that may be seen in a drawing, or that stand in a sentence form: none of them is a filler.
NOT_FILLERS = _WORDS["not_fillers"]
# WordNet's neighbours of an adjective with another meaning in a drawing, or words of something else that is drawn.
NOT_MEANT = frozenset(_WORDS["not_meant"])
