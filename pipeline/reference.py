"""The published code's departures from the paper, each a switch; ``reference="official"`` turns all of them on.

The default of every switch is the corrected behaviour. Stages know nothing of presets: a switch is a field of the
settings of each stage that it concerns, ``Reference.settings`` says which, and the flows pass it on. The functions here
are the arithmetic of those switches that belong to no model: preprocessing and the convention of toRGB styles.
"""

from functools import lru_cache
from typing import Any, Literal, get_args

import torch
from jaxtyping import Float
from pydantic import BaseModel, ConfigDict, Field
from torch import Tensor

from pipeline.config import ClipPreprocess, RelevanceLayers, Rounding
from pipeline.errors import PipelineError
from pipeline.style_space import StyleSpace

RAW_BOX_SIZE = 224  # CLIP's input
BOX = 32  # the published optimiser upsamples by 224 / 32 = 7 and averages over resolution / 32
FIRST_TRUNCATED = 8  # rows of w_plus that the PyTorch version truncates
LAST_PUBLISHED_LAYER = 16  # of the published table: 128 px, 5,376 channels at 1024 px
# switch -> stage -> field of its settings
CONCERNS: dict[str, dict[str, str]] = {
    "clip_preprocess": {"optimized_latents": "clip_preprocess", "mappers": "clip_preprocess"},
    "l2_reduction": {"optimized_latents": "l2_reduction", "mappers": "l2_reduction"},
    "mapper_pixelnorm_axis": {"mappers": "norm_axis"},
    "s_truncation": {"style_statistics": "cutoff", "channel_directions": "cutoff"},
    "s_std_ddof": {"style_statistics": "ddof"},
    "relevance_base": {"channel_directions": "relevance_base"},
    "relevance_cumulative_bug": {"channel_directions": "relevance_cumulative_bug"},
    "relevance_layers": {"channel_directions": "relevance_layers", "style_directions": "relevance_layers"},
    "templates": {"style_directions": "templates", "edited_latents": "templates", "scores": "templates"},
    "torgb_style": {"style_statistics": "torgb_style"},
    "uint8": {"channel_directions": "uint8", "dataset": "uint8"},
    "guard": {"style_directions": "guard"},
}


