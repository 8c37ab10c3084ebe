"""Faces and their landmarks, by dlib, which the optional extra ``align`` brings.

Letters: h row, w column, p landmark.
"""

from collections.abc import Callable
from dataclasses import dataclass
from functools import lru_cache
from importlib.util import find_spec
from pathlib import Path
from threading import Lock
from typing import Any

import numpy as np
from jaxtyping import Float, UInt8
from PIL import Image

from pipeline.errors import PipelineError

INSTALL = "pip install 'styleclip-pipeline[align]', in a checkout pip install -e '.[align]'"
MODEL_FILE = "shape_predictor_68_face_landmarks.dat"
NUM_LANDMARKS = 68
LARGEST_SIDE = 1_024  # pixels of the image that faces are looked for in; they need 80
SMALL_SIDE = 400  # an image below this is looked at in double size
# Of the best score in an image: what has less is no face beside it. dlib's boxes come in few sizes, so a fold of cloth
# is easily as large as the face above it; its score is near the detector's threshold of 0, a face's is about 1.
LEAST_SCORE = 1 / 3


@dataclass(frozen=True)
class Face:
    """A face.

    Attributes:
        landmarks: x and y of each as pixel indices of the image.
        box: left, top, right and bottom.
        score: how sure the detector is, from 0.
    """

    landmarks: Float[np.ndarray, "p 2"]
    box: tuple[float, float, float, float]
    score: float = 0.0

    @property
    def area(self) -> float:
        """Of the box, in square pixels."""
        left, top, right, bottom = self.box
        return (right - left) * (bottom - top)


FindFaces = Callable[[UInt8[np.ndarray, "h w 3"]], list[Face]]


def load_face_finder(model: str | None = None) -> FindFaces:
    """What finds faces in an image, the largest first; what is far less like a face than the best is left out.

    Args:
        model: a local dlib shape predictor of 68 landmarks; None takes the one of face-recognition-models.
    Raises:
        PipelineError: if dlib or the model is not there, or the model is another; says what to install.
    """
    if find_spec("dlib") is None:
        raise PipelineError(f"align=ffhq needs dlib to find faces, which is not installed. Install it: {INSTALL}")
    return _load(model or _packaged_model())


def _packaged_model() -> str:
    """Found without importing the package, whose import needs setuptools' pkg_resources, which is no more."""
    package = find_spec("face_recognition_models")
    if package is None or package.origin is None:
        raise PipelineError(
            f"align=ffhq needs a model of landmarks; face-recognition-models is not installed. Install it: {INSTALL}; "
            f"or give the path of {MODEL_FILE} as `landmarks_model`."
        )
    return str(Path(package.origin).parent / "models" / MODEL_FILE)


@lru_cache(maxsize=2)
def _load(model: str) -> FindFaces:
    import dlib  # pyright: ignore[reportMissingImports]

    if not Path(model).is_file():
        raise PipelineError(f"`landmarks_model` must be a local file; there is none at {model}.")
    try:
        predictor: Any = dlib.shape_predictor(model)  # pyright: ignore[reportAttributeAccessIssue]
    except RuntimeError as error:
        raise PipelineError(f"`landmarks_model` must be a dlib shape predictor; {model}: {error}") from error
    detector: Any = dlib.get_frontal_face_detector()  # pyright: ignore[reportAttributeAccessIssue]
    lock = Lock()  # dlib's detector keeps what it works on in itself

    def find(image: UInt8[np.ndarray, "h w 3"]) -> list[Face]:
        height, width = image.shape[:2]
        scale = min(1.0, LARGEST_SIDE / max(height, width))
        small = image
        if scale < 1.0:
            size = (max(1, round(width * scale)), max(1, round(height * scale)))
            small = np.asarray(Image.fromarray(image).resize(size, Image.Resampling.LANCZOS))
        with lock:
            found = _scored(detector, small, doublings=int(max(small.shape[:2]) < SMALL_SIDE))
            found = found or _scored(detector, small, doublings=1)
            least = LEAST_SCORE * max((score for _, score in found), default=0.0)
            faces = [
                _face(predictor, dlib, image, box, score, (width / small.shape[1], height / small.shape[0]))
                for box, score in found
                if score >= least
            ]
        return sorted(faces, key=lambda face: (-face.area, -face.score, face.box))

    return find


def _scored(detector: Any, image: UInt8[np.ndarray, "h w 3"], *, doublings: int) -> list[tuple[Any, float]]:
    """Boxes and scores of what may be faces in an image, looked at ``2 ** doublings`` times as large."""
    boxes, scores, _ = detector.run(np.ascontiguousarray(image), doublings, 0.0)
    return list(zip(boxes, scores, strict=True))


def _face(
    predictor: Any, dlib: Any, image: UInt8[np.ndarray, "h w 3"], box: Any, score: float, scale: tuple[float, float]
) -> Face:
    """Landmarks in the full image, for a box found in one ``scale`` times smaller across and down."""
    x, y = scale
    left, top, right, bottom = box.left() * x, box.top() * y, box.right() * x, box.bottom() * y
    found = predictor(np.ascontiguousarray(image), dlib.rectangle(*(round(v) for v in (left, top, right, bottom))))
    if found.num_parts != NUM_LANDMARKS:
        raise PipelineError(
            f"`landmarks_model` must give {NUM_LANDMARKS} landmarks; this one gives {found.num_parts}. "
            f"Take {MODEL_FILE}."
        )
    points = np.array([(found.part(i).x, found.part(i).y) for i in range(found.num_parts)], dtype=np.float64)
    return Face(points, (left, top, right, bottom), score)
