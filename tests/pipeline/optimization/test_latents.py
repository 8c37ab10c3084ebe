import numpy as np
import pytest
import torch
from torch import Tensor

from pipeline.config import OptimizedLatentsConfig, recommended
from pipeline.models.sampling import sample_w_plus
from pipeline.optimization.descent import learning_rate
from pipeline.optimization.edit_loss import EditLoss, EditWeights, TextTarget, text_target
from pipeline.optimization.latents import Outcome, Pair, optimize, pair_seed
from pipeline.packs.pack import Pack
from pipeline.prompts import check_prompts
from tests.tolerances import OPTIMIZED

ROWS = [
    {"name": "hat", "target": "a face with a hat", "neutral": "a face", "method": "optimize"},
    {"name": "red", "target": "a red face", "neutral": "a face", "method": "optimize"},
]
WEIGHTS = EditWeights(clip=1.0, direction=0.0, l2=0.008, identity=0.1)
SHORT = OptimizedLatentsConfig(num_steps=8, patience=0, image_interval=4, learning_rate=0.1)


def make_pairs(pack: Pack, *, weights: EditWeights = WEIGHTS, num_latents: int = 2) -> list[Pair]:
    w_plus = sample_w_plus(pack.generator, range(num_latents), psi=0.7)
    texts = [text_target(p, pack, weights, template_set="none") for p in check_prompts(ROWS)]
    return [
        Pair(f"seed-{i}", f"prompt-{j}", w_plus[i], text) for i in range(num_latents) for j, text in enumerate(texts)
    ]


def run(pack: Pack, pairs: list[Pair], config: OptimizedLatentsConfig) -> list[Outcome]:
    return optimize(pack.generator, EditLoss(pack.clip, pack.identity), pairs, config)


def test_learning_rate_is_the_published_schedule():
    rates = [learning_rate(i, 100, peak=0.1, rampup=0.05, rampdown=0.25) for i in range(101)]
    assert rates[0] == 0.0
    assert rates[1] == pytest.approx(0.02)
    assert rates[5:76] == pytest.approx([0.1] * 71)
    assert rates[88] == pytest.approx(0.1 * (0.5 - 0.5 * np.cos(np.pi * 0.48)))
    assert rates[100] == pytest.approx(0.0)


@pytest.mark.parametrize(
    "changes",
    [
        {},
        {"space": "w"},
        {"space": "styles"},
        {"mode": "free", "start": "mean", "start_noise": 0.5},
        {"start_noise": 0.3, "seed": 5},
    ],
)
def test_optimize_lowers_the_loss_and_keeps_the_best(tiny_pack: Pack, changes: dict):
    config = OptimizedLatentsConfig(**{**SHORT.model_dump(), **changes})
    for outcome in run(tiny_pack, make_pairs(tiny_pack), config):
        losses = [row[0] for row in outcome.curve]
        assert len(losses) == 8
        assert outcome.best_step == int(np.argmin(losses)) > 0
        assert (outcome.stop, outcome.error) == ("steps", None)
        assert [step for step, _ in outcome.images] == [0, 4]
        assert outcome.images[0][1].shape == (16, 16, 3)


def test_optimize_vector_is_that_of_the_best_loss(tiny_pack: Pack):
    (pair,) = make_pairs(tiny_pack, num_latents=1)[:1]
    (outcome,) = run(tiny_pack, [pair], SHORT)
    assert outcome.vector is not None
    vector = torch.from_numpy(outcome.vector)
    image = tiny_pack.generator(vector.view(1, *pair.w_plus.shape))
    distance = 1 - float(tiny_pack.clip.encode_images(image)[0] @ pair.text.target)
    l2 = float((vector - pair.w_plus.reshape(-1)).square().sum())
    assert outcome.curve[outcome.best_step][1] == pytest.approx(distance, abs=1e-5)
    assert outcome.curve[outcome.best_step][3] == pytest.approx(l2, rel=1e-4)


