"""The whole import: files in, a pack out that loads and draws; what is wrong is one line and leaves no pack."""

import pickle
import random
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from pipeline.checkpoints.drawing_check import check_generator
from pipeline.checkpoints.import_pack import PREVIEW_FILE, ImportOptions, import_pack
from pipeline.errors import CheckpointError, PackError, PipelineError
from pipeline.models.stylegan2 import Generator, GeneratorConfig
from pipeline.packs.pack import DIRECTIONS_FILE, STATISTICS_FILE, Pack
from storage import Store, decode_image
from tests.pipeline.checkpoints import nvlabs_files as nv
from tests.pipeline.checkpoints import rosinality_files as ro
from tests.tolerances import IMPORTED_NETWORK

MUTATIONS = 1_000


@pytest.fixture(scope="module")
def pickle_file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("files") / "network.pkl"
    return nv.save_pickle(path, nv.random_generator(16, conv_clamp=256, num_fp16_res=2))


@pytest.fixture
def store(tmp_path: Path) -> Store:
    return Store(str(tmp_path / "pack"))


def run(store: Store, *paths: Path, **options: Any) -> Pack:
    import_pack([str(path) for path in paths], store, options=ImportOptions(**options))
    return Pack(store, device="cpu")


def test_imported_pack_draws_as_the_source_does(pickle_file: Path, store: Store):
    pack = run(store, pickle_file, domain="noise", licence="mine")
    theirs = nv.random_generator(16, conv_clamp=256, num_fp16_res=2)
    w_plus = torch.randn(2, theirs.num_ws, theirs.w_dim)
    torch.testing.assert_close(pack.generator(w_plus), theirs.synthesis(w_plus)[-1][1], **IMPORTED_NETWORK)
    assert (pack.description.domain, pack.description.licence) == ("noise", "mine")
    assert pack.description.clip.name == "ViT-B-32-quickgelu"


def test_pack_records_where_it_is_from(pickle_file: Path, store: Store):
    record = run(store, pickle_file).description.imported["network.pkl"]
    assert record["format"] == "nvlabs"
    assert (record["conv_clamp"], record["num_fp16_res"], record["parity"]) == (256, 2, None)
    assert len(record["sha256"]) == 64
    assert record["unused"]
    assert record["clamp_reached"] == "by none of seeds 0 to 3"


@pytest.mark.parametrize(("later", "wanted"), [({}, "ffhq"), ({"align": "center-crop"}, "center-crop")])
def test_framing_of_photos_is_kept_unless_a_later_import_says_another(
    later: dict[str, Any], wanted: str, tmp_path: Path, store: Store
):
    pack = run(store, ro.save_converted(tmp_path / "x.pt", ro.random_generator(8)), align="ffhq")
    assert pack.description.align == "ffhq"
    rows = sum(layer.num_channels for layer in pack.generator.space.editable)
    np.save(tmp_path / "fs3.npy", np.ones((rows, 4), np.float32))
    assert run(store, tmp_path / "fs3.npy", **later).description.align == wanted


def test_pack_records_that_test_seeds_reach_the_clamp(tmp_path: Path, store: Store):
    path = nv.save_pickle(tmp_path / "n.pkl", nv.random_generator(16, conv_clamp=0.5))
    pack = run(store, path)
    assert pack.description.generator.conv_clamp == 0.5
    reached = pack.description.imported["n.pkl"]["clamp_reached"]
    assert reached.startswith("by seeds 0, 1, 2, 3 of 4; without it their pixels differ by up to ")
    unclamped = import_pack([str(path)], Store(str(tmp_path / "off")), options=ImportOptions(parity="none"))
    assert "clamp_reached" not in unclamped[0].notes


def test_preview_is_four_images(pickle_file: Path, store: Store):
    pack = run(store, pickle_file)
    image = decode_image(pack.read(PREVIEW_FILE))
    assert image.shape == (32, 32, 3)
    assert image.std() > 0


def test_rosinality_file_becomes_a_pack(tmp_path: Path, store: Store):
    path = ro.save_converted(tmp_path / "x.pt", ro.random_generator(16))
    assert run(store, path).generator.space.resolution == 16


