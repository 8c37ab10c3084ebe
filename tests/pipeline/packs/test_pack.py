from pathlib import Path

import pytest
import torch

from pipeline.errors import PackError, PromptError
from pipeline.models.clip import check_activation, load_open_clip
from pipeline.packs.pack import Pack, built_in_packs, load_pack
from storage import Store
from tests.conftest import write_tiny_pack


def test_load_pack_same_uri_is_loaded_once(tiny_pack_uri: str):
    assert load_pack(tiny_pack_uri, device="cpu") is load_pack(tiny_pack_uri, device="cpu")


def test_load_pack_unknown_name_lists_built_in_packs():
    with pytest.raises(PackError, match=r"built-in pack .*peeps.*got 'nobody'"):
        load_pack("nobody")


def test_pack_folder_without_description_says_what_to_give(tmp_path: Path):
    with pytest.raises(PackError, match=r"must hold a pack.json; found none at"):
        Pack(Store(str(tmp_path)), device="cpu")


@pytest.mark.parametrize("damage", [b"", b"version https://git-lfs.github.com/spec/v1\n"])
def test_pack_damaged_file_is_refused_before_use(tmp_path: Path, damage: bytes):
    folder = write_tiny_pack(tmp_path / "p")
    (folder / "generator.safetensors").write_bytes(damage)
    with pytest.raises(PackError, match=r"generator.safetensors must have sha256 .*damaged or a Git LFS pointer"):
        Pack(Store(str(folder)), device="cpu").generator  # noqa: B018


def test_pack_missing_file_is_named(tmp_path: Path):
    folder = write_tiny_pack(tmp_path / "p")
    (folder / "open_clip_model.safetensors").unlink()
    with pytest.raises(PackError, match=r"lists open_clip_model.safetensors but it is not at"):
        Pack(Store(str(folder)), device="cpu").clip  # noqa: B018


def test_pack_digest_changes_with_any_file(tmp_path: Path, tiny_pack: Pack):
    assert Pack(Store(str(write_tiny_pack(tmp_path / "same"))), device="cpu").digest == tiny_pack.digest
    other = write_tiny_pack(tmp_path / "other")
    text = (other / "pack.json").read_text().replace('"strength": 4.0', '"strength": 5.0')
    (other / "pack.json").write_text(text)
    assert Pack(Store(str(other)), device="cpu").digest != tiny_pack.digest


def test_clip_embeddings_are_unit_and_differentiable_in_the_image(tiny_pack: Pack):
    image = torch.zeros(2, 3, 16, 16, requires_grad=True)
    embedded = tiny_pack.clip.encode_images(image)
    torch.testing.assert_close(embedded.norm(dim=1), torch.ones(2))
    embedded[:, 0].sum().backward()
    assert image.grad is not None
    assert image.grad.abs().max() > 0


def test_clip_text_direction_is_unit_and_antisymmetric(tiny_pack: Pack):
    there = tiny_pack.clip.text_direction("a hat", "a face", ["{}", "a photo of {}"])
    back = tiny_pack.clip.text_direction("a face", "a hat", ["{}", "a photo of {}"])
    torch.testing.assert_close(there.norm(), torch.tensor(1.0))
    torch.testing.assert_close(there, -back)


def test_clip_text_direction_of_equal_texts_is_an_error_not_nan(tiny_pack: Pack):
    with pytest.raises(PromptError, match=r"have one embedding"):
        tiny_pack.clip.text_direction("a face", "a face", ["{}"])


def test_clip_text_longer_than_the_context_is_refused(tiny_pack: Pack):
    with pytest.raises(PromptError, match=r"must fit into CLIP's 64 tokens; got \d+ tokens"):
        tiny_pack.clip.encode_texts(["face " * 100])


def test_check_activation_openai_weights_in_a_gelu_model_are_refused():
    with pytest.raises(PackError, match=r"trained with QuickGELU.*Use 'ViT-B-32-quickgelu'"):
        check_activation("ViT-B-32", "openai")
    check_activation("ViT-B-32-quickgelu", "openai")
    check_activation("ViT-B-32", "laion2b_s34b_b79k")


def test_check_activation_unknown_names_are_refused():
    with pytest.raises(PackError, match=r"got 'ViT-Z'"):
        check_activation("ViT-Z", "openai")
    with pytest.raises(PackError, match=r"no tag 'nope'. Known tags: "):
        check_activation("ViT-B-32", "nope")


def test_clip_that_cannot_be_fetched_says_where_it_is_looked_for(monkeypatch: pytest.MonkeyPatch):
    def unreachable(*_: object, **__: object) -> str:
        raise FileNotFoundError("no connection,\nand nothing in the cache")

    monkeypatch.setattr("open_clip.factory.download_pretrained", unreachable)
    with pytest.raises(PackError, match=r"'ViT-B-32-quickgelu', 'openai' must be .*no connection, and.*HF_HUB_OFFLINE"):
        load_open_clip("ViT-B-32-quickgelu", "openai", device="cpu")


def test_built_in_packs_has_peeps():
    assert "peeps" in built_in_packs()


def test_clip_names_the_words_it_never_saw(tiny_pack: Pack):
    assert tiny_pack.clip.unknown_words("face, Wizard hat") == ["Wizard"]


SYMBOLS = [
    ("a face \U0001f60e", ["\U0001f60e"]),
    ("\u2605 hat \u2605", ["\u2605", "\u2605"]),
    ("hat 47", ["4", "7"]),
    ("a $ face & hat #", ["$", "&", "#"]),
    ("\u773c\u93e1", ["\u773c\u93e1"]),
    ('face\'s (a hat), a face: "hat"!', []),
]


@pytest.mark.parametrize(("text", "unknown"), SYMBOLS)
def test_clip_names_the_numbers_and_symbols_it_never_saw(tiny_pack: Pack, text: str, unknown: list[str]):
    assert tiny_pack.clip.unknown_words(text) == unknown


@pytest.mark.parametrize(("text", "unknown"), [("a wizard", []), *SYMBOLS])
def test_clip_of_a_small_vocabulary_of_pieces_knows_all_words_but_no_symbols(
    tiny_pack: Pack, monkeypatch: pytest.MonkeyPatch, text: str, unknown: list[str]
):
    monkeypatch.setattr(tiny_pack.clip, "whole_words", False)
    assert tiny_pack.clip.unknown_words(text) == unknown


def test_clip_of_the_full_vocabulary_knows_all(tiny_pack: Pack, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(tiny_pack.clip, "whole_words", False)
    monkeypatch.setattr(tiny_pack.clip.tokenize, "vocab_size", 49_408)
    assert tiny_pack.clip.unknown_words("\u2605 7 wizard") == []


def test_weights_lie_where_products_repeat_to_the_bit(tiny_pack_uri: str):
    pack = Pack(Store(tiny_pack_uri), device="cpu")
    assert {p.data_ptr() % 64 for m in (pack.generator, pack.identity) for p in m.state_dict().values()} == {0}
