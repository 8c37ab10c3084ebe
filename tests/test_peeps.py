"""The embedded pack does what the README says it does: it draws every category, and edits show."""

import json

import numpy as np
import pytest
import torch
from torch import Tensor

from examples.peeps.captions import WORDS, visible_labels
from examples.peeps.domain import ATTRIBUTES, category_edges, w_block
from examples.peeps.evaluate_judge import attack
from examples.peeps.free_wording import default_direction, move, render
from examples.peeps.judge import judge, read_labels
from examples.peeps.render import draw, sample_split
from examples.peeps.train_judge import SIXTEENTH, held_out_phrases
from examples.peeps.wishes import FreePrompt, judge_wishes, parse_wishes, read_free_prompts
from pipeline.directions.table import load_channel_table
from pipeline.models.sampling import sample_w_plus
from pipeline.packs.pack import DIRECTIONS_FILE, PACK_FILE, SAMPLES_FILE, Pack, load_pack
from pipeline.pixels import from_rgb_arrays
from pipeline.prompts import Prompt, read_prompts, templates
from pipeline.scoring.samples import compute_samples, draw_samples

BUDGET_MB = 25
MAX_HELD_OUT_L1 = 0.03

# What the shipped prompts ask for, in the oracle's words.
WANTED = {
    "glasses": ("accessories", "glasses"),
    "sunglasses": ("accessories", "sunglasses"),
    "smile": ("expression", "smile"),
    "angry": ("expression", "angry"),
    "old": ("expression", "old"),
    "beard": ("facial_hair", "beard"),
    "mohawk": ("head", "mohawk"),
    "hat": ("head", "hat"),
    "turban": ("head", "turban"),
    "afro": ("head", "afro"),
    "bald": ("head", "bald"),
    "dark skin": ("skin", "dark"),
    "blue background": ("background", "blue"),
}


@pytest.fixture(scope="module")
def pack() -> Pack:
    return load_pack("peeps", device="cpu")


@pytest.fixture(scope="module")
def styles(pack: Pack) -> Tensor:
    return pack.generator.styles(sample_w_plus(pack.generator, range(16), psi=0.7))


def test_pack_is_within_its_size_and_lists_all_it_holds(pack: Pack):
    files = {path for path in pack.store.list() if path != PACK_FILE and not path.startswith("evaluation.")}
    assert files == set(pack.description.files)
    assert sum(len(pack.read(name)) for name in files) < BUDGET_MB * 1e6


def test_mapping_network_cuts_z_at_the_edges_of_the_domain(pack: Pack):
    rng = torch.Generator().manual_seed(5)
    z = torch.randn(2000, pack.generator.config.z_dim, generator=rng)
    w = pack.generator.mapping(z)
    unit = z / z.square().mean(dim=1, keepdim=True).sqrt()
    for number in range(len(ATTRIBUTES)):
        expected = np.searchsorted(category_edges(number), unit[:, number].numpy())
        agree = (w[:, w_block(number)].argmax(dim=1).numpy() == expected).mean()
        assert agree > 0.98


def test_generator_draws_held_out_combinations(pack: Pack):
    labels = sample_split(24, seed=99, validation=True)
    w = torch.zeros(len(labels), pack.generator.config.w_dim)
    for row, label in enumerate(labels):
        for number, category in enumerate(label):
            w[row, w_block(number).start + int(category)] = 1.0
    with torch.no_grad():
        images = pack.generator(w).clamp(-1, 1)
    truth = torch.from_numpy(np.stack([draw(label) for label in labels])).permute(0, 3, 1, 2) / 127.5 - 1
    assert float((images - truth).abs().mean()) < MAX_HELD_OUT_L1


def test_clip_reads_the_drawings(pack: Pack):
    labels = sample_split(60, seed=98, validation=True)
    images = torch.from_numpy(np.stack([draw(label) for label in labels])).permute(0, 3, 1, 2) / 127.5 - 1
    embedded = pack.clip.encode_images(images.float())
    for number in (0, 2, 3, 4):  # head, facial hair, accessories, skin
        attribute = ATTRIBUTES[number]
        texts = [f"a face with {WORDS[attribute.name][category][0][0]}" for category in attribute.categories]
        guess = (embedded @ pack.clip.encode_texts(texts).T).argmax(dim=1).numpy()
        assert (guess == labels[:, number]).mean() > 0.9, attribute.name


def test_pack_directions_were_measured_on_this_generator_and_clip(pack: Pack):
    table = pack.table(DIRECTIONS_FILE)
    assert table.num_rows == sum(layer.num_channels for layer in pack.generator.space.editable)
    assert {"ok", "constant"} <= set(table["status"].to_pylist())


