"""``impl`` in the pipeline keeps the kernels' contract: three words, and only ``"auto"`` chooses."""

import ast
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

import pipeline
from kernels import Impl
from pipeline.models.clip import encode_pixels, encode_tokens
from pipeline.models.mapper import MapperBank, MapperConfig, make_mapper
from pipeline.models.synthesis_plan import DirectPlan
from pipeline.optimization.edit_loss import EditLoss
from pipeline.packs.pack import Pack

IMAGES = torch.zeros(1, 3, 16, 16)
TEXT = torch.eye(16)[:1]


def _terms(pack: Pack, impl: Impl) -> object:
    loss = EditLoss(pack.clip, None)
    sources = loss.embed_sources(IMAGES)
    return loss.terms(IMAGES, l2=torch.zeros(1), sources=sources, targets=TEXT, directions=TEXT, impl=impl)


def _moves(pack: Pack, impl: Impl) -> object:
    bank = MapperBank([make_mapper(MapperConfig(kind="single"), pack.generator.config)])
    return bank.moves(torch.ones(1, pack.generator.space.num_ws, pack.generator.config.w_dim), impl=impl)


def _render(pack: Pack, impl: Impl) -> object:
    plan = DirectPlan(pack.generator.synthesis, impl=impl)
    return pack.generator.render(torch.ones(1, pack.generator.space.num_channels), plan=plan)


CALLS: dict[str, Callable[[Pack, Impl], object]] = {
    "encode_tokens": lambda pack, impl: encode_tokens(pack.clip.model, torch.ones(1, 64, dtype=torch.long), impl=impl),
    "encode_pixels": lambda pack, impl: encode_pixels(pack.clip.model, IMAGES, impl=impl),
    "terms": _terms,
    "moves": _moves,
    "DirectPlan": _render,
}
PARTS_OF_THE_GENERATOR = {"forward"}  # of its layers, to which a plan hands ``impl`` on


def test_calls_cover_every_function_with_impl():
    functions = {
        node.name
        for path in Path(pipeline.__path__[0]).rglob("*.py")
        for node in ast.walk(ast.parse(path.read_text()))
        if isinstance(node, ast.FunctionDef)
        and any(argument.arg == "impl" for argument in [*node.args.args, *node.args.kwonlyargs])
    }
    assert functions | {"DirectPlan"} == set(CALLS) | PARTS_OF_THE_GENERATOR


@pytest.mark.usefixtures("unchecked")
@pytest.mark.parametrize("name", CALLS)
def test_bogus_impl_raises(name: str, tiny_pack: Pack):
    bogus: Any = "bogus"
    with pytest.raises(ValueError, match="`impl` must be one of auto, fast, ref; got 'bogus'"):
        CALLS[name](tiny_pack, bogus)


@pytest.mark.parametrize("impl", ["auto", "fast", "ref"])
@pytest.mark.parametrize("name", CALLS)
def test_every_impl_runs(name: str, impl: Impl, tiny_pack: Pack):
    CALLS[name](tiny_pack, impl)
