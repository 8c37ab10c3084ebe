"""Photos to a generator's pictures and back: cut a frame out, paste an edited picture in.

Letters: h row, w column, r resolution.
"""

import math

import numpy as np
from jaxtyping import Float, UInt8
from PIL import Image, ImageFilter

from pipeline.inversion.frame import Frame

# FFHQ's borders (Karras et al. 2019), in parts of the square's side: what is reflected is blurred more and more, and
# fades to the median colour, from this far inside
MARGIN = 0.1
FADE = 0.3
BLUR = 0.02
FINE = 3.0  # the blur begins at a third of the fade
LEAST_MARGIN = 3
SLACK = 4  # pixels that may be missing from the margin before the border is made up
MOST_OVERSAMPLING = 4


def cut_frame(photo: UInt8[np.ndarray, "h w 3"], frame: Frame, size: tuple[int, int]) -> UInt8[np.ndarray, "h2 w2 3"]:
    """The frame's picture, resampled with filtering.

    What a frame shows beyond the photo is the photo's edge drawn out, or its reflection, blurred and faded as in FFHQ.

    Args:
        photo: RGB.
        frame: see ``Frame``.
        size: width and height of the picture.
    Source: the FFHQ data set's recipe (Karras et al. 2019, appendix A): shrink, crop, pad, warp, shrink.
    """
    image = Image.fromarray(np.ascontiguousarray(photo))
    if _is_whole(frame, image.size):
        return np.asarray(image if image.size == size else image.resize(size, Image.Resampling.LANCZOS))
    image, frame = _shrunk(image, frame, size)
    image, frame = _cropped(image, frame)
    image, frame = _padded(image, frame)
    times = min(MOST_OVERSAMPLING, max(1, math.ceil(_side(frame) / max(size) - 1e-9)))
    large = (size[0] * times, size[1] * times)
    found = image.transform(large, Image.Transform.AFFINE, frame.affine(large), Image.Resampling.BILINEAR)
    return np.asarray(found if times == 1 else found.resize(size, Image.Resampling.LANCZOS))


def paste_back(
    photo: UInt8[np.ndarray, "h w 3"], picture: UInt8[np.ndarray, "h2 w2 3"], frame: Frame, *, feather: float
) -> UInt8[np.ndarray, "h w 3"]:
    """The photo with a picture of its frame pasted in, fading towards the frame's edges.

    Args:
        photo: RGB.
        picture: what the frame shows now, any size.
        frame: where it was cut out.
        feather: width of the fade, in parts of the frame's side, 0 to 0.5; where the frame's edge is the photo's or
            beyond there is nothing to fade into, and no fade.
    """
    out = photo.copy()
    corners = frame.corners()
    high = np.minimum(np.ceil(corners.max(axis=0)) + 1, photo.shape[1::-1]).astype(int)
    low = np.maximum(np.floor(corners.min(axis=0)) - 1, 0).astype(int)
    if (high <= low).any():
        return out
    image = Image.fromarray(np.ascontiguousarray(picture))
    wanted = max(1, round(np.hypot(*frame.across))), max(1, round(np.hypot(*frame.down)))
    if wanted[0] < image.width or wanted[1] < image.height:  # the warp itself does not filter
        image = image.resize((min(wanted[0], image.width), min(wanted[1], image.height)), Image.Resampling.LANCZOS)
    size = (int(high[0] - low[0]), int(high[1] - low[1]))
    to_picture = _inverse(frame.moved(-float(low[0]), -float(low[1])), image.size)
    drawn_out = Image.fromarray(np.pad(np.asarray(image), ((1, 1), (1, 1), (0, 0)), mode="edge"))
    a, b, c, d, e, f = to_picture
    warped = drawn_out.transform(size, Image.Transform.AFFINE, (a, b, c + 1, d, e, f + 1), Image.Resampling.BICUBIC)
    mask = _mask(frame, low, size, feather, (photo.shape[1], photo.shape[0]))[:, :, None]
    region = out[low[1] : high[1], low[0] : high[0]]
    mixed = region + mask * (np.asarray(warped, dtype=np.float32) - region)
    out[low[1] : high[1], low[0] : high[0]] = np.rint(mixed).clip(0, 255).astype(np.uint8)
    return out


def _is_whole(frame: Frame, size: tuple[int, int]) -> bool:
    return frame.origin == (0.0, 0.0) and frame.across == (size[0], 0.0) and frame.down == (0.0, size[1])


def _side(frame: Frame) -> float:
    return float(max(np.hypot(*frame.across), np.hypot(*frame.down)))


def _shrunk(image: Image.Image, frame: Frame, size: tuple[int, int]) -> tuple[Image.Image, Frame]:
    """A photo much larger than the picture, reduced by a whole number that leaves the frame twice as large."""
    times = math.floor(_side(frame) / max(size) * 0.5)
    if times <= 1:
        return image, frame
    reduced = (max(1, round(image.width / times)), max(1, round(image.height / times)))
    scale = reduced[0] / image.width, reduced[1] / image.height
    return image.resize(reduced, Image.Resampling.LANCZOS), frame.scaled(*scale)


def _margin(frame: Frame) -> int:
    return max(round(_side(frame) * MARGIN), LEAST_MARGIN)


