import numpy as np
import pytest
import torch

from pipeline.inversion.alignment import pack_canvas
from pipeline.inversion.likeness import Likeness
from pipeline.inversion.pivotal_tuning import Tuned, TuningWeights, tune
from pipeline.models.generator_delta import tuned_generator
from pipeline.models.sampling import sample_w_plus
from pipeline.packs.pack import Pack
from pipeline.pixels import from_rgb_arrays
from tests.pipeline.inversion.pictures import smooth_picture

ALL = TuningWeights(pixel=1.0, perceptual=0.5, identity=0.1, locality=0.1)
PICTURE = from_rgb_arrays(smooth_picture(16, 16)[None])


def run(pack: Pack, weights: TuningWeights = ALL, **settings) -> Tuned:
    options = {"num_steps": 25, "rate": 0.02, "rank": 2, "target": 0.0} | settings
    pivot = sample_w_plus(pack.generator, [0], psi=0.5)[0]
    return tune(pack.generator, Likeness.of_pack(pack, pack_canvas(pack)), PICTURE, pivot, weights=weights, **options)


def error(pack: Pack, tuned: Tuned) -> float:
    assert tuned.delta is not None
    generator = tuned_generator(pack.generator, tuned.delta)
    return float((generator(sample_w_plus(pack.generator, [0], psi=0.5)) - PICTURE).abs().mean())


@pytest.mark.parametrize("rank", [0, 2])
def test_tune_makes_the_generator_draw_the_picture(tiny_pack: Pack, rank: int):
    found = run(tiny_pack, rank=rank)
    assert found.stop == "steps"
    assert len(found.curve) == 25
    assert error(tiny_pack, found) < 0.8 * found.curve[0][1]


def test_tune_leaves_the_pack_as_it_was(tiny_pack: Pack):
    before = {name: x.clone() for name, x in tiny_pack.generator.state_dict().items()}
    run(tiny_pack, num_steps=4)
    for name, x in tiny_pack.generator.state_dict().items():
        torch.testing.assert_close(x, before[name], rtol=0, atol=0)


def test_tune_again_finds_the_same(tiny_pack: Pack):
    first, second = run(tiny_pack, num_steps=5), run(tiny_pack, num_steps=5)
    assert first.curve == second.curve


def test_tune_with_locality_changes_less_of_what_lies_around(tiny_pack: Pack):
    changes = []
    around = sample_w_plus(tiny_pack.generator, list(range(100, 108)), psi=0.7)
    for locality in (0.0, 5.0):
        found = run(tiny_pack, TuningWeights(1.0, 0.5, 0.1, locality), rank=0)
        assert found.delta is not None
        tuned = tuned_generator(tiny_pack.generator, found.delta)
        changes.append(float((tuned(around) - tiny_pack.generator(around)).abs().mean()))
    assert changes[1] < 0.8 * changes[0]


def test_tune_at_far_too_large_a_rate_finds_its_way_back(tiny_pack: Pack):
    found = run(tiny_pack, rate=2.0, num_steps=60)
    assert max(row[0] for row in found.curve) > 1.5 * found.curve[0][0]  # it did run away
    assert error(tiny_pack, found) < 0.95 * found.curve[0][1]


def test_tune_stops_at_the_target(tiny_pack: Pack):
    whole = run(tiny_pack)
    target = whole.curve[12][1]
    found = run(tiny_pack, target=target)
    assert found.stop == "target"
    assert len(found.curve) <= 13
    assert error(tiny_pack, found) <= target + 1e-4


def test_tune_towards_what_is_not_finite_keeps_no_change(tiny_pack: Pack):
    pivot = torch.full((tiny_pack.generator.space.num_ws, 8), np.nan)
    likeness = Likeness.of_pack(tiny_pack, pack_canvas(tiny_pack))
    found = tune(tiny_pack.generator, likeness, PICTURE, pivot, weights=ALL, num_steps=5, rate=0.01, rank=1, target=0.0)
    assert (found.delta, found.stop, len(found.curve)) == (None, "failed", 1)
