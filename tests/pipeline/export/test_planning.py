from collections import Counter

import numpy as np
import pytest

from pipeline.config import BalanceConfig
from pipeline.errors import PipelineError
from pipeline.export.planning import assign_moves, plan_faces, plan_request
from pipeline.export.yields import AS_IT_IS, chances_of, measure_yields

SHARES = {"eyes": {"none": 0.5, "glasses": 0.5}, "skin": {"pale": 0.5, "dark": 0.5}}
GLASSES, HAT = ("glasses", 8.0), ("hat", 8.0)
PLAIN, DARK = ("none", "pale"), ("none", "dark")


def request(total: int = 100, kind: str = "faces") -> BalanceConfig:
    return BalanceConfig(total=total, tolerance=0.01, kind=kind, attributes=SHARES)


def yields(hit: int = 9, pale: int = 30, dark: int = 10):
    """Faces without glasses, three quarters of them pale; an edit that brings glasses in ``hit`` of 10 tries."""
    faces = [PLAIN] * pale + [DARK] * dark
    tries = [(GLASSES, PLAIN, ("glasses" if i < hit else "none", "pale"), True) for i in range(10)]
    tries += [(HAT, PLAIN, PLAIN, True)] * 10
    return measure_yields(SHARES, faces, tries)


def test_chances_of_an_edit_are_those_of_the_tries_and_spread_to_what_was_not_tried():
    found = chances_of([("none", "glasses")] * 9 + [("none", "none")], ["none", "glasses", None])
    assert found.sum(axis=1) == pytest.approx(1)
    assert found[0] == pytest.approx([0.1, 0.9, 0.0])
    assert found[2] == pytest.approx([0.0, 0.9, 0.1])  # as the others do: nine of ten become glasses
    there = chances_of([("none", "glasses")] * 5 + [("glasses", "glasses")] * 5, ["none", "glasses", None])
    assert there[2] == pytest.approx([0.0, 1.0, 0.0])  # glasses that were there are no sign that the edit fails
    assert chances_of([], ["none", None]).tolist() == np.eye(2).tolist()


def test_outcomes_multiply_over_attributes_and_leave_out_what_is_rejected():
    found = measure_yields(
        SHARES, [PLAIN], [(GLASSES, PLAIN, ("glasses", "pale"), True), (GLASSES, PLAIN, PLAIN, False)]
    )
    assert found.outcomes(PLAIN, GLASSES) == pytest.approx({("glasses", "pale"): 0.5})
    assert found.outcomes(DARK, AS_IT_IS) == {DARK: 1.0}


def test_plan_gives_edits_to_as_many_faces_as_the_rarest_need():
    plan = plan_faces(request(), yields(), spare=0.0, most=1000)
    # 50 dark images, half of them with glasses of which one in ten fails and stays a plain dark face
    edited = 25 / 0.9
    assert plan.moves[DARK, GLASSES] == pytest.approx(edited, rel=0.02)
    assert plan.faces == pytest.approx(50 * 4, rel=0.03)  # a quarter of the faces are dark
    assert plan.images[("glasses", "dark")] == pytest.approx(25, abs=0.5)
    assert not any(move == HAT for _, move in plan.moves)


def test_plan_counts_what_is_there_already():
    there = {("glasses", "dark"): 25, ("none", "dark"): 25}
    plan = plan_faces(request(), yields(), spare=0.0, most=1000, there=there)
    assert plan.faces == pytest.approx(50 / 0.75, rel=0.05)  # 50 pale ones, that is all
    assert sum(plan.images.values()) == pytest.approx(100)


def test_plan_of_given_faces_never_uses_one_twice_and_rounds_in_whole_faces():
    faces = {f"a{i}": PLAIN for i in range(60)} | {f"b{i}": DARK for i in range(55)}
    plan = plan_request(request(), yields(), total=100, faces=Counter(faces.values()), most=len(faces))
    assigned = assign_moves(plan, faces, exclusive=True)
    assert len({face for face, _ in assigned}) == len(assigned)
    assert Counter(faces[face] for face, move in assigned if move == GLASSES)[DARK] == pytest.approx(28, abs=1)
    assert assigned == assign_moves(plan, dict(reversed(faces.items())), exclusive=True)


def test_plan_of_pairs_wants_both_images():
    plan = plan_faces(request(kind="pairs"), yields(), spare=0.0, most=1000)
    assert all(move == GLASSES for _, move in plan.moves)
    assert sum(plan.moves.values()) == pytest.approx(50 / 0.9, rel=0.12)
    assert plan.images["none", "dark"] == pytest.approx(25, abs=1)


@pytest.mark.parametrize(
    ("found", "most", "words"),
    [
        (yields(hit=0), 1000, r"eyes=glasses: 0 where 50 are wanted.*eyes=glasses in 0 of 40 faces, no prompt gives"),
        (yields(dark=0), 1000, r"skin=dark: 0 where 50 are wanted.*skin=dark in 0 of 30 faces, no prompt gives it"),
        (yields(), 80, r"cannot be had from up to 80 faces; expected at best: 80 of 100 images in all"),
        (yields(hit=1), 180, r"prompt 'glasses' turns \d+ % of the others into it"),
    ],
)
def test_request_that_cannot_be_met_is_refused_with_what_was_measured(found, most: int, words: str):
    with pytest.raises(PipelineError, match=words):
        plan_faces(request(), found, spare=0.0, most=most)


def test_plan_of_too_many_combinations_says_so():
    shares = {f"a{i}": dict.fromkeys("xyz", 1 / 3) for i in range(9)}
    cells = np.array(list("xyz"))[np.random.default_rng(0).integers(0, 3, (600, 9))]
    cell = tuple("xyzxyzxyz")
    found = measure_yields(shares, map(tuple, cells.tolist()), [(("p", float(i)), cell, cell, True) for i in range(99)])
    wish = BalanceConfig(total=10, attributes=dict.fromkeys(shares, "even"))
    with pytest.raises(PipelineError, match="Balance fewer attributes"):
        plan_faces(wish, found, spare=0.0, most=100)
