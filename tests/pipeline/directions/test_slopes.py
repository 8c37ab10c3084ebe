import pytest
import torch
from torch import Tensor

from kernels import DirectionSums, Probes, probe_rows, unit_vectors
from pipeline.directions.differences import editable_positions, image_styles
from pipeline.directions.slopes import Slopes, sum_slopes
from pipeline.models.synthesis_plan import DirectPlan
from pipeline.packs.pack import Pack
from tests.tolerances import FINITE_DIFFERENCE, KEPT_ACTIVATIONS

TEXTS = unit_vectors(torch.randn(2, 16, generator=torch.Generator().manual_seed(1)))
AXES = Probes(torch.eye(16), torch.ones(16))


@pytest.fixture(scope="module")
def styles(tiny_pack: Pack) -> Tensor:
    return image_styles(tiny_pack.generator, range(3), psi=0.7)


@pytest.fixture(scope="module")
def std(tiny_pack: Pack) -> Tensor:
    rng = torch.Generator().manual_seed(0)
    found = torch.rand(tiny_pack.generator.space.num_channels, generator=rng) * 0.2 + 0.05
    found[4] = 0.0
    return found


def slopes(pack: Pack, styles: Tensor, std: Tensor, probes: Probes, batch_size: int = 2) -> DirectionSums:
    return both(pack, styles, std, probes, batch_size).sums


def both(pack: Pack, styles: Tensor, std: Tensor, probes: Probes, batch_size: int = 2) -> Slopes:
    return sum_slopes(
        pack.generator, pack.clip, styles, std=std, probes=probes, text_directions=TEXTS, batch_size=batch_size
    )


def test_sum_slopes_aligned_is_the_sum_of_every_images_cosine_with_the_text(
    tiny_pack: Pack, styles: Tensor, std: Tensor
):
    found = both(tiny_pack, styles, std, AXES).aligned * 2.0**-40
    each = [unit_vectors(slopes(tiny_pack, image[None], std, AXES).mean_effect()) for image in styles]
    expected = torch.stack([directions @ TEXTS.T for directions in each]).abs().sum(dim=0)
    torch.testing.assert_close(found, expected, **KEPT_ACTIVATIONS)


def test_sum_slopes_aligned_with_few_probes_is_off_by_one_factor_for_all_texts(
    tiny_pack: Pack, styles: Tensor, std: Tensor
):
    one = styles[:1]
    found = both(tiny_pack, one, std, probe_rows(TEXTS, num_probes=3)).aligned * 2.0**-40
    exact = both(tiny_pack, one, std, AXES).aligned * 2.0**-40
    assert not torch.allclose(found, exact, rtol=0.01)  # lengths are estimates
    torch.testing.assert_close(found[:, 0] * exact[:, 1], found[:, 1] * exact[:, 0], **KEPT_ACTIVATIONS)
    assert float(found.max()) <= 1.0


def test_sum_slopes_equal_small_differences_one_channel_at_a_time(tiny_pack: Pack, styles: Tensor, std: Tensor):
    found = slopes(tiny_pack, styles, std, AXES)
    positions = editable_positions(tiny_pack.generator.space)
    for row in range(0, len(positions), 9):
        step = 0.05 * std[positions[row]]
        ends = []
        for sign in (1, -1):
            moved = styles.clone()
            moved[:, positions[row]] += sign * step
            with torch.no_grad():
                ends.append(
                    tiny_pack.clip.encode_images(
                        tiny_pack.generator.render(moved, plan=DirectPlan(tiny_pack.generator.synthesis, impl="ref"))
                    )
                )
        expected = (ends[0] - ends[1]).mean(dim=0) / 0.1
        torch.testing.assert_close(found.mean_effect()[row], expected, **FINITE_DIFFERENCE)


def test_sum_slopes_probed_are_exact_along_the_texts(tiny_pack: Pack, styles: Tensor, std: Tensor):
    probed = slopes(tiny_pack, styles, std, probe_rows(TEXTS, num_probes=3))
    whole = slopes(tiny_pack, styles, std, AXES)
    torch.testing.assert_close(probed.mean_effect() @ TEXTS.T, whole.mean_effect() @ TEXTS.T, **KEPT_ACTIVATIONS)


def test_sum_slopes_where_the_caller_turned_gradients_off_are_the_same(tiny_pack: Pack, styles: Tensor, std: Tensor):
    expected = slopes(tiny_pack, styles, std, AXES)
    with torch.no_grad():
        assert torch.equal(slopes(tiny_pack, styles, std, AXES).total, expected.total)


def test_sum_slopes_constant_channel_has_none(tiny_pack: Pack, styles: Tensor, std: Tensor):
    found = slopes(tiny_pack, styles, std, AXES)
    assert found.count[4] == 0
    assert found.count[3] == 3
    assert found.seen.tolist() == [3] * len(found.seen)


def test_sum_slopes_any_batch_size_agrees(tiny_pack: Pack, styles: Tensor, std: Tensor):
    alone, together = (slopes(tiny_pack, styles, std, AXES, batch_size=n).direction() for n in (1, 3))
    torch.testing.assert_close(alone.direction, together.direction, **KEPT_ACTIVATIONS)


def test_sum_slopes_do_not_depend_on_whether_layers_above_vary(tiny_pack: Pack, styles: Tensor, std: Tensor):
    """Where only low layers vary, the backward pass stops short of the styles above them."""
    layers = tiny_pack.generator.space.editable
    below = std.clone()
    below[layers[1].slice.stop :] = 0.0
    some, every = (slopes(tiny_pack, styles, sigma, AXES) for sigma in (below, std))
    kept = sum(layer.num_channels for layer in layers[:2])
    torch.testing.assert_close(some.mean_effect()[:kept], every.mean_effect()[:kept], **KEPT_ACTIVATIONS)
    assert not some.effect[kept:].any()
    assert not some.count[kept:].any()


def test_sum_slopes_where_nothing_varies_are_zero(tiny_pack: Pack, styles: Tensor, std: Tensor):
    found = slopes(tiny_pack, styles, torch.zeros_like(std), AXES)
    assert not found.count.any()
    assert found.seen.tolist() == [3] * len(found.seen)
