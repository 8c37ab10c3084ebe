"""The plan of prepared weights against the modules as they are: images, kept activations, gradients, half precision."""

import logging
from collections.abc import Iterator
from dataclasses import replace

import pytest
import torch
from torch import Tensor

from pipeline.models import synthesis
from pipeline.models.gradient_scale import GradientScale
from pipeline.models.polyphase_plan import PolyphasePlan, scaled
from pipeline.models.render_graphs import RenderGraphs
from pipeline.models.stylegan2 import Generator
from pipeline.models.synthesis_plan import DirectPlan
from tests.pipeline.models.test_stylegan2 import EACH_CONFIG, LARGER, NUM_LAYERS, SMALL, make_generator, make_w
from tests.tolerances import BFLOAT16, FLOAT32_GENERATOR, FLOAT64_FORMULA, FLOAT64_GENERATOR, HALF_PRECISION

HALVES = pytest.mark.parametrize(
    ("half", "tolerance"), [(torch.float16, HALF_PRECISION), (torch.bfloat16, BFLOAT16)], ids=["float16", "bfloat16"]
)


@pytest.fixture(scope="module")
def generator() -> Generator:
    return make_generator(SMALL)


@pytest.fixture
def fresh_compiler(unchecked: None) -> Iterator[None]:
    """Compiled code of one test is none of another's; the checks of types and shapes cannot be traced."""
    torch.compiler.reset()
    yield
    torch.compiler.reset()


def styles_of(generator: Generator, n: int) -> Tensor:
    return generator.styles(make_w(generator, n))


def gradient(generator: Generator, plan: PolyphasePlan | None, styles: Tensor, *, factor: float = 1.0) -> Tensor:
    leaf = styles.clone().requires_grad_()
    (found,) = torch.autograd.grad(factor * generator.render(leaf, plan=plan).square().mean(), leaf)
    return found


def cosines(a: Tensor, b: Tensor) -> Tensor:
    return torch.nn.functional.cosine_similarity(a.double(), b.double(), dim=1)


# ------------------------------------------------------------------ full precision


@pytest.mark.parametrize("noise", [True, False])
@EACH_CONFIG
def test_images_equal_the_modules(config, noise: bool) -> None:
    generator = make_generator(replace(config, noise=noise))
    styles = styles_of(generator, 3)
    got = generator.render(styles, plan=PolyphasePlan(generator.synthesis))
    want = generator.render(styles, plan=DirectPlan(generator.synthesis, impl="ref"))
    torch.testing.assert_close(got, want, **FLOAT64_GENERATOR)


def test_images_float32_equal_the_modules() -> None:
    generator = make_generator(LARGER, dtype=torch.float32)
    styles = styles_of(generator, 2)
    got = generator.render(styles, plan=PolyphasePlan(generator.synthesis))
    assert got.dtype == torch.float32
    torch.testing.assert_close(got, generator.render(styles), **FLOAT32_GENERATOR)


@pytest.mark.parametrize("layer", range(NUM_LAYERS + 1))
def test_activations_and_renders_from_them_equal_the_modules(layer: int, generator: Generator) -> None:
    styles, plan = styles_of(generator, 2), PolyphasePlan(generator.synthesis)
    kept, want = generator.activations(styles, layer, plan=plan), generator.activations(styles, layer)
    torch.testing.assert_close(kept.features, want.features, **FLOAT64_GENERATOR)
    assert (kept.layer, kept.rgb is None) == (layer, want.rgb is None)
    got = generator.render(styles, since=kept, plan=plan)
    torch.testing.assert_close(got, generator.render(styles), **FLOAT64_GENERATOR)


