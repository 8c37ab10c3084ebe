"""One plan per generator and precision, made once."""

import gc
import weakref

import pytest
import torch

from pipeline.errors import PipelineError
from pipeline.machine import plans
from pipeline.machine.plans import clip_for, prepared_plan, synthesis_plan
from pipeline.models import synthesis_plan as models
from pipeline.models.stylegan2 import Generator, GeneratorConfig
from pipeline.models.synthesis_plan import DirectPlan
from pipeline.packs.pack import Pack

CONFIG = GeneratorConfig(resolution=8, channel_base=32, channel_max=4, z_dim=4, w_dim=4, mapping_layers=2)


@pytest.fixture
def generator() -> Generator:
    torch.manual_seed(0)
    return Generator(CONFIG).requires_grad_(False)


def test_a_cpu_runs_the_modules_and_measures_with_transformed_taps(
    generator: Generator, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(models, "WINOGRAD_CHANNELS", 1)
    plain, measuring = synthesis_plan(generator), synthesis_plan(generator, winograd=True)
    assert isinstance(plain, DirectPlan)
    assert not plain.taps
    assert isinstance(measuring, DirectPlan)
    assert list(measuring.taps) == [3]


def test_half_on_a_cpu_is_refused(generator: Generator):
    with pytest.raises(PipelineError, match="must be full on cpu"):
        synthesis_plan(generator, "half")


def test_a_plan_is_prepared_once_per_generator_and_precision(generator: Generator):
    full, tf32, half = (prepared_plan(generator, x) for x in ("full", "tf32", "half"))
    assert (full.backend, tf32.backend, half.backend) == (None, "inductor", "inductor")
    assert tf32 is not full
    assert prepared_plan(generator, "full") is full
    assert prepared_plan(generator, "half") is half
    assert (full.half, half.half) == (None, torch.float16)
    assert prepared_plan(Generator(CONFIG), "full") is not full


def test_a_plan_is_prepared_anew_for_other_weights(generator: Generator):
    before = prepared_plan(generator, "full")
    generator.synthesis.layer(0).weight.mul_(2)
    after = prepared_plan(generator, "full")
    assert after is not before
    generator.double()
    assert prepared_plan(generator, "full") is not after


def test_a_plan_does_not_outlive_its_generator():
    generator = Generator(CONFIG)
    gone = weakref.ref(generator)
    prepared_plan(generator, "full")
    del generator
    gc.collect()
    assert gone() is None
    assert not [key for key in plans._kept.keyrefs() if key() is gone()]


def test_clip_is_halved_where_asked_for(tiny_pack: Pack):
    assert clip_for(tiny_pack.clip, "full") is tiny_pack.clip
    assert clip_for(tiny_pack.clip, "tf32") is tiny_pack.clip
    assert clip_for(tiny_pack.clip, "half") is tiny_pack.clip.in_half()
