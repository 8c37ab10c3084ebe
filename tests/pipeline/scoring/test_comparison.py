"""Comparisons of methods on doses small enough to work out by hand."""

import numpy as np
import pytest

from pipeline.scoring.comparison import Dose, best_keeping, class_rows, dose_row, method_rows
from pipeline.scoring.plots import can_plot, plot_cost_against_quality, plot_dose_response, plot_hit_against_kept

NAN = float("nan")


def dose(
    method: str, strength: float, hit: list[float], kept: list[float], change: list[float], **other: object
) -> Dose:
    empty = np.full(len(hit), NAN)
    unit = np.eye(len(hit))
    facts = {"prompt": "hat", "kind": "medium", "identity": empty} | other
    return Dose(
        method=method,
        strength=strength,
        hit=np.array(hit, dtype=float),
        kept=np.array(kept, dtype=float),
        change=np.array(change, dtype=float),
        clip_gain=empty,
        judge_gain=empty,
        outside=empty,
        changed={"skin": np.array([0.0, 1.0, NAN][: len(hit)])},
        features=unit,
        **facts,
    )


GLOBAL = [
    dose("global", 2.0, [0, 0, NAN], [1, 1, 1], [0.2, 0.2, 0.2]),
    dose("global", 4.0, [1, 0, NAN], [1, 0.9, 0.9], [0.8, 0.4, 0.6]),
    dose("global", 8.0, [1, 1, NAN], [0.5, 0.4, 0.6], [0.9, 0.9, 0.9]),
]
TEDIGAN = [dose("tedigan", 1.0, [1, 1, NAN], [0.6, 0.6, 0.6], [0.5, 0.5, 0.5])]


def test_best_keeping_has_the_most_hits_among_those_that_keep_the_rest():
    best = best_keeping(GLOBAL, kept=0.9)
    assert best is GLOBAL[1]
    assert best_keeping(TEDIGAN, kept=0.9) is None


def test_best_keeping_of_equals_is_the_weakest():
    weak, strong = (dose("global", s, [1.0], [1.0], [0.5]) for s in (2.0, 6.0))
    assert best_keeping([weak, strong]) is weak


def test_dose_row_counts_what_can_be_judged_and_what_an_edit_of_another_attribute_changed():
    row = dose_row(GLOBAL[1], np.eye(3))
    assert (row["images"], row["judged"], row["hit"]) == (3, 2, 0.5)
    assert row["kept"] == pytest.approx(2.8 / 3)
    assert row["changed_skin"] == 0.5
    assert row["diversity"] == pytest.approx(1.0)
    assert row["identity"] is None
    assert 0 <= row["hit_low"] <= row["hit_high"] <= 1


def test_method_rows_compare_at_the_change_that_every_moving_method_reaches():
    ours, theirs = method_rows([*GLOBAL, *TEDIGAN])
    assert ours["strength"] == 4.0
    assert ours["hit_at_kept"] == 0.5
    assert (theirs["strength"], theirs["hit_at_kept"], theirs["kept"]) == (None, 0.0, None)
    # the weakest method changes the score by 0.5 at most, so all are read at 0.9 * 0.5
    assert ours["matched_target_gain"] == pytest.approx(0.45)
    share = (0.45 - 0.2) / (0.6 - 0.2)
    assert ours["matched_hit"] == pytest.approx(share * 0.5)
    assert ours["matched_kept"] == pytest.approx(1 + share * (2.8 / 3 - 1))
    assert theirs["matched_hit"] == pytest.approx(0.9)


def test_method_rows_leave_out_a_method_that_does_not_move_the_prompt():
    still = dose("tedigan", 1.0, [0, 0, NAN], [1, 1, 1], [0.01, 0, 0])
    ours, theirs = method_rows([*GLOBAL, still])
    assert ours["matched_target_gain"] == pytest.approx(0.9 * 0.9)
    assert theirs["matched_hit"] is None


def test_class_rows_are_means_over_latents_of_the_prompts_best_doses():
    other = dose("global", 4.0, [0, 1, 1], [1, 1, 1], [0.5, 0.5, 0.5], prompt="cap")
    (row,) = class_rows([*GLOBAL, other])
    # latent by latent: (1 + 0) / 2, (0 + 1) / 2, and 1 where only the cap could be judged
    assert row["hit_at_kept"] == pytest.approx((0.5 + 0.5 + 1) / 3)
    assert (row["class"], row["prompts"], row["latents"], row["judged"]) == ("medium", 2, 3, 5)


def test_class_rows_are_the_same_twice():
    assert class_rows([*GLOBAL, *TEDIGAN]) == class_rows([*GLOBAL, *TEDIGAN])


@pytest.mark.skipif(not can_plot(), reason="matplotlib is an extra")
def test_plots_are_pngs_and_the_same_twice():
    rows = [row | {"renders": 100.0} for row in method_rows([*GLOBAL, *TEDIGAN])]
    curves = [dose_row(d, np.eye(3)) for d in [*GLOBAL, *TEDIGAN]]
    for draw in (
        lambda: plot_hit_against_kept(rows, kept=0.9),
        lambda: plot_dose_response(curves),
        lambda: plot_cost_against_quality(rows),
    ):
        png = draw()
        assert png.startswith(b"\x89PNG")
        assert png == draw()