@pytest.mark.parametrize("prompt", read_prompts("examples/prompts.csv"), ids=lambda p: p.prompt_id)
def test_shipped_prompt_shows_what_it_asks_for_and_keeps_the_rest(pack: Pack, styles: Tensor, prompt: Prompt):
    channels = load_channel_table(pack)
    text = pack.clip.text_direction(prompt.target, prompt.neutral, templates("imagenet_79"))
    moved = move(pack, channels, styles, default_direction(pack, channels, text), pack.description.strength)
    with torch.no_grad():
        before, after = pack.generator.render(styles), pack.generator.render(moved)
        gain = (pack.clip.encode_images(after) - pack.clip.encode_images(before)) @ pack.clip.encode_prompt(
            prompt.target, templates("imagenet_79")
        )
    attribute, category = WANTED[prompt.name]
    verdict = judge(
        read_labels(pack.oracle, before), read_labels(pack.oracle, after), attribute=attribute, category=category
    )
    assert verdict.hit.mean() >= 0.8
    assert verdict.kept.mean() >= 0.8
    assert gain.mean() > 0.05


# A few of each kind in free wording; examples.peeps.evaluate measures the whole list.
@pytest.mark.parametrize(
    "prompt",
    [p for p in read_free_prompts() if p.name in ("dreads", "green_jumper", "no_specs", "bald_beard", "angry_punk")],
    ids=lambda p: p.name,
)
def test_prompts_in_free_wording_show_all_wishes_and_keep_the_rest(pack: Pack, styles: Tensor, prompt: FreePrompt):
    before, after = edited(pack, styles, prompt.target, prompt.neutral)
    verdict = judge_wishes(before, after, prompt.wishes)
    assert verdict.hit.mean() >= 0.8
    assert verdict.kept.mean() >= 0.9


@pytest.mark.parametrize("neutral", ["a face", "a face with wrinkles"])
def test_without_wrinkles_takes_them_from_those_who_have_them_and_gives_them_to_none(pack: Pack, neutral: str):
    w = sample_w_plus(pack.generator, range(40), psi=0.7)
    before, after = edited(pack, pack.generator.styles(w), "a face without wrinkles", neutral)
    wrinkled = parse_wishes("expression=old")[0]
    assert wrinkled.holds(before).sum() >= 3
    assert not wrinkled.holds(after).any()
    fresh = ~wrinkled.holds(before)
    assert (before[fresh] == after[fresh])[:, 1].mean() > 0.95


@pytest.mark.parametrize(
    ("target", "wish"),
    [
        ("a man who isn't wearing spectacles", "accessories!=glasses"),
        ("a woman not wearing a hat", "head!=hat|beanie"),
        ("a man without any moustache", "facial_hair!=moustache|handlebar"),
    ],
)
def test_a_negation_takes_it_off_and_puts_nothing_on_those_who_have_none(pack: Pack, target: str, wish: str):
    w = sample_w_plus(pack.generator, range(24), psi=0.7)
    before, after = edited(pack, pack.generator.styles(w), target, "a person")
    found = parse_wishes(wish)[0]
    had = ~found.holds(before)
    assert had.sum() >= 2
    assert found.holds(after).all()
    assert (before[~had] == after[~had])[:, found.attribute].mean() > 0.95


def edited(pack: Pack, styles: Tensor, target: str, neutral: str) -> tuple[np.ndarray, np.ndarray]:
    """The oracle's labels before and after a global edit at the pack's defaults."""
    channels = load_channel_table(pack)
    text = pack.clip.text_direction(target, neutral, templates("imagenet_79"))
    moved = move(pack, channels, styles, default_direction(pack, channels, text), pack.description.strength)
    return read_labels(pack.oracle, render(pack, styles)), read_labels(pack.oracle, render(pack, moved))


def test_opposite_texts_need_not_be_opposite_pictures(pack: Pack):
    """No kind of eyewear is what "without" another one means: it would be put on."""
    without = pack.clip.text_direction("a face without glasses", "a face", ("{}",))
    for worn in ("sunglasses", "an eyepatch"):
        assert float(without @ pack.clip.text_direction(f"a face with {worn}", "a face", ("{}",))) < 0.7


def test_words_that_clip_never_saw_are_named(pack: Pack):
    assert pack.clip.unknown_words("a person without a zeppelin and with spectacles") == ["zeppelin"]


