"""The oracle's answers and zero-shot ones, on the tiny pack."""

import numpy as np
import pytest
import torch

from pipeline.config import ExportedDatasetConfig
from pipeline.errors import PipelineError
from pipeline.export.seeing import LOGIT_SCALE, choice_probabilities, choice_texts, open_reader
from pipeline.packs.pack import Pack
from pipeline.pixels import from_rgb_arrays
from pipeline.prompts import templates

IMAGES = np.random.default_rng(0).integers(0, 256, (3, 16, 16, 3), dtype=np.uint8)


def read(pack: Pack, images: np.ndarray = IMAGES, **alternatives: object) -> list:
    config = ExportedDatasetConfig(alternatives=alternatives)
    return open_reader(config, pack).read(images, batch_size=2)


def test_reader_without_alternatives_is_the_oracle(tiny_pack: Pack):
    shown = read(tiny_pack)
    with torch.no_grad():
        expected = tiny_pack.oracle.probabilities(from_rgb_arrays(IMAGES))
    for i, row in enumerate(shown):
        assert list(row) == ["shade", "hue"]
        assert row["hue"][0] == ("a", "b", "c")[int(expected["hue"][i].argmax())]
        assert row["hue"][1] == pytest.approx(float(expected["hue"][i].max()), abs=1e-6)
    assert read(tiny_pack, IMAGES[:0]) == []


def test_reader_asks_clip_for_alternatives_with_the_texts_given(tiny_pack: Pack):
    texts = {"no": "a face", "yes": "a face with a hat", "big": "a very big hat"}
    shown = read(tiny_pack, hat=texts)
    forms = templates("imagenet_79")
    embedded = torch.stack([tiny_pack.clip.encode_prompt(text, forms) for text in texts.values()])
    with torch.no_grad():
        logits = LOGIT_SCALE * tiny_pack.clip.encode_images(from_rgb_arrays(IMAGES)) @ embedded.T
    for row, chances in zip(shown, logits.softmax(dim=1), strict=True):
        assert row["hat"][0] == list(texts)[int(chances.argmax())]
        assert row["hat"][1] == pytest.approx(float(chances.max()), abs=1e-4)
        assert set(row) == {"shade", "hue", "hat"}


def test_alternatives_win_over_the_oracle_and_order_the_categories(tiny_pack: Pack):
    reader = open_reader(ExportedDatasetConfig(alternatives={"shade": ("dim", "bright")}), tiny_pack)
    assert reader.attributes == {"shade": ("dim", "bright"), "hue": ("a", "b", "c")}
    assert reader.read(IMAGES, batch_size=4)[0]["shade"][0] in ("dim", "bright")


def test_choice_texts_make_sentences_of_categories():
    texts = choice_texts("eyes", ("none", "dark_glasses"), neutral="a face")
    assert texts == {"none": "a face", "dark_glasses": "a face with dark glasses"}
    with pytest.raises(PipelineError, match="must be two or more to choose among"):
        choice_texts("eyes", ("glasses",), neutral="a face")


def test_choice_probabilities_are_those_of_the_nearest_text():
    texts = torch.eye(3)
    found = choice_probabilities(torch.tensor([[0.6, 0.58, 0.0]]), texts)
    assert found[0].tolist() == pytest.approx([0.8808, 0.1192, 0.0], abs=1e-4)  # a logit difference of 2
