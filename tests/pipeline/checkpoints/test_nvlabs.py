"""NVlabs pickles against a slow network of our own that wrote them."""

import pickle
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from pipeline.checkpoints.foreign_file import read_foreign_file
from pipeline.checkpoints.generator_state import ImportedGenerator, infer_channels
from pipeline.checkpoints.nvlabs import read_nvlabs
from pipeline.errors import CheckpointError
from pipeline.models.stylegan2 import Generator
from tests.pipeline.checkpoints import nvlabs_files as nv
from tests.tolerances import IMPORTED_NETWORK

CASES: dict[str, dict[str, Any]] = {
    "32": {"resolution": 32},
    "32-one-fc": {"resolution": 32, "mapping_layers": 1, "z_dim": 7},
    "32-no-noise": {"resolution": 32, "use_noise": False},
    "32-lr": {"resolution": 32, "lr": 0.001},
    "64-nested": {"resolution": 64, "channel_base": 1024, "channel_max": 24, "flat": False, "mapping_layers": 8},
    "128-odd": {"resolution": 128, "channel_base": 1000, "channel_max": 20},
    "256": {"resolution": 256, "channel_base": 1024, "channel_max": 16, "w_dim": 16},
    "512": {"resolution": 512, "channel_base": 2048, "channel_max": 16},
    "1024": {"resolution": 1024, "channel_base": 4096, "channel_max": 16, "mapping_layers": 8},
}


def read(path: Path, **options: Any) -> ImportedGenerator:
    return read_nvlabs(read_foreign_file(path), source=path.name, **options)


def built(found: ImportedGenerator) -> Generator:
    generator = Generator(found.config)
    generator.load_state_dict(found.state, strict=True)
    return generator.eval().requires_grad_(False)


def assert_same_network(ours: Generator, theirs: nv.Generator, *, label: Tensor | None = None) -> None:
    """w, styles, every layer's output and the image."""
    z = torch.randn(2, theirs.z_dim, generator=torch.Generator().manual_seed(3))
    c = None if label is None else label.expand(2, -1)
    w = theirs.mapping(z, c)
    torch.testing.assert_close(ours.map(z)[:, 0], w, **IMPORTED_NETWORK)
    w_plus = w[:, None].repeat(1, theirs.num_ws, 1)
    w_plus = w_plus + 0.1 * torch.randn(w_plus.shape, generator=torch.Generator().manual_seed(4))
    styles = ours.styles(w_plus)
    modules = dict(theirs.synthesis.named_modules())
    wanted = [modules[layer.name].affine(w_plus[:, layer.w_index]) for layer in ours.space.layers]
    torch.testing.assert_close(styles, torch.cat(wanted, dim=1), **IMPORTED_NETWORK)
    got = ours.activations(styles, 0)
    for layer, (features, image) in enumerate(theirs.synthesis(w_plus), start=1):
        got = ours.activations(styles, layer, since=got)
        scale = max(1.0, float(features.abs().max()))
        torch.testing.assert_close(got.features / scale, features / scale, **IMPORTED_NETWORK)
        if image is not None:
            assert got.rgb is not None
            torch.testing.assert_close(got.rgb, image, **IMPORTED_NETWORK)


@pytest.mark.parametrize("case", CASES)
def test_pytorch_pickle_imports_to_the_same_network(case: str, tmp_path: Path):
    theirs = nv.random_generator(**CASES[case])
    found = read(nv.save_pickle(tmp_path / "network.pkl", theirs))
    assert found.config.resolution == theirs.img_resolution
    assert found.config.noise is theirs.synthesis.b4.conv1.use_noise
    assert_same_network(built(found), theirs)


@pytest.mark.parametrize("protocol", range(6))
def test_every_pickle_protocol_is_read(protocol: int, tmp_path: Path):
    theirs = nv.random_generator(8)
    found = read(nv.save_pickle(tmp_path / "network.pkl", theirs, protocol=protocol))
    assert_same_network(built(found), theirs)


