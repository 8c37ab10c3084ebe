import math

import numpy as np
import pytest

from pipeline.inversion.crop import cut_frame, paste_back
from pipeline.inversion.frame import Frame, canvas_of, center_frame, whole_frame
from tests.pipeline.inversion.pictures import smooth_picture


def rotated_frame(center: tuple[float, float], side: float, degrees: float, border: str = "edge") -> Frame:
    turn = math.radians(degrees)
    across = np.array([math.cos(turn), math.sin(turn)]) * side
    down = np.array([-across[1], across[0]])
    x, y = (np.array(center) - across / 2 - down / 2).tolist()
    return Frame((x, y), tuple(across.tolist()), tuple(down.tolist()), border)


def sampled(photo: np.ndarray, frame: Frame, size: int) -> np.ndarray:
    """The frame's picture by the definition: the value at each pixel's centre, bilinear, in float64."""
    u, v = np.meshgrid((np.arange(size) + 0.5) / size, (np.arange(size) + 0.5) / size)
    points = np.array(frame.origin) + u[..., None] * frame.across + v[..., None] * frame.down - 0.5
    x, y = points[..., 0], points[..., 1]
    x0, y0 = np.floor(x).astype(int), np.floor(y).astype(int)
    fx, fy = (x - x0)[..., None], (y - y0)[..., None]

    def at(row: np.ndarray, column: np.ndarray) -> np.ndarray:
        return photo[row.clip(0, photo.shape[0] - 1), column.clip(0, photo.shape[1] - 1)].astype(float)

    upper = at(y0, x0) * (1 - fx) + at(y0, x0 + 1) * fx
    lower = at(y0 + 1, x0) * (1 - fx) + at(y0 + 1, x0 + 1) * fx
    return upper * (1 - fy) + lower * fy


@pytest.mark.parametrize("degrees", [0, 20, 90, -135])
def test_cut_frame_samples_what_the_frame_says(degrees: float):
    photo = smooth_picture(200, 260)
    frame = rotated_frame((125.3, 101.7), 96, degrees)
    np.testing.assert_allclose(cut_frame(photo, frame, (64, 64)).astype(float), sampled(photo, frame, 64), atol=2)


@pytest.mark.parametrize("side", [40.0, 300.0, 900.0])
def test_cut_frame_of_any_scale_shows_the_same_place(side: float):
    photo = smooth_picture(1_000, 1_200)
    frame = rotated_frame((600, 500), side, 15)
    np.testing.assert_allclose(cut_frame(photo, frame, (48, 48)).astype(float), sampled(photo, frame, 48), atol=4)


def test_cut_frame_of_the_whole_photo_is_the_photo():
    photo = smooth_picture(48, 48)
    np.testing.assert_array_equal(cut_frame(photo, whole_frame((48, 48), 1.0), (48, 48)), photo)


def test_whole_frame_draws_the_edges_out():
    photo = smooth_picture(40, 80)
    found = cut_frame(photo, whole_frame((80, 40), 1.0), (80, 80))
    np.testing.assert_array_equal(found[20:60], photo)
    assert np.abs(found[:19].astype(int) - photo[0]).max() <= 1
    assert np.abs(found[61:].astype(int) - photo[-1]).max() <= 1


def test_center_frame_cuts_the_middle_out():
    photo = smooth_picture(40, 80)
    np.testing.assert_array_equal(cut_frame(photo, center_frame((80, 40), 1.0), (40, 40)), photo[:, 20:60])


def test_cut_frame_reflects_blurs_and_fades_what_is_beyond_the_photo():
    rng = np.random.default_rng(0)
    photo = rng.integers(0, 256, (160, 160, 3), dtype=np.uint8)
    frame = rotated_frame((0, 80), 100, 0, "reflect")  # its left half is outside
    found = cut_frame(photo, frame, (100, 100)).astype(float)
    inside, outside = found[:, 75:], found[:, :40]  # between them the blur begins
    np.testing.assert_allclose(inside, photo[30:130, 25:50], atol=1)
    assert outside.std() < inside.std() / 4
    spread = [outside[:, i : i + 10].std() for i in (30, 0)]
    assert spread[1] < spread[0]  # the farther out, the more it is blurred


def test_cut_frame_near_the_photo_reflects_it():
    photo = smooth_picture(200, 200)
    frame = rotated_frame((40, 100), 100, 0, "reflect")
    found = cut_frame(photo, frame, (100, 100)).astype(float)
    mirrored = photo[50:150, 9:0:-1].astype(float)
    assert np.abs(found[:, 1:10] - mirrored).mean() < 25  # of 255: near the edge the reflection is still itself
    np.testing.assert_allclose(found[:, 12:], photo[50:150, 2:90], atol=2)


def test_canvas_of_cars_is_wide_with_black_above_and_below():
    canvas = canvas_of(512, (256, 192))
    assert canvas.box == (0, 64, 512, 384)
    placed = canvas.place(np.full((384, 512, 3), 9, np.uint8))
    assert placed[:64].max() == placed[448:].max() == 0
    assert (canvas.cut(placed) == 9).all()


@pytest.mark.parametrize("degrees", [0, 33])
@pytest.mark.parametrize("resolution", [64, 300])
def test_paste_back_of_the_unedited_crop_changes_nothing_much(degrees: float, resolution: int):
    photo = smooth_picture(240, 320)
    frame = rotated_frame((170, 120), 128, degrees)
    crop = cut_frame(photo, frame, (resolution, resolution))
    pasted = paste_back(photo, crop, frame, feather=0.1)
    assert np.abs(pasted.astype(int) - photo).max() <= 3


def test_paste_back_replaces_the_inside_and_fades_at_the_edge():
    photo = np.full((200, 200, 3), 100, np.uint8)
    frame = Frame((50.0, 50.0), (100.0, 0.0), (0.0, 100.0))
    pasted = paste_back(photo, np.full((64, 64, 3), 200, np.uint8), frame, feather=0.2)
    assert (pasted[75:125, 75:125] == 200).all()
    assert (pasted[:50] == 100).all()
    assert (pasted[:, 150:] == 100).all()
    ramp = pasted[100, 50:72, 0].astype(int)
    assert (np.diff(ramp) >= 0).all()
    assert 145 < ramp[10] < 165  # half-way through the fade


def test_paste_back_at_the_photos_own_edge_does_not_fade():
    photo = np.full((100, 200, 3), 100, np.uint8)
    frame = Frame((0.0, 0.0), (100.0, 0.0), (0.0, 100.0))
    pasted = paste_back(photo, np.full((50, 50, 3), 200, np.uint8), frame, feather=0.2)
    assert (pasted[:, :70] == 200).all()
    assert pasted[50, 99, 0] < 110


def test_paste_back_of_a_frame_beyond_the_photo_is_the_photo():
    photo = smooth_picture(50, 50)
    frame = Frame((500.0, 500.0), (10.0, 0.0), (0.0, 10.0))
    np.testing.assert_array_equal(paste_back(photo, np.zeros((8, 8, 3), np.uint8), frame, feather=0.1), photo)


def test_frame_survives_being_stored():
    frame = rotated_frame((10, 20), 30, 40)
    assert Frame.of_numbers(frame.numbers()) == frame
