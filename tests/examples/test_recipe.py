"""The parts of the peeps recipe that can be wrong without anybody seeing it in a picture."""

import re
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn

from examples.peeps.captions import HELD_OUT_WORDS, WORDS, add_unknown_words, visible_labels
from examples.peeps.claims import HAS_HAIR, Claim, claim_vector, wording_place
from examples.peeps.domain import ATTRIBUTES, label_names
from examples.peeps.edit_methods import measure, render
from examples.peeps.evaluate_wording import free_wording_by_search, some_of_every_kind
from examples.peeps.fit import fit
from examples.peeps.free_wording import FIRST_SEED, Result
from examples.peeps.judge import judge, read_labels
from examples.peeps.meaning import picture_places, places
from examples.peeps.muon import Muon, orthogonalize
from examples.peeps.phrases import TABLES
from examples.peeps.render import held_out, sample_labels, sample_split
from examples.peeps.tokenizer import known_words, learn_merges
from examples.peeps.train_identity import identity_numbers, verification_auc
from examples.peeps.train_judge import SIXTEENTH, held_out_of_judge, judge_frame
from examples.peeps.train_oracle import unseen_labels
from examples.peeps.wishes import FreePrompt, judge_wishes, parse_wishes, read_free_prompts
from examples.peeps.wording import LEXICON, Writer, held_out_of_guide
from pipeline.models.sampling import sample_w_plus
from pipeline.packs.pack import load_pack


@pytest.mark.parametrize("shape", [(6, 20), (20, 6), (8, 8)])
def test_orthogonalize_keeps_the_singular_vectors_and_levels_the_values(shape: tuple[int, int]):
    matrix = torch.randn(shape, generator=torch.Generator().manual_seed(1))
    u, _, vt = torch.linalg.svd(matrix, full_matrices=False)
    rotated = u.T @ orthogonalize(matrix) @ vt.T
    torch.testing.assert_close(rotated, torch.diag(rotated.diag()), atol=1e-4, rtol=0)
    assert float(rotated.diag().min()) > 0.6
    assert float(rotated.diag().max()) < 1.3


def test_muon_step_moves_a_convolution_by_its_rate():
    weight = nn.Parameter(torch.zeros(8, 4, 3, 3))
    weight.grad = torch.randn(weight.shape, generator=torch.Generator().manual_seed(2))
    Muon([weight], lr=0.05).step()
    assert float(weight.detach().square().mean().sqrt()) == pytest.approx(0.2 * 0.05, rel=0.2)


def fit_layer(checkpoint: Path, *, killed_at: int | None = None, muon: bool = False) -> torch.Tensor:
    torch.manual_seed(0)
    layer = nn.Linear(4, 1)
    matrices = [layer.weight] if muon else []

    def loss(step: int) -> torch.Tensor:
        if step == killed_at:
            raise KeyboardInterrupt
        return layer(torch.randn(8, 4, generator=torch.Generator().manual_seed(step))).square().mean()

    fit(layer, loss, checkpoint=checkpoint, steps=6, learning_rate=0.1, report=str, every=2, matrices=matrices)
    return layer.weight.detach()


@pytest.mark.parametrize("muon", [False, True])
def test_fit_resumed_ends_where_the_uninterrupted_run_ends(tmp_path: Path, muon: bool):
    with pytest.raises(KeyboardInterrupt):
        fit_layer(tmp_path / "cut.pt", killed_at=3, muon=muon)
    resumed, whole = (fit_layer(tmp_path / name, muon=muon) for name in ("cut.pt", "whole.pt"))
    assert torch.equal(resumed, whole)


def test_oracle_and_clip_share_no_drawing():
    seen = sample_labels(4000, 0)
    found = unseen_labels(500, 3, seen)
    assert len(found) == 500
    assert not {row.tobytes() for row in found} & {row.tobytes() for row in seen}
    assert not held_out(found).any()


def test_identity_counts_head_facial_hair_skin_and_the_hair_colour_that_shows():
    names = label_names()
    label = np.zeros((1, len(names)), dtype=np.int64)
    label[0, 0] = list(ATTRIBUTES[0].categories).index("mohawk")  # drawn in the hair colour
    for name in names:
        other = label.copy()
        other[0, names.index(name)] += 1
        same = bool(identity_numbers(other)[0] == identity_numbers(label)[0])
        assert same == (name in ("expression", "accessories", "clothing", "background")), name
    bald = label.copy()
    bald[0, 0] = list(ATTRIBUTES[0].categories).index("bald")
    dyed = bald.copy()
    dyed[0, names.index("hair_color")] += 1
    assert identity_numbers(bald)[0] == identity_numbers(dyed)[0]


