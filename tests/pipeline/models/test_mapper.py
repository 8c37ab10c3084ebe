import pytest
import torch
from safetensors.torch import save

from pipeline.errors import PipelineError
from pipeline.models.mapper import MapperBank, MapperConfig, level_rows, load_mapper, make_mapper, moved_latents
from pipeline.models.sampling import sample_w_plus
from pipeline.packs.pack import Pack
from pipeline.style_space import StyleSpace
from tests.tolerances import BATCH_INDEPENDENT

KINDS = [
    {"kind": "levels"},
    {"kind": "levels", "levels": ("medium",)},
    {"kind": "single", "norm_axis": "layer"},
    {"kind": "styles"},
]


def source(pack: Pack, kind: str) -> torch.Tensor:
    w = sample_w_plus(pack.generator, range(3), psi=0.7)
    return pack.generator.styles(w).detach() if kind == "styles" else w


@pytest.mark.parametrize(
    ("resolution", "lengths"),
    [(1024, (4, 4, 10)), (128, (4, 4, 4)), (64, (4, 4, 2)), (32, (3, 3, 2)), (16, (2, 2, 2)), (8, (2, 1, 1))],
)
def test_level_rows_cover_every_row_once(resolution: int, lengths: tuple[int, ...]):
    num_ws = StyleSpace(resolution, 4096).num_ws
    rows = list(level_rows(num_ws).values())
    assert tuple(r.stop - r.start for r in rows) == lengths
    assert [i for r in rows for i in range(r.start, r.stop)] == list(range(num_ws))


@pytest.mark.parametrize(
    ("num_ws", "lengths"), [(18, (4, 4, 10)), (10, (4, 4, 2)), (8, (4, 4, 0)), (6, (4, 2, 0)), (4, (4, 0, 0))]
)
def test_level_rows_published_are_cut_at_four_and_eight(num_ws: int, lengths: tuple[int, ...]):
    rows = level_rows(num_ws, "published")
    x = list(range(num_ws))
    assert [x[rows["coarse"]], x[rows["medium"]], x[rows["fine"]]] == [x[:4], x[4:8], x[8:]]
    assert tuple(r.stop - r.start for r in rows.values()) == lengths


def test_level_rows_too_few_are_refused():
    with pytest.raises(ValueError, match="`num_ws` must be at least 3"):
        level_rows(2)


@pytest.mark.parametrize("settings", KINDS)
def test_mapper_moves_only_what_its_kind_says(tiny_pack: Pack, settings: dict):
    config = MapperConfig(**settings)
    torch.manual_seed(0)
    move = make_mapper(config, tiny_pack.generator.config)(source(tiny_pack, config.kind)).detach()
    if config.kind == "styles":
        for layer in tiny_pack.generator.space.layers:
            assert bool(move[:, layer.slice].any()) != layer.is_torgb
    else:
        moved = move.abs().amax(dim=(0, 2)) > 0
        wanted = {"levels": slice(0, 6), "single": slice(0, 6)}[config.kind]
        wanted = level_rows(6)["medium"] if config.levels == ("medium",) else wanted
        assert moved.nonzero().flatten().tolist() == list(range(6))[wanted]


def test_mapper_is_the_papers_network_on_its_rows(tiny_pack: Pack):
    torch.manual_seed(0)
    mapper = make_mapper(MapperConfig(kind="single"), tiny_pack.generator.config)
    w = source(tiny_pack, "single")
    x = w / (w.square().mean(dim=2, keepdim=True) + 1e-8).sqrt()
    for i in range(1, 5):
        weight, bias = (mapper.state_dict()[f"single.{i}.{name}"] for name in ("weight", "bias"))
        x = torch.nn.functional.leaky_relu(x @ (weight * 0.01 / 8**0.5).T + bias * 0.01, 0.2) * 2**0.5
    torch.testing.assert_close(mapper(w), x)


@pytest.mark.parametrize("settings", KINDS)
def test_mapper_bank_fast_equals_ref_with_gradients(tiny_pack: Pack, settings: dict):
    config = MapperConfig(**settings)
    torch.manual_seed(1)
    bank = MapperBank([make_mapper(config, tiny_pack.generator.config) for _ in range(3)])
    x = source(tiny_pack, config.kind)
    weights = torch.randn(3, *x.shape, generator=torch.Generator().manual_seed(2))
    results = []
    for impl in ("fast", "ref"):
        moves = bank.moves(x, impl=impl)
        results.append((moves, *torch.autograd.grad((moves * weights).sum(), list(bank.parameters.values()))))
    for fast, ref in zip(*results, strict=True):
        torch.testing.assert_close(fast, ref, **BATCH_INDEPENDENT)


@pytest.mark.parametrize("settings", KINDS)
def test_moved_latents_strength_scales_the_move_of_a_loaded_mapper(tiny_pack: Pack, settings: dict):
    config = MapperConfig(**settings)
    torch.manual_seed(0)
    made = make_mapper(config, tiny_pack.generator.config)
    mapper = load_mapper(save(made.state_dict()), config.model_dump_json(), tiny_pack.generator.config, device="cpu")
    w, x = source(tiny_pack, "w"), source(tiny_pack, config.kind)
    moved = [moved_latents(mapper, tiny_pack.generator, w, strength=s) for s in (0.0, 1.0, -2.0)]
    torch.testing.assert_close(moved[0], x)
    torch.testing.assert_close(moved[1] - x, 0.1 * made(x).detach(), rtol=1e-4, atol=1e-6)
    torch.testing.assert_close(moved[2] - x, -2 * (moved[1] - x), rtol=1e-4, atol=1e-6)


def test_load_mapper_of_another_generator_is_refused(tiny_pack: Pack):
    made = make_mapper(MapperConfig(kind="single"), tiny_pack.generator.config)
    with pytest.raises(PipelineError, match="must fit its description"):
        load_mapper(save(made.state_dict()), MapperConfig().model_dump_json(), tiny_pack.generator.config, device="cpu")
