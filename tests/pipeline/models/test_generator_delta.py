from dataclasses import replace

import numpy as np
import pytest
import torch

from pipeline.machine.plans import synthesis_plan
from pipeline.models.generator_delta import GeneratorDelta, delta_bytes, tuned_generator
from pipeline.models.stylegan2 import Generator
from pipeline.models.synthesis_plan import DirectPlan
from tests.conftest import TINY_GENERATOR


@pytest.fixture(scope="module")
def generator() -> Generator:
    torch.manual_seed(3)
    return Generator(TINY_GENERATOR).eval().requires_grad_(False)


def some_delta(generator: Generator, rank: int) -> GeneratorDelta:
    rng = torch.Generator().manual_seed(1)
    zero = GeneratorDelta.zero(generator, rank, rng=rng)
    return GeneratorDelta({n: p + 0.1 * torch.randn(p.shape, generator=rng) for n, p in zero.parts.items()})


@pytest.mark.parametrize("rank", [0, 2])
def test_zero_delta_draws_as_before(generator: Generator, rank: int):
    styles = generator.styles(torch.randn(2, generator.space.num_ws, 8))
    tuned = tuned_generator(generator, GeneratorDelta.zero(generator, rank, rng=torch.Generator()))
    torch.testing.assert_close(tuned.render(styles), generator.render(styles), rtol=0, atol=0)


@pytest.mark.parametrize("rank", [0, 2])
def test_delta_changes_the_picture_and_neither_the_styles_nor_the_pack(generator: Generator, rank: int):
    w_plus = torch.randn(2, generator.space.num_ws, 8)
    before = generator(w_plus)
    tuned = tuned_generator(generator, some_delta(generator, rank))
    torch.testing.assert_close(tuned.styles(w_plus), generator.styles(w_plus), rtol=0, atol=0)
    assert float((tuned(w_plus) - before).abs().mean()) > 0.01
    torch.testing.assert_close(generator(w_plus), before, rtol=0, atol=0)


def test_delta_of_a_rank_is_the_product_of_its_factors(generator: Generator):
    delta = some_delta(generator, 2)
    name = "b16.conv1.weight"
    left, right = delta.parts[f"{name}.left"], delta.parts[f"{name}.right"]
    weight = generator.synthesis.get_parameter(name)
    found = tuned_generator(generator, delta).synthesis.get_parameter(name)
    torch.testing.assert_close(found, weight + (left @ right).view_as(weight))
    assert torch.linalg.matrix_rank((found - weight).flatten(1)) == 2


@pytest.mark.parametrize("rank", [0, 2])
def test_delta_bytes_is_what_its_arrays_take(generator: Generator, rank: int):
    arrays = some_delta(generator, rank).arrays()
    assert {array.dtype for array in arrays.values()} == {np.dtype(np.float16)}
    assert sum(array.nbytes for array in arrays.values()) == delta_bytes(generator, rank)


def test_delta_of_low_rank_is_smaller(generator: Generator):
    assert delta_bytes(generator, 1) < 0.5 * delta_bytes(generator, 0)


def test_delta_survives_its_arrays(generator: Generator):
    delta = some_delta(generator, 2)
    again = GeneratorDelta.of_arrays(delta.arrays(), device="cpu")
    assert set(again.parts) == set(delta.parts)
    for name, part in delta.parts.items():
        torch.testing.assert_close(again.parts[name], part, rtol=1e-3, atol=1e-4)


def test_delta_of_another_generator_is_refused(generator: Generator):
    other = Generator(replace(TINY_GENERATOR, channel_base=64, channel_max=8))
    with pytest.raises(ValueError, match="of another"):
        tuned_generator(other, some_delta(generator, 0))


def test_tuned_generator_is_drawn_by_its_modules_as_they_are(generator: Generator):
    assert isinstance(synthesis_plan(tuned_generator(generator, some_delta(generator, 1))), DirectPlan)
