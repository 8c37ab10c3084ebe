"""The three embedded networks beside generator and CLIP, alone and out of a pack."""

import json
from pathlib import Path

import pytest
import torch

from pipeline.errors import PackError
from pipeline.models.residual_encoder import ResidualEncoder
from pipeline.packs.pack import Pack
from storage import Store
from tests.conftest import TINY_CONFIGS, write_tiny_pack


def images(count: int, resolution: int = 16) -> torch.Tensor:
    return torch.rand(count, 3, resolution, resolution, generator=torch.Generator().manual_seed(0)) * 2 - 1


def test_residual_encoder_refuses_a_resolution_its_widths_do_not_divide():
    with pytest.raises(ValueError, match="must be a multiple of 16 for 3 widths; got 24"):
        ResidualEncoder(24, (4, 4, 4), 2)


def test_residual_encoder_resamples_other_sizes_to_its_own():
    encoder = ResidualEncoder(16, (4, 6), 3).eval()
    flat = torch.full((1, 3, 16, 16), 0.25)
    large = torch.full((1, 3, 40, 40), 0.25)
    torch.testing.assert_close(encoder(large), encoder(flat))


def test_identity_embeddings_are_unit_and_differentiable_in_the_image(tiny_pack: Pack):
    x = images(3).requires_grad_(True)
    embedded = tiny_pack.identity.embed(x)
    assert embedded.shape == (3, 8)
    torch.testing.assert_close(embedded.norm(dim=1), torch.ones(3))
    embedded[:, 0].sum().backward()
    assert x.grad is not None
    assert float(x.grad.abs().max()) > 0


def test_identity_of_an_image_does_not_depend_on_its_batch(tiny_pack: Pack):
    x = images(4)
    torch.testing.assert_close(tiny_pack.identity.embed(x)[2:3], tiny_pack.identity.embed(x[2:3]))


def test_inverter_gives_latents_that_the_generator_draws(tiny_pack: Pack):
    w_plus = tiny_pack.inverter.invert(images(2))
    assert w_plus.shape == (2, tiny_pack.generator.space.num_ws, 8)
    assert tiny_pack.generator(w_plus).shape == (2, 3, 16, 16)


def test_oracle_probabilities_sum_to_one_for_every_attribute(tiny_pack: Pack):
    found = tiny_pack.oracle.probabilities(images(5))
    assert {name: p.shape for name, p in found.items()} == {"shade": (5, 2), "hue": (5, 3)}
    for p in found.values():
        torch.testing.assert_close(p.sum(dim=1), torch.ones(5))


def test_oracle_temperature_softens_and_keeps_the_answer(tiny_pack: Pack):
    x = images(5)
    sharp = tiny_pack.oracle.probabilities(x)["hue"]
    tiny_pack.oracle.temperature.fill_(4.0)
    try:
        soft = tiny_pack.oracle.probabilities(x)["hue"]
    finally:
        tiny_pack.oracle.temperature.fill_(1.0)
    assert torch.equal(soft.argmax(dim=1), sharp.argmax(dim=1))
    assert bool((soft.amax(dim=1) < sharp.amax(dim=1)).all())


@pytest.mark.parametrize("name", ["identity", "inverter", "oracle"])
def test_pack_without_a_network_says_which_it_lacks(tmp_path: Path, name: str):
    folder = write_tiny_pack(tmp_path / "p")
    text = json.loads((folder / "pack.json").read_text())
    text[name] = None
    (folder / "pack.json").write_text(json.dumps(text))
    with pytest.raises(PackError, match=rf"needs a pack with an {name}.*; pack .tiny. has none"):
        getattr(Pack(Store(str(folder)), device="cpu"), name)


def test_pack_weights_of_another_architecture_are_refused(tmp_path: Path):
    folder = write_tiny_pack(tmp_path / "p")
    text = json.loads((folder / "pack.json").read_text())
    text["oracle"] = TINY_CONFIGS[2].model_copy(update={"widths": (4, 8)}).model_dump()
    (folder / "pack.json").write_text(json.dumps(text))
    with pytest.raises(PackError, match=r"oracle.safetensors must fit the configuration in pack.json"):
        Pack(Store(str(folder)), device="cpu").oracle  # noqa: B018
