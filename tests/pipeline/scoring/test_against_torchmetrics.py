"""The scores' definitions computed by libraries that share no line with ours."""

import numpy as np
import pytest
import torch
from skimage.metrics import structural_similarity
from torchmetrics.functional import pairwise_cosine_similarity
from torchmetrics.functional.image import structural_similarity_index_measure
from torchmetrics.image.kid import poly_mmd

from pipeline.scoring.distances import GREY, structural_distance
from pipeline.scoring.statistics import diversity, kernel_distance
from pipeline.scoring.targets import PromptEmbedding
from pipeline.stages.scores import compute_clip_scores


@pytest.fixture
def clouds() -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(5)
    return rng.normal(size=(40, 6)), rng.normal(0.3, 1.5, size=(25, 6))


def test_structural_distance_is_the_ssim_of_grey_levels_of_torchmetrics_and_scikit_image():
    rng = np.random.default_rng(1)
    a = np.repeat(np.repeat(rng.integers(0, 256, (2, 8, 8, 3), dtype=np.uint8), 6, axis=1), 6, axis=2)
    b = np.clip(a + rng.integers(-30, 30, a.shape), 0, 255).astype(np.uint8)
    x, y = (images @ GREY / 255 for images in (a, b))
    found = structural_distance(a, b)
    for i in range(2):
        window = {"gaussian_weights": True, "sigma": 1.5, "use_sample_covariance": False}
        assert found[i] == pytest.approx(1 - structural_similarity(x[i], y[i], data_range=1.0, **window), abs=1e-9)
    _, places = structural_similarity_index_measure(
        *(torch.from_numpy(z)[:, None] for z in (x, y)), data_range=1.0, return_full_image=True
    )
    inside = places[:, 0, 5:-5, 5:-5]  # torchmetrics also counts windows that reach over the border
    assert found == pytest.approx(1 - inside.mean(dim=(1, 2)).numpy(), abs=1e-6)


def test_kernel_distance_is_torchmetrics_unbiased_polynomial_mmd(clouds: tuple[np.ndarray, np.ndarray]):
    a, b = (x[:25] for x in clouds)  # torchmetrics compares clouds of one size
    assert kernel_distance(a, b) == pytest.approx(float(poly_mmd(torch.from_numpy(a), torch.from_numpy(b))))


class _Features(torch.nn.Module):
    """Takes features for images: torchmetrics then measures the distance of what it is given."""

    num_features = 6

    def forward(self, features: torch.Tensor) -> torch.Tensor:
        return features


def test_diversity_is_one_less_torchmetrics_mean_cosine_of_pairs(clouds: tuple[np.ndarray, np.ndarray]):
    unit = torch.nn.functional.normalize(torch.from_numpy(clouds[0]))
    cosines = pairwise_cosine_similarity(unit, zero_diagonal=True)
    assert diversity(unit.numpy()) == pytest.approx(1 - float(cosines.sum()) / (40 * 39))


def test_clip_scores_are_torchmetrics_cosines():
    rng = torch.Generator().manual_seed(0)
    before, after, texts = (
        torch.nn.functional.normalize(torch.randn(n, 6, dtype=torch.float64, generator=rng)) for n in (5, 5, 2)
    )
    move = texts[:1] - texts[1:]
    prompt = PromptEmbedding(texts[0], torch.nn.functional.normalize(move)[0])
    found = compute_clip_scores(before, after, prompt)
    similarity = pairwise_cosine_similarity(after, texts[:1])[:, 0]
    torch.testing.assert_close(found.similarity, similarity)
    torch.testing.assert_close(found.gain, similarity - pairwise_cosine_similarity(before, texts[:1])[:, 0])
    torch.testing.assert_close(found.direction, pairwise_cosine_similarity(after - before, move)[:, 0])
