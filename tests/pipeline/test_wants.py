import numpy as np
import pytest

from pipeline.errors import PromptError
from pipeline.wants import HIDDEN, Want, format_wants, parse_wants

ATTRIBUTES = {"accessories": ("none", "glasses", "sunglasses"), "head": ("bald", "hat", "mohawk")}


def test_parse_wants_reads_alternatives_and_exclusions_and_is_written_back():
    text = "accessories=glasses|sunglasses;head!=hat"
    wants = parse_wants(f" {text.replace(';', ' ; ')} ", ATTRIBUTES)
    assert wants == (Want("accessories", ("glasses", "sunglasses")), Want("head", ("hat",), excluded=True))
    assert format_wants(wants) == text


def test_want_is_met_by_any_of_its_categories_and_never_by_what_is_hidden():
    labels = np.array([[0, 1], [1, 1], [2, 0], [HIDDEN, HIDDEN]])
    one_of, none_of = parse_wants("accessories=glasses|sunglasses;head!=hat", ATTRIBUTES)
    assert one_of.met(labels, ATTRIBUTES).tolist() == [False, True, True, False]
    assert none_of.met(labels, ATTRIBUTES).tolist() == [False, False, True, False]


@pytest.mark.parametrize(
    "text", ["", "glasses", "accessories=", "accessories==glasses", "accessories=glasses||hat", ";"]
)
def test_parse_wants_says_how_they_read(text: str):
    with pytest.raises(PromptError, match="must read like 'accessories=glasses"):
        parse_wants(text)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("nose=big", "an attribute of the pack's oracle .accessories, head.; got 'nose'"),
        ("head=cap", "a category of 'head' .bald, hat, mohawk.; got 'cap'"),
        ("head=hat;head!=bald", "each attribute once"),
    ],
)
def test_parse_wants_names_what_the_oracle_knows(text: str, message: str):
    with pytest.raises(PromptError, match=message):
        parse_wants(text, ATTRIBUTES)
