from collections import Counter

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pipeline.config import BalanceConfig
from pipeline.errors import PipelineError
from pipeline.export.balance import Choice, choose_balanced, options_of, wanted_shares

KNOWN = {"eyes": ("none", "glasses"), "skin": ("pale", "tan", "dark")}


def drawn(number: int, seed: int = 0, glasses: float = 0.5) -> dict[str, tuple[str, str]]:
    dice = np.random.default_rng(seed)
    eyes = dice.choice(KNOWN["eyes"], number, p=[1 - glasses, glasses])
    skin = dice.choice(KNOWN["skin"], number)
    return {f"i{k}": (str(e), str(s)) for k, (e, s) in enumerate(zip(eyes, skin, strict=True))}


def request(total: int, tolerance: float = 0.01, kind: str = "images", **attributes: object) -> BalanceConfig:
    attributes = attributes or {"eyes": "even", "skin": "even"}
    return BalanceConfig(total=total, tolerance=tolerance, kind=kind, attributes=attributes)


def rows_of(images: dict[str, tuple[str, str]]) -> list[dict]:
    keys = {name: {"image_id": name, "original_id": name, "latent_id": name} for name in images}
    return [{**keys[name], **dict(zip(KNOWN, cell, strict=True))} for name, cell in images.items()]


def choose(wish: BalanceConfig, rows: list[dict]) -> Choice:
    shares = wanted_shares(wish, KNOWN)
    return choose_balanced(wish, shares, options_of(wish, shares, rows))


def chosen(wish: BalanceConfig, images: dict) -> frozenset[str]:
    choice = choose(wish, rows_of(images))
    assert choice.missing == ()
    return choice.images


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


def test_choose_balanced_says_what_is_missing_in_numbers():
    images = drawn(2000, glasses=0.1)
    there = sum(eyes == "glasses" for eyes, _ in images.values())
    short = choose(request(1000, eyes={"glasses": 0.5, "none": 0.5}), rows_of(images))
    assert f"eyes=glasses: {there} where 500 are wanted" in short.missing
    assert choose(request(5000, eyes="even"), rows_of(images)).missing[0].endswith("of 5000 images in all")


@settings(max_examples=60)
@given(st.integers(0, 1000), st.floats(0.02, 0.98), st.integers(1, 400), st.floats(0, 0.2))
def test_choose_balanced_keeps_its_word_or_says_what_is_missing(
    seed: int, glasses: float, total: int, tolerance: float
):
    images, wish = drawn(500, seed, glasses), request(total, tolerance)
    choice = choose(wish, rows_of(images))
    counts = Counter(category for name in choice.images for category in images[name])
    off = max(abs(counts[c] / total - 1 / len(known)) for known in KNOWN.values() for c in known)
    assert (len(choice.images) == total and off <= tolerance + 1e-6) == (not choice.missing)


def edited_rows(number: int, seed: int = 0) -> list[dict]:
    """Faces without glasses, each also with glasses."""
    rows = []
    for name, (_, skin) in drawn(number, seed).items():
        face = {"latent_id": name, "original_id": f"{name}__original", "before_eyes": "none", "before_skin": skin}
        rows.append({**face, "image_id": f"{name}__original", "eyes": "none", "skin": skin})
        rows.append({**face, "image_id": f"{name}__glasses", "eyes": "glasses", "skin": skin})
    return rows


def test_choose_balanced_of_faces_takes_every_face_once():
    rows = edited_rows(720)
    choice = choose(request(600, kind="faces"), rows)
    assert choice.missing == ()
    assert len({row["latent_id"] for row in rows if row["image_id"] in choice.images}) == 600
    assert set(choice.cells.values()) == {100}
    assert choose(request(1000, kind="faces"), rows).missing[0] == "720 of 1000 images in all"


def test_choose_balanced_of_pairs_takes_originals_with_their_edits():
    rows = edited_rows(720)
    choice = choose(request(1200, kind="pairs"), rows)
    assert choice.missing == ()
    taken = Counter(name.split("__")[0] for name in choice.images)
    assert set(taken.values()) == {2}
    assert len(taken) == 600
    assert choice.cells["glasses", "tan"] == choice.cells["none", "tan"] == 200
    with pytest.raises(ValueError, match="must be even, two images a pair"):
        request(601, kind="pairs")


def test_choose_balanced_of_many_attributes_balances_each_by_itself():
    known = {f"a{i}": ("x", "y", "z") for i in range(8)}  # 6,561 combinations
    dice = np.random.default_rng(1).integers(0, 3, (900, 8))
    rows = [
        {
            "image_id": str(i),
            "original_id": str(i),
            "latent_id": str(i),
            **dict(zip(known, map("xyz".__getitem__, row), strict=True)),
        }
        for i, row in enumerate(dice.tolist())
    ]
    wish = request(600, 0.02, **dict.fromkeys(known, "even"))
    shares = wanted_shares(wish, known)
    choice = choose_balanced(wish, shares, options_of(wish, shares, rows))
    assert choice.missing == ()
    for axis in range(8):
        counts = Counter(cell[axis] for cell in choice.cells.elements())
        assert all(abs(count - 200) <= 12 for count in counts.values())


@pytest.mark.parametrize(
    ("attributes", "words"),
    [
        ({"hair": "even"}, "must name attributes of"),
        ({"eyes": {"glasses": 0.5}}, "add up to 1"),
        ({"eyes": {"glasses": 0.5, "monocle": 0.5}}, "must give shares of"),
        ({"skin": ["tan", "blue"]}, "must give shares of"),
        ({"skin": []}, "must give shares of"),
    ],
)
def test_wanted_shares_of_what_the_judge_does_not_know_say_so(attributes: dict, words: str):
    with pytest.raises(PipelineError, match=words):
        wanted_shares(request(10, **attributes), KNOWN)


def test_wanted_shares_of_named_categories_are_equal_and_of_the_others_none():
    shares = wanted_shares(request(10, skin=["pale", "dark"], eyes="even"), KNOWN)
    assert shares == {"skin": {"pale": 0.5, "dark": 0.5}, "eyes": {"none": 0.5, "glasses": 0.5}}
