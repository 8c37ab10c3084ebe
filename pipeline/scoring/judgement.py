"""Judgement of edits by the oracle's labels: was the target reached, was it there before, and what else stayed.

Letters: n image, a attribute, k category.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from pipeline.models.oracle import OracleConfig
from pipeline.wants import HIDDEN, Want


@dataclass(frozen=True)
class Judgement:
    """Edits of one prompt, one entry per image.

    Attributes:
        already: all that is wanted was there before the edit.
        counts: the wish can be judged: it was not there before, and what it is about can be seen.
        hit: all that is wanted is there after the edit; means something only where ``counts``.
        kept: share of the other attributes, of those seen before and after, that the edit left alone; NaN where
            there is none.
    """

    already: Bool[np.ndarray, "n"]
    counts: Bool[np.ndarray, "n"]
    hit: Bool[np.ndarray, "n"]
    kept: Float[np.ndarray, "n"]


def read_labels(oracle: OracleConfig, probabilities: Float[Tensor, "n k"]) -> Int[np.ndarray, "n a"]:
    """The likeliest category of every attribute, ``HIDDEN`` where the image cannot show the attribute.

    Args:
        oracle: its attributes and what shows them.
        probabilities: of all attributes side by side, in the oracle's order.
    """
    sizes = [len(categories) for categories in oracle.attributes.values()]
    labels = torch.stack([part.argmax(dim=1) for part in probabilities.split(sizes, dim=1)], dim=1).numpy()
    names = list(oracle.attributes)
    seen = np.ones(labels.shape, dtype=bool)
    for attribute, shown_by in oracle.shown_by.items():
        for other, categories in shown_by.items():
            numbers = [oracle.attributes[other].index(category) for category in categories]
            seen[:, names.index(attribute)] &= np.isin(labels[:, names.index(other)], numbers)
    return np.where(seen, labels, HIDDEN)


def label_probabilities(
    oracle: OracleConfig, probabilities: Float[Tensor, "n k"], labels: Int[np.ndarray, "n a"]
) -> Float[np.ndarray, "n a"]:
    """Probability of every image's label, 0 to 1; NaN where the attribute is hidden. ``labels`` as ``read_labels``'."""
    sizes = [len(categories) for categories in oracle.attributes.values()]
    largest = torch.stack([part.amax(dim=1) for part in probabilities.split(sizes, dim=1)], dim=1).numpy()
    return np.where(labels == HIDDEN, np.nan, largest)


def judge_edits(
    wants: Sequence[Want], before: Int[np.ndarray, "n a"], after: Int[np.ndarray, "n a"], oracle: OracleConfig
) -> Judgement:
    """Judge edits of one prompt; attributes that hang on a wanted one (``shown_by``) are not held against the edit.

    With wishes of several attributes, ``already`` and ``hit`` ask for all of them together.
    """
    attributes = oracle.attributes
    names = list(attributes)
    wanted = [names.index(want.attribute) for want in wants]
    hanging = [
        names.index(attribute)
        for attribute, shown_by in oracle.shown_by.items()
        if any(want.attribute in shown_by for want in wants)
    ]
    others = [i for i in range(len(names)) if i not in {*wanted, *hanging}]
    seen = (before[:, others] != HIDDEN) & (after[:, others] != HIDDEN)
    same = ((before == after)[:, others] & seen).sum(axis=1)
    total = seen.sum(axis=1)
    kept = np.divide(same, total, out=np.full(len(before), np.nan), where=total > 0)
    wished = np.full(len(before), bool(wants))  # who wishes for nothing has nothing to hit
    already, hit, counts = wished.copy(), wished.copy(), wished & (before[:, wanted] != HIDDEN).all(axis=1)
    for want in wants:
        already &= want.met(before, attributes)
        hit &= want.met(after, attributes)
    return Judgement(already, counts & ~already, hit, kept)


def target_scores(
    wants: Sequence[Want], probabilities: Float[Tensor, "n k"], oracle: OracleConfig
) -> Float[np.ndarray, "n"]:
    """The oracle's probability that all wants hold, as the product over their attributes, 0 to 1."""
    sizes = [len(categories) for categories in oracle.attributes.values()]
    parts = dict(zip(oracle.attributes, probabilities.split(sizes, dim=1), strict=True))
    score = np.ones(len(probabilities))
    for want in wants:
        numbers = [oracle.attributes[want.attribute].index(category) for category in want.categories]
        share = parts[want.attribute][:, numbers].sum(dim=1).numpy().astype(np.float64)
        score *= np.clip(1 - share if want.excluded else share, 0.0, 1.0)
    return score
