import pytest
import torch

from pipeline.stages.scores import PromptEmbedding, compute_scores


def test_compute_scores_are_the_cosines_worked_out_by_hand():
    prompt = PromptEmbedding(target=torch.tensor([0.0, 1.0]), direction=torch.tensor([-0.6, 0.8]))
    original, edited = torch.tensor([1.0, 0.0]), torch.tensor([0.8, 0.6])
    scores = compute_scores(original, edited, prompt, pixel_distance=0.25)
    assert scores.clip_similarity == pytest.approx(0.6)
    assert scores.clip_gain == pytest.approx(0.6)
    moved = torch.tensor([-0.2, 0.6])
    assert scores.clip_direction == pytest.approx(float(moved @ prompt.direction / moved.norm()))
    assert scores.pixel_distance == 0.25


def test_compute_scores_unchanged_image_has_direction_zero_not_nan():
    prompt = PromptEmbedding(target=torch.tensor([0.0, 1.0]), direction=torch.tensor([-0.6, 0.8]))
    same = torch.tensor([1.0, 0.0])
    scores = compute_scores(same, same, prompt, pixel_distance=0.0)
    assert (scores.clip_gain, scores.clip_direction) == (0.0, 0.0)
