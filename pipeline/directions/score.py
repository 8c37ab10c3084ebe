"""What a channel's score for a prompt is: which channels a style direction keeps, and how far each moves.

Letters: c style channel, d CLIP width.
"""

from jaxtyping import Float
from torch import Tensor

from kernels import relevance, weigh_by_effect
from pipeline.config import Rule

EFFECT_POWER = 0.25  # benchmarks/screening_study.json compares the rules; 0.25 and 0.5 do equally well there


def channel_score(
    direction: Float[Tensor, "c d"],
    text_direction: Float[Tensor, "d"],
    *,
    rule: Rule,
    agreement: Float[Tensor, "c"] | None = None,
    effect: Float[Tensor, "c d"] | None = None,
) -> Float[Tensor, "c"]:
    """Score S of every channel; the paper's is its relevance ``R_c = <direction_c, text_direction>``.

    Args:
        direction: unit vectors.
        text_direction: unit vector.
        rule: ``paper`` is R, as in the published code, which normalises the mean over images. ``agreement`` is R times
            the agreement: the mean over images of every image's relevance, the formula of the paper's section 6, and
            unbiased for few images. ``effect`` is ``R |effect along the text|^0.25`` (``weigh_by_effect``): a channel
            that hardly changes the image then neither takes a place nor sets the scale.
        agreement: length of the mean unit difference.
        effect: mean differences of unit embeddings, not normalised.
    Raises:
        ValueError: if the rule needs what was not given.
    """
    found = relevance(direction, text_direction)
    if rule == "paper":
        return found
    needed = agreement if rule == "agreement" else effect
    if needed is None:
        raise ValueError(
            f"rule `{rule}` needs channel directions with agreement and effect; this table was measured without. "
            f"Measure it anew with `styleclip channel-directions`, or take rule `paper`."
        )
    return found * needed if rule == "agreement" else weigh_by_effect(found, needed, text_direction, power=EFFECT_POWER)
