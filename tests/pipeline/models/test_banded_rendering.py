"""A render in bands against the whole one."""

import pytest
import torch

from pipeline.models.banded_rendering import render_banded
from pipeline.models.stylegan2 import Generator, GeneratorConfig
from tests.tolerances import FLOAT32_GENERATOR


def make_generator(resolution: int, *, noise: bool = True) -> Generator:
    torch.manual_seed(0)
    config = GeneratorConfig(resolution, channel_base=1024, channel_max=8, z_dim=8, w_dim=8, noise=noise)
    generator = Generator(config).requires_grad_(False)
    for name, parameter in generator.named_parameters():
        if name.endswith("noise_strength"):
            parameter.fill_(0.5)
    return generator


@pytest.mark.parametrize(("resolution", "noise"), [(64, True), (256, True), (512, False), (1024, True)])
def test_render_banded_equals_the_whole_render(resolution: int, noise: bool):
    generator = make_generator(resolution, noise=noise)
    styles = generator.styles(torch.randn(1, 8, generator=torch.Generator().manual_seed(1)))
    torch.testing.assert_close(render_banded(generator, styles), generator.render(styles), **FLOAT32_GENERATOR)


def test_network_built_without_memory_has_its_filters():
    generator = make_generator(64)
    with torch.device("meta"):
        other = Generator(generator.config)
    other.load_state_dict(generator.state_dict(), strict=True, assign=True)
    with torch.no_grad():
        styles = generator.styles(torch.ones(1, 8))
        assert torch.equal(other.render(styles), generator.render(styles))
