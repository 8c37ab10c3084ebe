import numpy as np
import pytest
import torch
from pydantic import ValidationError

from pipeline.models.oracle import OracleConfig
from pipeline.scoring.judgement import judge_edits, read_labels, target_scores
from pipeline.wants import HIDDEN, parse_wants

ATTRIBUTES = {"head": ("bald", "bob"), "color": ("red", "blond", "gray"), "eyes": ("open", "shut")}
ORACLE = OracleConfig(resolution=16, widths=(4,), attributes=ATTRIBUTES, shown_by={"color": {"head": ("bob",)}})


def test_read_labels_are_the_likeliest_and_hidden_where_nothing_shows_them():
    probabilities = torch.tensor([[0.1, 0.9, 0.2, 0.5, 0.3, 0.6, 0.4], [0.8, 0.2, 0.9, 0.1, 0.0, 0.1, 0.9]])
    assert read_labels(ORACLE, probabilities).tolist() == [[1, 1, 0], [0, HIDDEN, 1]]


def test_judge_edits_worked_out_by_hand():
    # bob and blond with eyes open; wanted: eyes shut
    before = np.array([[1, 1, 0], [1, 1, 0], [1, 1, 1], [0, HIDDEN, 0]])
    after = np.array([[1, 1, 1], [1, 0, 0], [1, 1, 1], [0, HIDDEN, 1]])
    found = judge_edits(parse_wants("eyes=shut"), before, after, ORACLE)
    assert found.already.tolist() == [False, False, True, False]
    assert found.counts.tolist() == [True, True, False, True]
    assert found.hit.tolist() == [True, False, True, True]
    assert found.kept.tolist() == [1.0, 0.5, 1.0, 1.0]  # where no hair shows, the head alone counts


def test_judge_edits_of_the_head_do_not_hold_the_hair_colour_against_it():
    before, after = np.array([[0, HIDDEN, 0], [1, 1, 0]]), np.array([[1, 2, 0], [1, 2, 1]])
    found = judge_edits(parse_wants("head=bob"), before, after, ORACLE)
    assert found.kept.tolist() == [1.0, 0.0]
    assert found.already.tolist() == [False, True]


def test_judge_edits_cannot_tell_of_a_wish_for_what_is_hidden():
    before, after = np.array([[0, HIDDEN, 0]]), np.array([[1, 0, 0]])
    assert not judge_edits(parse_wants("color=red"), before, after, ORACLE).counts.any()


def test_judge_edits_of_several_wishes_ask_for_all_of_them():
    before, after = np.array([[1, 0, 0], [1, 1, 0]]), np.array([[1, 0, 1], [1, 1, 1]])
    found = judge_edits(parse_wants("color!=blond;eyes=shut"), before, after, ORACLE)
    assert found.hit.tolist() == [True, False]
    assert found.already.tolist() == [False, False]


def test_target_scores_are_products_of_the_wanted_probabilities():
    probabilities = torch.tensor([[0.1, 0.9, 0.2, 0.5, 0.3, 0.6, 0.4]])
    wants = parse_wants("color=red|gray;eyes!=open;head=bob")
    assert target_scores(wants, probabilities, ORACLE) == pytest.approx([0.5 * 0.4 * 0.9])


def test_oracle_config_refuses_what_shows_an_attribute_it_does_not_have():
    with pytest.raises(ValidationError, match="`shown_by` must name"):
        OracleConfig(resolution=16, widths=(4,), attributes=ATTRIBUTES, shown_by={"color": {"head": ("cap",)}})
