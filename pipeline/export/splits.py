"""Which split a face belongs to: by a hash of where it comes from, never by image."""

import hashlib
from typing import Literal

Split = Literal["train", "validation", "test"]
SPLITS: tuple[Split, ...] = ("train", "validation", "test")


def split_of(source: str, *, validation_share: float, test_share: float, seed: int) -> Split:
    """The split of everything made from one source.

    The first 64 bits of SHA-256 of ``seed:source``, as a number in [0, 1): below ``test_share`` is test, up to
    ``test_share + validation_share`` validation, the rest train. A face keeps its split when others are added, and on
    every machine; the shares hold up to chance.

    Args:
        source: the latent, or the photo it was found from.
        validation_share: 0 to 1.
        test_share: 0 to 1; the two together at most 1.
        seed: another one gives another division.
    """
    digest = hashlib.sha256(f"{seed}:{source}".encode()).digest()
    place = int.from_bytes(digest[:8], "big") / 2**64
    if place < test_share:
        return "test"
    return "validation" if place < test_share + validation_share else "train"
