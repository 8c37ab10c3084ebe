import pytest

from pipeline.scoring.verdict import count_disputed, verdict


@pytest.mark.parametrize(
    ("facts", "line"),
    [
        ({"hits": 16, "judged": 16, "images": 16, "kept": 0.99, "pixel_distance": 0.03}, "16 of 16"),
        (
            {"hits": 0, "judged": 4, "images": 4, "pixel_distance": 0.05, "unknown_words": ["sports", "car"]},
            "0 of 4, words unknown",
        ),
        ({"hits": 0, "judged": 4, "images": 4, "pixel_distance": 0.0, "method": "mapper"}, "unchanged; train longer"),
        ({"hits": 0, "judged": 4, "images": 4, "pixel_distance": 0.0}, "unchanged; raise the strength"),
        ({"hits": 3, "judged": 6, "images": 8, "already": 2}, "3 of 6, 2 had it already"),
        ({"hits": 0, "judged": 0, "images": 8, "already": 8}, "8 of 8 had it already"),
        ({"hits": 0, "judged": 0, "images": 8}, "cannot be seen on these images"),
        ({"hits": 5, "judged": 6, "images": 6, "kept": 0.7}, "5 of 6, 30% of the rest changed"),
        ({"hits": 5, "judged": 6, "images": 6, "by": "clip"}, "5 of 6, by CLIP's own eye"),
        ({"hits": 5, "judged": 6, "images": 6, "by": "judge"}, "5 of 6, by the judge"),
        ({"hits": 0, "judged": 6, "images": 6, "reachable": False, "by": "clip"}, "0 of 6, out of the pack's reach"),
        ({"hits": 6, "judged": 6, "images": 6, "disputed": 3}, "6 of 6"),
        ({"hits": 6, "judged": 6, "images": 6, "disputed": 4}, "6 of 6, the judge sees nothing in 4"),
        (
            {"hits": 2, "judged": 2, "images": 8, "already": 6, "disputed": 2},
            "2 of 2, 6 had it already, the judge sees nothing in 2",
        ),
        ({"hits": None, "judged": 0, "images": 6}, "not judged: the pack cannot tell"),
        ({"hits": None, "judged": 0, "images": 0}, "no images"),
    ],
)
def test_verdict_reads_as_a_newcomer_would_say_it(facts: dict, line: str):
    assert verdict(**facts) == line


def test_disputed_are_edits_that_gain_with_the_guide_alone():
    guide = [0.3, 0.3, 0.3, -0.1, 0.0, 0.3, None]
    judge = [0.2, 0.01, -0.1, -0.2, -0.1, None, 0.1]
    assert count_disputed(guide, judge) == 2
