from collections import Counter

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pipeline.config import BalanceConfig
from pipeline.errors import PipelineError
from pipeline.export.balance import choose_balanced, wanted_shares

KNOWN = {"eyes": ("none", "glasses"), "skin": ("pale", "tan", "dark")}


def drawn(number: int, seed: int = 0, glasses: float = 0.5) -> dict[str, tuple[str, str]]:
    dice = np.random.default_rng(seed)
    eyes = dice.choice(KNOWN["eyes"], number, p=[1 - glasses, glasses])
    skin = dice.choice(KNOWN["skin"], number)
    return {f"i{k}": (str(e), str(s)) for k, (e, s) in enumerate(zip(eyes, skin, strict=True))}


def request(total: int, tolerance: float = 0.01, **attributes: object) -> BalanceConfig:
    return BalanceConfig(total=total, tolerance=tolerance, attributes=attributes or {"eyes": "even", "skin": "even"})


def chosen(wish: BalanceConfig, images: dict) -> set[str]:
    asked = [list(KNOWN).index(attribute) for attribute in wish.attributes]
    cells = {name: tuple(cell[axis] for axis in asked) for name, cell in images.items()}
    return choose_balanced(wish, wanted_shares(wish, KNOWN), cells)


def test_choose_balanced_gives_every_combination_its_share_where_there_is_enough():
    images = drawn(5000)
    taken = chosen(request(1200), images)
    assert Counter(images[name] for name in taken) == {(e, s): 200 for e in KNOWN["eyes"] for s in KNOWN["skin"]}
    assert taken == chosen(request(1200), dict(reversed(images.items())))


def test_choose_balanced_makes_up_for_a_scarce_combination_with_others():
    images = {name: cell for name, cell in drawn(5000).items() if cell != ("glasses", "dark")}
    taken = chosen(request(900), images)
    assert Counter(images[name][0] for name in taken) == {"none": 450, "glasses": 450}
    assert Counter(images[name][1] for name in taken) == {"pale": 300, "tan": 300, "dark": 300}


def test_choose_balanced_uses_its_tolerance_for_the_last_images():
    images = drawn(1000, glasses=0.1)
    there = sum(eyes == "glasses" for eyes, _ in images.values())
    wish = request(500, 0.05, eyes={"glasses": (there + 10) / 500, "none": 1 - (there + 10) / 500})
    assert Counter(images[name][0] for name in chosen(wish, images)) == {"glasses": there, "none": 500 - there}


def test_choose_balanced_refuses_with_the_numbers():
    images = drawn(2000, glasses=0.1)
    there = sum(eyes == "glasses" for eyes, _ in images.values())
    with pytest.raises(PipelineError, match=rf"eyes=glasses: {there} where 500 are wanted"):
        chosen(request(1000, eyes={"glasses": 0.5, "none": 0.5}), images)
    with pytest.raises(PipelineError, match=r"of 5000 images in all"):
        chosen(request(5000, eyes="even"), images)


@settings(max_examples=60)
@given(st.integers(0, 1000), st.floats(0.02, 0.98), st.integers(1, 400), st.floats(0, 0.2))
def test_choose_balanced_keeps_its_word_or_refuses(seed: int, glasses: float, total: int, tolerance: float):
    images, wish = drawn(500, seed, glasses), request(total, tolerance)
    try:
        taken = chosen(wish, images)
    except PipelineError:
        return
    assert len(taken) == total
    for axis, categories in enumerate(KNOWN.values()):
        counts = Counter(images[name][axis] for name in taken)
        assert all(abs(counts[c] / total - 1 / len(categories)) <= tolerance + 1e-6 for c in categories)


@pytest.mark.parametrize(
    ("attributes", "words"),
    [
        ({"hair": "even"}, "must name attributes of"),
        ({"eyes": {"glasses": 0.5}}, "add up to 1"),
        ({"eyes": {"glasses": 0.5, "monocle": 0.5}}, "must give shares of"),
    ],
)
def test_wanted_shares_of_what_the_judge_does_not_know_say_so(attributes: dict, words: str):
    with pytest.raises(PipelineError, match=words):
        wanted_shares(request(10, **attributes), KNOWN)