@pytest.mark.parametrize("space", ["w", "w_plus", "styles"])
def test_optimize_a_pair_does_not_depend_on_its_batch(tiny_pack: Pack, space: str):
    pairs = make_pairs(tiny_pack, num_latents=3)
    changes = {"space": space, "start_noise": 0.2, "search_noise": 0.2}
    together = run(tiny_pack, pairs, OptimizedLatentsConfig(**{**SHORT.model_dump(), **changes, "batch_size": 4}))
    alone = run(tiny_pack, pairs[::-1], OptimizedLatentsConfig(**{**SHORT.model_dump(), **changes, "batch_size": 1}))
    for a, b in zip(together, alone[::-1], strict=True):
        np.testing.assert_allclose(a.curve, b.curve, **OPTIMIZED)
        np.testing.assert_allclose(a.vector, b.vector, **OPTIMIZED)


def test_optimize_in_w_moves_all_rows_alike_even_from_a_latent_of_many_rows(tiny_pack: Pack):
    (pair,) = make_pairs(tiny_pack, num_latents=1)[:1]
    rows = sample_w_plus(tiny_pack.generator, range(len(pair.w_plus)), psi=0.7)[:, 0]
    pair = Pair(pair.latent_id, pair.prompt_id, rows, pair.text)
    config = OptimizedLatentsConfig(**{**SHORT.model_dump(), "space": "w", "start_noise": 0.1, "search_noise": 0.5})
    (outcome,) = run(tiny_pack, [pair], config)
    assert outcome.vector is not None
    moves = torch.from_numpy(outcome.vector).view_as(rows) - rows
    assert float(moves.norm(dim=1).min()) > 0.1
    torch.testing.assert_close(moves, moves[:1].expand_as(moves), atol=1e-6, rtol=0)


def test_optimize_in_w_searches_with_noise_that_is_alike_in_all_rows(tiny_pack: Pack, monkeypatch: pytest.MonkeyPatch):
    (pair,) = make_pairs(tiny_pack, num_latents=1)[:1]
    seen: list[Tensor] = []
    styles = tiny_pack.generator.styles

    def watched(w: Tensor) -> Tensor:
        seen.append(w.detach())
        return styles(w)

    monkeypatch.setattr(tiny_pack.generator, "styles", watched)
    run(tiny_pack, [pair], OptimizedLatentsConfig(**{**SHORT.model_dump(), "space": "w", "search_noise": 2.0}))
    moves = torch.cat(seen) - pair.w_plus
    assert float(moves[2:-1].norm(dim=(1, 2)).min()) > 0.1  # the first two are the source's own
    torch.testing.assert_close(moves, moves[:, :1].expand_as(moves), atol=1e-6, rtol=0)


def test_optimize_with_search_noise_keeps_the_last_vector_and_its_own_loss(tiny_pack: Pack):
    (pair,) = make_pairs(tiny_pack, num_latents=1)[:1]
    changes = {"search_noise": 2.0, "patience": 1, "tolerance": 10.0, "num_steps": 12}
    (outcome,) = run(tiny_pack, [pair], OptimizedLatentsConfig(**{**SHORT.model_dump(), **changes}))
    assert (outcome.stop, outcome.best_step, len(outcome.curve)) == ("steps", 11, 12)
    assert outcome.vector is not None
    image = tiny_pack.generator(torch.from_numpy(outcome.vector).view(1, *pair.w_plus.shape))
    distance = 1 - float(tiny_pack.clip.encode_images(image)[0] @ pair.text.target)
    assert outcome.curve[-1][1] == pytest.approx(distance, abs=1e-5)


def test_optimize_search_noise_follows_from_the_seed(tiny_pack: Pack):
    pairs = make_pairs(tiny_pack, num_latents=1)
    still, first, again = (
        run(tiny_pack, pairs, OptimizedLatentsConfig(**{**SHORT.model_dump(), "search_noise": k})) for k in (0, 1, 1)
    )
    assert still[0].curve != first[0].curve
    assert first[0].curve == again[0].curve
    assert first[0].curve[0][3] == 0  # the distance is that of the latent, not of its noisy copy


def test_optimize_styles_leaves_torgb_alone(tiny_pack: Pack):
    pairs = make_pairs(tiny_pack, num_latents=1)
    config = OptimizedLatentsConfig(**{**SHORT.model_dump(), "space": "styles"})
    source = tiny_pack.generator.styles(pairs[0].w_plus[None])[0].detach().numpy()
    (outcome, _) = run(tiny_pack, pairs, config)
    for layer in tiny_pack.generator.space.layers:
        moved = np.abs(outcome.vector[layer.slice] - source[layer.slice]).max() > 0
        assert moved != layer.is_torgb


