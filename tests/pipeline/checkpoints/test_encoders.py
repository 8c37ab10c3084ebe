"""IR-SE50 and e4e files against plain functions of the same tensors."""

from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from pipeline.checkpoints.arcface import read_arcface
from pipeline.checkpoints.e4e import read_e4e
from pipeline.checkpoints.foreign_file import read_foreign_file
from pipeline.errors import CheckpointError
from pipeline.models.e4e import E4e, E4eConfig
from pipeline.models.ir_se50 import IrSe50
from tests.pipeline.checkpoints import encoder_files as files
from tests.tolerances import IMPORTED_NETWORK

NUM_WS = 8  # one head on the finest level


def images(side: int) -> Tensor:
    return torch.rand(1, 3, side, side, generator=torch.Generator().manual_seed(2)) * 2 - 1


def small_tree(path: Path) -> dict[str, Any]:
    """The encoder's file with its first four heads only, which is quicker to read."""
    tree = read_foreign_file(path)
    later = tuple(f"encoder.styles.{i}." for i in range(4, NUM_WS))
    tree["state_dict"] = {k: v for k, v in tree["state_dict"].items() if not k.startswith(later)}
    return tree | {"latent_avg": None, "opts": {**tree["opts"], "start_from_latent_avg": False}}


@pytest.fixture(scope="module")
def arcface_file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("arcface") / "model_ir_se50.pth"
    torch.save(files.ir_se50_state(), path)
    return path


@pytest.fixture(scope="module")
def arcface(arcface_file: Path) -> IrSe50:
    found = read_arcface(read_foreign_file(arcface_file), source="x")
    with torch.device("meta"):
        network = IrSe50(found.config)
    network.load_state_dict(found.state, strict=True, assign=True)
    return network.eval().requires_grad_(False)


@pytest.fixture(scope="module")
def encoder_state() -> files.State:
    return files.e4e_state(NUM_WS)


