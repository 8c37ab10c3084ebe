"""Foreign networks in their published sizes: minutes and gigabytes, so only when asked for.

STYLECLIP_FULL_SIZE=1 pytest tests/pipeline/checkpoints/test_full_size.py
"""

import os
from pathlib import Path

import pytest
import torch

from pipeline.checkpoints.e4e import read_e4e
from pipeline.checkpoints.foreign_file import read_foreign_file
from pipeline.models.e4e import E4e, E4eConfig
from tests.flows import test_pack_cli
from tests.pipeline.checkpoints import encoder_files, test_nvlabs, test_rosinality
from tests.pipeline.checkpoints import nvlabs_files as nv
from tests.pipeline.checkpoints import rosinality_files as ro
from tests.tolerances import IMPORTED_NETWORK

pytestmark = pytest.mark.skipif(
    not os.environ.get("STYLECLIP_FULL_SIZE"), reason="minutes and 4 GB of memory; STYLECLIP_FULL_SIZE=1 runs it"
)


def test_config_f_pickle_of_1024_px_imports_to_the_same_network(tmp_path: Path):
    theirs = nv.random_generator(1024, channel_base=32768, channel_max=512, z_dim=512, w_dim=512, mapping_layers=8)
    found = test_nvlabs.read(nv.save_pickle(tmp_path / "network.pkl", theirs))
    test_nvlabs.assert_same_network(test_nvlabs.built(found), theirs)


def test_config_f_rosinality_file_of_1024_px_imports_to_the_same_network(tmp_path: Path):
    theirs = ro.random_generator(1024, style_dim=512, n_mlp=8, base=32768, largest=512)
    found = test_rosinality.read(ro.save_converted(tmp_path / "x.pt", theirs))
    test_rosinality.assert_same_network(test_rosinality.built(found), theirs)


def test_encoder_with_18_heads_at_256_px_equals_the_plain_functions(tmp_path: Path):
    state, average = encoder_files.e4e_state(18), torch.randn(18, 512, generator=torch.Generator().manual_seed(5))
    path = encoder_files.save_e4e(tmp_path / "e4e.pt", state, average, encoder_type="Encoder4Editing")
    found = read_e4e(read_foreign_file(path), source="e4e.pt")
    assert found.config == E4eConfig(num_ws=18)
    with torch.device("meta"):
        network = E4e(found.config)
    network.load_state_dict(found.state, strict=True, assign=True)
    images = torch.rand(1, 3, 256, 256, generator=torch.Generator().manual_seed(2)) * 2 - 1
    with torch.no_grad():
        wanted = encoder_files.e4e(images, {k: v.float() for k, v in state.items()}, average, residual=True)
        torch.testing.assert_close(network.eval()(images), wanted, **IMPORTED_NETWORK)


PUBLISHED_SIZE = 364_000_000  # bytes of NVIDIA's FFHQ pickle, the smaller of the two


@pytest.mark.parametrize("clip", [(), ("--clip-name", "ViT-B-32", "--clip-pretrained", "laion2b_s34b_b79k")])
def test_import_of_a_training_snapshot_of_1024_px_peaks_below_three_times_its_size(
    clip: tuple[str, ...], tmp_path: Path
):
    sizes = {"channel_base": 32768, "channel_max": 512, "z_dim": 512, "w_dim": 512, "mapping_layers": 8}
    discriminator = nv.nn_parameter_holder()
    discriminator.weight = torch.nn.Parameter(torch.randn(29_000_000))  # as many as StyleGAN2's
    networks = [nv.random_generator(1024, seed=seed, **sizes) for seed in (0, 1)]
    path = nv.save_pickle(tmp_path / "x.pkl", networks[0], other=networks[1], discriminator=discriminator)
    peak = test_pack_cli.import_in_a_process(path, tmp_path / "pack", *clip)["peak"]
    assert path.stat().st_size > PUBLISHED_SIZE
    assert peak < 3 * PUBLISHED_SIZE
