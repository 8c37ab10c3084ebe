"""The generator: against a slow synthesis written from the paper's equations, and the properties stages rely on."""

import math
from dataclasses import replace

import pytest
import torch
from torch import Tensor
from torch.nn import functional as F

from kernels import Impl
from pipeline.models import synthesis_plan
from pipeline.models.stylegan2 import Generator, GeneratorConfig
from pipeline.models.synthesis_plan import DirectPlan, transformed_taps
from tests.tolerances import FLOAT32_GENERATOR, FLOAT64_FORMULA, FLOAT64_GENERATOR

SMALL = GeneratorConfig(resolution=16, channel_base=64, channel_max=8, z_dim=6, w_dim=6, mapping_layers=3)
LARGER = GeneratorConfig(resolution=32, channel_base=256, channel_max=12, z_dim=5, w_dim=7, mapping_layers=2)
CLAMPED = replace(SMALL, conv_clamp=1.0)
EACH_CONFIG = pytest.mark.parametrize("config", [SMALL, LARGER, CLAMPED], ids=["16", "32", "16-clamped"])
NUM_LAYERS = 8  # of SMALL


def make_generator(config: GeneratorConfig, *, dtype: torch.dtype = torch.float64) -> Generator:
    """Random weights, with biases, noise strengths and w_avg away from their initial zeros."""
    random = torch.Generator().manual_seed(0)
    generator = Generator(config).to(dtype).requires_grad_(False)
    for name, tensor in [*generator.named_parameters(), *generator.named_buffers()]:
        if not name.endswith("resample_filter"):
            tensor.copy_(torch.randn(tensor.shape, generator=random, dtype=torch.float64))
    for i in range(config.mapping_layers):
        generator.mapping.get_parameter(f"fc{i}.weight").mul_(100)  # undo the 0.01 learning rate multiplier
    return generator


def make_w(generator: Generator, n: int) -> Tensor:
    random = torch.Generator().manual_seed(1)
    w = torch.randn(n, generator.space.num_ws, generator.config.w_dim, generator=random, dtype=torch.float64)
    return w.to(generator.mapping.w_avg.dtype)


@pytest.fixture(scope="module")
def generator() -> Generator:
    return make_generator(SMALL)


# ------------------------------------------------------------------ a second, slow synthesis


def slow_blur(x: Tensor, *, pad: tuple[int, int]) -> Tensor:
    """Convolve every plane with outer([1,3,3,1]) / 64 * 4 after padding both axes by ``pad``."""
    taps = torch.tensor([1.0, 3.0, 3.0, 1.0], dtype=x.dtype)
    kernel = (torch.outer(taps, taps) / 64 * 4)[None, None]
    return torch.cat([F.conv2d(F.pad(plane, [*pad, *pad]), kernel) for plane in x.split(1, dim=1)], dim=1)


def slow_zero_insert(x: Tensor) -> Tensor:
    out = torch.zeros(x.shape[0], x.shape[1], 2 * x.shape[2], 2 * x.shape[3], dtype=x.dtype)
    out[:, :, ::2, ::2] = x
    return out