@pytest.mark.parametrize("backend", [None, "aot_eager"])
@pytest.mark.parametrize("turns", [2, 2.5, 3])
@pytest.mark.parametrize("layer", [0, 2, 3, 4, NUM_LAYERS - 1])
@pytest.mark.usefixtures("fresh_compiler")
def test_fewer_kept_samples_are_taken_round_and_round(
    layer: int, turns: float, backend: str | None, generator: Generator
) -> None:
    plan = PolyphasePlan(generator.synthesis, backend=backend, smallest_compiled=4)
    below = styles_of(generator, 2)
    moved = below.repeat(3, 1)[: int(2 * turns)].clone()
    moved[:, generator.space.layers[layer].offset :] += torch.arange(len(moved))[:, None] * 0.3
    with torch.no_grad():
        got = generator.render(moved, since=generator.activations(below, layer, plan=plan), plan=plan)
    torch.testing.assert_close(got, generator.render(moved), **FLOAT64_GENERATOR)
    assert plan.backend == backend


def test_scaled_of_no_multiple_raises() -> None:
    with pytest.raises(ValueError, match="a multiple of the 2 kept samples; got 5"):
        scaled(torch.zeros(2, 3, 4, 4), torch.zeros(5, 3))


def test_there_are_no_sums_to_move(generator: Generator) -> None:
    plan, styles = PolyphasePlan(generator.synthesis), styles_of(generator, 1)
    below = generator.activations(styles, 0, plan=plan)
    assert generator.sums(styles, below, plan=plan) is None
    with pytest.raises(NotImplementedError, match="render from the activations below"):
        generator.moved_activations(styles, below, below.features, position=0, moves=[1.0], plan=plan)


def test_gradient_equals_that_of_the_modules(generator: Generator) -> None:
    styles = styles_of(generator, 2)
    got, want = gradient(generator, PolyphasePlan(generator.synthesis), styles), gradient(generator, None, styles)
    torch.testing.assert_close(got, want, **FLOAT64_GENERATOR)


def test_a_plan_does_not_follow_its_network() -> None:
    generator = make_generator(SMALL)
    styles, plan = styles_of(generator, 1), PolyphasePlan(generator.synthesis)
    before = generator.render(styles, plan=plan)
    for parameter in generator.synthesis.parameters():
        parameter.mul_(2)
    assert torch.equal(generator.render(styles, plan=plan), before)


# ------------------------------------------------------------------ half precision


@HALVES
def test_half_draws_the_same_within_its_rounding(half: torch.dtype, tolerance) -> None:
    generator = make_generator(replace(LARGER, conv_clamp=256.0), dtype=torch.float32)
    styles = styles_of(generator, 2)
    plan = PolyphasePlan(generator.synthesis, half=half)
    got, full = generator.render(styles, plan=plan), generator.render(styles)
    assert got.dtype == torch.float32  # sums of colours are in full precision
    assert generator.activations(styles, 5, plan=plan).features.dtype == half
    assert not torch.equal(got, full)
    scale = float(full.abs().max())
    torch.testing.assert_close(got / scale, full / scale, **tolerance)


@pytest.mark.parametrize(("weights", "factor"), [(1e6, 1.0), (1.0, 1e6), (1e-6, 1.0), (1.0, 1e-6)])
def test_half_neither_overflows_nor_vanishes(weights: float, factor: float) -> None:
    """Demodulation takes any factor back; only toRGB's styles keep theirs, in the full-precision sum."""
    generator = make_generator(LARGER, dtype=torch.float32)
    for layer in generator.space.editable:
        generator.synthesis.layer(layer.index).weight.mul_(weights)
    styles = styles_of(generator, 2) * factor
    got = generator.render(styles, plan=PolyphasePlan(generator.synthesis, half=torch.float16))
    full = generator.render(styles)
    scale = float(full.abs().max())
    torch.testing.assert_close(got / scale, full / scale, **HALF_PRECISION)


def test_half_survives_zero_weights_and_styles() -> None:
    generator = make_generator(SMALL, dtype=torch.float32)
    generator.synthesis.layer(0).weight[0] = 0
    styles = styles_of(generator, 2)
    styles[0] = 0
    plan = PolyphasePlan(generator.synthesis, half=torch.float16)
    assert bool(torch.isfinite(generator.render(styles, plan=plan)).all())


