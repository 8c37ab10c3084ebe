"""Splits, acceptance and captions: what needs no run."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipeline.config import ExportedDatasetConfig
from pipeline.export.acceptance import reject_reason
from pipeline.export.captions import compute_captions, prompt_captions
from pipeline.export.questions import Question
from pipeline.export.rows import RunFacts, compute_label_rows, shown_in
from pipeline.export.splits import split_of

SHOWN = {"head": ("bald", 0.99), "accessories": ("glasses", 0.9), "skin": ("dark", 0.95), "hair_color": ("red", 0.2)}


def test_split_of_hits_its_shares_and_stays_when_faces_are_added():
    split = lambda i, seed=0: split_of(f"seed-{i}", validation_share=0.2, test_share=0.1, seed=seed)  # noqa: E731
    found = [split(i) for i in range(4000)]
    assert found.count("test") / 4000 == pytest.approx(0.1, abs=0.02)
    assert found.count("validation") / 4000 == pytest.approx(0.2, abs=0.02)
    assert found[:10] == [split(i) for i in range(10)]
    assert found != [split(i, 1) for i in range(4000)]


def test_split_of_is_the_same_on_every_machine():
    found = [split_of(f"seed-{i:08d}", validation_share=0.25, test_share=0.25, seed=0)[:2] for i in range(12)]
    assert " ".join(found) == "tr va tr tr va va te te tr tr tr tr"


def test_shares_above_one_are_refused():
    with pytest.raises(ValueError, match="must not exceed 1 together"):
        ExportedDatasetConfig(validation_share=0.6, test_share=0.5)


def test_reject_reason_names_every_broken_rule_with_its_number():
    config = ExportedDatasetConfig(require_hit=True, min_kept=0.8, max_pixel_distance=0.1, reject_already=True)
    row = {"hit": False, "kept": 0.75, "pixel_distance": 0.05, "judged_attribute": "head", "judged_after": "bald"}
    assert reject_reason(config, row) == "no hit: head is bald; kept 0.75 below 0.8"
    assert reject_reason(config, {**row, "hit": True, "kept": 0.8}) is None
    assert reject_reason(config, {"pixel_distance": 0.2}) == "pixel_distance 0.2 above 0.1"
    assert reject_reason(config, {"already": True, "judged_wanted": "hat"}) == "already hat before the edit"


@given(st.floats(0, 1), st.floats(0, 1))
def test_reject_reason_of_one_bound_is_a_comparison(limit: float, value: float):
    config = ExportedDatasetConfig(min_identity=limit)
    assert (reject_reason(config, {"identity_similarity": value}) is None) == (value >= limit)


def test_rules_do_not_apply_to_missing_scores():
    config = ExportedDatasetConfig(require_hit=True, min_kept=1, min_identity=1, min_judge_probability=1)
    assert reject_reason(config, {"hit": None, "kept": None, "identity_similarity": None}) is None


def captions(**changes: object) -> list[str]:
    return compute_captions(
        ExportedDatasetConfig(**{"captions": 5, **changes}), SHOWN, subject="a face", first="accessories", name="x"
    )


def test_captions_differ_name_the_edit_and_leave_out_what_is_unsure():
    found = captions()
    assert len(set(found)) == 5
    assert all(any(word in c for word in ("glasses", "eyeglasses", "spectacles")) for c in found)
    assert not any("ginger" in c or "red hair" in c for c in found)
    assert found == captions()
    assert any("ginger" in c or "red hair" in c for c in captions(min_caption_probability=0.1))


def test_captions_take_the_settings_words():
    found = captions(phrases={"accessories": {"glasses": ("round spectacles of horn",)}})
    assert all("round spectacles of horn" in c for c in found)


def test_captions_of_unknown_attributes_use_their_names():
    config = ExportedDatasetConfig(captions=1)
    found = compute_captions(config, {"fur_color": ("dark_gray", 1.0)}, subject="a cat", first="fur_color", name="x")
    assert "dark gray fur" in found[0]


def test_captions_without_a_judge_repeat_the_prompt_in_other_forms():
    found = prompt_captions(ExportedDatasetConfig(captions=3), "a face with a hat")
    assert len(set(found)) == 3
    assert all("a face with a hat" in c for c in found)


def scored_row(score: dict) -> dict:
    attributes = {"head": ("bald", "hat"), "skin": ("pale", "dark")}
    prompts = {"hat": {"prompt_id": "hat", "target": "a hat"}}
    facts = RunFacts(attributes, prompts, {"hat": Question("head", "hat")}, "a face", {})
    image = {"image_id": "a__hat__1", "latent_id": "a", "prompt_id": "hat", "prompt": "hat", "method": "global"}
    image |= {"target": "a hat", "neutral": "a face", "strength": 1.0}
    seen = {"a__original": {"head": ("bald", 0.9), "skin": ("pale", 0.9)}, "a__hat__1": shown_in(score, attributes)}
    original = {**dict.fromkeys(image), "image_id": "a__original", "latent_id": "a", "prompt_id": "original"}
    alone = list(compute_label_rows(ExportedDatasetConfig(), facts, [image], {"a__hat__1": score}, seen))
    assert alone == []  # an edit without its original is no pair
    return list(compute_label_rows(ExportedDatasetConfig(), facts, [original, image], {"a__hat__1": score}, seen))[1]


def test_labels_take_the_judges_answers_and_probabilities_from_the_scores():
    answers = {"after_head": "hat", "after_skin": "dark", "after_head_probability": 0.8, "target_score": 0.6}
    row = scored_row(answers)
    assert (row["head"], row["head_probability"], row["hit"], row["kept"]) == ("hat", 0.8, True, 0.0)
    judged = {"hit": None, "already": None, "kept": 0.5, "wants": "skin!=pale", "hit_by": "oracle"}
    row = scored_row({**answers, **judged})
    assert (row["skin_probability"], row["judged_probability"]) == (None, 0.6)
    assert (row["hit"], row["kept"]) == (None, 0.5)
    assert (row["judged_attribute"], row["judged_wanted"]) == ("skin", "not pale")


def test_labels_take_the_multiple_choice_where_only_the_guide_judged_the_scores():
    answers = {"after_head": "bald", "after_skin": "pale", "hit": True, "already": False, "hit_by": "clip"}
    row = scored_row(answers)
    assert (row["hit"], row["judged_after"], row["kept"]) == (False, "bald", 1.0)


def test_labels_of_an_attribute_that_cannot_be_seen_are_null():
    row = scored_row({"after_head": None, "after_skin": "dark"})
    assert (row["head"], row["skin"], row["judged_attribute"], row["hit"]) == (None, "dark", None, None)