def test_verification_auc_counts_pairs_in_order():
    labels = np.zeros((4, len(ATTRIBUTES)), dtype=np.int64)
    labels[2:, 4] = 1  # another skin: two peeps
    for name in ("expression", "accessories"):
        labels[:, label_names().index(name)] = [0, 1, 2, 3]
    labels[:, label_names().index("clothing")] = [0, 1, 2, 3]
    near = torch.nn.functional.normalize(torch.tensor([[1.0, 0.0], [1.0, 0.1], [0.0, 1.0], [0.1, 1.0]]), dim=1)
    assert verification_auc(near, labels) == 1.0
    assert verification_auc(near[[0, 2, 1, 3]], labels) == pytest.approx(0.25)


def test_judge_counts_fresh_images_and_forgives_hair_that_no_longer_shows():
    names = label_names()
    bald = list(ATTRIBUTES[0].categories).index("bald")
    mohawk = list(ATTRIBUTES[0].categories).index("mohawk")
    before = np.zeros((3, len(names)), dtype=np.int64)
    before[:, 0] = [mohawk, mohawk, bald]
    after = before.copy()
    after[:, 0] = [bald, mohawk, bald]
    after[0, names.index("hair_color")] = 3  # says nothing on a bald head
    after[1, names.index("skin")] = 2
    verdict = judge(before, after, attribute="head", category="bald")
    assert verdict.hit.tolist() == [True, False]  # the third was bald before
    assert verdict.kept.tolist() == pytest.approx([1.0, 6 / 7])


def test_held_out_phrases_are_new_and_made_of_known_words():
    words = set(known_words())
    for attribute in ATTRIBUTES:
        assert set(HELD_OUT_WORDS[attribute.name]) == set(attribute.categories)
        for category, phrase in HELD_OUT_WORDS[attribute.name].items():
            assert phrase not in WORDS[attribute.name][category][0]
            assert set(phrase.replace("-", " ").split()) <= words, phrase


def test_unknown_words_leave_the_caption_in_order():
    text = "a face with a beard"
    longer = add_unknown_words(text, np.random.default_rng(0)).split()
    assert len(longer) > 5
    assert [word for word in longer if word in text.split()] == text.split()


def test_visible_labels_hide_the_colour_under_a_hat():
    label = np.zeros((1, len(ATTRIBUTES)), dtype=np.int64)
    label[0, 0] = list(ATTRIBUTES[0].categories).index("turban")
    assert visible_labels(label)[0, label_names().index("hair_color")] == -1


def test_places_of_one_attribute_are_a_simplex_and_attributes_are_orthogonal():
    shared, corners = places()
    for i, attribute in enumerate(ATTRIBUTES):
        count = len(attribute.categories)
        cosines = corners[i] @ corners[i].T
        expected = torch.full((count, count), -1 / (count - 1)).fill_diagonal_(1.0)
        torch.testing.assert_close(cosines, expected, atol=1e-5, rtol=0)
        assert float((corners[i] @ shared).abs().max()) < 1e-5
        for other in corners[i + 1 :]:
            assert float((corners[i] @ other.T).abs().max()) < 1e-5


def test_a_wording_lies_nearest_to_the_pictures_of_which_it_is_true():
    labels = visible_labels(sample_labels(400, 3))
    glasses, smile = Claim("accessories", ("glasses",)), Claim("expression", ("smile",))
    for claims in ((glasses,), (glasses, smile), (replace(glasses, absent=True), smile)):
        near = picture_places(labels) @ wording_place(claims)
        true = np.ones(len(labels), dtype=bool)
        for claim in claims:
            number = label_names().index(claim.attribute)
            category = list(ATTRIBUTES[number].categories).index(claim.categories[0])
            true &= (labels[:, number] == category) != claim.absent
        assert float(near[torch.from_numpy(true)].min()) > float(near[torch.from_numpy(~true)].max())


def test_a_negation_is_the_move_away_from_what_it_names():
    beard = Claim("facial_hair", ("beard",))
    torch.testing.assert_close(claim_vector(replace(beard, absent=True)), -claim_vector(beard))
    pink = Claim("hair_color", ("pink",))
    torch.testing.assert_close(wording_place((pink,)), wording_place((pink, HAS_HAIR)))


def test_writer_says_every_category_and_its_absence_and_keeps_the_held_out_phrases():
    writer = Writer(np.random.default_rng(4))
    wordings = [writer.write() for _ in range(6000)]
    said = {(c.attribute, x) for w in wordings for c in w.claims if not c.absent for x in c.categories}
    assert said == {(a.name, c) for a in ATTRIBUTES for c in a.categories}
    denied = {(c.attribute, x) for w in wordings for c in w.claims if c.absent for x in c.categories}
    assert {a for a, _ in denied} == set(label_names())
    held_out = [phrase for table in HELD_OUT_WORDS.values() for phrase in table.values()]
    assert not any(phrase in w.text for w in wordings for phrase in held_out)
    assert {len(w.claims) for w in wordings} == set(range(7))