@HALVES
def test_half_gradient_points_as_the_full_one(half: torch.dtype, tolerance) -> None:
    generator = make_generator(replace(LARGER, conv_clamp=256.0), dtype=torch.float32)
    styles = styles_of(generator, 3)
    plan = PolyphasePlan(generator.synthesis, half=half)
    got, full = gradient(generator, plan, styles), gradient(generator, None, styles)
    assert float(cosines(got, full).min()) > 1 - tolerance["atol"]
    torch.testing.assert_close(got.norm(dim=1) / full.norm(dim=1), torch.ones(3), rtol=0.05, atol=0)


@pytest.mark.parametrize("factor", [2.0**-60, 2.0**60])
def test_half_gradient_of_a_scaled_loss_is_the_scaled_gradient_to_the_bit(factor: float) -> None:
    generator = make_generator(LARGER, dtype=torch.float32)
    styles = styles_of(generator, 2)
    plan = PolyphasePlan(generator.synthesis, half=torch.float16)
    assert torch.equal(gradient(generator, plan, styles, factor=factor), gradient(generator, plan, styles) * factor)


@pytest.mark.parametrize("backend", [None, "aot_eager"])
@pytest.mark.parametrize("n", [3, 5])
@pytest.mark.filterwarnings("ignore:The .grad attribute of a Tensor that is not a leaf")  # the tracer looks at it
@pytest.mark.usefixtures("fresh_compiler")
def test_half_gradients_of_many_rows_through_kept_activations(n: int, backend: str | None) -> None:
    """As slopes are taken: one forward pass cut in two, then a backward pass a row."""
    generator = make_generator(LARGER, dtype=torch.float32)
    styles = styles_of(generator, n)
    plan = PolyphasePlan(generator.synthesis, half=torch.float16, backend=backend, smallest_compiled=4)
    rows = torch.randn(4, 3 * 32 * 32, generator=torch.Generator().manual_seed(0))

    def slopes(plan: PolyphasePlan | None) -> list[Tensor]:
        x = styles.clone().requires_grad_()
        images = generator.render(styles, since=generator.activations(x, 6, plan=plan), plan=plan).flatten(1)
        return [torch.autograd.grad((images @ row).sum() * 1e-9, x, retain_graph=True)[0] for row in rows]

    for got, full in zip(slopes(plan), slopes(None), strict=True):
        assert float(cosines(got, full).min()) > 0.99
    assert plan.backend == backend


def test_gradient_scale_of_no_gradient_or_an_endless_one_is_one() -> None:
    scale, images = GradientScale(), torch.zeros(3, 3, 2, 2, requires_grad=True)
    down = torch.tensor([0.0, torch.inf, 1.0])[:, None, None, None].expand(3, 3, 2, 2)
    torch.autograd.grad(scale.at_end(images), images, down)
    assert scale.factor is not None
    assert scale.factor[:2].tolist() == [1.0, 1.0]
    assert scale.factor[2] > 1
    assert float(torch.log2(scale.factor[2])).is_integer()


