import io
import struct
import zlib

import numpy as np
import pytest
from PIL import Image, ImageCms

from pipeline.inversion.intake import Limits, RejectedImageError, check_background, decode_photo
from storage import encode_png
from tests.pipeline.inversion.pictures import saved, smooth_picture

LIMITS = Limits(most_bytes=10_000_000, most_pixels=1_000_000, least_side=8)
WHITE = (255, 255, 255)


def decoded(data: bytes, limits: Limits = LIMITS, background: tuple[int, int, int] = WHITE) -> np.ndarray:
    return decode_photo(data, limits, background=background).pixels


@pytest.mark.parametrize("kind", ["PNG", "BMP", "TIFF", "GIF", "PPM", "TGA", "ICO"])
def test_decode_photo_reads_lossless_formats_exactly(kind: str):
    picture = np.zeros((16, 16, 3), np.uint8)
    picture[:8, :, 0], picture[8:, 4:, 1] = 200, 90
    np.testing.assert_array_equal(decoded(saved(picture, kind)), picture)


@pytest.mark.parametrize("kind", ["JPEG", "WEBP", "AVIF", "JPEG2000"])
def test_decode_photo_reads_lossy_formats_closely(kind: str):
    picture = smooth_picture(40, 56)
    assert np.abs(decoded(saved(picture, kind, quality=95)).astype(int) - picture).mean() < 4


@pytest.mark.parametrize("orientation", range(1, 9))
def test_decode_photo_turns_every_exif_orientation_upright(orientation: int):
    picture = smooth_picture(16, 24)
    undone = {
        1: lambda x: x,
        2: lambda x: x[:, ::-1],
        3: lambda x: x[::-1, ::-1],
        4: lambda x: x[::-1],
        5: lambda x: x.swapaxes(0, 1),
        6: lambda x: np.rot90(x),
        7: lambda x: np.rot90(x, 2).swapaxes(0, 1),
        8: lambda x: np.rot90(x, -1),
    }
    exif = Image.Exif()
    exif[0x0112] = orientation
    data = saved(undone[orientation](picture), "PNG", exif=exif)
    np.testing.assert_array_equal(decoded(data), picture)


def test_decode_photo_ignores_damaged_exif():
    picture = smooth_picture(16, 16)
    data = saved(picture, "PNG", exif=b"Exif\x00\x00II*\x00\xff\xff\xff\xff")
    np.testing.assert_array_equal(decoded(data), picture)


def test_decode_photo_shows_the_background_behind_alpha():
    rgba = np.zeros((8, 8, 4), np.uint8)
    rgba[..., 0], rgba[:, :4, 3], rgba[:, 4, 3] = 255, 255, 128
    found = decoded(saved(rgba, "PNG"), background=check_background("#0000ff"))
    assert found[0, 0].tolist() == [255, 0, 0]
    assert found[0, 4].tolist() == [128, 0, 127]
    assert found[0, 7].tolist() == [0, 0, 255]


def test_decode_photo_of_a_palette_with_transparency_shows_the_background():
    image = Image.fromarray(np.array([[0, 1] * 4] * 8, np.uint8), mode=None).convert("P")
    image.putpalette([10, 20, 30, 200, 100, 50])
    buffer = io.BytesIO()
    image.save(buffer, format="PNG", transparency=1)
    assert decoded(buffer.getvalue(), background=(1, 2, 3))[0, :2].tolist() == [[10, 20, 30], [1, 2, 3]]


def test_decode_photo_of_grey_alpha_and_one_bit():
    la = np.full((8, 8, 2), 0, np.uint8)
    assert (decoded(saved(la, "PNG")) == 255).all()
    buffer = io.BytesIO()
    Image.fromarray(np.eye(8) > 0).save(buffer, format="PNG")
    np.testing.assert_array_equal(decoded(buffer.getvalue())[..., 1], np.eye(8) * 255)