def test_recorded_clamp_is_on_unless_turned_off_and_half_precision_off_unless_asked_for(tmp_path: Path):
    path = nv.save_pickle(tmp_path / "n.pkl", nv.random_generator(32, conv_clamp=256, num_fp16_res=2))
    plain, same, off = read(path), read(path, parity="nvlabs"), read(path, parity="none")
    assert (plain.config.conv_clamp, plain.config.num_fp16_res) == (256, 0)
    assert (plain.notes["conv_clamp"], plain.notes["num_fp16_res"]) == (256, 2)
    assert (same.config.conv_clamp, same.config.num_fp16_res) == (256, 2)
    assert (off.config.conv_clamp, off.config.num_fp16_res) == (None, 0)


def test_recorded_clamp_acts_as_in_the_source(tmp_path: Path):
    theirs = nv.random_generator(16, conv_clamp=1.0)
    path = nv.save_pickle(tmp_path / "n.pkl", theirs)
    assert_same_network(built(read(path)), theirs)
    with pytest.raises(AssertionError):
        assert_same_network(built(read(path, parity="none")), theirs)


def test_every_tensor_is_used_or_listed(tmp_path: Path):
    theirs = nv.random_generator(16)
    found = read(nv.save_pickle(tmp_path / "n.pkl", theirs))
    assert all(name.endswith("resample_filter") for name in found.unused)
    assert len(found.unused) + len(found.state) == len(theirs.state_dict())


@pytest.mark.parametrize("lr", [0.01, 0.002])
@pytest.mark.parametrize("label", [0, 2])
def test_class_conditional_generator_with_a_label_is_that_classs_network(label: int, lr: float, tmp_path: Path):
    theirs = nv.random_generator(16, c_dim=3, lr=lr)
    found = read(nv.save_pickle(tmp_path / "n.pkl", theirs), label=label)
    assert_same_network(built(found), theirs, label=torch.eye(3)[label])


@pytest.mark.parametrize("label", [None, 3, -1])
def test_class_conditional_generator_without_a_valid_label_is_refused(label: int | None, tmp_path: Path):
    path = nv.save_pickle(tmp_path / "n.pkl", nv.random_generator(16, c_dim=3))
    with pytest.raises(CheckpointError, match=r"class-conditional with 3 classes.*--label 0"):
        read(path, label=label)


def test_label_for_a_generator_without_classes_is_refused(tmp_path: Path):
    with pytest.raises(CheckpointError, match="no classes"):
        read(nv.save_pickle(tmp_path / "n.pkl", nv.random_generator(16)), label=1)


@pytest.mark.parametrize("protocol", [2, 4])
def test_tensorflow_pickle_imports_to_the_same_network(protocol: int, tmp_path: Path):
    theirs = nv.random_generator(32)
    networks = nv.tensorflow_networks(theirs, resolution=32, resample_kernel=[1, 3, 3, 1])
    found = read(nv.save_tensorflow(tmp_path / "tf.pkl", networks, protocol=protocol))
    assert found.unused == ("lod",)
    assert_same_network(built(found), theirs)


@pytest.mark.parametrize("nested", [True, False])
def test_tensorflow_pickle_with_a_clamp_keeps_it(nested: bool, tmp_path: Path):
    theirs = nv.random_generator(16, conv_clamp=1)
    recorded = {"conv_clamp": 1, "num_fp16_res": 2}
    arguments = {"synthesis_kwargs": nv.EasyDict(recorded)} if nested else recorded
    path = nv.save_tensorflow(tmp_path / "tf.pkl", nv.tensorflow_networks(theirs, **arguments))
    plain, same = read(path), read(path, parity="nvlabs")
    assert (plain.config.conv_clamp, plain.config.num_fp16_res) == (1, 0)
    assert read(path, parity="none").config.conv_clamp is None
    assert (same.config.conv_clamp, same.config.num_fp16_res) == (1, 2)
    assert plain.notes["conv_clamp"] == 1
    assert_same_network(built(plain), theirs)


def test_old_tensorflow_pickle_is_refused_with_its_version(tmp_path: Path):
    networks = nv.tensorflow_networks(nv.random_generator(8))
    networks[2].state["version"] = 3
    with pytest.raises(CheckpointError, match=r"version 4 or later.*got 3"):
        read(nv.save_tensorflow(tmp_path / "tf.pkl", networks))


def test_tensorflow_variant_is_refused_by_its_setting(tmp_path: Path):
    networks = nv.tensorflow_networks(nv.random_generator(8), architecture="resnet")
    with pytest.raises(CheckpointError, match="architecture must be 'skip'"):
        read(nv.save_tensorflow(tmp_path / "tf.pkl", networks))


