import numpy as np
import pytest

from pipeline.scoring.reading import agreement, is_negated, measure_effects, read_wants
from pipeline.wants import HIDDEN, parse_wants

ATTRIBUTES = {"eyes": ("plain", "glasses", "shades"), "mouth": ("calm", "smile"), "hair": ("red", "gray")}


@pytest.fixture
def labels() -> np.ndarray:
    rng = np.random.default_rng(0)
    return np.stack([rng.integers(0, len(c), 600) for c in ATTRIBUTES.values()], axis=1)


def scores_of(labels: np.ndarray, *terms: tuple[int, int, float]) -> np.ndarray:
    noise = np.random.default_rng(1).normal(0, 0.02, len(labels))
    return noise + sum(weight * (labels[:, column] == category) for column, category, weight in terms)


def test_measure_effects_are_the_main_effects_that_made_the_score(labels: np.ndarray):
    effects = measure_effects(scores_of(labels, (0, 1, 0.6), (1, 1, 0.3)), labels, ATTRIBUTES)
    by_hand = np.array([-0.2, 0.4, -0.2, -0.15, 0.15, 0, 0]) / np.sqrt(0.6**2 * 2 / 9 + 0.3**2 / 4)
    assert effects.effect == pytest.approx(by_hand, abs=0.08)
    assert effects.share.sum() == pytest.approx(effects.explained, abs=0.1)  # attributes correlate by chance
    assert effects.explained > 0.97


def test_measure_effects_of_equal_scores_are_nothing_and_not_nan(labels: np.ndarray):
    effects = measure_effects(np.ones(len(labels)), labels, ATTRIBUTES)
    assert not effects.effect.any()
    assert read_wants(effects, ATTRIBUTES) == ()


def test_read_wants_name_the_attributes_a_text_is_about(labels: np.ndarray):
    effects = measure_effects(scores_of(labels, (0, 1, 0.6), (1, 1, 0.5), (2, 0, 0.02)), labels, ATTRIBUTES)
    assert read_wants(effects, ATTRIBUTES) == parse_wants("eyes=glasses;mouth=smile")


def test_read_wants_take_a_category_that_is_as_good_as_the_best(labels: np.ndarray):
    effects = measure_effects(scores_of(labels, (0, 1, 0.6), (0, 2, 0.58)), labels, ATTRIBUTES)
    assert read_wants(effects, ATTRIBUTES) == parse_wants("eyes=glasses|shades")


@pytest.mark.parametrize("weight", [0.6, -0.6])
def test_read_wants_of_a_negated_text_shun_whichever_way_clip_takes_it(labels: np.ndarray, weight: float):
    effects = measure_effects(scores_of(labels, (0, 1, weight)), labels, ATTRIBUTES)
    assert read_wants(effects, ATTRIBUTES, negated=True) == parse_wants("eyes!=glasses")


def test_read_wants_do_not_take_what_shows_an_attribute_for_what_is_wanted(labels: np.ndarray):
    labels[labels[:, 0] == 0, 2] = HIDDEN  # plain eyes hide the hair
    effects = measure_effects(scores_of(labels, (2, 0, 0.8)), labels, ATTRIBUTES)
    assert read_wants(effects, ATTRIBUTES, shown_by={"hair": {"eyes": ("glasses", "shades")}}) == parse_wants(
        "hair=red"
    )


@pytest.mark.parametrize(
    ("text", "negated"),
    [
        ("a face without wrinkles", True),
        ("a person not wearing a hat", True),
        ("he doesn't smile", True),
        ("no beard", True),
        ("a noble knot", False),
    ],
)
def test_is_negated_looks_for_whole_words(text: str, negated: bool):
    assert is_negated(text) is negated


def test_agreement_needs_the_same_attributes_and_a_common_category():
    told = parse_wants("eyes=glasses|shades")
    assert agreement(parse_wants("eyes=shades"), told)
    assert not agreement(parse_wants("eyes=plain"), told)
    assert not agreement(parse_wants("eyes!=shades"), told)
    assert not agreement(parse_wants("eyes=shades;mouth=smile"), told)