@pytest.mark.parametrize("kind", ["PNG", "TIFF"])
def test_decode_photo_of_sixteen_bits_keeps_the_upper_eight(kind: str):
    values = (np.arange(64, dtype=np.uint16) * 1_000).reshape(8, 8)
    np.testing.assert_array_equal(decoded(saved(values, kind))[..., 2], values >> 8)


def test_decode_photo_of_floats_is_rejected():
    buffer = io.BytesIO()
    Image.fromarray(np.ones((8, 8), np.float32)).save(buffer, format="TIFF")
    with pytest.raises(RejectedImageError, match="8 or 16 bits") as caught:
        decoded(buffer.getvalue())
    assert caught.value.reason == "unsupported"


def test_decode_photo_of_cmyk_without_profile_is_inverted():
    cmyk = Image.new("CMYK", (16, 16), (0, 255, 255, 0))
    buffer = io.BytesIO()
    cmyk.save(buffer, format="TIFF")
    assert decoded(buffer.getvalue())[5, 5].tolist() == [255, 0, 0]


def test_decode_photo_of_an_animation_takes_the_first_frame():
    frames = [Image.new("RGB", (16, 16), color) for color in ("red", "blue")]
    buffer = io.BytesIO()
    frames[0].save(buffer, format="GIF", save_all=True, append_images=frames[1:])
    assert decoded(buffer.getvalue())[5, 5].tolist() == [255, 0, 0]


def wide_gamut_profile() -> bytes:
    """A matrix profile with Adobe RGB's primaries and a gamma of 2.2, written by hand."""

    def number(x: float) -> bytes:
        return struct.pack(">i", round(x * 65_536))

    def xyz(x: float, y: float, z: float) -> bytes:
        return b"XYZ \0\0\0\0" + number(x) + number(y) + number(z)

    curve = b"curv\0\0\0\0" + struct.pack(">IH", 1, round(2.19921875 * 256)) + b"\0\0"
    text = b"text\0\0\0\0wide\0\0\0\0"
    description = b"desc\0\0\0\0" + struct.pack(">I", 5) + b"wide\0" + b"\0" * 79
    tags = {
        b"desc": description + b"\0" * (-len(description) % 4),
        b"cprt": text,
        b"wtpt": xyz(0.9642, 1.0, 0.8249),
        b"rXYZ": xyz(0.60974, 0.31111, 0.01947),
        b"gXYZ": xyz(0.20528, 0.62567, 0.06087),
        b"bXYZ": xyz(0.14919, 0.06322, 0.74457),
        b"rTRC": curve,
        b"gTRC": curve,
        b"bTRC": curve,
    }
    offset, table, body = 128 + 4 + 12 * len(tags), b"", b""
    for name, data in tags.items():
        table += name + struct.pack(">II", offset + len(body), len(data))
        body += data
    header = struct.pack(">I4sI4s4s4s", offset + len(body), b"lcms", 0x02400000, b"mntr", b"RGB ", b"XYZ ")
    header += b"\0" * 12 + b"acsp" + b"\0" * 28 + number(0.9642) + number(1.0) + number(0.8249) + b"\0" * 48
    return header + struct.pack(">I", len(tags)) + table + body


def test_decode_photo_converts_a_wide_gamut_to_srgb():
    picture = np.full((16, 16, 3), (120, 180, 90), np.uint8)
    found = decoded(saved(picture, "PNG", icc_profile=wide_gamut_profile()))[3, 3].astype(float)
    linear = (np.array([120, 180, 90]) / 255) ** 2.19921875
    to_xyz = np.array([[0.60974, 0.20528, 0.14919], [0.31111, 0.62567, 0.06322], [0.01947, 0.06087, 0.74457]])
    from_xyz = np.linalg.inv(
        np.array([[0.43607, 0.38515, 0.14307], [0.22249, 0.71687, 0.06061], [0.01392, 0.09708, 0.71410]])
    )
    srgb = (from_xyz @ to_xyz @ linear).clip(0, 1)
    wanted = np.where(srgb <= 0.0031308, 12.92 * srgb, 1.055 * srgb ** (1 / 2.4) - 0.055) * 255
    np.testing.assert_allclose(found, wanted, atol=2)
    assert abs(found[0] - 120) > 10  # the numbers themselves would be another colour


