"""Wants: what an oracle must see once a prompt has come true, as ``accessories=glasses|sunglasses;head!=hat``.

Letters: n image, a attribute.
"""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import Bool, Int

from pipeline.errors import PromptError

HIDDEN = -1  # label of an attribute that the image cannot show
_PART = re.compile(r"\s*(?P<attribute>[^=!|;\s]+)\s*(?P<sign>!?=)\s*(?P<categories>[^=!;]+)\s*")
Attributes = Mapping[str, Sequence[str]]  # attribute to its categories, in the oracle's order


@dataclass(frozen=True)
class Want:
    """One attribute and the categories that it must be among, or with ``excluded`` must not be."""

    attribute: str
    categories: tuple[str, ...]
    excluded: bool = False

    def __str__(self) -> str:
        return f"{self.attribute}{'!=' if self.excluded else '='}{'|'.join(self.categories)}"

    def met(self, labels: Int[np.ndarray, "n a"], attributes: Attributes) -> Bool[np.ndarray, "n"]:
        """Whether each image's label is as wanted; False where it is hidden."""
        column = labels[:, list(attributes).index(self.attribute)]
        numbers = [list(attributes[self.attribute]).index(category) for category in self.categories]
        return (np.isin(column, numbers) != self.excluded) & (column != HIDDEN)


def parse_wants(text: str, attributes: Attributes | None = None, *, where: str = "") -> tuple[Want, ...]:
    """Wants from their written form; all must hold.

    Args:
        text: ``attribute=category|category`` for one of these, ``!=`` for none of these, several joined by ``;``.
        attributes: the oracle's; None checks the form alone.
        where: names the text in errors, as in ``prompt 'hat': ``.
    Raises:
        PromptError: if the form is another, an attribute stands twice, or the oracle has no such attribute or category.
    """
    found: list[Want] = []
    for part in text.split(";"):
        match = _PART.fullmatch(part)
        categories = tuple(c.strip() for c in match["categories"].split("|")) if match else ()
        if match is None or not all(categories):
            raise PromptError(
                f"{where}`wants` must read like 'accessories=glasses|sunglasses;head!=hat'; got {text!r}. Write "
                f"attribute=category, several categories joined by '|', several attributes by ';'."
            )
        found.append(Want(match["attribute"], categories, match["sign"] == "!="))
    names = [want.attribute for want in found]
    if len(set(names)) < len(names):
        raise PromptError(f"{where}`wants` must name each attribute once; got {text!r}. Join categories by '|'.")
    if attributes is not None:
        for want in found:
            _check(want, attributes, where)
    return tuple(found)


def _check(want: Want, attributes: Attributes, where: str) -> None:
    known = attributes.get(want.attribute)
    if known is None:
        raise PromptError(
            f"{where}`wants` must name an attribute of the pack's oracle ({', '.join(attributes)}); got "
            f"{want.attribute!r}."
        )
    for category in want.categories:
        if category not in known:
            raise PromptError(
                f"{where}`wants` must name a category of {want.attribute!r} ({', '.join(known)}); got {category!r}."
            )


def format_wants(wants: Sequence[Want]) -> str:
    """The written form; ``parse_wants`` reads it back."""
    return ";".join(map(str, wants))
