"""resize_normalize against Pillow, torchvision and torch's antialiased bicubic."""

from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from torch import Tensor
from torch.nn import functional as F
from torchvision.transforms import InterpolationMode
from torchvision.transforms import functional as TF

from kernels import bicubic_matrix, resize_normalize
from kernels.impl import Impl
from tests.kernels.random_tensors import Randn
from tests.tolerances import FLOAT64_FORMULA, PILLOW_FLOAT, PILLOW_UINT8_LEVELS, ROW_SUM, TORCH_BICUBIC

BOTH = pytest.mark.parametrize("impl", ["fast", "ref"])
SIZES = pytest.mark.parametrize(("size_in", "size_out"), [(32, 7), (16, 16), (7, 16), (33, 14), (1, 3), (64, 1)])
IDENTITY: Any = {"mean": (0.0, 0.0, 0.0), "std": (1.0, 1.0, 1.0)}  # leaves [0, 1] RGB
CLIP: Any = {"mean": (0.48145466, 0.4578275, 0.40821073), "std": (0.26862954, 0.26130258, 0.27577711)}


@SIZES
def test_bicubic_matrix_rows_sum_to_one(size_in: int, size_out: int) -> None:
    matrix = bicubic_matrix(size_in, size_out)
    assert matrix.shape == (size_out, size_in)
    torch.testing.assert_close(matrix.sum(dim=1), torch.ones(size_out), **ROW_SUM)


@SIZES
def test_bicubic_matrix_is_symmetric_about_the_middle(size_in: int, size_out: int) -> None:
    matrix = bicubic_matrix(size_in, size_out)
    torch.testing.assert_close(matrix.flip(0, 1), matrix, **ROW_SUM)


def test_bicubic_matrix_same_size_is_identity() -> None:
    torch.testing.assert_close(bicubic_matrix(9, 9), torch.eye(9), **ROW_SUM)


@SIZES
def test_bicubic_matrix_equals_pillow_on_float_images(size_in: int, size_out: int, randn: Randn) -> None:
    pixels = 128 + 60 * randn(size_in, size_in + 3, dtype=torch.float32)
    image = Image.fromarray(pixels.numpy())
    assert image.mode == "F"
    want = np.asarray(image.resize((size_out, size_out), Image.Resampling.BICUBIC))
    got = bicubic_matrix(size_in, size_out) @ pixels @ bicubic_matrix(size_in + 3, size_out).T
    torch.testing.assert_close(got, torch.from_numpy(want.copy()), **PILLOW_FLOAT)


@pytest.mark.parametrize("sizes", [(0, 3), (3, 0)])
def test_bicubic_matrix_size_below_one_raises(sizes: tuple[int, int]) -> None:
    with pytest.raises(ValueError, match=f"sizes must be at least 1; got {sizes[0]} and {sizes[1]}"):
        bicubic_matrix(*sizes)


def levels(shape: tuple[int, int]) -> np.ndarray:
    """Mid-range 8-bit colours, so that no overshoot is cut between Pillow's two passes."""
    return np.random.default_rng(0).integers(64, 192, size=(*shape, 3), dtype=np.uint8)


@BOTH
@pytest.mark.parametrize("size", [8, 14, 40])
def test_resize_normalize_within_one_level_of_pillow(size: int, impl: Impl) -> None:
    pixels = levels((32, 32))
    want = np.asarray(Image.fromarray(pixels).resize((size, size), Image.Resampling.BICUBIC)).astype(int)
    images = torch.from_numpy(pixels).permute(2, 0, 1)[None].float() / 127.5 - 1
    got = resize_normalize(images, size, **IDENTITY, impl=impl)[0].permute(1, 2, 0) * 255
    assert int(np.abs(got.round().int().numpy() - want).max()) <= PILLOW_UINT8_LEVELS


@pytest.mark.parametrize("shape", [(32, 32), (16, 16), (8, 8), (33, 20), (20, 33), (9, 14), (8, 11)])
def test_resize_normalize_fast_equals_torch_bicubic(shape: tuple[int, int], randn: Randn) -> None:
    images = randn(2, 3, *shape, dtype=torch.float32)
    fast, ref = (resize_normalize(images, 8, **CLIP, impl=impl) for impl in ("fast", "ref"))
    assert fast.shape == (2, 3, 8, 8)
    torch.testing.assert_close(fast, ref, **TORCH_BICUBIC)