def test_mapping_lr_is_refused_for_pickles(pickle_file: Path, store: Store):
    with pytest.raises(CheckpointError, match="--mapping-lr is for rosinality's files"):
        run(store, pickle_file, mapping_lr=0.1)


@pytest.mark.parametrize("options", [{"label": 1}, {"parity": "nvlabs"}])
def test_options_of_pickles_are_refused_for_rosinality(options: dict[str, Any], tmp_path: Path, store: Store):
    path = ro.save_converted(tmp_path / "x.pt", ro.random_generator(8))
    with pytest.raises(CheckpointError, match="are for NVlabs pickles"):
        run(store, path, **options)


def test_fs3_is_added_with_the_statistics_it_needs(tmp_path: Path, store: Store):
    pack = run(store, ro.save_converted(tmp_path / "x.pt", ro.random_generator(8)))
    rows = sum(layer.num_channels for layer in pack.generator.space.editable)
    np.save(tmp_path / "fs3.npy", np.ones((rows, 4), np.float32))
    pack = run(store, tmp_path / "fs3.npy")
    assert pack.table(DIRECTIONS_FILE).num_rows == rows
    assert pack.table(STATISTICS_FILE).num_rows == pack.generator.space.num_channels
    assert set(pack.description.imported) == {"x.pt", "fs3.npy"}


def test_second_generator_is_refused(pickle_file: Path, store: Store):
    run(store, pickle_file)
    with pytest.raises(CheckpointError, match=r"has one already, and network.pkl is another"):
        run(store, pickle_file)


def encoder_like(path: Path) -> Path:
    state = {"encoder.styles.0.convs.0.weight": torch.zeros(1), "decoder.conv1.conv.weight": torch.zeros(1)}
    torch.save({"state_dict": state, "opts": {}, "latent_avg": torch.zeros(18, 512)}, path)
    return path


def test_encoder_given_as_a_generator_is_named(tmp_path: Path, store: Store):
    path = encoder_like(tmp_path / "e4e.pt")
    with pytest.raises(CheckpointError, match=r"e4e.pt: is an e4e or pSp encoder, not a generator"):
        run(store, path)
    with pytest.raises(CheckpointError, match=r"must be a rosinality .* it is an e4e .* Use --format e4e"):
        run(store, path, format="rosinality")
    assert not store.exists("pack.json")


def test_inverter_of_another_resolution_is_refused(pickle_file: Path, tmp_path: Path, store: Store):
    from tests.pipeline.checkpoints import encoder_files

    path = encoder_files.save_e4e(tmp_path / "e4e.pt", encoder_files.e4e_state(4), torch.zeros(4, 512))
    with pytest.raises(CheckpointError, match=r"generator's 6 rows of 12 \(16 px\); it gives 4 rows of 512 \(8 px\)"):
        run(store, pickle_file, path)


def test_unknown_contents_are_listed(tmp_path: Path, store: Store):
    (tmp_path / "x.pkl").write_bytes(pickle.dumps({"weights": 1}))
    with pytest.raises(CheckpointError, match=r"it holds weights. If you know"):
        run(store, tmp_path / "x.pkl")


def test_latents_are_sent_where_they_belong(tmp_path: Path, store: Store):
    np.save(tmp_path / "w.npy", np.zeros((2, 18, 512), np.float32))
    for options in ({}, {"format": "fs3"}):
        with pytest.raises(CheckpointError, match="belong to a run"):
            run(store, tmp_path / "w.npy", **options)


def test_refusal_names_the_file_among_several(pickle_file: Path, tmp_path: Path, store: Store):
    np.save(tmp_path / "fs3.npy", np.array([{}], dtype=object), allow_pickle=True)
    with pytest.raises(CheckpointError, match=r"^fs3.npy: a .npy file must hold plain"):
        run(store, pickle_file, tmp_path / "fs3.npy")


def test_two_files_of_one_name_are_refused(pickle_file: Path, tmp_path: Path, store: Store):
    with pytest.raises(CheckpointError, match=r"different names; got network.pkl twice. Rename one"):
        run(store, pickle_file, tmp_path / "network.pkl")


def test_clip_with_the_wrong_activation_is_refused_before_anything_is_read(store: Store):
    with pytest.raises(PackError, match="QuickGELU"):
        run(store, Path("nowhere.pkl"), clip_name="ViT-B-32")