@pytest.fixture(scope="module")
def e4e_file(encoder_state: files.State, tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("e4e") / "e4e.pt"
    return files.save_e4e(path, encoder_state, torch.ones(NUM_WS, 512), encoder_type="Encoder4Editing")


def test_ir_se50_equals_the_plain_functions(arcface: IrSe50):
    got, wanted = arcface(images(112)), files.ir_se50(images(112), files.ir_se50_state())
    torch.testing.assert_close(got, wanted, **IMPORTED_NETWORK)


def test_crop_is_the_identity_losss_at_any_size(arcface: IrSe50):
    x = images(256)
    wanted = torch.nn.functional.adaptive_avg_pool2d(x[:, :, 35:223, 32:220], 112)
    torch.testing.assert_close(arcface.crop(x), wanted, **IMPORTED_NETWORK)
    doubled = x.repeat_interleave(2, dim=2).repeat_interleave(2, dim=3)
    torch.testing.assert_close(arcface.crop(doubled), wanted, **IMPORTED_NETWORK)
    assert arcface.crop(images(64)).shape == (1, 3, 112, 112)


def test_embed_is_differentiable_and_unit(arcface: IrSe50):
    x = images(64).requires_grad_()
    embedding = arcface.embed(x)
    torch.testing.assert_close(embedding.norm(dim=1), torch.ones(1), **IMPORTED_NETWORK)
    (gradient,) = torch.autograd.grad(embedding[0, 0], x)
    assert bool(gradient.any())


def test_encoder_equals_the_plain_functions_as_e4e_and_as_psp(e4e_file: Path, encoder_state: files.State):
    found = read_e4e(read_foreign_file(e4e_file), source="x")
    with torch.device("meta"):
        network = E4e(found.config)
    network.load_state_dict(found.state, strict=True, assign=True)
    state = {name: tensor.float() for name, tensor in encoder_state.items()}
    for residual in (True, False):
        network.config = E4eConfig(num_ws=NUM_WS, residual=residual)
        with torch.no_grad():
            got = network.eval()(images(32))
            wanted = files.e4e(images(32), state, torch.ones(NUM_WS, 512), residual=residual)
        torch.testing.assert_close(got, wanted, **IMPORTED_NETWORK)
    assert "decoder.style.1.weight" in found.unused


class Recorder(E4e):
    """An encoder that gives back what it is shown."""

    def forward(self, x: Tensor) -> Tensor:
        return x


@pytest.mark.usefixtures(
    "unchecked"
)  # the recorder gives back images for latents, and 384 x 512 is refused by the types
@pytest.mark.parametrize(
    ("height", "shape", "rows"),
    [(256, (300, 300), None), (192, (256, 256), slice(32, 224)), (192, (384, 512), None)],
)
def test_invert_resizes_and_cuts_around_the_centre(height: int, shape: tuple[int, int], rows: slice | None):
    with torch.device("meta"):
        encoder = Recorder(E4eConfig(num_ws=4, height=height))
    x = torch.rand(1, 3, *shape)
    got = encoder.invert(x)
    assert got.shape == (1, 3, height, 256)
    if rows is not None:
        assert torch.equal(got, x[:, :, rows])


def test_psp_heads_are_read_as_independent(e4e_file: Path):
    tree = small_tree(e4e_file)
    tree["opts"]["encoder_type"] = "GradualStyleEncoder"
    found = read_e4e(tree, source="x")
    assert found.config == E4eConfig(num_ws=4, residual=False)
    assert not bool(found.state["latent_avg"].any())


@pytest.mark.parametrize(("kind", "residual"), [("ProgressiveBackboneEncoder", True), ("BackboneEncoder", False)])
def test_restyles_encoders_see_their_reconstruction(kind: str, residual: bool, e4e_file: Path, tmp_path: Path):
    first = torch.randn(64, 6, 3, 3)
    torch.save({"first": first}, tmp_path / "x.pt")
    tree = small_tree(e4e_file)
    state = {k: v for k, v in tree["state_dict"].items() if "latlayer" not in k and "styles.3.convs.8." not in k}
    state["encoder.input_layer.0.weight"] = read_foreign_file(tmp_path / "x.pt")["first"]
    found = read_e4e({**tree, "state_dict": state, "opts": {**tree["opts"], "encoder_type": kind}}, source="x")
    assert found.config == E4eConfig(num_ws=4, residual=residual, sees_reconstruction=True, pyramid=False)
    assert torch.equal(found.state["input_layer.0.weight"], first)
    with torch.device("meta"):
        network = E4e(found.config)
    network.load_state_dict(found.state, strict=True, assign=True)


@pytest.mark.parametrize(("shape", "rows"), [((1, 4, 512), 4), ((512,), 1)])
def test_latent_avg_of_each_published_shape_is_read(shape: tuple[int, ...], rows: int, e4e_file: Path, tmp_path: Path):
    average = torch.randn(shape)
    torch.save({"latent_avg": average}, tmp_path / "x.pt")
    tree = small_tree(e4e_file) | read_foreign_file(tmp_path / "x.pt") | {"opts": {}}
    got = read_e4e(tree, source="x").state["latent_avg"]
    assert torch.equal(got, average.reshape(rows, 512).expand(4, 512))


def test_encoder_of_cars_takes_192_by_256(e4e_file: Path):
    tree = small_tree(e4e_file)
    tree["opts"]["dataset_type"] = "cars_encode"
    assert read_e4e(tree, source="x").config == E4eConfig(num_ws=4, height=192)


@pytest.mark.parametrize(
    ("change", "match"),
    [
        ({"encoder.styles.2.linear.bias": None}, r"must hold styles.2.linear.bias"),
        ({"encoder.styles.9.linear.bias": "latlayer1.bias"}, r"without a gap"),
        ({"encoder.input_layer.1.weight": "latlayer1.bias"}, r"must be \[64\]; got \[512\]"),
        ({"encoder.other": "latlayer1.bias"}, r"1 have none"),
    ],
)
def test_encoder_that_does_not_fit_is_named(change: dict[str, str | None], match: str, e4e_file: Path):
    tree = small_tree(e4e_file)
    for key, other in change.items():
        if other is None:
            del tree["state_dict"][key]
        else:
            tree["state_dict"][key] = tree["state_dict"][f"encoder.{other}"]
    with pytest.raises(CheckpointError, match=match):
        read_e4e(tree, source="x")


def test_encoder_without_latent_avg_or_of_another_type_is_refused(e4e_file: Path):
    tree = small_tree(e4e_file)
    with pytest.raises(CheckpointError, match="relative to latent_avg"):
        read_e4e({**tree, "opts": {}}, source="x")
    with pytest.raises(CheckpointError, match="encoder_type must be one of"):
        read_e4e({**tree, "opts": {"encoder_type": "ResNet"}}, source="x")


def test_arcface_that_is_something_else_is_refused(tmp_path: Path):
    torch.save({"a": torch.zeros(1)}, tmp_path / "x.pth")
    with pytest.raises(CheckpointError, match="must hold input_layer, body and output_layer; got a"):
        read_arcface(read_foreign_file(tmp_path / "x.pth"), source="x.pth")