def torchvision_preprocess(images: Tensor, size: int) -> Tensor:
    """open_clip's evaluation transform on float images: Resize, CenterCrop, then the displayable range."""
    resized = TF.resize(images, [size], InterpolationMode.BICUBIC, antialias=True)
    return TF.center_crop(resized, [size]).clamp(-1, 1) * 0.5 + 0.5


@BOTH
@pytest.mark.parametrize("shape", [(9, 14), (8, 11), (14, 9), (17, 30), (10, 13), (21, 12), (7, 7)])
def test_resize_normalize_crops_the_centre_as_torchvision(shape: tuple[int, int], impl: Impl, randn: Randn) -> None:
    images = randn(1, 3, *shape, dtype=torch.float32).clamp(-1, 1)
    got = resize_normalize(images, 7, **IDENTITY, impl=impl)
    torch.testing.assert_close(got, torchvision_preprocess(images, 7), **TORCH_BICUBIC)


@BOTH
def test_resize_normalize_right_size_only_normalises(impl: Impl, randn: Randn) -> None:
    images = randn(2, 3, 8, 8, dtype=torch.float32).clamp(-1, 1)
    mean, std = (torch.tensor(CLIP[key]).reshape(1, 3, 1, 1) for key in ("mean", "std"))
    want = (images * 0.5 + 0.5 - mean) / std
    torch.testing.assert_close(resize_normalize(images, 8, **CLIP, impl=impl), want, **TORCH_BICUBIC)


@BOTH
def test_resize_normalize_output_stays_displayable(impl: Impl, randn: Randn) -> None:
    out = resize_normalize(5 * randn(1, 3, 16, 16, dtype=torch.float32), 7, **IDENTITY, impl=impl)
    assert 0.0 <= float(out.min()) <= float(out.max()) <= 1.0


@BOTH
def test_resize_normalize_constant_image_stays_constant(impl: Impl) -> None:
    out = resize_normalize(torch.full((1, 3, 20, 12), 0.5), 7, **IDENTITY, impl=impl)
    torch.testing.assert_close(out, torch.full((1, 3, 7, 7), 0.75), **TORCH_BICUBIC)


def test_resize_normalize_fast_gradient_equals_torch_bicubic(randn: Randn) -> None:
    images, weight = randn(1, 3, 15, 20, dtype=torch.float32), randn(1, 3, 7, 7, dtype=torch.float32)
    gradients = []
    for impl in ("fast", "ref"):
        leaf = images.clone().requires_grad_()
        (resize_normalize(leaf, 7, **CLIP, impl=impl) * weight).sum().backward()
        gradients.append(leaf.grad)
    torch.testing.assert_close(gradients[0], gradients[1], **TORCH_BICUBIC)


def test_resize_normalize_after_inference_mode_still_differentiates() -> None:
    with torch.inference_mode():
        resize_normalize(torch.zeros(1, 3, 19, 19), 5, **IDENTITY)
    leaf = torch.zeros(1, 3, 19, 19, requires_grad=True)
    resize_normalize(leaf, 5, **IDENTITY).sum().backward()
    assert leaf.grad is not None


def test_resize_normalize_half_range_formula_on_one_pixel() -> None:
    images = torch.tensor([-1.0, 0.0, 1.0]).reshape(1, 3, 1, 1)
    out = resize_normalize(images.double(), 1, mean=(0.5, 0.25, 0.0), std=(0.5, 0.25, 2.0))
    torch.testing.assert_close(out.flatten(), torch.tensor([-1.0, 1.0, 0.5]).double(), **FLOAT64_FORMULA)


def test_interpolate_reference_differs_without_antialias(randn: Randn) -> None:
    """Guards the reference itself: were ``antialias`` dropped there, this would be zero."""
    images = randn(1, 3, 32, 32, dtype=torch.float32).clamp(-1, 1)
    plain = F.interpolate(images, size=(7, 7), mode="bicubic").clamp(-1, 1) * 0.5 + 0.5
    assert float((resize_normalize(images, 7, **IDENTITY, impl="ref") - plain).abs().max()) > 0.05
