import pytest

from pipeline.errors import PromptError
from pipeline.prompts import check_prompts
from pipeline.threshold_study import channel_counts, threshold_rows

PROMPTS = check_prompts(
    [
        {"name": "hat", "target": "a hat", "neutral": "a face", "num_channels": 7, "strengths": [2.0]},
        {"name": "red", "target": "red", "neutral": "a face", "method": "mapper"},
    ]
)


def test_threshold_rows_repeat_global_prompts_only_and_make_a_list():
    rows = threshold_rows(PROMPTS, "0.2, 0.1", usual=4)
    assert [(r["name"], r.get("relevance_threshold")) for r in rows] == [
        ("hat @0.1", 0.1),
        ("hat @0.2", 0.2),
        ("red", None),
    ]
    listed = check_prompts(rows)
    assert listed[0].strengths == (2.0,)
    assert listed[0].num_channels is None


def test_threshold_rows_auto_go_from_one_channel_to_four_times_the_usual():
    rows = threshold_rows(PROMPTS, "auto:5", usual=4)
    assert [row["num_channels"] for row in rows[:-1]] == [1, 2, 4, 8, 16]
    assert rows[0]["name"] == "hat (1 channel)"


def test_channel_counts_leave_repeats_out():
    assert channel_counts(9, most=4) == [1, 2, 3, 4]


@pytest.mark.parametrize("thresholds", ["", "auto", "auto:1", "auto:x", "0.1,2", "high"])
def test_threshold_rows_of_anything_else_say_how_to_write_them(thresholds: str):
    with pytest.raises(PromptError, match=r"must be relevances as in '0.1,0.15' or 'auto:5'"):
        threshold_rows(PROMPTS, thresholds, usual=4)


def test_threshold_rows_without_a_global_prompt_say_so():
    with pytest.raises(PromptError, match="needs a prompt of method global"):
        threshold_rows(PROMPTS[1:], "auto:3", usual=4)