@pytest.mark.parametrize(
    "text", ["a bald man/glasses/beard", "a bald man / glasses // beard", r"a bald man\glasses, beard"]
)
def test_strokes_between_wishes_read_as_commas(pack: Pack, text: str):
    forms = templates("imagenet_79")
    commas = pack.clip.text_direction("a bald man, glasses, beard", "a man", forms)
    assert torch.equal(pack.clip.text_direction(text, "a man", forms), commas)
    assert not pack.clip.unknown_words(text)


def test_strokes_are_left_to_a_clip_that_spells_words_in_pieces(pack: Pack):
    with_strokes, with_commas = pack.judge.encode_texts(["a bald man/glasses", "a bald man, glasses"])
    assert float(with_strokes @ with_commas) < 0.999


def test_oracle_reads_drawings_it_never_saw(pack: Pack):
    labels = sample_split(60, seed=97, validation=True)
    images = torch.from_numpy(np.stack([draw(label) for label in labels])).permute(0, 3, 1, 2) / 127.5 - 1
    visible = visible_labels(labels)
    agree = (read_labels(pack.oracle, images.float()) == visible)[visible >= 0]
    assert agree.mean() > 0.98


def test_inverted_drawings_come_back_as_they_were(pack: Pack):
    labels = sample_split(24, seed=96, validation=True)
    images = (torch.from_numpy(np.stack([draw(label) for label in labels])).permute(0, 3, 1, 2) / 127.5 - 1).float()
    with torch.no_grad():
        again = pack.generator(pack.inverter.invert(images)).clamp(-1, 1)
    assert float((again - images).abs().mean()) < 0.06


def test_identity_stays_under_another_shirt_and_changes_with_the_skin(pack: Pack):
    labels = sample_split(16, seed=95, validation=False)
    shirt, skin = labels.copy(), labels.copy()
    shirt[:, 6] = (shirt[:, 6] + 1) % 5
    skin[:, 4] = (skin[:, 4] + 2) % 4
    a, b, c = (
        pack.identity.embed(
            (torch.from_numpy(np.stack([draw(x) for x in rows])).permute(0, 3, 1, 2) / 127.5 - 1).float()
        )
        for rows in (labels, shirt, skin)
    )
    assert bool(((a * b).sum(dim=1) > (a * c).sum(dim=1) + 0.2).all())


def test_judge_sees_what_drawings_show_and_is_no_smaller_guide(pack: Pack):
    labels = sample_split(24, seed=99, validation=True, sixteenth=SIXTEENTH)
    embedded = pack.judge.encode_images(from_rgb_arrays(np.stack([draw(label) for label in labels])))
    right = []
    for number, attribute in enumerate(ATTRIBUTES[:4]):
        phrases = held_out_phrases()[attribute.name].values()
        texts = pack.judge.encode_texts([f"a face with {phrase}" for phrase in phrases])
        right.append(((embedded @ texts.T).argmax(dim=1).numpy() == labels[:, number]).mean())
    assert min(right) >= 0.75
    assert np.mean(right) >= 0.9
    kinds = {type(clip.model.visual).__name__ for clip in (pack.clip, pack.judge)}
    assert len(kinds) == 2


def test_pixels_that_please_the_guide_do_not_please_the_judge(pack: Pack):
    labels = sample_split(4, seed=99, validation=True)
    images = from_rgb_arrays(np.stack([draw(label) for label in labels]))
    guide, judge = (c.encode_prompt("a face with a hijab and sunglasses", ("{}",)) for c in (pack.clip, pack.judge))
    moved = attack(pack.clip, images, guide, steps=8)
    gain = float(((pack.clip.encode_images(moved) - pack.clip.encode_images(images)) @ guide).mean())
    other = float(((pack.judge.encode_images(moved) - pack.judge.encode_images(images)) @ judge).mean())
    assert gain > 0.1
    assert other < 0.25 * gain


def test_samples_that_the_pack_brings_are_its_own(pack: Pack):
    brought, drawn = draw_samples(pack, 8), compute_samples(pack, 8)
    torch.testing.assert_close(brought.embeddings, drawn.embeddings, atol=5e-3, rtol=0)
    assert brought.labels is not None
    assert drawn.labels is not None
    assert np.array_equal(brought.labels, drawn.labels)
    assert pack.has(SAMPLES_FILE)


def test_evaluation_beside_the_pack_is_of_this_pack(pack: Pack):
    record = json.loads(pack.store.read_bytes("evaluation.json"))
    assert record["files"] == pack.description.files
    assert record["defaults"] == [pack.description.strength, pack.description.settings["global"]["rule"]]
    assert len(record["edits"]) >= 20