def test_shape_mismatch_names_key_shapes_and_cause(tmp_path: Path):
    theirs = nv.random_generator(32, channel_base=512, channel_max=16)
    theirs.synthesis.b32.conv1.affine.weight = torch.nn.Parameter(torch.zeros(32, 12))
    with pytest.raises(
        CheckpointError, match=r"b32.conv1.affine.weight must be \[16, 12\]; got \[32, 12\].*channel_base"
    ):
        read(nv.save_pickle(tmp_path / "n.pkl", theirs))


def test_noise_of_another_resolution_names_that_cause(tmp_path: Path):
    theirs = nv.random_generator(16)
    theirs.synthesis.b16.conv1.noise_const = torch.zeros(32, 32)
    with pytest.raises(CheckpointError, match=r"noise_const must be \[16, 16\].*another resolution"):
        read(nv.save_pickle(tmp_path / "n.pkl", theirs))


def test_tensor_without_a_place_is_an_error(tmp_path: Path):
    theirs = nv.random_generator(16)
    theirs.synthesis.b16.register_buffer("extra", torch.zeros(1))
    with pytest.raises(CheckpointError, match=r"1 have none: synthesis.b16.extra"):
        read(nv.save_pickle(tmp_path / "n.pkl", theirs))


def test_missing_tensor_is_an_error(tmp_path: Path):
    theirs = nv.random_generator(16)
    del theirs.synthesis.b16.torgb.bias
    with pytest.raises(CheckpointError, match=r"must hold synthesis.b16.torgb.bias"):
        read(nv.save_pickle(tmp_path / "n.pkl", theirs))


def test_other_filter_is_refused(tmp_path: Path):
    theirs = nv.random_generator(8)
    theirs.synthesis.b8.conv0.resample_filter.fill_(1.0)
    with pytest.raises(CheckpointError, match=r"filter \[1, 3, 3, 1\]"):
        read(nv.save_pickle(tmp_path / "n.pkl", theirs))


@pytest.mark.parametrize(
    ("setting", "match"),
    [("architecture", "architecture of synthesis.b8"), ("activation", "activation of synthesis.b8")],
)
def test_variant_of_the_architecture_is_refused_by_its_setting(setting: str, match: str, tmp_path: Path):
    theirs = nv.random_generator(8)
    target = theirs.synthesis.b8 if setting == "architecture" else theirs.synthesis.b8.conv1
    setattr(target, setting, "resnet")
    with pytest.raises(CheckpointError, match=match):
        read(nv.save_pickle(tmp_path / "n.pkl", theirs))


def test_stylegan3_is_refused_as_what_it_is(tmp_path: Path):
    generator = nv.Persistent()
    generator.synthesis, generator.mapping = nv.Persistent(), nv.Persistent()
    generator.synthesis.input = nv.nn_parameter_holder()
    with pytest.raises(CheckpointError, match="StyleGAN3"):
        read(nv.save_pickle(tmp_path / "n.pkl", generator))


def test_discriminator_is_refused_as_what_it_is(tmp_path: Path):
    generator = nv.Persistent()
    generator.b4 = nv.nn_parameter_holder()
    with pytest.raises(CheckpointError, match="discriminator"):
        read(nv.save_pickle(tmp_path / "n.pkl", generator))


def test_pickle_of_something_else_lists_what_it_holds(tmp_path: Path):
    (tmp_path / "n.pkl").write_bytes(pickle.dumps({"weights": 1, "epoch": 2}))
    with pytest.raises(CheckpointError, match="must hold G_ema; got weights, epoch"):
        read(tmp_path / "n.pkl")


@pytest.mark.parametrize(
    ("base", "largest", "top"), [(32768, 512, 1024), (16384, 512, 256), (3072, 256, 128), (1000, 20, 128)]
)
def test_infer_channels_gives_the_same_widths(base: int, largest: int, top: int):
    sizes = [2**i for i in range(2, top.bit_length())]
    widths = {r: min(base // r, largest) for r in sizes}
    found = infer_channels(widths)
    assert {r: min(found[0] // r, found[1]) for r in sizes} == widths


def test_infer_channels_finds_the_published_bases():
    for base in (32768, 16384):
        assert infer_channels({r: min(base // r, 512) for r in (4, 8, 16, 32, 64, 128, 256)}) == (base, 512)
