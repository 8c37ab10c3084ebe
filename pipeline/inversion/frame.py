"""Frames: where in a photo a generator's picture lies, whatever its size.

Coordinates are continuous: the first pixel covers 0 to 1, its centre is at 0.5. Letters: h row, w column, p landmark.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
from jaxtyping import Float, UInt8

# FFHQ's rule (Karras et al. 2019, appendix A): a square around the eyes and the mouth, its half side the larger of
EYE_DISTANCES = 2.0  # distances between the eyes
MOUTH_DISTANCES = 1.8  # distances from the eyes to the mouth
DOWN = 0.1  # of the way from the eyes to the mouth lies its centre
EYES = (slice(36, 42), slice(42, 48))  # of 68 landmarks, the left one in the image first
MOUTH_CORNERS = (48, 54)


@dataclass(frozen=True)
class Frame:
    """A parallelogram of a photo: (u, v) in the unit square is at ``origin + u * across + v * down``.

    Attributes:
        origin: the picture's upper left corner, x and y in the photo's pixels.
        across: from there to the upper right corner.
        down: from there to the lower left corner.
        border: how what lies outside the photo is filled: ``reflect``, blurred as FFHQ does, or ``edge``.
    """

    origin: tuple[float, float]
    across: tuple[float, float]
    down: tuple[float, float]
    border: Literal["reflect", "edge"] = "edge"

    def numbers(self) -> list[float]:
        """The six numbers, as they are stored."""
        return [*self.origin, *self.across, *self.down]

    @classmethod
    def of_numbers(cls, numbers: Sequence[float], *, border: Literal["reflect", "edge"] = "edge") -> "Frame":
        """The inverse of ``numbers``."""
        a, b, c, d, e, f = (float(x) for x in numbers)
        return cls((a, b), (c, d), (e, f), border)

    def affine(self, size: tuple[int, int]) -> tuple[float, float, float, float, float, float]:
        """From a picture of ``size`` (width, height) to the photo, as Pillow takes it: x = a u + b v + c, then y."""
        (x, y), (ax, ay), (dx, dy) = self.origin, self.across, self.down
        width, height = size
        return ax / width, dx / height, x, ay / width, dy / height, y

    def corners(self) -> Float[np.ndarray, "4 2"]:
        """Upper left, upper right, lower right, lower left."""
        origin, across, down = np.array(self.origin), np.array(self.across), np.array(self.down)
        return np.stack([origin, origin + across, origin + across + down, origin + down])

    def moved(self, x: float, y: float) -> "Frame":
        """The same frame where the photo has been shifted by x and y."""
        return Frame((self.origin[0] + x, self.origin[1] + y), self.across, self.down, self.border)

    def scaled(self, x: float, y: float) -> "Frame":
        """The same frame where the photo has been resized by these factors."""
        pairs = (self.origin, self.across, self.down)
        a, b, c = ((pair[0] * x, pair[1] * y) for pair in pairs)
        return Frame(a, b, c, self.border)


def ffhq_frame(landmarks: Float[np.ndarray, "p 2"]) -> Frame:
    """The square that FFHQ cuts around a face.

    Args:
        landmarks: x and y as pixel indices (the first pixel's centre is 0): the 68 of iBUG 300-W, as dlib gives them,
            or 5: left eye, right eye, nose, left and right corner of the mouth, left as seen in the image.
    Raises:
        ValueError: for another number of landmarks, or eyes and mouth in one place.
    Source: Karras et al. 2019, "A Style-Based Generator Architecture", appendix A.
    """
    points = np.asarray(landmarks, dtype=np.float64)
    if points.shape == (68, 2):
        left, right = (points[eye].mean(axis=0) for eye in EYES)
        mouth = points[list(MOUTH_CORNERS)].mean(axis=0)
    elif points.shape == (5, 2):
        left, right, mouth = points[0], points[1], points[3:].mean(axis=0)
    else:
        raise ValueError(f"landmarks must be 68 or 5 points [p, 2]; got {list(points.shape)}.")
    eyes = (left + right) / 2
    between, to_mouth = right - left, mouth - eyes
    axis = between + np.array([to_mouth[1], -to_mouth[0]])  # eyes' line and the normal to the eyes-mouth line
    length = np.hypot(*axis)
    if not np.isfinite(points).all() or length == 0:
        raise ValueError("landmarks must be finite, and eyes and mouth apart.")
    axis *= max(EYE_DISTANCES * np.hypot(*between), MOUTH_DISTANCES * np.hypot(*to_mouth)) / length
    normal = np.array([-axis[1], axis[0]])
    corner = eyes + DOWN * to_mouth + 0.5 - axis - normal
    (x, y), (ax, ay), (dx, dy) = corner.tolist(), (2 * axis).tolist(), (2 * normal).tolist()
    return Frame((x, y), (ax, ay), (dx, dy), border="reflect")


def whole_frame(size: tuple[int, int], aspect: float) -> Frame:
    """The smallest frame of ``aspect`` (width over height) that holds the whole photo, in its middle."""
    width, height = size
    across, down = (float(width), width / aspect) if width > height * aspect else (height * aspect, float(height))
    return Frame(((width - across) / 2, (height - down) / 2), (across, 0.0), (0.0, down))


def center_frame(size: tuple[int, int], aspect: float) -> Frame:
    """The largest frame of ``aspect`` (width over height) inside the photo, in its middle."""
    width, height = size
    across, down = (height * aspect, float(height)) if width > height * aspect else (float(width), width / aspect)
    return Frame(((width - across) / 2, (height - down) / 2), (across, 0.0), (0.0, down))


@dataclass(frozen=True)
class Canvas:
    """Where in a generator's square picture the photo stands; the rest is black, as in LSUN's cars.

    Attributes:
        resolution: side of the picture in pixels.
        box: left, top, width and height of the photo in it.
    """

    resolution: int
    box: tuple[int, int, int, int]

    @property
    def size(self) -> tuple[int, int]:
        """Width and height of the photo."""
        return self.box[2], self.box[3]

    def place(self, picture: UInt8[np.ndarray, "h w 3"]) -> UInt8[np.ndarray, "r r 3"]:
        """The square picture with the photo in its box."""
        left, top, width, height = self.box
        if (width, height) == (self.resolution, self.resolution):
            return picture
        whole = np.zeros((self.resolution, self.resolution, 3), np.uint8)
        whole[top : top + height, left : left + width] = picture
        return whole

    def cut(self, whole: UInt8[np.ndarray, "r r 3"]) -> UInt8[np.ndarray, "h w 3"]:
        """The photo's part of the square picture."""
        left, top, width, height = self.box
        return whole[top : top + height, left : left + width]


def canvas_of(resolution: int, aspect: tuple[int, int]) -> Canvas:
    """The canvas of a generator whose photos have an aspect of width to height, as the inverter's input has."""
    wide, high = aspect
    width = round(resolution * min(1.0, wide / high))
    height = round(resolution * min(1.0, high / wide))
    return Canvas(resolution, ((resolution - width) // 2, (resolution - height) // 2, width, height))