def test_judge_is_taught_and_tested_with_other_words_and_drawings_than_the_guide():
    held = held_out_of_judge()
    assert not set(held.phrases) & set(held_out_of_guide().phrases)
    assert not held.templates & held_out_of_guide().templates
    writer = Writer(np.random.default_rng(4), held)
    texts = [writer.write().text for _ in range(3000)]
    assert not any(phrase in text for text in texts for phrase in held.phrases)
    shown = sample_split(500, 1, validation=True, sixteenth=SIXTEENTH)
    assert not held_out(shown).any()
    assert not held_out(sample_split(500, 1, validation=False, sixteenth=SIXTEENTH), SIXTEENTH).any()


def test_judge_frame_keeps_every_cosine_between_the_places_and_no_axis():
    shared, corners = places()
    known = torch.cat([shared[None], *corners])
    seen = known @ judge_frame().T
    torch.testing.assert_close(seen @ seen.T, known @ known.T, atol=1e-5, rtol=0)
    assert float((seen @ judge_frame() - known).abs().max()) < 1e-5
    assert float(judge_frame().abs().max()) < 0.7


def test_learn_merges_joins_what_is_frequent_first_and_stops_at_the_limit():
    assert learn_merges({"ab": 1, "cd": 5}, limit=1) == [("c", "d</w>")]
    assert set(learn_merges(["ab", "cd"])) == {("a", "b</w>"), ("c", "d</w>")}


def test_wordings_without_a_negation_claim_no_absence():
    writer = Writer(np.random.default_rng(5))
    for wording in (writer.write() for _ in range(3000)):
        plain = re.search(r"\b(with|wearing|has) (a beard|glasses|an afro)$", wording.text)
        if plain and len(wording.claims) == 1 and "not" not in wording.text:
            assert not wording.claims[0].absent, wording.text


def test_fillers_say_nothing_about_a_peep():
    said = {w for table in TABLES.values() for entry in table.values() for text in entry.things for w in text.split()}
    assert not said & {*LEXICON["things"], *LEXICON["people"]}


def test_judge_wishes_wants_all_wishes_and_leaves_out_colours_of_hair_that_shows_none():
    names = label_names()
    heads = list(ATTRIBUTES[0].categories)
    before = np.zeros((3, len(names)), dtype=np.int64)
    before[:, 0] = [heads.index("mohawk"), heads.index("turban"), heads.index("mohawk")]
    after = before.copy()
    pink = list(ATTRIBUTES[5].categories).index("pink")
    after[:, names.index("hair_color")] = pink
    after[2, names.index("skin")] = 2
    verdict = judge_wishes(before, after, parse_wishes("hair_color=pink"))
    assert verdict.hit.tolist() == [True, True]  # the turban shows no hair
    assert verdict.kept.tolist() == pytest.approx([1.0, 6 / 7])
    both = judge_wishes(before, after, parse_wishes("hair_color=pink;expression!=neutral"))
    assert both.hit.tolist() == [False, False]
    with pytest.raises(ValueError, match="is not in"):
        parse_wishes("head=wig")


def test_some_of_every_kind_are_spread_over_the_list():
    prompts = [FreePrompt(f"{kind}{i}", kind, "", "", ()) for kind in ("one", "two") for i in range(9)]
    names = [p.name for p in some_of_every_kind([*prompts, FreePrompt("three0", "three", "", "", ())], 3)]
    assert names == ["one0", "one4", "one8", "two0", "two4", "two8", "three0"]


def test_rows_by_search_have_a_line_for_hit_and_kept_of_every_kind(monkeypatch: pytest.MonkeyPatch):
    def measure(pack: object, method: str, prompts: list[FreePrompt], faces: int) -> list[Result]:
        return [
            Result(p, hit=1.0 if p.kind == "several" else 0.5, kept=0.9, faces=faces, channels=0, spared=1.0)
            for p in prompts
        ]

    monkeypatch.setattr("examples.peeps.edit_methods.measure", measure)
    rows = free_wording_by_search(load_pack("peeps", device="cpu"), "mapper", faces=4, prompts=2)
    found = {row.what: (row.value, row.holds) for row in rows}
    assert found["free wording by mapper, several, 2 prompts, 4 faces: hit"] == (1.0, True)
    assert found["free wording by mapper, negation, 2 prompts, 4 faces: hit"] == (0.5, False)
    assert found["free wording by mapper, one wish, 2 prompts, 4 faces: kept"] == (pytest.approx(0.9), False)


def test_optimisation_in_free_wording_is_judged_on_the_faces_that_lack_the_wish():
    pack, prompt = load_pack("peeps", device="cpu"), next(p for p in read_free_prompts() if p.name == "round_glasses")
    w = sample_w_plus(pack.generator, range(FIRST_SEED, FIRST_SEED + 4), psi=0.7)
    wear = prompt.wishes[0].holds(read_labels(pack.oracle, render(pack, w, "w_plus")))
    (found,) = measure(pack, "optimize", [prompt], 4, {"num_steps": 2})
    assert 0 < found.faces == 4 - wear.sum()
    assert found.kept > 0.9  # one step of learning rate 0, and the best of the two