def test_optimize_free_generation_has_no_l2_and_no_identity(tiny_pack: Pack):
    config = OptimizedLatentsConfig(**{**SHORT.model_dump(), "mode": "free"})
    for outcome in run(tiny_pack, make_pairs(tiny_pack, num_latents=1), config):
        assert all(row[0] == pytest.approx(row[1]) for row in outcome.curve)


def test_optimize_directional_loss_moves_from_the_start(tiny_pack: Pack):
    pairs = make_pairs(tiny_pack, weights=EditWeights(clip=0, direction=1, l2=0, identity=0))
    for outcome in run(tiny_pack, pairs, SHORT):
        assert outcome.curve[0][0] == pytest.approx(1.0, abs=0.01)
        assert min(row[0] for row in outcome.curve) < 0.9


def test_optimize_nan_ends_one_pair_and_refills_its_slot(tiny_pack: Pack):
    pairs = make_pairs(tiny_pack, num_latents=2)
    nan = Pair("broken", "prompt-0", torch.full_like(pairs[0].w_plus, torch.nan), pairs[0].text)
    text = TextTarget(pairs[0].text.target, pairs[0].text.direction, EditWeights(clip=float("inf")))
    diverging = Pair("diverging", "prompt-0", pairs[0].w_plus, text)
    config = OptimizedLatentsConfig(**{**SHORT.model_dump(), "batch_size": 2})
    outcomes = run(tiny_pack, [nan, pairs[0], diverging, *pairs[1:]], config)
    assert [outcome.stop for outcome in outcomes] == ["failed", "steps", "failed", "steps", "steps", "steps"]
    assert "latent 'broken' must be finite" in str(outcomes[0].error)
    assert "the loss must stay finite; it became inf at step 0" in str(outcomes[2].error)
    assert outcomes[0].vector is outcomes[2].vector is None
    for a, b in zip([outcomes[1], *outcomes[3:]], run(tiny_pack, pairs, config), strict=True):
        np.testing.assert_allclose(a.vector, b.vector, **OPTIMIZED)


def test_optimize_flat_pair_stops_early_the_others_go_on(tiny_pack: Pack):
    flat, moving = make_pairs(tiny_pack, num_latents=1)
    flat = Pair(flat.latent_id, flat.prompt_id, flat.w_plus, TextTarget(*_text(flat), EditWeights(clip=1e-9)))
    config = OptimizedLatentsConfig(num_steps=8, patience=2, tolerance=1e-6, batch_size=1)
    first, second = run(tiny_pack, [flat, moving], config)
    assert (first.stop, len(first.curve)) == ("flat", 3)
    assert len(second.curve) > 3


def _text(pair: Pair) -> tuple[torch.Tensor, torch.Tensor]:
    return pair.text.target, pair.text.direction


def test_pair_seed_depends_on_every_name():
    seeds = {pair_seed(*key) for key in [(0, "a", "b"), (1, "a", "b"), (0, "b", "a"), (0, "a", "c")]}
    assert len(seeds) == 4
    assert all(0 <= seed < 2**63 for seed in seeds)


@pytest.mark.parametrize(("name", "value"), [("learning_rate", 0.0), ("num_steps", 0), ("l2_weight", -1.0)])
def test_config_refuses_settings_that_cannot_work(name: str, value: float):
    with pytest.raises(ValueError, match=f"{name}\n  Input should be greater than"):
        OptimizedLatentsConfig(**{name: value})


def test_recommended_is_the_users_then_the_packs_then_the_published():
    settings = {"l2_weight": 0.5, "num_steps": 40}
    config = recommended(OptimizedLatentsConfig, settings, {"num_steps": 7, "l2_weight": None, "space": None})
    assert (config.num_steps, config.l2_weight, config.space, config.learning_rate) == (7, 0.5, "w_plus", 0.1)
    with pytest.raises(ValueError, match="l3_weight"):
        recommended(OptimizedLatentsConfig, {"l3_weight": 1}, {})
