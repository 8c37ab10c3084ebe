import numpy as np
import pytest
from scipy import stats
from scipy.spatial.distance import pdist

from pipeline.scoring.statistics import (
    at_equal_change,
    bootstrap_interval,
    diversity,
    kernel_distance,
    largest_common_change,
    nan_mean,
)


@pytest.fixture
def clouds() -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(0)
    return rng.normal(size=(60, 5)), rng.normal(0.5, 2.0, size=(40, 5))


def test_bootstrap_interval_agrees_with_scipys_and_is_the_same_twice():
    values = np.random.default_rng(3).gamma(2.0, size=80)
    found = bootstrap_interval(values, resamples=20_000)
    expected = stats.bootstrap((values,), np.mean, n_resamples=20_000, method="percentile", random_state=1)
    assert found == pytest.approx(tuple(expected.confidence_interval), abs=0.02)
    assert found == bootstrap_interval(values, resamples=20_000)


def test_bootstrap_interval_leaves_latents_out_that_say_nothing():
    low, high = bootstrap_interval(np.array([np.nan, 1.0, 1.0, np.nan]))
    assert (low, high) == (1.0, 1.0)
    assert np.isnan(bootstrap_interval(np.array([np.nan, np.nan]))).all()
    assert np.isnan(bootstrap_interval(np.array([]))).all()


def test_nan_mean_is_nan_only_where_there_is_nothing():
    assert nan_mean(np.array([[1.0, np.nan], [3.0, np.nan]]), axis=0)[0] == 2.0
    assert np.isnan(nan_mean(np.array([[1.0, np.nan], [3.0, np.nan]]), axis=0)[1])


def test_kernel_distance_agrees_with_sums_over_pairs(clouds: tuple[np.ndarray, np.ndarray]):
    a, b = clouds[0][:7], clouds[1][:5]

    def kernel(x: np.ndarray, y: np.ndarray) -> float:
        return (x @ y / 5 + 1) ** 3

    within_a = np.mean([kernel(a[i], a[j]) for i in range(7) for j in range(7) if i != j])
    within_b = np.mean([kernel(b[i], b[j]) for i in range(5) for j in range(5) if i != j])
    across = np.mean([kernel(x, y) for x in a for y in b])
    assert kernel_distance(a, b) == pytest.approx(within_a + within_b - 2 * across)
    with pytest.raises(ValueError, match="two images on either side; got 1 and 5"):
        kernel_distance(a[:1], b)


def test_diversity_agrees_with_scipys_cosine_distances(clouds: tuple[np.ndarray, np.ndarray]):
    unit = clouds[0] / np.linalg.norm(clouds[0], axis=1, keepdims=True)
    assert diversity(unit) == pytest.approx(pdist(unit, "cosine").mean())
    assert np.isnan(diversity(unit[:1]))


def test_at_equal_change_reads_between_the_strengths_at_the_weakest_that_gets_there():
    change, kept = [0.0, 0.4, 0.8, 0.2], [1.0, 0.9, 0.5, 0.4]
    assert at_equal_change(change, kept, 0.2) == pytest.approx(0.95)
    assert at_equal_change(change, kept, 0.6) == pytest.approx(0.7)
    assert at_equal_change(change, kept, 0.0) == 1.0
    assert np.isnan(at_equal_change(change, kept, 0.9))


def test_largest_common_change_is_what_the_weakest_method_reaches():
    assert largest_common_change([[0, 0.5, 0.9], [0, 0.4, 0.3]], share=0.9) == pytest.approx(0.36)
