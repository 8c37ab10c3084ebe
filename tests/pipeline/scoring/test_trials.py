"""Which setting is taken from a trial, by similarity and by hits."""

import numpy as np

from pipeline.scoring.recommended import recommend_doses
from pipeline.scoring.trials import By, Outcome, choose_outcome

NAN = float("nan")


def outcome(similarity: float, identity: float = 0.5, hit: float = NAN, kept: float = NAN) -> Outcome:
    of = lambda value: np.array([value, value], dtype=np.float64)  # noqa: E731
    return Outcome(of(similarity), of(identity), of(hit), of(kept))


def choose(*outcomes: Outcome, by: By = "similarity", **changes: float) -> tuple[int, str]:
    return choose_outcome(outcomes, by=by, **{"identity_share": 0.1, "margin": 0.01, "kept": 0.95, **changes})


def test_by_similarity_the_largest_score_is_taken_and_identity_counts():
    assert choose(outcome(0.3), outcome(0.5), outcome(0.4)) == (1, "similarity")
    assert choose(outcome(0.3), outcome(0.5, identity=-1.0), outcome(0.4)) == (2, "similarity")
    assert choose(outcome(0.3), outcome(0.5, identity=-1.0), outcome(0.4), identity_share=0.0) == (1, "similarity")


def test_by_similarity_the_usual_setting_stays_within_the_margin():
    assert choose(outcome(0.3), outcome(0.305))[0] == 0
    assert choose(outcome(0.3), outcome(0.305), margin=0.0)[0] == 1


def test_by_hits_the_most_that_keep_the_rest_are_taken():
    tried = (outcome(0.9, hit=0.5, kept=1.0), outcome(0.1, hit=0.8, kept=0.96), outcome(0.9, hit=1.0, kept=0.9))
    assert choose(*tried, by="hit") == (1, "hit")
    assert choose(*tried, by="hit", kept=0.9) == (2, "hit")
    assert choose(*tried[1:], by="hit", kept=0.99) == (0, "hit")  # none keeps so much: the one that keeps most


def test_by_hits_equals_go_to_what_keeps_more_and_then_to_the_usual_setting():
    assert choose(outcome(0, hit=1, kept=0.95), outcome(0, hit=1, kept=0.99), by="hit")[0] == 1
    assert choose(outcome(0, hit=1, kept=0.99), outcome(0.5, hit=1, kept=0.99), by="hit")[0] == 0


def test_where_no_hit_can_be_judged_similarity_decides():
    assert choose(outcome(0.3), outcome(0.5), by="hit") == (1, "similarity")


def dose(method: str, strength: float, hit: float | None, kept: float | None, prompt: str = "hat") -> dict:
    return {"prompt": prompt, "method": method, "strength": strength, "hit": hit, "kept": kept}


def test_recommend_doses_takes_the_most_hits_that_keep_the_rest_then_what_costs_least():
    curves = [
        dose("mapper", 1.0, 0.9, 0.97),
        dose("global", 18.0, 0.9, 0.96),
        dose("global", 9.0, 0.9, 0.99),
        dose("optimize", 1.0, 1.0, 0.8),
        dose("global", 9.0, 0.0, 1.0, prompt="car"),
        dose("global", 9.0, None, None, prompt="free"),
    ]
    (row,) = recommend_doses(curves)
    assert (row["prompt"], row["method"], row["strength"]) == ("hat", "global", 9.0)
    (row,) = recommend_doses(curves, kept=0.75)
    assert (row["method"], row["strength"]) == ("optimize", 1.0)
