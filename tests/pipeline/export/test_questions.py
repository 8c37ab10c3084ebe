import pytest

from pipeline.export.questions import Question, answer, read_question

ATTRIBUTES = {
    "head": ("afro", "bald", "flat_top", "hat", "long"),
    "expression": ("neutral", "smile", "old"),
    "facial_hair": ("none", "beard"),
    "accessories": ("none", "glasses", "sunglasses"),
    "skin": ("pale", "dark"),
    "hair_color": ("black", "red"),
    "clothing": ("blue", "red"),
    "background": ("white", "blue"),
}


@pytest.mark.parametrize(
    ("target", "attribute", "wanted"),
    [
        ("a face with glasses", "accessories", "glasses"),
        ("a face with sunglasses", "accessories", "sunglasses"),
        ("a smiling face", "expression", "smile"),
        ("A face with Smiles", "expression", "smile"),
        ("a face with a flat top", "head", "flat_top"),
        ("a face with dark skin", "skin", "dark"),
        ("a face with red hair", "hair_color", "red"),
        ("a face with red clothes", "clothing", "red"),
        ("a face with a blue background", "background", "blue"),
        ("a face with no beard", "facial_hair", "none"),
        ("a face without glasses", "accessories", "none"),
    ],
)
def test_read_question_finds_the_attribute_in_a_prompts_words(target: str, attribute: str, wanted: str):
    assert read_question(target, ATTRIBUTES) == Question(attribute, wanted)


@pytest.mark.parametrize(
    "target", ["a face", "a happy child", "a red face", "a smile with glasses", "what a shadow", ""]
)
def test_read_question_of_none_or_several_is_none(target: str):
    assert read_question(target, ATTRIBUTES) is None


def test_answer_says_hit_kept_and_how_sure_the_judge_is():
    before = {"head": "bald", "skin": "pale", "expression": "old"}
    after = {"head": "hat", "skin": "dark", "expression": "old"}
    found = answer(Question("head", "hat"), before, after, 0.9)
    assert (found["hit"], found["already"], found["kept"], found["judged_probability"]) == (True, False, 0.5, 0.9)
    assert (found["judged_before"], found["judged_after"]) == ("bald", "hat")
    missed = answer(Question("head", "afro"), before, after, 0.75)
    assert (missed["hit"], missed["judged_probability"]) == (False, 0.75)


def test_answer_of_what_was_there_before_is_no_hit_and_no_miss():
    same = {"head": "hat"}
    found = answer(Question("head", "hat"), same, same, 0.9)
    assert (found["already"], found["hit"], found["kept"]) == (True, None, None)
    assert answer(None, same, same, 0.9)["hit"] is None


def test_answer_counts_only_attributes_seen_in_both_as_kept():
    before, after = {"head": "bald", "skin": "pale"}, {"head": "long", "skin": "pale", "hair_color": "red"}
    assert answer(Question("head", "long"), before, after, 0.9)["kept"] == 1.0
    assert answer(Question("head", "bald"), after, before, 0.9)["kept"] == 1.0
