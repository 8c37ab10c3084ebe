"""Statistics that compare methods: intervals, distances of feature clouds, diversity, equal strength.

Letters: n image or latent, m other image, d feature width, b bootstrap sample.
"""

from collections.abc import Sequence

import numpy as np
from jaxtyping import Float

SEED = 20_210_331  # of the bootstrap; the same table twice
RESAMPLES = 1_000
LEVEL = 0.95


def nan_mean(values: Float[np.ndarray, "..."], axis: int | None = None) -> Float[np.ndarray, "..."]:
    """Mean of what is not NaN; NaN, without a warning, where all is."""
    seen = ~np.isnan(values)
    total = np.where(seen, values, 0.0).sum(axis=axis)
    count = seen.sum(axis=axis)
    return np.where(count > 0, total / np.maximum(count, 1), np.nan)


def bootstrap_interval(
    values: Float[np.ndarray, "n"], *, resamples: int = RESAMPLES, level: float = LEVEL, seed: int = SEED
) -> tuple[float, float]:
    """Percentile interval of the mean over latents, drawn again with replacement.

    Args:
        values: one per latent; NaN where a latent says nothing. Draws without any value are left out.
        resamples: draws.
        level: share of the draws between the ends.
        seed: of the draws.
    Returns:
        lower and upper end; NaN where no latent has a value.
    Source: Efron 1979.
    """
    if len(values) == 0 or np.isnan(values).all():
        return float("nan"), float("nan")
    drawn = np.random.default_rng(seed).integers(0, len(values), size=(resamples, len(values)))
    means = nan_mean(values[drawn], axis=1)
    tail = 100 * (1 - level) / 2
    low, high = np.percentile(means[~np.isnan(means)], [tail, 100 - tail])
    return float(low), float(high)


def kernel_distance(a: Float[np.ndarray, "n d"], b: Float[np.ndarray, "m d"]) -> float:
    """Unbiased squared maximum mean discrepancy with the kernel ``(<x, y> / d + 1)^3`` (Binkowski et al. 2018, KID).

    Can be slightly negative for equal clouds.

    Raises:
        ValueError: for fewer than two images on a side.
    """
    n, m, d = len(a), len(b), a.shape[1]
    if n < 2 or m < 2:
        raise ValueError(f"kernel distance needs two images on either side; got {n} and {m}.")
    aa, bb, ab = ((x @ y.T / d + 1) ** 3 for x, y in ((a, a), (b, b), (a, b)))
    within = (aa.sum() - np.trace(aa)) / (n * (n - 1)) + (bb.sum() - np.trace(bb)) / (m * (m - 1))
    return float(within - 2 * ab.mean())


def diversity(unit: Float[np.ndarray, "n d"]) -> float:
    """Mean over pairs of images of 1 less the cosine of their features; 0 where all are one, NaN below two images."""
    n = len(unit)
    if n < 2:
        return float("nan")
    cosines = unit @ unit.T
    return float(1 - (cosines.sum() - np.trace(cosines)) / (n * (n - 1)))


def at_equal_change(change: Sequence[float], values: Sequence[float], wanted: float) -> float:
    """A method's value where its edits change the target's score by ``wanted``.

    Straight lines between the strengths that were rendered, from no edit on; where the change reaches ``wanted`` more
    than once, at the weakest strength that does. NaN where no strength reaches it.

    Args:
        change: mean change of the target's score at every strength, weakest first; the first is no edit, with 0.
        values: what is compared, at the same strengths.
        wanted: the change at which methods are compared.
    Source: Wu et al. 2021 (StyleSpace) and StyleCLIP's supplement compare at equal change of a classifier's logit.
    """
    for low in range(len(change) - 1):
        a, b = change[low], change[low + 1]
        if a <= wanted <= b and b > a:
            share = (wanted - a) / (b - a)
            return float(values[low] + share * (values[low + 1] - values[low]))
    return float("nan")


def largest_common_change(curves: Sequence[Sequence[float]], *, share: float = 0.9) -> float:
    """The change of the target's score at which all methods can be compared: a share of the weakest's largest."""
    return share * min(max(curve) for curve in curves)


def over_latents(rows: Sequence[float | None]) -> Float[np.ndarray, "n"]:
    """A column with nulls as floats with NaN."""
    return np.array([np.nan if value is None else float(value) for value in rows], dtype=np.float64)
