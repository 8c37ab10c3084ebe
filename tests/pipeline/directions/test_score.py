"""Scores of three channels, worked out by hand."""

import pytest
import torch

from pipeline.config import Rule
from pipeline.directions.score import channel_score

TEXT = torch.tensor([1.0, 0.0])
DIRECTION = torch.tensor([[0.6, 0.8], [-1.0, 0.0], [0.0, 1.0]])  # relevance 0.6, -1, 0
AGREEMENT = torch.tensor([0.5, 0.9, 1.0])
EFFECT = torch.tensor([[0.0016, 5.0], [-0.0081, 0.0], [0.0, 9.0]])  # fourth roots along the text: 0.2, 0.3, 0


@pytest.mark.parametrize(
    ("rule", "score"), [("paper", [0.6, -1.0, 0.0]), ("agreement", [0.3, -0.9, 0.0]), ("effect", [0.12, -0.3, 0.0])]
)
def test_channel_score_is_relevance_times_what_the_rule_adds(rule: Rule, score: list[float]):
    found = channel_score(DIRECTION, TEXT, rule=rule, agreement=AGREEMENT, effect=EFFECT)
    torch.testing.assert_close(found, torch.tensor(score))


@pytest.mark.parametrize("rule", ["agreement", "effect"])
def test_channel_score_says_how_to_get_what_a_rule_needs(rule: Rule):
    with pytest.raises(ValueError, match=f"rule `{rule}` needs .* Measure it anew"):
        channel_score(DIRECTION, TEXT, rule=rule)
