import pytest
import torch
from torch import Tensor

from pipeline.errors import PipelineError
from pipeline.inversion.encoder import check_encoder_steps, encode, sees_reconstruction
from pipeline.inversion.likeness import check_rows
from pipeline.models.e4e import E4e, E4eConfig
from pipeline.models.stylegan2 import Generator
from pipeline.packs.pack import Pack
from tests.tolerances import FLOAT32_KERNEL

NUM_WS = 4
CONFIG = E4eConfig(num_ws=NUM_WS, height=64, width=64, sees_reconstruction=True, pyramid=False)


class Pointer(E4e):
    """A ReStyle encoder whose codes are written down: half the mean difference of its two images, in every entry."""

    def __init__(self) -> None:
        with torch.device("meta"):
            super().__init__(CONFIG)
        self.latent_avg = torch.full((NUM_WS, 512), 0.25)
        self.shown: list[Tensor] = []

    def codes(self, x: Tensor) -> Tensor:
        self.shown.append(x)
        step = 0.5 * (x[:, :3] - x[:, 3:]).mean(dim=(1, 2, 3))
        return step[:, None, None].expand(-1, NUM_WS, 512)


class Flat(Generator):
    """A generator whose image is the mean of its latent."""

    def __init__(self) -> None:
        torch.nn.Module.__init__(self)

    def forward(self, w: Tensor) -> Tensor:
        return w.mean(dim=(1, 2))[:, None, None, None].expand(-1, 3, 64, 64)


def test_encode_of_restyle_starts_at_the_mean_and_halves_the_rest_at_every_step():
    encoder = Pointer()
    pictures = torch.stack([torch.full((3, 64, 64), value) for value in (0.75, -0.5)])
    for steps in (1, 3):
        encoder.shown.clear()
        w_plus = encode(encoder, Flat(), pictures, steps=steps)
        wanted = torch.tensor([0.75, -0.5]) + torch.tensor([-0.5, 0.75]) * 0.5**steps
        torch.testing.assert_close(w_plus.mean(dim=(1, 2)), wanted, **FLOAT32_KERNEL)
        assert len(encoder.shown) == steps
        assert encoder.shown[0].shape == (2, 6, 64, 64)


def test_encode_of_a_one_pass_encoder_is_its_inversion(tiny_pack: Pack):
    pictures = torch.rand(2, 3, 16, 16) * 2 - 1
    found = encode(tiny_pack.inverter, tiny_pack.generator, pictures, steps=1)
    assert torch.equal(found, tiny_pack.inverter.invert(pictures))


def test_check_encoder_steps(tiny_pack: Pack):
    assert sees_reconstruction(Pointer())
    assert (check_encoder_steps(Pointer(), None), check_encoder_steps(Pointer(), 2)) == (5, 2)
    assert (check_encoder_steps(tiny_pack.inverter, None), check_encoder_steps(tiny_pack.inverter, 1)) == (1, 1)
    with pytest.raises(PipelineError, match="also sees its reconstruction"):
        check_encoder_steps(tiny_pack.inverter, 2)


def test_restyle_heads_all_read_the_coarse_level():
    encoder = E4e(CONFIG)
    assert {encoder.level(i) for i in range(NUM_WS)} == {0}
    assert encoder.input_layer[0].weight.shape[1] == 6
    assert not hasattr(encoder, "latlayer1")
    with torch.no_grad():
        found = encoder.eval().residual(torch.rand(1, 3, 128, 128), torch.rand(1, 3, 128, 128))
    assert found.shape == (1, NUM_WS, 512)


def test_check_rows_of_another_generators_encoder_is_refused(tiny_pack: Pack):
    with pytest.raises(PipelineError, match="trained with this generator"):
        check_rows(torch.zeros(1, 18, 512), tiny_pack)
