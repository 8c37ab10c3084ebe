"""Alignment: which part of a photo a pack's generator is shown. Letters: h row, w column, r resolution."""

from dataclasses import dataclass

import numpy as np
from jaxtyping import UInt8

from pipeline.inversion.crop import cut_frame
from pipeline.inversion.frame import Canvas, Frame, canvas_of, center_frame, ffhq_frame, whole_frame
from pipeline.inversion.intake import RejectedImageError
from pipeline.inversion.landmarks import FindFaces, load_face_finder
from pipeline.models.e4e import E4eConfig
from pipeline.packs.pack import Align, Pack


@dataclass(frozen=True)
class Aligned:
    """A photo framed for a generator.

    Attributes:
        picture: square RGB, the photo's part in the canvas' box.
        frame: where in the photo the box's content was cut out.
        faces: faces found; None where none was looked for.
        note: what a person should know, such as which of several faces was taken.
    """

    picture: UInt8[np.ndarray, "r r 3"]
    frame: Frame
    faces: int | None
    note: str | None


class Aligner:
    """Photos to pictures of a pack.

    Args:
        align: how; see ``PackDescription.align``.
        canvas: size and aspect of the pack's pictures.
        find_faces: needed for ``ffhq`` only.
    """

    def __init__(self, align: Align, canvas: Canvas, find_faces: FindFaces | None = None) -> None:
        assert (align == "ffhq") == (find_faces is not None)
        self.align, self.canvas, self.find_faces = align, canvas, find_faces

    def __call__(self, photo: UInt8[np.ndarray, "h w 3"]) -> Aligned:
        """Cut the pack's frame out of a photo.

        Raises:
            RejectedImageError: if there is no face to align.
        """
        size = (photo.shape[1], photo.shape[0])
        aspect = self.canvas.size[0] / self.canvas.size[1]
        faces, note = None, None
        if self.find_faces is not None:
            frame, faces, note = _of_faces(self.find_faces, photo)
        else:
            frame = whole_frame(size, aspect) if self.align == "none" else center_frame(size, aspect)
        return Aligned(self.canvas.place(cut_frame(photo, frame, self.canvas.size)), frame, faces, note)


def load_aligner(pack: Pack, align: Align | None = None, *, landmarks_model: str | None = None) -> Aligner:
    """The pack's aligner, or the one asked for.

    Args:
        pack: says how its photos are framed, and by its inverter's input of what aspect they are.
        align: instead of the pack's; None takes that.
        landmarks_model: see ``load_face_finder``.
    Raises:
        PipelineError: if ``ffhq`` is asked for and what it needs is not installed.
    """
    chosen = align or pack.description.align
    finder = load_face_finder(landmarks_model) if chosen == "ffhq" else None
    return Aligner(chosen, pack_canvas(pack), finder)


def pack_canvas(pack: Pack) -> Canvas:
    """The pack's canvas: square, but for encoders of another aspect, such as e4e's for cars of 256 x 192 px."""
    inverter = pack.description.inverter
    aspect = (inverter.width, inverter.height) if isinstance(inverter, E4eConfig) else (1, 1)
    return canvas_of(pack.generator.space.resolution, aspect)


def _of_faces(find_faces: FindFaces, photo: UInt8[np.ndarray, "h w 3"]) -> tuple[Frame, int, str | None]:
    """The largest face's frame, how many faces there are, and which was taken."""
    faces = find_faces(photo)
    if not faces:
        raise RejectedImageError("no_face", "a photo must show a face from the front to be aligned; none was found.")
    note = None
    if len(faces) > 1:
        left, top, right, bottom = (round(v) for v in faces[0].box)
        note = f"{len(faces)} faces; the largest was taken, at x {left} to {right}, y {top} to {bottom}."
    try:
        return ffhq_frame(faces[0].landmarks), len(faces), note
    except ValueError as error:
        raise RejectedImageError("no_face", f"a face must have eyes and mouth apart; {error}") from error
