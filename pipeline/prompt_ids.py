"""File-safe ids of prompts: from names of any script, the same in every run and on every machine."""

import hashlib
import re
import unicodedata
from collections import Counter
from collections.abc import Sequence

LONGEST_SLUG = 80
DIGEST_LENGTH = 8
_PLAIN = re.compile(r"(?![-+])[\sA-Za-z0-9_.,:;!?'\"()&/-]+")  # a leading sign makes another name: +hat, -hat


def slug(name: str) -> str:
    """File-safe form of a name: lower case letters, digits and dashes; empty where nothing is left."""
    return re.sub(r"[^a-z0-9]+", "-", name.lower()).strip("-")[:LONGEST_SLUG]


def prompt_id(name: str) -> str:
    """File-safe id of a name, which depends on nothing else.

    The slug; where it leaves out more than punctuation (letters of other scripts, accents, signs), a digest of the
    name in Unicode's composed form follows.
    """
    return slug(name) if slug(name) and _PLAIN.fullmatch(name) else _with_digest(name)


def prompt_ids(names: Sequence[str]) -> list[str]:
    """An id for each of a list's names; of names that have one id in common, those that are not the id get a digest."""
    ids = [prompt_id(name) for name in names]
    uses = Counter(ids)
    return [
        _with_digest(name) if uses[given] > 1 and name != given else given
        for name, given in zip(names, ids, strict=True)
    ]


def composed(name: str) -> str:
    """A name in Unicode's composed form (NFC), in which two names that look alike are the same."""
    return unicodedata.normalize("NFC", name)


def _with_digest(name: str) -> str:
    digest = hashlib.sha256(composed(name).encode()).hexdigest()[:DIGEST_LENGTH]
    return f"{slug(composed(name)) or 'prompt'}-{digest}"
