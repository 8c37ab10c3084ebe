"""A verdict on a prompt's edits that a newcomer can read, from the figures behind it."""

from collections.abc import Sequence

UNCHANGED = 0.004  # mean pixel distance on [0, 1]: about one level in 255, what the eye does not see
FAINT = 0.05  # of the guide's gain: a judge that gains less does not see the edit
MOSTLY = 0.9  # of the other attributes: an edit that keeps fewer changes what it was not asked to
REMEDY = {
    "global": "raise the strength",
    "mapper": "train longer",
    "optimize": "take more steps",
    "tedigan": "take more steps",
}


def verdict(
    *,
    hits: int | None,
    judged: int,
    images: int,
    already: int = 0,
    kept: float | None = None,
    pixel_distance: float | None = None,
    method: str = "global",
    unknown_words: Sequence[str] = (),
    reachable: bool | None = None,
    by: str = "oracle",
    disputed: int = 0,
) -> str:
    """One line on a prompt at one strength: ``16 of 16``, ``0 of 4, words unknown``, ``unchanged; train longer``.

    Args:
        hits: edits that reached the target; None where nobody could tell.
        judged: edits that could: not there before, and visible.
        images: edits made.
        already: edits that ask for what was there before.
        kept: mean share of the other attributes that stayed.
        pixel_distance: mean over the edits, on [0, 1].
        method: how the edit was found; decides the remedy of an edit that does nothing.
        unknown_words: of the target text, that CLIP never saw.
        reachable: whether the pack can draw it; None where that was not asked.
        by: who judged: oracle; judge, a second CLIP that compares target and neutral; or clip, the guide itself.
        disputed: edits that the guide sees and the judge does not; see ``count_disputed``.
    """
    if images == 0:
        return "no images"
    notes = []
    if unknown_words:
        notes.append("words unknown")
    elif reachable is False:
        notes.append("out of the pack's reach")
    if pixel_distance is not None and pixel_distance < UNCHANGED and not hits and already < images:
        return "; ".join(["unchanged", *(notes or [REMEDY.get(method, "raise the strength")])])
    if hits is None:
        return ", ".join(["not judged: the pack cannot tell", *notes])
    if judged == 0:
        return f"{already} of {images} had it already" if already else "cannot be seen on these images"
    if already:
        notes.append(f"{already} had it already")
    if kept is not None and kept < MOSTLY:
        notes.append(f"{1 - kept:.0%} of the rest changed")
    if 2 * disputed > images - already:
        notes.append(f"the judge sees nothing in {disputed}")
    if by != "oracle" and reachable is not False:
        notes.append("by the judge" if by == "judge" else "by CLIP's own eye")
    return ", ".join([f"{hits} of {judged}", *notes])


def count_disputed(guide: Sequence[float | None], judge: Sequence[float | None]) -> int:
    """How many edits the guide finds closer to the target while the judge finds them hardly so, or farther.

    Optimisation raises the gain of the CLIP that guides it by whatever means there are; a CLIP trained apart gains
    from what is really drawn. One of a kind of its own may have gains of another size: what counts is a twentieth.

    Args:
        guide: every edit's gain in the eyes of the guide.
        judge: the same in the eyes of the judge; None where there is none.
    """
    pairs = [(g, j) for g, j in zip(guide, judge, strict=True) if g is not None and j is not None]
    return sum(g > 0 and j < FAINT * g for g, j in pairs)
