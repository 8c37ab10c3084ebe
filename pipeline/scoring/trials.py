"""Trials of settings: what each did to the same latents, and which is taken.

Letters: n latent.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
from jaxtyping import Float

from pipeline.scoring.statistics import nan_mean

By = Literal["similarity", "hit"]


@dataclass(frozen=True)
class Outcome:
    """What one setting did; one entry per latent, and per strength where several belong to it.

    Attributes:
        similarity: of the images to the target text.
        identity: similarity before and after; None without an identity network.
        hit: 1 or 0; NaN where the target was there before or cannot be seen.
        kept: share of the other attributes that stayed; NaN where nobody can tell.
    """

    similarity: Float[np.ndarray, "n"]
    identity: Float[np.ndarray, "n"] | None
    hit: Float[np.ndarray, "n"]
    kept: Float[np.ndarray, "n"]

    def score(self, identity_share: float) -> float:
        """Mean similarity to the text plus a share of the mean identity similarity."""
        identity = 0.0 if self.identity is None else float(self.identity.mean())
        return float(self.similarity.mean()) + identity_share * identity


def choose_outcome(
    outcomes: Sequence[Outcome], *, by: By, identity_share: float, margin: float, kept: float
) -> tuple[int, By]:
    """Which outcome is taken, and by what; the first is the usual setting's, and taken where no other is better.

    By hits: the most among those that keep the wanted share, else the one that keeps most; equals are told apart by
    what they keep. By similarity, also where no hit can be judged: the largest score, if it exceeds the usual one's by
    the margin. CLIP's similarity still grows where an edit is complete, and that is no reason to leave what is known.

    Args:
        outcomes: of the settings that were tried.
        by: what decides.
        identity_share: weight of the identity in the score.
        margin: least gain of the score for another setting than the usual.
        kept: wanted share of the other attributes.
    """
    hits = [float(nan_mean(outcome.hit)) for outcome in outcomes]
    if by == "similarity" or np.isnan(hits).any():
        scores = [outcome.score(identity_share) for outcome in outcomes]
        best = int(np.argmax(scores))
        return best if scores[best] - scores[0] >= margin else 0, "similarity"
    keeps = [round(float(np.nan_to_num(nan_mean(outcome.kept), nan=1.0)), 6) for outcome in outcomes]
    enough = [k for k in range(len(outcomes)) if keeps[k] >= kept]
    if not enough:
        return int(np.argmax(keeps)), "hit"
    return max(enough, key=lambda k: (hits[k], keeps[k], -k)), "hit"
