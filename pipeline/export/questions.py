"""Multiple choice: which attribute a prompt asks about, and what an independent judge picks among its categories.

The judge is the pack's oracle, which had no part in making the edit. It is asked before and after: which of the
attribute's categories does the image show?
"""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

STEM = 4  # letters that must agree for ``smile`` to be read in ``smiling``
CATEGORY_ENDING = 1  # letters at its end in which a category may differ
ATTRIBUTE_ENDING = 3  # and an attribute: ``clothes`` for ``clothing``
NEGATIONS = frozenset({"no", "without"})
NOTHING = "none"  # the category of an attribute that is not there


@dataclass(frozen=True)
class Question:
    """What a prompt asks for.

    Attributes:
        attribute: one that the judge knows.
        wanted: one of its categories.
    """

    attribute: str
    wanted: str


def read_question(target: str, attributes: Mapping[str, Sequence[str]]) -> Question | None:
    """The attribute and category that a prompt's words name; None where they name none, or several.

    A category is named by its words (``flat_top``, ``smiling`` for ``smile``). One that several attributes share
    (``red``) counts where the attribute's word stands there too (``red hair``), and of two readings the one with more
    of the prompt's words wins (``dark skin``). After ``no`` or ``without`` a category stands for ``none``.

    Args:
        target: the prompt's text.
        attributes: every attribute's categories.
    """
    words = re.findall(r"[^\W_]+", target.lower())
    owners: dict[str, int] = {}
    for categories in attributes.values():
        for category in categories:
            owners[category] = owners.get(category, 0) + 1
    found: dict[Question, int] = {}
    for attribute, categories in attributes.items():
        context = [w for w in attribute.split("_") if w != "color"]
        seen = _places(context, words, ending=ATTRIBUTE_ENDING)
        for category in categories:
            if category == NOTHING:
                if seen and min(seen) > 0 and words[min(seen) - 1] in NEGATIONS:
                    found[Question(attribute, NOTHING)] = 1 + len(seen)
                continue
            places = _places(category.split("_"), words)
            if not places or (owners[category] > 1 and not seen):
                continue
            if min(places) > 0 and words[min(places) - 1] in NEGATIONS and NOTHING in categories:
                found[Question(attribute, NOTHING)] = len(places) + len(seen)
            else:
                found[Question(attribute, category)] = len(places) + len(seen)
    if not found:
        return None
    most = max(found.values())
    best = [question for question, count in found.items() if count == most]
    return best[0] if len(best) == 1 else None


def answer(
    question: Question | None, before: Mapping[str, str], after: Mapping[str, str], probability: float | None
) -> dict[str, Any]:
    """The judge's verdict on one edit.

    Args:
        question: what the prompt asks for; None where no judge can tell.
        before: the original's category of every attribute, as the judge sees it; empty without a judge.
        after: the edited image's.
        probability: of the judge's answer after the edit, 0 to 1.
    Returns:
        ``judged_*``, ``already``, ``hit`` (null where it showed already what was asked) and ``kept``, the share of the
        other attributes that stayed.
    """
    if question is None or not before or not after:
        empty = ("judged_attribute", "judged_wanted", "judged_before", "judged_after", "judged_probability")
        return {**dict.fromkeys(empty), "already": None, "hit": None, "kept": None}
    old, new = before[question.attribute], after[question.attribute]
    others = [name for name in before if name in after and name != question.attribute]  # a hat hides the hair's colour
    already, right = old == question.wanted, new == question.wanted
    return {
        "judged_attribute": question.attribute,
        "judged_wanted": question.wanted,
        "judged_before": old,
        "judged_after": new,
        "judged_probability": probability,
        "already": already,
        "hit": None if already else right,
        "kept": sum(before[name] == after[name] for name in others) / len(others) if others else None,
    }


def _places(wanted: Sequence[str], words: Sequence[str], *, ending: int = CATEGORY_ENDING) -> list[int]:
    """Where the words stand; [] unless all are there."""
    found = []
    for want in wanted:
        places = [i for i, word in enumerate(words) if _same(want, word, ending)]
        if not places:
            return []
        found.append(places[0])
    return found


def _same(want: str, word: str, ending: int) -> bool:
    if want == word or word in (f"{want}s", f"{want}es"):
        return True
    shared = 0
    for a, b in zip(want, word, strict=False):
        if a != b:
            break
        shared += 1
    return shared >= max(STEM, len(want) - ending)
