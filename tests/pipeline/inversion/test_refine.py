import numpy as np
import pytest
import torch

from pipeline.inversion.alignment import pack_canvas
from pipeline.inversion.frame import canvas_of
from pipeline.inversion.likeness import Likeness
from pipeline.inversion.refine import Refined, RefineWeights, refine
from pipeline.models.sampling import sample_w_plus
from pipeline.models.synthesis_plan import DirectPlan
from pipeline.optimization.descent import Schedule
from pipeline.packs.pack import Pack
from pipeline.pixels import from_rgb_arrays, to_rgb_arrays
from tests.pipeline.inversion.pictures import smooth_picture
from tests.tolerances import OPTIMIZED

PIXELS = RefineWeights(pixel=1.0, perceptual=0.0, identity=0.0, code=0.0, spread=0.0)
ALL = RefineWeights(pixel=1.0, perceptual=0.5, identity=0.1, code=0.1, spread=1.0)
SHORT = Schedule(num_steps=25, learning_rate=0.1, rampup=0.05, rampdown=0.25, tolerance=0.0, patience=0)


def run(pack: Pack, pictures: np.ndarray, weights: RefineWeights = PIXELS, **settings) -> list[Refined]:
    likeness = Likeness.of_pack(pack, pack_canvas(pack))
    codes = sample_w_plus(pack.generator, list(range(len(pictures))), psi=0.5)
    options = {"space": "w_plus", "schedule": SHORT, "target": 0.0, "batch_size": 4} | settings
    return refine(pack.generator, likeness, pictures, codes, weights=weights, **options)


def drawn(pack: Pack, seeds: range) -> np.ndarray:
    with torch.no_grad():
        return to_rgb_arrays(pack.generator(sample_w_plus(pack.generator, list(seeds), psi=0.8)))


def test_refine_comes_nearer_to_what_the_generator_can_draw(tiny_pack: Pack):
    for weights in (PIXELS, ALL):
        for one in run(tiny_pack, drawn(tiny_pack, range(50, 53)), weights):
            assert one.curve[one.best_step][1] < 0.9 * one.curve[0][1]
            assert one.stop == "steps"
            assert len(one.curve) == 25


def test_refine_does_not_depend_on_the_pictures_beside(tiny_pack: Pack):
    pictures = drawn(tiny_pack, range(60, 63))
    together, alone = run(tiny_pack, pictures, ALL), run(tiny_pack, pictures, ALL, batch_size=1)
    for a, b in zip(together, alone, strict=True):
        torch.testing.assert_close(a.w_plus, b.w_plus, **OPTIMIZED)


def test_refine_in_w_moves_all_rows_alike(tiny_pack: Pack):
    codes = sample_w_plus(tiny_pack.generator, [0], psi=0.5)
    (found,) = run(tiny_pack, drawn(tiny_pack, range(50, 51)), space="w")
    moves = found.w_plus - codes[0]
    assert bool(moves.any())
    torch.testing.assert_close(moves, moves[:1].expand_as(moves))


def test_refine_stops_at_the_target(tiny_pack: Pack):
    (whole,) = run(tiny_pack, drawn(tiny_pack, range(50, 51)))
    target = whole.curve[10][1]
    (found,) = run(tiny_pack, drawn(tiny_pack, range(50, 51)), target=target)
    assert found.stop == "target"
    assert len(found.curve) <= 11
    with torch.no_grad():
        picture = from_rgb_arrays(drawn(tiny_pack, range(50, 51)))
        error = float((tiny_pack.generator(found.w_plus[None]) - picture).abs().mean())
    assert error <= target + 1e-4


def test_refine_without_gain_ends_early(tiny_pack: Pack):
    schedule = Schedule(num_steps=50, learning_rate=1e-9, rampup=0.05, rampdown=0.25, tolerance=1e-3, patience=4)
    (found,) = run(tiny_pack, drawn(tiny_pack, range(50, 51)), schedule=schedule)
    assert (found.stop, len(found.curve)) == ("flat", 5)


def test_refine_pulls_to_the_code(tiny_pack: Pack):
    codes = sample_w_plus(tiny_pack.generator, [0], psi=0.5)
    picture = smooth_picture(16, 16)[None]
    far, near = (
        float((run(tiny_pack, picture, RefineWeights(1.0, 0.0, 0.0, code, 0.0))[0].w_plus - codes[0]).square().mean())
        for code in (0.0, 100.0)
    )
    assert near < 0.05 * far


def test_refine_keeps_rows_together_but_lets_them_move_together(tiny_pack: Pack):
    codes = sample_w_plus(tiny_pack.generator, [0], psi=0.5)
    shared, apart = [], []
    for spread in (0.0, 100.0):
        (found,) = run(tiny_pack, drawn(tiny_pack, range(50, 51)), RefineWeights(1.0, 0.0, 0.0, 0.0, spread))
        moves = found.w_plus - codes[0]
        shared.append(float(moves.mean(dim=0).square().mean()))
        apart.append(float((moves - moves.mean(dim=0)).square().mean()))
    assert apart[1] < 0.05 * apart[0]
    assert shared[1] > 0.3 * shared[0]


def test_refine_renders_by_the_plan_it_is_given(tiny_pack: Pack):
    class Counting(DirectPlan):
        renders = 0

        def images(self, state, styles):
            Counting.renders += 1
            return super().images(state, styles)

    run(tiny_pack, drawn(tiny_pack, range(50, 51)), plan=Counting(tiny_pack.generator.synthesis))
    assert Counting.renders == SHORT.num_steps


def test_refine_of_a_code_that_is_not_finite_keeps_it(tiny_pack: Pack):
    likeness = Likeness.of_pack(tiny_pack, pack_canvas(tiny_pack))
    codes = sample_w_plus(tiny_pack.generator, [0, 1], psi=0.5)
    codes[0, 0, 0] = float("nan")
    bad, good = refine(
        tiny_pack.generator,
        likeness,
        drawn(tiny_pack, range(50, 52)),
        codes,
        space="w_plus",
        weights=PIXELS,
        schedule=SHORT,
        target=0.0,
        batch_size=2,
    )
    assert (bad.stop, good.stop) == ("failed", "steps")
    assert bool(torch.isnan(bad.w_plus[0, 0]))


@pytest.mark.parametrize("perceptual", ["oracle", "clip"])
def test_likeness_of_a_picture_with_itself_is_zero_and_grows_with_change(tiny_pack: Pack, perceptual: str):
    likeness = Likeness.of_pack(tiny_pack, pack_canvas(tiny_pack), perceptual)
    picture = from_rgb_arrays(smooth_picture(16, 16)[None])
    seen = likeness.see(picture)
    torch.testing.assert_close(likeness.terms(seen, seen), torch.zeros(1, 3), rtol=0, atol=1e-5)
    little, much = (likeness.terms(likeness.see((picture + d).clamp(-1, 1)), seen)[0] for d in (0.05, 0.8))
    assert bool((much > little).all())
    assert bool((little[:2] > 0).all())


def test_likeness_looks_at_the_photos_part_of_the_canvas_alone(tiny_pack: Pack):
    likeness = Likeness.of_pack(tiny_pack, canvas_of(16, (4, 3)))
    picture = torch.zeros(1, 3, 16, 16)
    bars = picture.clone()
    bars[:, :, :2] = 1
    assert float(likeness.terms(likeness.see(bars), likeness.see(picture))[0, 0]) == 0
