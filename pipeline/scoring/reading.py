"""Which attributes a free prompt is about: what its text does among images whose attributes are known.

Among unedited samples, ``<E(image), text direction>`` is explained by the oracle's labels as a sum of one effect per
category. The attributes that explain most of it are what the text is about, and their largest effect is what it wants.
No caption is needed, in no language: the same reading works for every pack with an oracle.

Letters: n sample, a attribute, k category of all attributes side by side.
"""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise

import numpy as np
from jaxtyping import Float, Int

from pipeline.wants import Attributes, Want

RIDGE = 1.0  # samples' worth of shrinking: a category seen once says little
ShownBy = Mapping[str, Mapping[str, Sequence[str]]]
MIN_SHARE = 0.17  # of the explained variance: an attribute below it is not what the text is about
MIN_EFFECT = 0.55  # standard deviations of the score; a wanted category stands out by as much
SECOND = 0.7  # of the largest effect: a category as good as the best counts too
NEGATIONS = re.compile(r"\b(without|no|not|never|non|lacks|lacking|neither|nor)\b|n't\b", re.IGNORECASE)


@dataclass(frozen=True)
class Effects:
    """What every category does to the score of a text direction.

    Attributes:
        effect: in standard deviations of the score over the samples, mean 0 over the samples, [k].
        share: of the score's variance that each attribute explains, [a].
        explained: share of the variance that all attributes explain together, 0 to 1.
    """

    effect: Float[np.ndarray, "k"]
    share: Float[np.ndarray, "a"]
    explained: float


def is_negated(text: str) -> bool:
    """Whether an English text says what must not be there."""
    return NEGATIONS.search(text) is not None


def measure_effects(scores: Float[np.ndarray, "n"], labels: Int[np.ndarray, "n a"], attributes: Attributes) -> Effects:
    """Main effects of the categories on a score: least squares with a small ridge on indicator columns.

    Args:
        scores: of every sample along the text direction.
        labels: category numbers; hidden ones count for no category.
        attributes: the oracle's.
    """
    sizes = [len(categories) for categories in attributes.values()]
    columns = [np.equal.outer(labels[:, i], np.arange(size)) for i, size in enumerate(sizes)]
    indicators = np.concatenate(columns, axis=1).astype(np.float64)
    shares = indicators.mean(axis=0)
    centred, y = indicators - shares, scores - scores.mean()
    spread = float(y.std())
    if spread == 0:
        return Effects(np.zeros(sum(sizes)), np.zeros(len(sizes)), 0.0)
    found = np.linalg.solve(centred.T @ centred + RIDGE * np.eye(sum(sizes)), centred.T @ y) / spread
    edges = np.cumsum([0, *sizes])
    explained = np.zeros(len(sizes))
    for i, (low, high) in enumerate(pairwise(edges)):
        weights = shares[low:high]
        found[low:high] -= weights @ found[low:high] / max(weights.sum(), 1e-12)
        explained[i] = weights @ found[low:high] ** 2
    residual = y / spread - centred @ found
    return Effects(found, explained, float(1 - residual.var()))


def read_wants(
    effects: Effects, attributes: Attributes, *, negated: bool = False, shown_by: ShownBy | None = None
) -> tuple[Want, ...]:
    """Wants of a text from its effects; empty where no attribute stands out.

    An attribute that explains enough of the variance is wanted: the category of the largest effect and those as good.
    A negated text ("without wrinkles") shuns a category instead: the one of the largest effect either way, because a
    CLIP that passes over "without" moves towards it and one that heeds it, away. An attribute that shows another, as
    heads show hair colours, is not wanted where the text is more about the other.
    """
    total = float(effects.share.sum())
    if total == 0:
        return ()
    names = list(attributes)
    shares = effects.share / total
    for attribute, shown in (shown_by or {}).items():
        own = shares[names.index(attribute)]
        for other in shown:
            if own >= MIN_SHARE and shares[names.index(other)] < own:
                shares[names.index(other)] = 0.0
    edges = np.cumsum([0, *(len(categories) for categories in attributes.values())])
    found = []
    for i, (attribute, categories) in enumerate(attributes.items()):
        part = effects.effect[edges[i] : edges[i + 1]]
        if shares[i] < MIN_SHARE or np.abs(part).max() < MIN_EFFECT:
            continue
        if negated:
            found.append(Want(attribute, (categories[int(np.abs(part).argmax())],), excluded=True))
        elif part.max() >= MIN_EFFECT:
            best = [c for c, effect in zip(categories, part, strict=True) if effect >= SECOND * part.max()]
            found.append(Want(attribute, tuple(best)))
    return tuple(found)


def agreement(read: Sequence[Want], told: Sequence[Want]) -> bool:
    """Whether a reading names the told attributes, and for each a category in common, or shuns one as told."""
    by_name = {want.attribute: want for want in told}
    return {want.attribute for want in read} == set(by_name) and all(
        want.excluded == by_name[want.attribute].excluded
        and bool(set(want.categories) & set(by_name[want.attribute].categories))
        for want in read
    )
