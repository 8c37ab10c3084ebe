import numpy as np
import pytest
import torch

from pipeline.packs.pack import Pack, load_pack
from pipeline.prompts import check_prompts
from pipeline.scoring.reachability import check_prompts_reachable, known_share, lost_words, pull_of
from pipeline.scoring.samples import Samples, draw_samples

NUM_SAMPLES = 256  # that the pack brings
INSIDE = (
    "grandpa with reading glasses", "make her laugh out loud", "a bearded person with a turban", "not smiling",
    "take off the hat", "no beard please", "a person who isn't bald", "face on a green background",
    "hair tied up in a bun, wearing a red t-shirt", "a Sikh man with a turban and a beard", "give him a fringe",
    "a smiling woman without glasses",
)  # fmt: skip
OUTSIDE = (
    "a red sports car", "Taylor Swift", "the Eiffel Tower", "a bald eagle on a rock", "freedom", "asdf qwer zxcv",
    "\U0001f697\U0001f525", "a person riding a camel", "a vampire with fangs", "a face wearing earrings",
    "a nose ring", "a green apple",
)  # fmt: skip


@pytest.fixture(scope="module")
def peeps() -> Pack:
    return load_pack("peeps", device="cpu")


@pytest.mark.parametrize("sign", [1.0, -1.0])
def test_pull_is_the_scores_that_stand_off_the_mean_worked_out_by_hand(sign: float):
    embeddings = torch.zeros(24, 2)
    embeddings[8:16, 0], embeddings[16:, 0] = 1.0, torch.arange(1.0, 9.0) + 0.5  # means 0, 1 and 5; of all, 2
    samples = Samples(embeddings, None, None)
    assert pull_of(torch.tensor([sign * 0.5, 1.0]), samples) == pytest.approx(0.5 * (5 - 2))


def test_pull_of_what_nearly_every_sample_shows_is_that_of_the_few_that_do_not():
    embeddings = torch.ones(40, 1)
    embeddings[:8] = 0.0
    samples = Samples(embeddings, None, None)
    assert pull_of(torch.ones(1), samples) == pytest.approx(0.8)  # the nearest stand off by 0.2 only


@pytest.mark.parametrize(
    ("target", "neutral", "unknown", "share"),
    [
        ("a face with glasses", "a face", [], 1.0),
        ("a red sports car", "a face", ["sports", "car"], 1 / 9),
        ("a face in a red car", "a face", ["car"], 0.5),
        ("a bald eagle", "a face", ["eagle"], 0.25),
        ("a face without a hat", "a face with a hat", ["without"], 1.0),
        ("a zebra", "a face", ["zebra"], 0.0),
        ("a happy face \U0001f355", "a face", ["\U0001f355"], 0.5),
        ("\U0001f697\U0001f525", "a face", ["\U0001f697\U0001f525"], 0.0),
    ],
)
def test_known_share_counts_the_words_that_the_target_adds(target: str, neutral: str, unknown: list, share: float):
    assert known_share(target, neutral, unknown) == pytest.approx(share)


def test_lost_words_name_something_and_stand_once(peeps: Pack):
    assert lost_words("the red car without a car door", peeps.clip) == ["car", "door"]


def test_prompts_inside_score_above_prompts_outside(peeps: Pack):
    rows = [{"name": f"p{i}", "target": text, "neutral": "a face"} for i, text in enumerate((*INSIDE, *OUTSIDE))]
    found = check_prompts_reachable(check_prompts(rows), peeps, num_samples=NUM_SAMPLES, template_set="none")
    inside, outside = found[: len(INSIDE)], found[len(INSIDE) :]
    assert all(result.reachable for result in inside)
    above = [a.score > b.score for a in inside for b in outside]
    assert np.mean(above) >= 0.95
    assert sum(result.reachable for result in outside) <= 1


def test_a_prompt_out_of_reach_says_what_to_change(peeps: Pack):
    rows = [{"name": "typo", "target": "a face with sunglases", "neutral": "a face"}]
    (found,) = check_prompts_reachable(check_prompts(rows), peeps, num_samples=NUM_SAMPLES, template_set="none")
    assert not found.reachable
    assert found.unknown_words == ("sunglases",)
    assert "did you mean 'sunglasses'" in found.suggestions[0]


def test_a_prompt_too_long_for_clip_is_out_of_reach_and_says_why(peeps: Pack):
    rows = [{"name": "long", "target": "a face " + "with glasses " * 80, "neutral": "a face"}]
    (found,) = check_prompts_reachable(check_prompts(rows), peeps, num_samples=NUM_SAMPLES, template_set="none")
    assert (found.reachable, found.score) == (False, 0.0)
    assert "must fit into CLIP's" in found.suggestions[0]


def test_nearest_samples_of_a_prompt_show_it(peeps: Pack):
    samples = draw_samples(peeps, NUM_SAMPLES)
    rows = [{"name": "s", "target": "a face with sunglasses", "neutral": "a face"}]
    (found,) = check_prompts_reachable(check_prompts(rows), peeps, num_samples=NUM_SAMPLES, template_set="none")
    attributes = peeps.description.oracle.attributes
    column, wanted = list(attributes).index("accessories"), attributes["accessories"].index("sunglasses")
    numbers = [seed - samples.seed(0) for seed in found.seeds]
    assert (samples.labels[numbers, column] == wanted).mean() > 0.7
    assert 0 < found.nearest < 0.5
