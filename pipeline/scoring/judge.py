"""The judge: a CLIP other than the one that guides the edits, so that the guide does not mark its own work."""

from pipeline.errors import PackError
from pipeline.models.clip import Clip, load_open_clip
from pipeline.packs.pack import Pack, built_in_packs, load_pack

SEPARATOR = ":"  # between open_clip's model name and pretrained tag
NO_JUDGE = "none"


def has_judge(judge: str | None, pack: Pack) -> bool:
    """Whether a second CLIP judges the edits of a pack; see ``find_judge``."""
    return pack.description.judge is not None if judge is None else judge != NO_JUDGE


def find_judge(judge: str | None, pack: Pack) -> Clip | None:
    """The CLIP that judges edits of a pack.

    Args:
        judge: None for the pack's own, if it brings one; ``none`` for none; else see ``load_judge``.
        pack: whose CLIP guided the edits.
    """
    if not has_judge(judge, pack):
        return None
    return pack.judge if judge is None else load_judge(judge, device=pack.device)


def load_judge(judge: str, *, device: str) -> Clip:
    """A judge by name.

    Args:
        judge: a built-in pack or the URI of a pack folder, whose judge it is or, where it brings none, whose CLIP; or
            ``name:tag`` of an open_clip model, as ``ViT-B-32-quickgelu:openai``.
        device: torch device.
    Raises:
        PackError: if there is no such pack or model.
    """
    if judge in built_in_packs() or "/" in judge:
        pack = load_pack(judge, device=device)
        return pack.clip if pack.description.judge is None else pack.judge
    name, found, tag = judge.partition(SEPARATOR)
    if not found or not tag:
        raise PackError(
            f"`judge` must be a pack, or an open_clip model and its weights as in 'ViT-B-32-quickgelu:openai'; got "
            f"{judge!r}. Name a pack folder by a path with a slash, e.g. './{judge}'."
        )
    return load_open_clip(name, tag, device=device)


def judge_digest(judge: str | None, *, device: str) -> str | None:
    """The config hash of a named judge: the digest of its pack, or its name; None where none is named."""
    if judge is None or not (judge in built_in_packs() or "/" in judge):
        return judge
    return load_pack(judge, device=device).digest
