import numpy as np
import pytest
from scipy.ndimage import gaussian_filter

from pipeline.scoring.distances import (
    GREY,
    attribute_regions,
    outside_change,
    pixel_distance,
    structural_distance,
    thumbnails,
)
from pipeline.wants import parse_wants

ATTRIBUTES = {"top": ("dark", "light"), "bottom": ("dark", "light", "never")}


@pytest.fixture
def images() -> np.ndarray:
    return np.random.default_rng(0).integers(0, 256, (2, 24, 24, 3), dtype=np.uint8)


def test_pixel_distance_is_the_mean_absolute_difference(images: np.ndarray):
    expected = np.abs(images[0].astype(float) - images[1]).mean() / 255
    assert pixel_distance(images[0], images[1]) == pytest.approx(expected)


def test_structural_distance_agrees_with_scipys_windows(images: np.ndarray):
    smooth = gaussian_filter(images.astype(float), (0, 2, 2, 0)).astype(np.uint8)
    x, y = images @ GREY / 255, smooth @ GREY / 255
    for i in range(2):

        def blur(values: np.ndarray) -> np.ndarray:
            return gaussian_filter(values, 1.5, truncate=5 / 1.5, mode="reflect")[5:-5, 5:-5]

        mx, my = blur(x[i]), blur(y[i])
        vx, vy, cov = blur(x[i] ** 2) - mx**2, blur(y[i] ** 2) - my**2, blur(x[i] * y[i]) - mx * my
        ssim = (2 * mx * my + 1e-4) * (2 * cov + 9e-4) / ((mx**2 + my**2 + 1e-4) * (vx + vy + 9e-4))
        assert structural_distance(images, smooth)[i] == pytest.approx(1 - ssim.mean(), abs=1e-6)


def test_structural_distance_of_an_image_to_itself_is_zero(images: np.ndarray):
    assert structural_distance(images, images) == pytest.approx([0, 0], abs=1e-9)


def test_structural_distance_takes_images_smaller_than_the_window(images: np.ndarray):
    assert np.isfinite(structural_distance(images[:, :6, :6], images[:, 1:7, :6])).all()


def picture(top: float, bottom: float) -> np.ndarray:
    grey = np.full((64, 64), 0.5)
    grey[:16], grey[48:] = top, bottom
    return np.repeat((grey * 255).round().astype(np.uint8)[..., None], 3, axis=2)


def test_attribute_regions_are_where_an_attribute_shows_and_nowhere_for_one_that_never_does():
    levels = [(a, b) for a in (0, 1) for b in (0, 1)] * 2
    small = thumbnails(np.stack([picture(*level) for level in levels]))
    regions = attribute_regions(small, np.array(levels), ATTRIBUTES)
    assert small.shape == (8, 32, 32)
    assert regions[0][:8].all()
    assert not regions[0][8:].any()
    assert regions[1][24:].all()
    assert not regions[1][:24].any()
    assert not attribute_regions(small[:1], np.array([[0, 0]]), ATTRIBUTES).any()


def test_outside_change_counts_only_what_the_edit_should_leave_alone():
    small = thumbnails(np.stack([picture(0, 0), picture(1, 0), picture(1, 1)]))
    regions = np.zeros((2, 32, 32), dtype=bool)
    regions[0, :8] = True
    wants = parse_wants("top=light")
    found = outside_change(small[[0, 0]], small[[1, 2]], wants, regions, ATTRIBUTES)
    assert found == pytest.approx([0, 8 / 24], abs=1e-3)
    assert np.isnan(outside_change(small[:1], small[1:2], wants, ~np.zeros_like(regions), ATTRIBUTES)).all()