class Reference(BaseModel):
    """Which of the published code's departures are in force."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    clip_preprocess: ClipPreprocess = Field(
        default="clip_normalised", description="raw_box: no clamp, no shift to [0, 1], no mean and std (StyleCLIP #38)."
    )
    l2_reduction: Literal["by_method", "sum", "mean"] = Field(
        default="by_method",
        description="by_method: the optimiser sums, for which its weight 0.008 is made, and mappers average (0.8), as "
        "published; sum, mean: both do.",
    )
    mapper_pixelnorm_axis: Literal["channel", "layer"] = Field(
        default="channel", description="layer: the mapper's norm runs over the rows (StyleCLIP #82)."
    )
    s_truncation: Literal["all_layers", "first8"] = Field(
        default="all_layers", description="first8: rows from 8 are not truncated (the PyTorch version; TF: all are)."
    )
    s_std_ddof: Literal[0, 1] = Field(default=0, description="Degrees of freedom of the channels' standard deviation.")
    relevance_base: Literal["sample_anchored", "mean_anchored"] = Field(
        default="sample_anchored", description="mean_anchored: a channel moves around its mean, not its own value."
    )
    relevance_cumulative_bug: bool = Field(
        default=False, description="Every measured channel stays at its mean for all later ones."
    )
    relevance_layers: RelevanceLayers = Field(
        default="all_conv", description="res<=128: convolutions to layer 16 only, 5,376 channels at 1024 px."
    )
    templates: Literal["imagenet_79", "imagenet_80"] = Field(
        default="imagenet_80", description="imagenet_79: without 'a photo of many {}.'."
    )
    torgb_style: Literal["pre_gain", "post_gain"] = Field(
        default="pre_gain", description="post_gain: toRGB styles times 1/sqrt(channels), as stylegan3-editing has them."
    )
    uint8: Rounding = Field(
        default="round", description="How pixels become 8 bits: x * 127.5 + offset, cut (TF: +128, PyTorch: +127.5)."
    )
    guard: Literal["error", "zeros"] = Field(
        default="error", description="What a prompt without a channel above the threshold gives."
    )

    @property
    def cutoff(self) -> int | None:
        """Rows of w_plus to truncate; None means all."""
        return FIRST_TRUNCATED if self.s_truncation == "first8" else None

    def settings(self, stage: str) -> dict[str, Any]:
        """The switches that were set, as far as they concern a stage, as fields of its settings."""
        found: dict[str, Any] = {}
        for switch in sorted(self.model_fields_set):
            field = CONCERNS[switch].get(stage)
            if field is not None and not (switch == "l2_reduction" and self.l2_reduction == "by_method"):
                found[field] = self.cutoff if switch == "s_truncation" else getattr(self, switch)
        return found


CORRECTED = Reference()
OFFICIAL = Reference(
    clip_preprocess="raw_box",
    l2_reduction="by_method",
    mapper_pixelnorm_axis="layer",
    s_truncation="all_layers",
    s_std_ddof=0,
    relevance_base="mean_anchored",
    relevance_cumulative_bug=True,
    relevance_layers="res<=128",
    templates="imagenet_79",
    torgb_style="pre_gain",
    uint8="+128",
    guard="zeros",
)


def reference_named(name: str | None) -> Reference:
    """The switches that a text sets.

    Args:
        name: None for the corrected behaviour; ``official`` for the published TensorFlow code's; or switches as
            ``uint8=+128``, separated by commas, alone or after ``official``, which they then depart from.
    Raises:
        PipelineError: for another name, an unknown switch or an unknown value.
    """
    given: dict[str, Any] = {}
    for part in [] if name is None else name.split(","):
        # a value may hold an equals sign itself: res<=128
        switch, equals, value = part.strip().partition("=")
        if not equals and switch == "official":
            given = OFFICIAL.model_dump() | given
        elif equals and switch in Reference.model_fields:
            given[switch] = _parsed(switch, value)
        else:
            known = ", ".join(Reference.model_fields)
            raise PipelineError(
                f"`reference` must be 'official', or switches such as 'uint8=+128' separated by commas; got {name!r}. "
                f"Switches are {known}."
            )
    return Reference(**given)


def _parsed(switch: str, text: str) -> Any:
    """A switch's value from text."""
    field = Reference.model_fields[switch]
    allowed = get_args(field.annotation) or (False, True)
    for value in allowed:
        if text.strip().lower() == str(value).lower():
            return value
    raise PipelineError(
        f"`reference`: {switch} must be one of {', '.join(map(str, allowed))}; got {text!r}. {field.description}"
    )


@lru_cache(maxsize=8)
def _box_matrix(resolution: int, size: int) -> Float[Tensor, "o r"]:
    """Nearest upsampling by size / 32 followed by averages over resolution / 32 pixels, as one matrix."""
    up, window = size // BOX, resolution // BOX
    matrix = torch.zeros(size, resolution)
    for row in range(size):
        for fine in range(row * window, (row + 1) * window):
            matrix[row, fine // up] += 1 / window
    return matrix


def raw_box_preprocess(images: Float[Tensor, "n 3 r r"], size: int = RAW_BOX_SIZE) -> Float[Tensor, "n 3 o o"]:
    """Images as the published optimiser and mapper show them to CLIP: a box filter and nothing else.

    ``A X A^T`` equals nearest upsampling by 7 and average pooling by r / 32, without the 49-fold image in between.

    Args:
        images: [-1, 1]; square, a multiple of 32 px.
        size: of CLIP's input, a multiple of 32 px; for others than 224 the factor 7 becomes ``size / 32``.
    Returns:
        [-1, 1], which is not what CLIP was trained on; differentiable.
    Raises:
        ValueError: if the size is another.
    """
    height, width = images.shape[2:]
    if height != width or height % BOX or size % BOX:
        raise ValueError(f"raw_box needs square images of a multiple of 32 px; got {height} x {width} for {size} px.")
    matrix = _box_matrix(height, size).to(images)
    return matrix @ images @ matrix.T


def styles_with_gain(styles: Float[Tensor, "n s"], space: StyleSpace) -> Float[Tensor, "n s"]:
    """Style vectors in the post-gain convention: toRGB parts times ``1 / sqrt(channels)``, the others as they are."""
    parts = [
        part / layer.num_channels**0.5 if layer.is_torgb else part
        for part, layer in zip(space.split(styles), space.layers, strict=True)
    ]
    return torch.cat(parts, dim=1)