def test_a_network_s_own_half_layers_are_half_in_full_precision(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(synthesis, "HALF_DEVICES", ("cpu",))
    generator = make_generator(replace(LARGER, num_fp16_res=1), dtype=torch.float32)
    plan = PolyphasePlan(generator.synthesis)
    assert [x == torch.float16 for x in plan.precisions] == [x.resolution == 32 for x in generator.space.layers]
    styles = styles_of(generator, 2)
    got, want = generator.render(styles, plan=plan), generator.render(styles)
    scale = float(want.abs().max())
    torch.testing.assert_close(got / scale, want / scale, **HALF_PRECISION)


def test_autocast_around_a_plan_changes_nothing(generator: Generator) -> None:
    styles, plan = styles_of(generator, 2).float(), PolyphasePlan(make_generator(SMALL, dtype=torch.float32).synthesis)
    want = generator.render(styles, plan=plan)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        assert torch.equal(generator.render(styles, plan=plan), want)


# ------------------------------------------------------------------ compiled


@pytest.mark.usefixtures("fresh_compiler")
def test_compiled_shapes_are_few(generator: Generator, caplog: pytest.LogCaptureFixture) -> None:
    plan, seen = PolyphasePlan(generator.synthesis, backend="aot_eager", smallest_compiled=4), set()
    run_block = plan._run_block

    def noted(first, last, x, rgb, styles):
        seen.add(len(styles[0]))
        return run_block(first, last, x, rgb, styles)

    plan._run_block = noted  # type: ignore[method-assign]
    with torch.no_grad():
        for n in (1, 3, 4, 5, 7, 8):
            styles = styles_of(generator, n)
            torch.testing.assert_close(
                generator.render(styles, plan=plan), generator.render(styles), **FLOAT64_GENERATOR
            )
    assert seen == {1, 4, 8}  # three are filled up to four, one is not
    assert not [x for x in caplog.records if x.levelno >= logging.WARNING]
    assert plan.backend == "aot_eager"


@pytest.mark.usefixtures("fresh_compiler")
def test_where_compiling_fails_the_reason_is_logged_once_and_layers_run_one_by_one(
    generator: Generator, caplog: pytest.LogCaptureFixture
) -> None:
    styles, plan = (
        styles_of(generator, 4),
        PolyphasePlan(generator.synthesis, backend="no_such_backend", smallest_compiled=4),
    )
    with caplog.at_level(logging.WARNING):
        torch.testing.assert_close(generator.render(styles, plan=plan), generator.render(styles), **FLOAT64_GENERATOR)
    found = [x.message.split(" with ")[0] for x in caplog.records if x.levelno >= logging.WARNING]
    assert found == ["layers run one by one from now on: torch.compile failed"]


def test_out_of_memory_is_not_taken_for_a_failing_compiler(
    generator: Generator, monkeypatch: pytest.MonkeyPatch
) -> None:
    def no_memory(*arguments: object) -> None:
        raise torch.OutOfMemoryError("none left")

    monkeypatch.setattr("pipeline.models.polyphase_plan.compiled_apart", lambda *a, **k: no_memory)
    plan = PolyphasePlan(generator.synthesis, backend="aot_eager", smallest_compiled=4)
    with pytest.raises(torch.OutOfMemoryError):
        generator.render(styles_of(generator, 4), plan=plan)
    assert plan.backend == "aot_eager"


@pytest.mark.slow  # C++ is compiled: a minute or two
@pytest.mark.filterwarnings("ignore")  # of torch's compiler about itself
@pytest.mark.usefixtures("fresh_compiler")
def test_code_made_by_the_compiler_draws_the_same_and_its_gradients_agree() -> None:
    generator = make_generator(replace(SMALL, resolution=8), dtype=torch.float32)
    styles, plan = styles_of(generator, 4), PolyphasePlan(generator.synthesis, backend="inductor", smallest_compiled=4)
    plain = PolyphasePlan(generator.synthesis)
    torch.testing.assert_close(generator.render(styles, plan=plan), generator.render(styles), **FLOAT32_GENERATOR)
    torch.testing.assert_close(
        gradient(generator, plan, styles), gradient(generator, plain, styles), **FLOAT32_GENERATOR
    )
    assert plan.backend == "inductor"


# ------------------------------------------------------------------ graphs


@pytest.mark.parametrize(("device", "n", "taken"), [("cuda", 8, True), ("cuda", 9, False), ("cpu", 1, False)])
def test_graphs_take_small_batches_on_cuda(device: str, n: int, taken: bool) -> None:
    graphs = RenderGraphs(torch.device(device))
    with torch.no_grad():
        assert graphs.takes(n) == taken
    assert not graphs.takes(n)  # gradients are not recorded


def test_where_recording_fails_the_batch_is_rendered_without(
    generator: Generator, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def no_stream(device: torch.device) -> None:
        raise RuntimeError("no graphs here")

    monkeypatch.setattr(torch.cuda, "Stream", no_stream)
    graphs = RenderGraphs(torch.device("cuda"))
    plan, styles = PolyphasePlan(generator.synthesis, graphs=graphs), styles_of(generator, 2)
    with torch.no_grad(), caplog.at_level(logging.WARNING):
        for _ in range(2):
            torch.testing.assert_close(generator.render(styles, plan=plan), generator.render(styles), **FLOAT64_FORMULA)
    assert [x.message for x in caplog.records] == ["small batches are rendered without CUDA graphs: no graphs here"]
