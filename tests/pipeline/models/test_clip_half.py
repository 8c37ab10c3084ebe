"""CLIP's image tower in half precision: the same embeddings and gradients within its rounding."""

import pytest
import torch

from pipeline.packs.pack import Pack
from tests.tolerances import BFLOAT16, HALF_PRECISION

HALVES = pytest.mark.parametrize(
    ("dtype", "tolerance"), [(torch.float16, HALF_PRECISION), (torch.bfloat16, BFLOAT16)], ids=["float16", "bfloat16"]
)


def some_images() -> torch.Tensor:
    return torch.rand(3, 3, 20, 20, generator=torch.Generator().manual_seed(0)) * 2 - 1


@HALVES
def test_half_embeds_the_same_within_its_rounding(dtype: torch.dtype, tolerance, tiny_pack: Pack):
    half, images = tiny_pack.clip.in_half(dtype), some_images()
    got, full = half.encode_images(images), tiny_pack.clip.encode_images(images)
    assert got.dtype == torch.float32
    assert not torch.equal(got, full)
    torch.testing.assert_close(got, full, **tolerance)
    torch.testing.assert_close(got.norm(dim=1), torch.ones(3), rtol=0, atol=1e-6)


@pytest.mark.parametrize("factor", [1.0, 2.0**-50])
@HALVES
def test_half_gradients_point_as_the_full_ones_however_small(
    dtype: torch.dtype, tolerance, factor: float, tiny_pack: Pack
):
    down = torch.randn(3, 16, generator=torch.Generator().manual_seed(1)) * factor
    found = []
    for clip in (tiny_pack.clip.in_half(dtype), tiny_pack.clip):
        images = some_images().requires_grad_()
        found.append(torch.autograd.grad(clip.encode_images(images), images, down)[0].flatten(1).double() / factor)
    cosine = torch.nn.functional.cosine_similarity(*found, dim=1)
    assert float(cosine.min()) > 1 - tolerance["atol"]


def test_half_leaves_texts_and_the_original_as_they_were(tiny_pack: Pack):
    before = tiny_pack.clip.encode_images(some_images())
    half = tiny_pack.clip.in_half()
    assert half is tiny_pack.clip.in_half()
    assert torch.equal(half.encode_texts(["a hat"]), tiny_pack.clip.encode_texts(["a hat"]))
    assert torch.equal(tiny_pack.clip.encode_images(some_images()), before)


def test_other_image_towers_stay_in_full_precision(tiny_pack: Pack, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(tiny_pack.clip.model.visual, "pool_type", "avg")
    assert tiny_pack.clip.in_half(torch.bfloat16) is tiny_pack.clip