def _cropped(image: Image.Image, frame: Frame) -> tuple[Image.Image, Frame]:
    """The part of the photo around the frame."""
    margin, corners = _margin(frame), frame.corners()
    low = np.maximum(np.floor(corners.min(axis=0)).astype(int) - margin, 0)
    high = np.minimum(np.ceil(corners.max(axis=0)).astype(int) + margin, image.size)
    low = np.minimum(low, np.array(image.size) - 1)
    high = np.maximum(high, low + 1)
    box = (int(low[0]), int(low[1]), int(high[0]), int(high[1]))
    return image.crop(box), frame.moved(-float(low[0]), -float(low[1]))


def _padded(image: Image.Image, frame: Frame) -> tuple[Image.Image, Frame]:
    """The photo with what the frame needs beyond its edges."""
    margin, corners = _margin(frame), frame.corners()
    before = np.maximum(-np.floor(corners.min(axis=0)).astype(int) + margin, 0)
    after = np.maximum(np.ceil(corners.max(axis=0)).astype(int) - np.array(image.size) + margin, 0)
    if frame.border == "edge":
        if not (before.any() or after.any()):
            return image, frame
        whole = np.pad(np.asarray(image), ((before[1], after[1]), (before[0], after[0]), (0, 0)), mode="edge")
        return Image.fromarray(whole), frame.moved(float(before[0]), float(before[1]))
    if max(*before, *after) <= margin - SLACK:
        return image, frame
    fade = max(1, round(_side(frame) * FADE))
    before, after = np.maximum(before, fade), np.maximum(after, fade)
    pixels = np.asarray(image, dtype=np.float32)
    whole = np.pad(pixels, ((before[1], after[1]), (before[0], after[0]), (0, 0)), mode="reflect")
    whole = _faded(whole, before, after, blur=_side(frame) * BLUR)
    return Image.fromarray(whole), frame.moved(float(before[0]), float(before[1]))


def _faded(
    whole: Float[np.ndarray, "h w 3"], before: np.ndarray, after: np.ndarray, *, blur: float
) -> UInt8[np.ndarray, "h w 3"]:
    """Reflections blurred and faded to the median colour: 1 at the outer edge, 0 where the photo begins."""
    height, width = whole.shape[:2]
    y, x = np.mgrid[:height, :width].astype(np.float32)
    across = np.minimum(x / before[0], (width - 1 - x) / after[0])
    down = np.minimum(y / before[1], (height - 1 - y) / after[1])
    mask = np.maximum(1 - across, 1 - down)[:, :, None]
    sharp = Image.fromarray(np.rint(whole).astype(np.uint8))
    blurred = np.asarray(sharp.filter(ImageFilter.GaussianBlur(blur)), dtype=np.float32)
    whole = whole + (blurred - whole) * np.clip(mask * FINE + 1, 0, 1)
    whole = whole + (np.median(whole, axis=(0, 1)) - whole) * np.clip(mask, 0, 1)
    return np.rint(whole).clip(0, 255).astype(np.uint8)


def _inverse(frame: Frame, size: tuple[int, int]) -> tuple[float, float, float, float, float, float]:
    """From the photo to a picture of ``size``."""
    a, b, c, d, e, f = frame.affine(size)
    (p, q), (r, t) = np.linalg.inv(np.array([[a, b], [d, e]])).tolist()
    return p, q, -(p * c + q * f), r, t, -(r * c + t * f)


def _mask(
    frame: Frame, low: np.ndarray, size: tuple[int, int], feather: float, photo: tuple[int, int]
) -> Float[np.ndarray, "h w"]:
    """How much of the picture each pixel takes: 0 outside the frame, rising to 1 within ``feather`` of its sides."""
    matrix = np.linalg.inv(np.array([frame.across, frame.down]).T)
    y, x = np.mgrid[: size[1], : size[0]]
    points = np.stack([x + 0.5 + low[0] - frame.origin[0], y + 0.5 + low[1] - frame.origin[1]])
    u, v = np.tensordot(matrix, points, axes=1)
    mask = ((u >= 0) & (u <= 1) & (v >= 0) & (v <= 1)).astype(np.float32)
    if feather > 0:
        edges = (u, 1 - u, v, 1 - v)
        for distance, open_side in zip(edges, _open_sides(frame, photo), strict=True):
            if open_side:
                ramp = np.clip(distance / feather, 0, 1)
                mask *= (ramp * ramp * (3 - 2 * ramp)).astype(np.float32)
    return mask


def _open_sides(frame: Frame, photo: tuple[int, int]) -> tuple[bool, bool, bool, bool]:
    """Whether the photo goes on beyond the frame's left, right, upper and lower side."""
    a, b, c, d = frame.corners()
    sides = ((a, d), (b, c), (a, b), (d, c))
    width, height = photo

    def beyond(first: np.ndarray, second: np.ndarray) -> bool:
        x, y = np.stack([first, second]).T
        slack = 0.5
        outside = (x <= slack).all() or (x >= width - slack).all() or (y <= slack).all() or (y >= height - slack).all()
        return not bool(outside)

    left, right, upper, lower = (beyond(*side) for side in sides)
    return left, right, upper, lower
