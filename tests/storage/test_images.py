import io

import numpy as np
import pyarrow as pa
import pytest
from PIL import Image

from storage import IMAGE_TYPE, CorruptError, decode_image, encode_image, encode_png, image_struct

PIXELS = np.random.default_rng(0).integers(0, 256, (5, 7, 3), dtype=np.uint8)


def encoded(image, kind="PNG", **options):
    buffer = io.BytesIO()
    image.save(buffer, format=kind, **options)
    return buffer.getvalue()


def test_decode_image_returns_what_encode_png_took():
    np.testing.assert_array_equal(decode_image(encode_png(PIXELS)), PIXELS)


def test_encode_png_of_the_same_array_gives_the_same_bytes():
    assert encode_png(PIXELS) == encode_png(np.asfortranarray(PIXELS))


@pytest.mark.parametrize("array", [PIXELS / 255, PIXELS[..., 0], PIXELS.transpose(2, 0, 1), PIXELS[:0]])
def test_encode_png_of_other_shape_or_type_raises(array):
    with pytest.raises(ValueError, match=r"must be uint8 \[h, w, 3\] and not empty; got"):
        encode_png(array)


@pytest.mark.parametrize("kind", ["BMP", "TIFF", "PPM"])
def test_decode_image_of_other_lossless_formats_returns_the_pixels(kind):
    np.testing.assert_array_equal(decode_image(encoded(Image.fromarray(PIXELS), kind)), PIXELS)


def test_decode_image_turns_by_exif_orientation():
    exif = Image.Exif()
    exif[0x0112] = 6  # to be shown turned by 90 degrees clockwise
    data = encoded(Image.fromarray(PIXELS), exif=exif)
    np.testing.assert_array_equal(decode_image(data), np.rot90(PIXELS, -1))


@pytest.mark.parametrize("mode", ["L", "P", "1", "RGBA", "LA", "CMYK"])
def test_decode_image_of_any_mode_gives_rgb(mode):
    data = encoded(Image.fromarray(PIXELS).convert(mode), "TIFF")
    array = decode_image(data)
    assert (array.shape, array.dtype, array.flags.writeable) == ((5, 7, 3), np.uint8, True)


def test_decode_image_of_16_bit_grey_keeps_the_upper_8_bits():
    grey = np.array([[0, 255, 256, 65535]], np.uint16)
    assert decode_image(encoded(Image.fromarray(grey)))[0, :, 0].tolist() == [0, 0, 1, 255]


def test_decode_image_of_floats_raises_corrupt():
    with pytest.raises(CorruptError, match="mode 'F' has no stated range"):
        decode_image(encoded(Image.fromarray(np.ones((2, 2), np.float32)), "TIFF"))


@pytest.mark.parametrize("data", [b"", b"no image", encode_png(PIXELS)[:60]])
def test_decode_image_of_no_image_raises_corrupt(data):
    with pytest.raises(CorruptError, match=rf"must be of a format that Pillow opens, and whole; got {len(data)} bytes"):
        decode_image(data)


def test_decode_image_of_a_flipped_byte_raises_corrupt():
    data = bytearray(encode_png(PIXELS))
    data[60] ^= 0xFF
    with pytest.raises(CorruptError, match="Open the file in a viewer"):
        decode_image(bytes(data))


def test_image_struct_is_a_cell_of_image_type():
    cell = image_struct(b"png", "seed-00000042.png")
    assert pa.array([cell], IMAGE_TYPE).to_pylist() == [{"bytes": b"png", "path": "seed-00000042.png"}]


@pytest.mark.parametrize(("kind", "pillow"), [("png", "PNG"), ("webp", "WEBP")])
def test_encode_image_lossless_formats_keep_every_bit(kind, pillow):
    data = encode_image(PIXELS, kind)
    assert Image.open(io.BytesIO(data)).format == pillow
    np.testing.assert_array_equal(decode_image(data), PIXELS)


def test_encode_image_jpeg_is_nearer_and_larger_at_higher_quality():
    smooth = np.tile(np.linspace(0, 255, 64, dtype=np.uint8)[:, None, None], (1, 64, 3))
    smooth = smooth + np.random.default_rng(0).integers(0, 9, smooth.shape, dtype=np.uint8)
    low, high = (encode_image(smooth, "jpeg", quality=q) for q in (30, 95))
    error = [np.abs(decode_image(data).astype(int) - smooth.astype(int)).mean() for data in (low, high)]
    assert len(low) < len(high)
    assert error[1] < error[0] < 20
    assert Image.open(io.BytesIO(high)).format == "JPEG"