def test_pack_without_identity_or_inverter_says_how_to_add_one(pickle_file: Path, store: Store):
    pack = run(store, pickle_file)
    with pytest.raises(PackError, match=r"identity network.*has none. Add one: .* model_ir_se50.pth"):
        _ = pack.identity
    with pytest.raises(PackError, match=r"inverter.*has none. Add one: styleclip pack import e4e"):
        _ = pack.inverter


@pytest.mark.parametrize(("change", "match"), [(float("nan"), "finite"), (0.0, "flat colour")])
def test_self_test_refuses_a_generator_that_does_not_draw(change: float, match: str):
    generator = Generator(GeneratorConfig(resolution=8, channel_base=64, channel_max=8, z_dim=4, w_dim=4))
    with torch.no_grad():
        for layer in generator.space.layers:
            if layer.is_torgb:
                generator.synthesis.layer(layer.index).weight.fill_(change)
    with pytest.raises(CheckpointError, match=match):
        check_generator(generator, source="x.pkl")


def test_self_test_refuses_a_generator_that_always_draws_the_same():
    generator = Generator(GeneratorConfig(resolution=8, channel_base=64, channel_max=8, z_dim=4, w_dim=4))
    with torch.no_grad():
        generator.mapping.get_parameter("fc7.weight").zero_()
    with pytest.raises(CheckpointError, match="the same one"):
        check_generator(generator, source="x.pkl")


# ------------------------------------------------------------------ damage


def mutated(data: bytes, random_: random.Random) -> bytes:
    """A few bytes changed, removed, doubled or moved, mostly where the program is and not the numbers."""
    out = bytearray(data)
    for _ in range(random_.choice([1, 1, 2, 8])):
        place = random_.randrange(len(out))
        kind = random_.randrange(5)
        if kind == 0:
            out[place] = random_.randrange(256)
        elif kind == 1:
            out[place] ^= 1 << random_.randrange(8)
        elif kind == 2:
            del out[place : place + random_.choice([1, 4, 200])]
        elif kind == 3:
            out[place:place] = out[place : place + random_.choice([1, 16, 300])]
        else:
            out[place:place] = random_.choice([b"cos\nsystem\n", b"R", b".", b"\x93", b"b", b"0", b"(", b"\x85", b"Q"])
    return bytes(out)


def seed_files(folder: Path) -> list[Path]:
    small = {"channel_base": 32, "channel_max": 4, "z_dim": 3, "w_dim": 3, "mapping_layers": 1}
    pickles = [nv.save_pickle(folder / f"p{i}.pkl", nv.random_generator(8, **small), protocol=i) for i in (0, 2, 4)]
    tensorflow = nv.save_tensorflow(folder / "tf.pkl", nv.tensorflow_networks(nv.random_generator(8, **small)))
    theirs = ro.random_generator(8, style_dim=3, n_mlp=1, base=32, largest=4)
    torch_files = [ro.save_converted(folder / f"{z}.pt", theirs, zipped=z) for z in (True, False)]
    conditional = nv.save_pickle(folder / "c.pkl", nv.random_generator(8, c_dim=2, **small))
    encoder = encoder_like(folder / "e4e.pt")
    np.save(folder / "fs3.npy", np.zeros((4, 4), np.float32))
    return [*pickles, tensorflow, *torch_files, conditional, encoder, folder / "fs3.npy"]


def test_a_thousand_damaged_files_are_refused_or_read_and_nothing_is_run(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    ran = []
    monkeypatch.setattr("os.system", ran.append)
    seeds = [path.read_bytes() for path in seed_files(tmp_path)]
    random_ = random.Random(0)
    path, messages, read = tmp_path / "damaged.pkl", [], 0
    for number in range(MUTATIONS):
        path.write_bytes(mutated(seeds[number % len(seeds)], random_))
        try:
            import_pack([str(path)], Store(str(tmp_path / f"pack{number}")))
            read += 1
        except PipelineError as error:
            messages.append(str(error))
    assert not ran
    assert read > 0  # damage within the numbers is not seen, which is what a checksum is for
    assert all("\n" not in message and len(message) < 1_000 for message in messages)
