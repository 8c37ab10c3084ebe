"""How much of a picture an edit changed: pixels, structure, and what lies outside the region it should touch.

Letters: n image, r resolution, m side of a thumbnail, a attribute.
"""

from collections.abc import Sequence

import numpy as np
import torch
from jaxtyping import Bool, Float, Int, UInt8
from torch.nn import functional as F

from pipeline.wants import Attributes, Want

THUMBNAIL = 32  # pixels a side, at most; regions are that coarse
REGION = 0.25  # of an attribute's largest spread: pixels that spread more belong to its region
SSIM_SIGMA, SSIM_RADIUS = 1.5, 5  # Wang et al. 2004: a Gaussian window of 11 x 11 pixels
SSIM_C1, SSIM_C2 = 0.01**2, 0.03**2  # for values in [0, 1]
GREY = np.array([0.299, 0.587, 0.114])  # ITU-R BT.601


def pixel_distance(a: UInt8[np.ndarray, "r r 3"], b: UInt8[np.ndarray, "r r 3"]) -> float:
    """Mean absolute difference on [0, 1]."""
    return float(np.abs(a.astype(np.int16) - b.astype(np.int16)).mean()) / 255


def structural_distance(a: UInt8[np.ndarray, "n r r 3"], b: UInt8[np.ndarray, "n r r 3"]) -> Float[np.ndarray, "n"]:
    """1 less the structural similarity of grey levels, 0 for equal images and at most 2.

    ``SSIM = (2 mu_a mu_b + c1)(2 cov + c2) / ((mu_a^2 + mu_b^2 + c1)(var_a + var_b + c2))`` with a Gaussian window,
    averaged over the places where the whole window lies in the image; smaller images than the window take one as large
    as the image.

    Source: Wang, Bovik, Sheikh, Simoncelli 2004.
    """
    x, y = (torch.from_numpy(images @ GREY / 255)[:, None] for images in (a, b))
    radius = min(SSIM_RADIUS, (x.shape[-1] - 1) // 2)
    taps = torch.exp(-0.5 * (torch.arange(-radius, radius + 1, dtype=torch.float64) / SSIM_SIGMA) ** 2)
    taps = taps / taps.sum()

    def blur(values: torch.Tensor) -> torch.Tensor:
        return F.conv2d(F.conv2d(values, taps[None, None, :, None]), taps[None, None, None])

    mean_x, mean_y = blur(x), blur(y)
    var_x, var_y = blur(x * x) - mean_x**2, blur(y * y) - mean_y**2
    covariance = blur(x * y) - mean_x * mean_y
    likeness = (2 * mean_x * mean_y + SSIM_C1) * (2 * covariance + SSIM_C2)
    likeness = likeness / ((mean_x**2 + mean_y**2 + SSIM_C1) * (var_x + var_y + SSIM_C2))
    return (1 - likeness.mean(dim=(1, 2, 3))).numpy()


def thumbnails(images: UInt8[np.ndarray, "n r r 3"]) -> Float[np.ndarray, "n m m"]:
    """Grey levels on [0, 1], averaged down to at most ``THUMBNAIL`` pixels a side."""
    grey = torch.from_numpy(images @ GREY / 255)[:, None]
    side = min(THUMBNAIL, grey.shape[-1])
    return F.adaptive_avg_pool2d(grey, side)[:, 0].numpy()


def attribute_regions(
    samples: Float[np.ndarray, "n m m"], labels: Int[np.ndarray, "n a"], attributes: Attributes
) -> Bool[np.ndarray, "a m m"]:
    """Where each attribute shows: the pixels whose mean changes most from one of its categories to another.

    A pixel belongs to the region where the standard deviation of the categories' mean grey levels, each category
    weighed by its samples, is more than ``REGION`` of the largest of the attribute.
    """
    regions = np.zeros((len(attributes), *samples.shape[1:]), dtype=bool)
    for i, categories in enumerate(attributes.values()):
        members = [labels[:, i] == k for k in range(len(categories))]
        weights = np.array([m.sum() for m in members], dtype=np.float64)
        means = np.stack([samples[m].mean(axis=0) if m.any() else np.zeros(samples.shape[1:]) for m in members])
        total = max(weights.sum(), 1.0)
        centre = np.tensordot(weights, means, axes=1) / total
        spread = np.sqrt(np.tensordot(weights, (means - centre) ** 2, axes=1) / total)
        regions[i] = (spread > REGION * spread.max()) if spread.max() > 0 else False
    return regions


def outside_change(
    before: Float[np.ndarray, "n m m"],
    after: Float[np.ndarray, "n m m"],
    wants: Sequence[Want],
    regions: Bool[np.ndarray, "a m m"],
    attributes: Attributes,
) -> Float[np.ndarray, "n"]:
    """Mean absolute change of the pixels outside the wanted attributes' regions, 0 to 1; NaN where none lies there."""
    names = list(attributes)
    inside = regions[[names.index(want.attribute) for want in wants]].any(axis=0)
    if inside.all():
        return np.full(len(before), np.nan)
    return np.abs(after - before)[:, ~inside].mean(axis=1)