def slow_modulated_conv(x: Tensor, weight: Tensor, style: Tensor, *, demodulate: bool, up: bool) -> Tensor:
    """w' = w s, w'' = w' / sqrt(sum w'^2 + 1e-8); one sample; upsampling layers convolve with flipped taps."""
    own = weight * style[None, :, None, None]
    if demodulate:
        own = own / (own.square().sum(dim=(1, 2, 3), keepdim=True) + 1e-8).sqrt()
    if not up:
        return F.conv2d(x, own, padding=weight.shape[-1] // 2)
    full = F.conv2d(slow_zero_insert(x), own.flip(2, 3), padding=2)[:, :, :-1, :-1]
    return slow_blur(full, pad=(1, 1))


def slow_synthesis(state: dict[str, Tensor], w: Tensor, *, resolution: int, clamp: float | None) -> Tensor:
    """One sample's image from its rows of w_plus [l, d], layer by layer in the order of StyleGAN2's skip generator."""
    limit = math.inf if clamp is None else clamp

    def style(name: str, row: int) -> Tensor:
        matrix, bias = state[f"synthesis.{name}.affine.weight"], state[f"synthesis.{name}.affine.bias"]
        return matrix @ w[row] / math.sqrt(w.shape[1]) + bias

    def convolution(x: Tensor, name: str, row: int, *, up: bool) -> Tensor:
        x = slow_modulated_conv(x, state[f"synthesis.{name}.weight"], style(name, row), demodulate=True, up=up)
        x = x + state[f"synthesis.{name}.noise_const"] * state[f"synthesis.{name}.noise_strength"]
        x = x + state[f"synthesis.{name}.bias"][:, None, None]
        return (torch.where(x >= 0, x, 0.2 * x) * math.sqrt(2)).clamp(-limit, limit)

    def colours(x: Tensor, name: str, row: int) -> Tensor:
        weight = state[f"synthesis.{name}.weight"]
        gained = style(name, row) / math.sqrt(weight.shape[1])
        y = slow_modulated_conv(x, weight, gained, demodulate=False, up=False)
        return (y + state[f"synthesis.{name}.bias"][:, None, None]).clamp(-limit, limit)

    x = convolution(state["synthesis.b4.const"][None], "b4.conv1", 0, up=False)
    rgb = colours(x, "b4.torgb", 1)
    for k in range(1, int(math.log2(resolution)) - 1):
        block = f"b{2 ** (k + 2)}"
        x = convolution(x, f"{block}.conv0", 2 * k - 1, up=True)
        x = convolution(x, f"{block}.conv1", 2 * k, up=False)
        rgb = slow_blur(slow_zero_insert(rgb), pad=(2, 1)) + colours(x, f"{block}.torgb", 2 * k + 1)
    return rgb[0]


@pytest.mark.parametrize("impl", ["fast", "ref"])
@EACH_CONFIG
def test_render_equals_slow_synthesis_from_equations(config: GeneratorConfig, impl: Impl) -> None:
    generator = make_generator(config)
    w = make_w(generator, 2)
    state = generator.state_dict()
    want = [slow_synthesis(state, row, resolution=config.resolution, clamp=config.conv_clamp) for row in w]
    got = generator.render(generator.styles(w), plan=DirectPlan(generator.synthesis, impl=impl))
    torch.testing.assert_close(got, torch.stack(want), **FLOAT64_GENERATOR)


# ------------------------------------------------------------------ fast against reference


@EACH_CONFIG
def test_render_fast_equals_ref(config: GeneratorConfig) -> None:
    generator = make_generator(config)
    styles = generator.styles(make_w(generator, 3))
    assert styles.shape == (3, config.style_space.num_channels)
    fast, ref = (generator.render(styles, plan=DirectPlan(generator.synthesis, impl=impl)) for impl in ("fast", "ref"))
    assert fast.shape == (3, 3, config.resolution, config.resolution)
    torch.testing.assert_close(fast, ref, **FLOAT64_GENERATOR)


def test_render_float32_fast_equals_ref() -> None:
    generator = make_generator(LARGER, dtype=torch.float32)
    styles = generator.styles(make_w(generator, 2))
    fast, ref = (generator.render(styles, plan=DirectPlan(generator.synthesis, impl=impl)) for impl in ("fast", "ref"))
    assert fast.dtype == torch.float32
    torch.testing.assert_close(fast, ref, **FLOAT32_GENERATOR)


@pytest.mark.parametrize("noise", [True, False])
def test_render_gradient_reaches_every_style_and_equals_ref(noise: bool) -> None:
    generator = make_generator(replace(SMALL, noise=noise))
    styles = generator.styles(make_w(generator, 2))
    gradients = []
    for impl in ("fast", "ref"):
        leaf = styles.clone().requires_grad_()
        (gradient,) = torch.autograd.grad(
            generator.render(leaf, plan=DirectPlan(generator.synthesis, impl=impl)).square().mean(), leaf
        )
        gradients.append(gradient)
    assert int((gradients[0] == 0).sum()) == 0
    torch.testing.assert_close(gradients[0], gradients[1], **FLOAT64_GENERATOR)


def test_forward_gradient_reaches_every_parameter_but_the_mapping() -> None:
    generator = make_generator(SMALL).requires_grad_(True)
    generator(make_w(generator, 1)).square().mean().backward()
    missing = {name for name, p in generator.synthesis.named_parameters() if p.grad is None}
    assert missing == set()


# ------------------------------------------------------------------ kept activations


@pytest.mark.parametrize("impl", ["fast", "ref"])
@pytest.mark.parametrize("layer", range(NUM_LAYERS + 1))
def test_render_from_kept_activations_equals_full_render(layer: int, impl: Impl, generator: Generator) -> None:
    styles = generator.styles(make_w(generator, 2))
    kept = generator.activations(styles, layer, plan=DirectPlan(generator.synthesis, impl=impl))
    assert kept.layer == layer
    got = generator.render(styles, since=kept, plan=DirectPlan(generator.synthesis, impl=impl))
    torch.testing.assert_close(
        got, generator.render(styles, plan=DirectPlan(generator.synthesis, impl=impl)), **FLOAT64_FORMULA
    )


@pytest.mark.parametrize("layer", range(NUM_LAYERS))
def test_render_changed_layer_from_kept_activations_equals_full_render(layer: int, generator: Generator) -> None:
    styles = generator.styles(make_w(generator, 2))
    kept = generator.activations(styles, layer)
    changed = styles.clone()
    changed[:, generator.space.layers[layer].slice] += 1.0
    want = generator.render(changed)
    assert not torch.allclose(want, generator.render(styles))
    torch.testing.assert_close(generator.render(changed, since=kept), want, **FLOAT64_FORMULA)


@pytest.mark.parametrize("layer", [0, 3, 7])
def test_render_with_winograd_taps_equals_render(
    layer: int, generator: Generator, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(synthesis_plan, "WINOGRAD_CHANNELS", 1)
    monkeypatch.setattr(synthesis_plan, "CPU_SLICE_BYTES", 1)  # a sample at a time
    plan = DirectPlan(generator.synthesis, taps=transformed_taps(generator.synthesis))
    assert [generator.space.layers[i].name for i in plan.taps] == ["b8.conv1", "b16.conv1"]
    with torch.no_grad():
        styles = generator.styles(make_w(generator, 3))
        got = generator.render(styles, since=generator.activations(styles, layer, plan=plan), plan=plan)
        torch.testing.assert_close(got, generator.render(styles), **FLOAT64_GENERATOR)


def test_winograd_taps_are_of_layers_with_many_channels(generator: Generator, monkeypatch: pytest.MonkeyPatch) -> None:
    assert transformed_taps(generator.synthesis) == {}
    monkeypatch.setattr(synthesis_plan, "WINOGRAD_CHANNELS", 8)
    names = [generator.space.layers[i].name for i in transformed_taps(generator.synthesis)]
    assert names == ["b8.conv1"]
    with torch.autocast("cpu", dtype=torch.bfloat16):
        assert transformed_taps(generator.synthesis) == {}


def test_activations_are_not_changed_by_rendering_from_them(generator: Generator) -> None:
    styles = generator.styles(make_w(generator, 2))
    kept = generator.activations(styles, 4)
    assert kept.rgb is not None
    before = (kept.features.clone(), kept.rgb.clone())
    generator.render(styles + 1.0, since=kept)
    assert torch.equal(kept.features, before[0])
    assert torch.equal(kept.rgb, before[1])


def test_activations_go_on_from_lower_ones(generator: Generator) -> None:
    styles = generator.styles(make_w(generator, 2))
    got = generator.activations(styles, 5, since=generator.activations(styles, 2))
    want = generator.activations(styles, 5)
    torch.testing.assert_close(got.features, want.features, **FLOAT64_FORMULA)
    torch.testing.assert_close(got.rgb, want.rgb, **FLOAT64_FORMULA)


@pytest.mark.parametrize("slice_bytes", [1, 4096, 2**40])
@pytest.mark.parametrize("layer", [0, 4, NUM_LAYERS - 1])
def test_render_since_fewer_samples_counts_them_round_and_round(
    layer: int, slice_bytes: int, generator: Generator, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(synthesis_plan, "CPU_SLICE_BYTES", slice_bytes)
    below = generator.styles(make_w(generator, 3))
    moved = below.repeat(2, 1)
    moved[:, generator.space.layers[layer].offset :] += 0.5
    with torch.no_grad():
        got = generator.render(moved, since=generator.activations(below, layer))
    torch.testing.assert_close(
        got, generator.render(moved, plan=DirectPlan(generator.synthesis, impl="ref")), **FLOAT64_GENERATOR
    )


@pytest.mark.parametrize("noise", [True, False])
def test_activations_of_channels_last_weights_are_channels_last_in_every_layer(noise: bool) -> None:
    config = replace(SMALL, noise=noise)
    generator = make_generator(config)
    generator.to(memory_format=torch.channels_last)  # pyright: ignore[reportCallIssue]
    styles = generator.styles(make_w(generator, 2))
    for layer in range(1, NUM_LAYERS + 1):
        features = generator.activations(styles, layer).features
        assert features.is_contiguous(memory_format=torch.channels_last), layer


@pytest.mark.parametrize("layer", [-1, 3, NUM_LAYERS + 1])
def test_activations_layer_out_of_reach_raises(layer: int, generator: Generator) -> None:
    styles = generator.styles(make_w(generator, 1))
    kept = generator.activations(styles, 4)
    with pytest.raises(ValueError, match=rf"`layer` must be in \[4, {NUM_LAYERS}\]; got {layer}"):
        generator.activations(styles, layer, since=kept)


# ------------------------------------------------------------------ batches


@pytest.mark.parametrize("impl", ["fast", "ref"])
def test_render_sample_does_not_depend_on_batch(impl: Impl, generator: Generator) -> None:
    styles = generator.styles(make_w(generator, 4))
    together = generator.render(styles, plan=DirectPlan(generator.synthesis, impl=impl))
    alone = torch.cat(
        [generator.render(row, plan=DirectPlan(generator.synthesis, impl=impl)) for row in styles.split(1)]
    )
    torch.testing.assert_close(together, alone, **FLOAT64_GENERATOR)


def test_render_permuted_batch_permutes_images(generator: Generator) -> None:
    styles, order = generator.styles(make_w(generator, 4)), torch.tensor([2, 0, 3, 1])
    torch.testing.assert_close(generator.render(styles[order]), generator.render(styles)[order], **FLOAT64_GENERATOR)


# ------------------------------------------------------------------ mapping and truncation


def make_z(n: int) -> Tensor:
    return torch.randn(n, SMALL.z_dim, generator=torch.Generator().manual_seed(2), dtype=torch.float64)


def test_map_equals_mapping_from_equations(generator: Generator) -> None:
    z = make_z(3)
    x = z / (z.square().mean(dim=1, keepdim=True) + 1e-8).sqrt()
    for i in range(SMALL.mapping_layers):
        weight = generator.mapping.get_parameter(f"fc{i}.weight")
        bias = generator.mapping.get_parameter(f"fc{i}.bias")
        y = x @ weight.T * 0.01 / math.sqrt(weight.shape[1]) + bias * 0.01
        x = torch.where(y >= 0, y, 0.2 * y) * math.sqrt(2)
    got = generator.map(z)
    assert got.shape == (3, generator.space.num_ws, SMALL.w_dim)
    for row in range(generator.space.num_ws):
        torch.testing.assert_close(got[:, row], x, **FLOAT64_FORMULA)


def test_map_ignores_length_of_z(generator: Generator) -> None:
    torch.testing.assert_close(generator.map(1e3 * make_z(2)), generator.map(1e2 * make_z(2)), **FLOAT64_FORMULA)


def test_map_psi_zero_gives_w_avg(generator: Generator) -> None:
    want = generator.mapping.w_avg.expand(2, generator.space.num_ws, -1)
    torch.testing.assert_close(generator.map(make_z(2), psi=0.0), want, **FLOAT64_FORMULA)


def test_map_psi_half_is_half_way_to_w_avg(generator: Generator) -> None:
    want = (generator.map(make_z(2)) + generator.mapping.w_avg) / 2
    torch.testing.assert_close(generator.map(make_z(2), psi=0.5), want, **FLOAT64_FORMULA)


@pytest.mark.parametrize("cutoff", [0, 2, 6, None])
def test_map_cutoff_truncates_only_the_first_rows(cutoff: int | None, generator: Generator) -> None:
    whole, truncated = generator.map(make_z(2)), generator.map(make_z(2), psi=0.3)
    num = generator.space.num_ws if cutoff is None else cutoff
    got = generator.map(make_z(2), psi=0.3, cutoff=cutoff)
    torch.testing.assert_close(got[:, :num], truncated[:, :num], **FLOAT64_FORMULA)
    assert torch.equal(got[:, num:], whole[:, num:])


@pytest.mark.parametrize("cutoff", [-1, 7])
def test_map_cutoff_out_of_range_raises(cutoff: int, generator: Generator) -> None:
    with pytest.raises(ValueError, match=rf"`cutoff` must be in \[0, 6\] or None; got {cutoff}"):
        generator.map(make_z(1), cutoff=cutoff)


@pytest.mark.usefixtures("unchecked")
@pytest.mark.parametrize("shape", [(6,), (2, 5), (2, 1, 6)])
def test_map_z_of_other_shape_raises(shape: tuple[int, ...], generator: Generator) -> None:
    with pytest.raises(ValueError, match=r"z must be \[n, 6\]; got"):
        generator.map(torch.zeros(shape, dtype=torch.float64))


# ------------------------------------------------------------------ entry points


def test_forward_w_w_plus_and_styles_agree(generator: Generator) -> None:
    w = make_w(generator, 2)[:, 0]
    w_plus = w[:, None].repeat(1, generator.space.num_ws, 1)
    from_w, from_w_plus = generator(w), generator(w_plus)
    torch.testing.assert_close(from_w_plus, from_w, **FLOAT64_FORMULA)
    torch.testing.assert_close(generator.render(generator.styles(w)), from_w, **FLOAT64_FORMULA)


def test_styles_each_layer_reads_its_own_row_of_w_plus(generator: Generator) -> None:
    w = make_w(generator, 1)
    plain = generator.styles(w)
    for row in range(generator.space.num_ws):
        changed = w.clone()
        changed[:, row] += 1.0
        moved = (generator.styles(changed) != plain)[0]
        for layer in generator.space.layers:
            assert bool(moved[layer.slice].any()) == (layer.w_index == row)


def test_styles_fresh_generator_at_zero_w_are_the_bias_of_one() -> None:
    generator = Generator(SMALL)
    assert torch.equal(generator.styles(torch.zeros(1, 6)), torch.ones(1, generator.space.num_channels))


@pytest.mark.usefixtures("unchecked")
@pytest.mark.parametrize("shape", [(1, 5, 6), (1, 6, 5), (2, 5), (1, 1, 6, 6)])
def test_styles_w_of_other_shape_raises(shape: tuple[int, ...], generator: Generator) -> None:
    with pytest.raises(ValueError, match=r"w must be \[n, 6\] or \[n, 6, 6\]; got .* leading batch axis"):
        generator.styles(torch.zeros(shape, dtype=torch.float64))


def test_render_styles_of_other_length_raises(generator: Generator) -> None:
    with pytest.raises(ValueError, match=r"styles must be \[n, \d+\] for a 16-px generator"):
        generator.render(torch.zeros(1, 3, dtype=torch.float64))


# ------------------------------------------------------------------ noise


@pytest.mark.parametrize("impl", ["fast", "ref"])
def test_render_noise_off_equals_strength_zero(impl: Impl) -> None:
    on, off = make_generator(SMALL), make_generator(replace(SMALL, noise=False))
    styles = on.styles(make_w(on, 2))
    noisy = on.render(styles, plan=DirectPlan(on.synthesis, impl=impl))
    for name, parameter in on.named_parameters():
        if name.endswith("noise_strength"):
            parameter.zero_()
    silent = on.render(styles, plan=DirectPlan(on.synthesis, impl=impl))
    torch.testing.assert_close(
        off.render(styles, plan=DirectPlan(off.synthesis, impl=impl)), silent, **FLOAT64_GENERATOR
    )
    assert not torch.allclose(noisy, silent)


def test_render_twice_gives_the_same_image(generator: Generator) -> None:
    styles = generator.styles(make_w(generator, 1))
    assert torch.equal(generator.render(styles), generator.render(styles))


# ------------------------------------------------------------------ architecture


def test_state_names_are_nvlabs() -> None:
    names = set(Generator(replace(SMALL, resolution=8)).state_dict())
    layer = ("affine.weight", "affine.bias", "weight", "bias")
    want = {f"mapping.fc{i}.{part}" for i in range(3) for part in ("weight", "bias")}
    want |= {"mapping.w_avg", "synthesis.b4.const"}
    for conv in ("b4.conv1", "b8.conv0", "b8.conv1"):
        want |= {f"synthesis.{conv}.{part}" for part in (*layer, "noise_const", "noise_strength")}
    for rgb in ("b4.torgb", "b8.torgb"):
        want |= {f"synthesis.{rgb}.{part}" for part in layer}
    assert names == want


def test_mapping_dim_sets_the_hidden_width() -> None:
    mapping = Generator(replace(SMALL, mapping_dim=9, w_dim=4)).mapping
    shapes = [tuple(mapping.get_parameter(f"fc{i}.weight").shape) for i in range(3)]
    assert shapes == [(9, 6), (9, 9), (4, 9)]


def test_conv_clamp_bounds_features(generator: Generator) -> None:
    clamped = make_generator(CLAMPED)
    styles = clamped.styles(make_w(clamped, 2))
    assert float(clamped.activations(styles, NUM_LAYERS).features.abs().max()) == 1.0
    assert float(generator.activations(styles, NUM_LAYERS).features.abs().max()) > 1.0


@pytest.mark.parametrize("layer", [0, 2, 3, 5, 6])
def test_moved_activations_equal_activations_of_moved_styles(layer: int, generator: Generator) -> None:
    styles, space = generator.styles(make_w(generator, 3)), generator.space
    below = generator.activations(styles, layer)
    sums = generator.sums(styles, below)
    assert sums is not None
    position, moves = space.layers[layer].offset + 1, (2.0, -0.5)
    moved = styles.repeat(2, 1)
    moved[:, position] += torch.tensor(moves).repeat_interleave(3)
    got = generator.moved_activations(styles, below, sums, position=position, moves=moves)
    want = generator.activations(moved, layer + 1, plan=DirectPlan(generator.synthesis, impl="ref"))
    torch.testing.assert_close(got.features, want.features, **FLOAT64_GENERATOR)
    assert (got.layer, got.rgb is None) == (layer + 1, want.rgb is None)
    torch.testing.assert_close(generator.render(moved, since=got), generator.render(moved), **FLOAT64_GENERATOR)


def test_sums_are_none_where_the_convolution_is_not_shared(
    generator: Generator, monkeypatch: pytest.MonkeyPatch
) -> None:
    styles = generator.styles(make_w(generator, 1))
    assert generator.space.layers[1].is_torgb
    assert generator.sums(styles, generator.activations(styles, 1)) is None
    monkeypatch.setattr(synthesis_plan, "CPU_SLICE_BYTES", 1)
    assert generator.sums(styles, generator.activations(styles, 0)) is None
