"""TediGAN's terms worked out by hand, and the search against a loop for one pair."""

import numpy as np
import pytest
import torch

from pipeline.config import TediganLatentsConfig
from pipeline.errors import PipelineError
from pipeline.models.sampling import sample_w_plus
from pipeline.optimization.descent import learning_rate
from pipeline.optimization.edit_loss import EditWeights, TextTarget
from pipeline.optimization.latents import Pair
from pipeline.optimization.tedigan import invert_images, mix_styles, optimize_tedigan
from pipeline.packs.pack import Pack

CONFIG = TediganLatentsConfig(num_steps=4, clip_weight=1.5, pixel_weight=0.5, feature_weight=0.2, latent_weight=3.0)


def make_pairs(pack: Pack, count: int = 2) -> list[Pair]:
    w_plus = sample_w_plus(pack.generator, range(count), psi=0.8)
    target = pack.clip.encode_texts(["a face with a hat"])[0]
    return [Pair(f"l{i}", "hat", w, TextTarget(target, target, EditWeights())) for i, w in enumerate(w_plus)]


def by_hand(pack: Pack, pair: Pair, config: TediganLatentsConfig) -> tuple[list[float], np.ndarray]:
    """Losses at every step and the vector of the lowest, with nothing but torch's Adam."""
    with torch.no_grad():
        source = pack.generator.render(pack.generator.styles(pair.w_plus[None]))
        inverted = pack.inverter.invert(source.clamp(-1, 1))[0].reshape(-1)
        known = pack.identity.embed(source)
    mean = pack.generator.mapping.w_avg.expand(pair.w_plus.shape).reshape(-1)
    x = (mean if config.start == "mean" else inverted).clone().requires_grad_()
    adam = torch.optim.Adam([x])
    losses, vectors = [], []
    for step in range(config.num_steps):
        image = pack.generator.render(pack.generator.styles(x.view_as(pair.w_plus)[None]))
        loss = (
            config.clip_weight * (1 - (pack.clip.encode_images(image) @ pair.text.target)).sum()
            + config.pixel_weight * ((image - source) ** 2).mean()
            + config.feature_weight * ((pack.identity.embed(image) - known) ** 2).sum()
            + config.latent_weight * ((x - inverted) ** 2).mean()
        )
        losses.append(loss.item())
        vectors.append(x.detach().clone().numpy())
        adam.param_groups[0]["lr"] = learning_rate(
            step, config.num_steps, peak=config.learning_rate, rampup=0.05, rampdown=0.25
        )
        adam.zero_grad()
        loss.backward()
        adam.step()
    return losses, vectors[int(np.argmin(losses))]


@pytest.mark.parametrize("start", ["mean", "inverted"])
def test_optimize_tedigan_descends_the_published_loss(tiny_pack: Pack, start: str):
    config = CONFIG.model_copy(update={"start": start})
    pairs = make_pairs(tiny_pack)
    for pair, outcome in zip(pairs, optimize_tedigan(tiny_pack, pairs, config), strict=True):
        losses, vector = by_hand(tiny_pack, pair, config)
        assert [row[0] for row in outcome.curve] == pytest.approx(losses, abs=1e-4)
        assert outcome.vector == pytest.approx(vector, abs=1e-3)


def test_optimize_tedigan_does_not_depend_on_its_neighbours(tiny_pack: Pack):
    pairs = make_pairs(tiny_pack, 3)
    together = optimize_tedigan(tiny_pack, pairs, CONFIG)
    alone = optimize_tedigan(tiny_pack, pairs[1:2], CONFIG.model_copy(update={"batch_size": 1}))
    assert together[1].vector == pytest.approx(alone[0].vector, abs=1e-4)


def test_optimize_tedigan_of_a_latent_that_is_not_finite_fails_alone(tiny_pack: Pack):
    pairs = make_pairs(tiny_pack)
    pairs[0].w_plus[0, 0] = float("nan")
    broken, fine = optimize_tedigan(tiny_pack, pairs, CONFIG)
    assert "must be finite" in (broken.error or "")
    assert fine.vector is not None


def test_without_an_inverter_the_latent_itself_is_the_inverted_one(tiny_pack: Pack):
    other = Pack(tiny_pack.store, device="cpu")
    other.description = tiny_pack.description.model_copy(update={"inverter": None})
    (pair,) = make_pairs(tiny_pack, 1)
    assert torch.equal(invert_images(other, pair.w_plus[None]), pair.w_plus[None])
    assert not torch.equal(invert_images(tiny_pack, pair.w_plus[None]), pair.w_plus[None])


def test_mix_styles_moves_the_chosen_rows_alone():
    source, found = np.zeros(6, np.float32), np.arange(6, dtype=np.float32)
    assert mix_styles(source, found, num_rows=3, rows=None, share=1.0).tolist() == found.tolist()
    assert mix_styles(source, found, num_rows=3, rows=(2,), share=0.5).tolist() == [0, 0, 0, 0, 2, 2.5]
    with pytest.raises(PipelineError, match="rows of w_plus, 0 to 2; got 3"):
        mix_styles(source, found, num_rows=3, rows=(3,), share=1.0)
