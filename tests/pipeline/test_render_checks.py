import pytest
import torch

from pipeline.packs.pack import Pack
from pipeline.pixels import to_uint8
from pipeline.render_checks import render_faults, saturation
from pipeline.stages.dataset import compute_images, image_name

IMAGE = torch.zeros(1, 3, 4, 4)
STYLES = torch.ones(1, 5)


@pytest.mark.parametrize(
    ("style", "colour", "reason"),
    [
        (1.0, 0.0, None),
        (float("nan"), 0.0, "the styles must be finite"),
        (float("inf"), 0.0, "the styles must be finite"),
        (-1e16, 0.0, "the styles must stay below 1e\\+15 in size"),
        (1.0, float("nan"), "the image must be finite"),
        (1.0, float("-inf"), "the image must be finite"),
    ],
)
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_render_faults_names_what_is_not_finite(style: float, colour: float, reason: str | None, dtype: torch.dtype):
    styles, image = STYLES.to(dtype).clone(), IMAGE.to(dtype).clone()
    styles[0, 3], image[0, 1, 2, 2] = style, colour
    (fault,) = render_faults(styles, image)
    assert fault is None if reason is None else reason.replace("\\", "") in str(fault)


def test_render_faults_half_precision_overflow_is_found():
    image = (IMAGE + 7e4).half()
    assert "the image must be finite" in str(render_faults(STYLES.half(), image)[0])


def test_saturation_is_the_share_of_pixels_far_outside():
    image = IMAGE.clone()
    image[0, 0, 0, 0], image[0, 2, 0, 0], image[0, 1, 3, 3], image[0, 1, 2, 2] = 2.0, 2.0, -1.6, 1.4
    assert saturation(image) == [2 / 16]


@pytest.mark.parametrize("move", [1e17, 1e20, 1e30, 1e38, float("inf")])
def test_compute_images_a_move_beyond_float32_has_a_reason_and_spares_its_batch(tiny_pack: Pack, move: float):
    styles = tiny_pack.generator.styles(torch.randn(3, 8, generator=torch.Generator().manual_seed(0))).detach()
    styles[1, tiny_pack.generator.space.editable[1].offset] = move
    first, broken, last = compute_images(tiny_pack.generator, styles, batch_size=3)
    assert broken.image is None
    assert broken.saturation is None
    assert "Lower the strength" in str(broken.error)
    for i, render in ((0, first), (2, last)):
        assert render.error is None
        (alone,) = compute_images(tiny_pack.generator, styles[i : i + 1], batch_size=1)
        assert (render.image == alone.image).all()


def test_to_uint8_of_nan_is_refused():
    with pytest.raises(ValueError, match="got NaN"):
        to_uint8(torch.full((1, 3, 2, 2), float("nan")))


def test_image_name_is_short_and_never_shared():
    assert image_name("seed-1", "hat", 8.0) == "seed-1__hat__8"
    assert image_name("seed-1", "hat", 1e38) == "seed-1__hat__1e+38"
    assert image_name("seed-1", "hat", 1.0000001) != image_name("seed-1", "hat", 1.0000002)
