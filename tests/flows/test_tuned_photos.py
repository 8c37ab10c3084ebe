"""Photos with a generator of their own: every step after the inversion draws them with it."""

from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch

import storage
from flows.edit_dataset import edit_dataset
from flows.invert_images import invert_images
from pipeline.errors import PipelineError
from pipeline.optimization.edit_loss import EditWeights, text_target
from pipeline.packs.pack import Pack, load_pack
from pipeline.pixels import from_rgb_arrays, to_rgb_arrays
from pipeline.prompts import check_prompts
from pipeline.runs.shard import find_input
from pipeline.runs.tuned_packs import delta_paths, tuned_pack
from pipeline.schemas import shape_of
from pipeline.stages.dataset import load_moves
from storage import Store
from tests.pipeline.inversion.pictures import saved, smooth_picture

PROMPTS = [
    {"name": "hat", "target": "a face with a hat", "neutral": "a face"},
    {"name": "found", "target": "a face with a hat", "neutral": "a face", "method": "optimize"},
    {"name": "mixed", "target": "a face with a hat", "neutral": "a face", "method": "tedigan"},
]
SETTINGS = {"device": "cpu", "templates": "none", "pivotal_tuning": 30, "optimization_steps": 3, "tedigan_steps": 3}


@pytest.fixture(scope="module")
def run(complete_pack_uri: str, tmp_path_factory: pytest.TempPathFactory) -> Store:
    folder = tmp_path_factory.mktemp("tuned")
    for name, picture in (("a.png", smooth_picture(40, 60)), ("b.png", smooth_picture(48, 48))):
        Store(str(folder / "in")).write_bytes(name, saved(picture, "PNG"))
    Store(str(folder / "in")).write_bytes("notes.txt", b"no image")
    edit_dataset(PROMPTS, images=str(folder / "in"), run=str(folder / "run"), pack=complete_pack_uri, **SETTINGS)
    return Store(str(folder / "run"))


@pytest.fixture(scope="module")
def packs(run: Store, complete_pack_uri: str) -> dict[str, tuple[Pack, torch.Tensor]]:
    """By latent: the pack that it is drawn with, and the latent."""
    table = find_input("latents", run).table()
    w_plus = storage.stack(table["w_plus"]).reshape(table.num_rows, *shape_of(table, "w_plus"))
    pack = load_pack(complete_pack_uri, device="cpu")
    return {
        name: (tuned_pack(pack, run, path), torch.from_numpy(w.copy()))
        for name, path, w in zip(table["latent_id"].to_pylist(), delta_paths(table), w_plus, strict=True)
        if path is not None
    }


@pytest.fixture(scope="module")
def images(run: Store) -> pd.DataFrame:
    frame = pd.read_parquet(f"{run.uri}/dataset")
    frame["image"] = [storage.decode_image(image["bytes"]) for image in frame.image]
    return frame.set_index(["latent_id", "prompt_id"])["image"].unstack()


def test_rendered_originals_are_the_reconstructions(run: Store, packs: dict, images: pd.DataFrame):
    inverted = pd.read_parquet(f"{run.uri}/inverted_images").set_index("latent_id")
    assert set(packs) == {"a", "b"}
    for name, (own, w_plus) in packs.items():
        np.testing.assert_array_equal(
            images.loc[name, "original"], storage.decode_image(inverted.reconstruction[name]["bytes"])
        )
        with torch.no_grad():
            plain = to_rgb_arrays(own.pack.generator(w_plus[None]))[0]
        assert np.abs(images.loc[name, "original"].astype(int) - plain).mean() > 1
        assert inverted.inversion_error[name] < inverted.pivot_error[name]


def test_rendered_edits_in_style_space_are_the_own_generators(run: Store, packs: dict, images: pd.DataFrame):
    moves = load_moves(find_input("style_directions", run), next(iter(packs.values()))[0].generator.space)
    strength = float(pd.read_parquet(f"{run.uri}/dataset").query("prompt_id == 'hat'").strength.iloc[0])
    for name, (own, w_plus) in packs.items():
        with torch.no_grad():
            styles = moves["hat"].moved(own.generator.styles(w_plus[None]), strength)
            wanted = to_rgb_arrays(own.generator.render(styles))[0]
        np.testing.assert_allclose(images.loc[name, "hat"], wanted, atol=1)


@pytest.mark.parametrize("method", ["found", "mixed"])
def test_rendered_edits_of_searches_are_the_own_generators(method: str, run: Store, packs: dict, images: pd.DataFrame):
    rows = pd.read_parquet(f"{run.uri}/edited_latents").query("edit_id == @method").set_index("latent_id")
    for name, (own, w_plus) in packs.items():
        vector = torch.from_numpy(np.array(rows.vector[name], np.float32)).view(1, *w_plus.shape)
        with torch.no_grad():
            wanted = to_rgb_arrays(own.generator(vector))[0]
        np.testing.assert_allclose(images.loc[name, method], wanted, atol=1)


def test_searches_begin_at_what_the_own_generator_draws(run: Store, packs: dict):
    curves = pd.read_parquet(f"{run.uri}/optimization_curves").query("step == 0").set_index("latent_id")
    for name, (own, w_plus) in packs.items():
        text = text_target(check_prompts(PROMPTS)[1], own, EditWeights(), template_set="none")
        with torch.no_grad():
            losses = [
                1 - own.clip.encode_images(pack.generator(w_plus[None])) @ text.target for pack in (own, own.pack)
            ]
        assert curves.clip_loss[name] == pytest.approx(float(losses[0]), abs=1e-5)
        assert abs(float(losses[0] - losses[1])) > 1e-4  # the pack's generator would have begun elsewhere


def test_scores_compare_edits_with_what_the_own_generator_draws(run: Store, images: pd.DataFrame):
    scores = pd.read_parquet(f"{run.uri}/scores").set_index(["latent_id", "prompt_id"])
    for name in images.index:
        distance = np.abs(images.loc[name, "hat"].astype(int) - images.loc[name, "original"]).mean() / 255
        assert scores.pixel_distance[name, "hat"] == pytest.approx(distance, rel=0.02, abs=1e-4)


def test_tuning_beyond_the_budget_is_refused_before_any_work(tmp_path: Path, tiny_pack_uri: str):
    Store(str(tmp_path / "in")).write_bytes("a.png", saved(smooth_picture(48, 48), "PNG"))
    with pytest.raises(PipelineError, match="max_delta_bytes"):
        invert_images(
            str(tmp_path / "in"),
            run=str(tmp_path / "run"),
            pack=tiny_pack_uri,
            device="cpu",
            pivotal_tuning=5,
            max_delta_bytes=100,
        )
    assert not [path for path in Store(str(tmp_path / "run")).list() if path.startswith("inverted_images")]


def test_tuned_picture_is_nearer_to_the_photo(run: Store, packs: dict):
    inverted = pd.read_parquet(f"{run.uri}/inverted_images").set_index("latent_id")
    for name, (own, w_plus) in packs.items():
        aligned = from_rgb_arrays(storage.decode_image(inverted.aligned[name]["bytes"])[None])
        with torch.no_grad():
            drawn = [from_rgb_arrays(to_rgb_arrays(pack.generator(w_plus[None]))) for pack in (own, own.pack)]
        errors = [float((image - aligned).abs().mean()) for image in drawn]
        assert inverted.inversion_error[name] == pytest.approx(errors[0], rel=1e-3)
        assert errors[0] < 0.95 * errors[1]
