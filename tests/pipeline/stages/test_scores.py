"""Scores against numbers worked out by hand, and what becomes of them without a network."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import open_clip
import pytest
import torch
from safetensors.torch import save

import storage
from kernels import unit_vectors
from pipeline.config import ScoresConfig
from pipeline.errors import PackError, PromptError
from pipeline.models.clip import CONFIG_FILE, MERGES_FILE, WEIGHTS_FILE
from pipeline.models.sampling import sample_w_plus
from pipeline.packs.pack import JUDGE_FILES, JUDGE_MERGES_FILE, Pack, load_pack, write_pack
from pipeline.pixels import from_rgb_arrays, to_rgb_arrays
from pipeline.prompts import ORIGINAL
from pipeline.rows import ImageRow, PromptRow
from pipeline.scoring.judge import find_judge, has_judge
from pipeline.scoring.targets import PromptEmbedding, load_target
from pipeline.stages.scores import artifact_of, compute_clip_scores, missing_judges, score_rows
from pipeline.wants import parse_wants
from storage import Store
from tests.conftest import TINY_CLIP

PROMPT = PromptRow(
    prompt_id="hat",
    prompt="hat",
    target="a face with a hat",
    neutral="a face",
    method="global",
    strengths=[1.0],
    status="ok",
    error=None,
    wants="shade=dark",
)
CONFIG = ScoresConfig(templates="none", num_samples=24)


@pytest.fixture(scope="module")
def rows(tiny_pack: Pack) -> list:
    w_plus = sample_w_plus(tiny_pack.generator, range(6), psi=1.0)
    images = to_rgb_arrays(tiny_pack.generator.render(tiny_pack.generator.styles(w_plus)))
    found = []
    for latent in range(3):
        for prompt_id, image in ((ORIGINAL, images[latent]), ("hat", images[latent + 3])):
            picture = storage.image_struct(storage.encode_png(image), "x.png")
            key = {"image_id": f"{latent}-{prompt_id}", "latent_id": str(latent), "prompt_id": prompt_id}
            labels = dict.fromkeys(("prompt", "target", "neutral", "method"))
            found.append(ImageRow(**key, image=picture, strength=float(prompt_id != ORIGINAL), **labels))
    return found


def lacking(pack: Pack, *names: str) -> Pack:
    """The pack as if it had no such networks."""
    other = Pack(pack.store, device=pack.device)
    other.description = pack.description.model_copy(update=dict.fromkeys(names))
    return other


def with_judge(pack: Pack, folder: Path) -> Pack:
    """The pack with a judge of its own: the same architecture, other weights."""
    clip = open_clip.CLIP(**TINY_CLIP)
    files = {name: pack.read(name) for name in pack.description.files}
    files |= {JUDGE_FILES[WEIGHTS_FILE]: save(clip.state_dict()), JUDGE_FILES[CONFIG_FILE]: files[CONFIG_FILE]}
    files[JUDGE_MERGES_FILE] = files[MERGES_FILE]
    description = pack.description.model_dump(exclude={"files"}) | {"judge": {}}
    write_pack(Store(str(folder)), description, files)
    return load_pack(str(folder), device="cpu")


def scored(rows: list, pack: Pack, config: ScoresConfig = CONFIG, **changes: object) -> list:
    judge = None if config.judge is None else pack.clip
    return score_rows(rows, {"hat": load_target(replace(PROMPT, **changes), pack, judge, config)}, config, pack, judge)


def test_compute_clip_scores_are_the_cosines_worked_out_by_hand():
    prompt = PromptEmbedding(target=torch.tensor([0.0, 1.0]), direction=torch.tensor([-0.6, 0.8]))
    scores = compute_clip_scores(torch.tensor([[1.0, 0.0]]), torch.tensor([[0.8, 0.6]]), prompt)
    assert float(scores.similarity) == pytest.approx(0.6)
    assert float(scores.gain) == pytest.approx(0.6)
    moved = torch.tensor([-0.2, 0.6])
    assert float(scores.direction) == pytest.approx(float(moved @ prompt.direction / moved.norm()))
    assert float(scores.share) == pytest.approx(0.5)  # -0.6 * 0.8 + 0.8 * 0.6 = 0: as near to one text as to the other
    assert float(scores.share_before) < 1e-20


def test_compute_clip_scores_unchanged_image_has_direction_zero_not_nan():
    prompt = PromptEmbedding(target=torch.tensor([0.0, 1.0]), direction=torch.tensor([-0.6, 0.8]))
    same = torch.tensor([[1.0, 0.0]])
    scores = compute_clip_scores(same, same, prompt)
    assert (float(scores.gain), float(scores.direction)) == (0.0, 0.0)


def test_scores_are_what_the_networks_say_one_image_at_a_time(rows: list, tiny_pack: Pack):
    found = scored(rows, tiny_pack)
    oracle = tiny_pack.description.oracle.attributes
    for original, edit in zip(found[::2], found[1::2], strict=True):
        number = int(edit["latent_id"])
        a, b = (from_rgb_arrays(storage.decode_image(rows[2 * number + k].image["bytes"])[None]) for k in (0, 1))
        target = unit_vectors(tiny_pack.clip.encode_texts([PROMPT.target]))[0]
        similarity = float(tiny_pack.clip.encode_images(b) @ target)
        assert edit["clip_similarity"] == pytest.approx(similarity, abs=1e-5)
        assert edit["clip_gain"] == pytest.approx(
            similarity - float(tiny_pack.clip.encode_images(a) @ target), abs=1e-5
        )
        same = float((tiny_pack.identity.embed(a) * tiny_pack.identity.embed(b)).sum())
        assert edit["identity_similarity"] == pytest.approx(same, abs=1e-5)
        p, q = (tiny_pack.oracle.probabilities(x) for x in (a, b))
        for name, categories in oracle.items():
            assert edit[f"before_{name}"] == categories[int(p[name].argmax())] == original[f"after_{name}"]
            assert edit[f"after_{name}"] == categories[int(q[name].argmax())]
            assert edit[f"after_{name}_probability"] == pytest.approx(float(q[name].max()), abs=1e-5)
        assert edit["already"] is (edit["before_shade"] == "dark")
        assert edit["hit"] == (None if edit["already"] else edit["after_shade"] == "dark")
        assert edit["kept"] == float(edit["before_hue"] == edit["after_hue"])
        assert edit["target_score"] == pytest.approx(float(q["shade"][0, 1]), abs=1e-5)
        assert edit["target_gain"] == pytest.approx(float(q["shade"][0, 1] - p["shade"][0, 1]), abs=1e-5)
        assert edit["hit_by"] == "oracle"


def test_originals_are_scored_against_themselves(rows: list, tiny_pack: Pack):
    original = scored(rows, tiny_pack)[0]
    assert (original["pixel_distance"], original["perceptual_distance"]) == (0.0, pytest.approx(0.0, abs=1e-9))
    assert original["identity_similarity"] == pytest.approx(1.0, abs=1e-5)
    assert "hit" not in original


def test_scores_do_not_depend_on_the_batch_or_the_company(rows: list, tiny_pack: Pack):
    whole = scored(rows, tiny_pack)
    alone = scored(rows[2:4], tiny_pack, CONFIG.model_copy(update={"batch_size": 1}))
    for key, value in alone[1].items():
        assert whole[3][key] == (pytest.approx(value, abs=1e-5) if isinstance(value, float) else value), key


@pytest.mark.parametrize(
    ("lost", "columns"),
    [("identity", {"identity_similarity"}), ("oracle", {"kept", "outside_change", "before_shade", "after_hue"})],
)
def test_a_missing_network_takes_its_columns_along_and_says_so(
    rows: list, tiny_pack: Pack, lost: str, columns: set[str]
):
    pack = lacking(tiny_pack, lost)
    names = {column.name for column in artifact_of(pack, CONFIG).columns}
    assert columns <= {column.name for column in artifact_of(tiny_pack, CONFIG).columns}
    assert not columns & names
    assert set(scored(rows, pack)[1]) - {"image"} <= names
    assert any(lost in line for line in missing_judges(pack, CONFIG))


def test_without_an_oracle_a_clip_compares_target_and_neutral(rows: list, tiny_pack: Pack):
    edit = scored(rows, lacking(tiny_pack, "oracle"))[1]
    image = from_rgb_arrays(storage.decode_image(rows[1].image["bytes"])[None])
    target, neutral = tiny_pack.clip.encode_texts([PROMPT.target, PROMPT.neutral])
    nearer = bool(tiny_pack.clip.encode_images(image)[0] @ (target - neutral) > 0)
    assert edit["hit_by"] == "clip"
    assert edit["hit"] in (None, nearer)
    assert edit["wants"] is None


def test_a_judge_has_columns_of_its_own_and_the_guide_as_judge_agrees_with_itself(rows: list, tiny_pack: Pack):
    config = CONFIG.model_copy(update={"judge": tiny_pack.store.uri})
    edit = scored(rows, tiny_pack, config)[1]
    assert edit["judge_gain"] == edit["clip_gain"]
    assert "judge_gain" in {column.name for column in artifact_of(tiny_pack, config).columns}


def test_the_packs_own_judge_judges_unless_another_or_none_is_named(rows: list, tiny_pack: Pack, tmp_path: Path):
    pack = with_judge(tiny_pack, tmp_path)
    assert (has_judge(None, pack), has_judge("none", pack), has_judge(None, tiny_pack)) == (True, False, False)
    assert find_judge("none", pack) is None
    assert find_judge(None, pack) is pack.judge
    for named, expected in ((pack, pack.judge), (tiny_pack, tiny_pack.clip)):  # one without a judge lends its CLIP
        found = find_judge(named.store.uri, pack)
        assert found is not None
        assert torch.equal(found.encode_texts(["a hat"]), expected.encode_texts(["a hat"]))
    names = {column.name for column in artifact_of(pack, CONFIG).columns}
    assert "judge_gain" in names
    assert not any("judge" in line for line in missing_judges(pack, CONFIG))
    target = load_target(PROMPT, pack, pack.judge, CONFIG)
    edit = score_rows(rows, {"hat": target}, CONFIG, pack, pack.judge)[1]
    image = from_rgb_arrays(storage.decode_image(rows[1].image["bytes"])[None])
    text = unit_vectors(pack.judge.encode_texts([PROMPT.target]))[0]
    assert edit["judge_similarity"] == pytest.approx(float(pack.judge.encode_images(image) @ text), abs=1e-5)
    assert edit["judge_similarity"] != pytest.approx(edit["clip_similarity"], abs=1e-3)


def test_a_pack_without_a_judge_says_so(tiny_pack: Pack):
    with pytest.raises(PackError, match="must bring a CLIP that judges"):
        _ = tiny_pack.judge


def test_told_wants_come_before_read_ones_and_must_be_the_oracles(tiny_pack: Pack):
    assert load_target(PROMPT, tiny_pack, None, CONFIG).wants == parse_wants("shade=dark")
    with pytest.raises(PromptError, match="prompt 'hat': `wants` must name an attribute of the pack's oracle"):
        load_target(replace(PROMPT, wants="nose=big"), tiny_pack, None, CONFIG)


def test_what_is_out_of_reach_is_no_hit_whatever_a_clip_says(rows: list, tiny_pack: Pack):
    target = load_target(replace(PROMPT, target="a red sports car", wants=None), tiny_pack, None, CONFIG)
    assert target.reachable is False
    found = score_rows(rows, {"hat": target}, CONFIG, tiny_pack, None)
    assert [row.get("hit") for row in found] == [None, False] * 3
    assert not any(row.get("already") for row in found)


def test_no_rows_are_no_scores(tiny_pack: Pack):
    assert score_rows([], {}, CONFIG, tiny_pack, None) == []
    assert np.size(artifact_of(tiny_pack, CONFIG).columns) > 0