def test_decode_photo_with_a_damaged_profile_takes_srgb():
    picture = smooth_picture(16, 16)
    np.testing.assert_array_equal(decoded(saved(picture, "PNG", icc_profile=b"no profile" * 20)), picture)


def test_decode_photo_of_lab_comes_out_in_srgb():
    srgb = ImageCms.createProfile("sRGB")
    lab = ImageCms.profileToProfile(
        Image.new("RGB", (16, 16), (200, 60, 40)), srgb, ImageCms.createProfile("LAB"), outputMode="LAB"
    )
    buffer = io.BytesIO()
    lab.save(buffer, format="TIFF")
    np.testing.assert_allclose(decoded(buffer.getvalue())[3, 3], (200, 60, 40), atol=4)


@pytest.mark.parametrize("kind", ["PNG", "JPEG", "WEBP", "BMP", "TIFF", "GIF", "JPEG2000", "AVIF"])
@pytest.mark.parametrize("share", [0.02, 0.4, 0.8])
def test_decode_photo_cut_short_is_rejected(kind: str, share: float):
    rng = np.random.default_rng(0)
    data = saved(rng.integers(0, 256, (64, 64, 3), dtype=np.uint8), kind)
    with pytest.raises(RejectedImageError) as caught:
        decoded(data[: int(len(data) * share)])
    assert caught.value.reason in ("truncated", "not_an_image")
    assert caught.value.reason == "truncated" or share < 0.1


@pytest.mark.parametrize(
    ("data", "reason"),
    [
        (b"", "empty"),
        (b"hello, no image", "not_an_image"),
        (b"<svg xmlns='http://www.w3.org/2000/svg'/>", "not_an_image"),
        (b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 100 100\nshowpage\n", "not_an_image"),
        (b"\0\0\0\x18ftypheic\0\0\0\0mif1heic", "not_an_image"),
        (b"PK\x03\x04" + bytes(100), "not_an_image"),
    ],
)
def test_decode_photo_of_no_image_is_rejected(data: bytes, reason: str):
    with pytest.raises(RejectedImageError) as caught:
        decoded(data)
    assert caught.value.reason == reason


def bomb(width: int, height: int) -> bytes:
    """A PNG that says it is huge; its pixels are not there, so decoding it would fail otherwise."""
    header = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    chunks = ((b"IHDR", header), (b"IDAT", zlib.compress(b"no pixels")))
    return b"\x89PNG\r\n\x1a\n" + b"".join(
        struct.pack(">I", len(data)) + name + data + struct.pack(">I", zlib.crc32(name + data)) for name, data in chunks
    )


@pytest.mark.parametrize("size", [(1_001, 1_000), (40_000, 40_000)])
def test_decode_photo_of_too_many_pixels_is_rejected_before_decoding(size: tuple[int, int]):
    with pytest.raises(RejectedImageError) as caught:
        decoded(bomb(*size))
    assert caught.value.reason == "too_large"


def test_decode_photo_of_too_many_bytes_is_rejected():
    data = encode_png(smooth_picture(64, 64))
    with pytest.raises(RejectedImageError, match="max_bytes"):
        decoded(data, Limits(len(data) - 1, 10_000, 8))


def test_decode_photo_of_a_short_side_is_rejected():
    with pytest.raises(RejectedImageError, match="100 x 7") as caught:
        decoded(encode_png(np.zeros((7, 100, 3), np.uint8)))
    assert caught.value.reason == "too_small"


def test_decode_photo_keeps_exif_apart_from_the_pixels():
    exif = Image.Exif()
    exif[0x010F] = "a camera"
    photo = decode_photo(saved(smooth_picture(16, 16), "JPEG", exif=exif), LIMITS, background=WHITE)
    assert photo.exif is not None
    assert b"a camera" in photo.exif
    assert decode_photo(encode_png(smooth_picture(16, 16)), LIMITS, background=WHITE).exif is None
