"""The published code's departures from the paper, each a switch; ``reference="official"`` turns all of them on.

The default of every switch is the corrected behaviour. The functions here are the arithmetic of those switches that
belong to no model: preprocessing, the convention of toRGB styles, 8-bit rounding. No stage reads the preset yet.
"""

from functools import lru_cache
from typing import Literal

import torch
from jaxtyping import Float, UInt8
from pydantic import BaseModel, ConfigDict, Field
from torch import Tensor

from pipeline.errors import PipelineError
from pipeline.style_space import StyleSpace

RAW_BOX_SIZE = 224  # CLIP's input
RAW_BOX_UP = 7  # 224 / 32: the published optimiser upsamples by 7 and averages over resolution / 32
FIRST_TRUNCATED = 8  # rows of w_plus that the PyTorch version truncates


class Reference(BaseModel):
    """Which of the published code's departures are in force."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    clip_preprocess: Literal["clip_normalised", "raw_box"] = Field(
        default="clip_normalised", description="raw_box: no clamp, no shift to [0, 1], no mean and std (StyleCLIP #38)."
    )
    l2_reduction: Literal["mean", "sum"] = Field(
        default="mean", description="sum: the optimiser's L2 adds up all rows, which its weight 0.008 is made for."
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
    relevance_layers: Literal["all_conv", "res<=128"] = Field(
        default="all_conv", description="res<=128: convolutions to layer 16 only, 5,376 channels at 1024 px."
    )
    templates: Literal["imagenet_79", "imagenet_80"] = Field(
        default="imagenet_80", description="imagenet_79: without 'a photo of many {}.'."
    )
    torgb_style: Literal["pre_gain", "post_gain"] = Field(
        default="pre_gain", description="post_gain: toRGB styles times 1/sqrt(channels), as stylegan3-editing has them."
    )
    uint8: Literal["round", "+127.5", "+128"] = Field(
        default="round", description="How pixels become 8 bits: x * 127.5 + offset, cut (TF: +128, PyTorch: +127.5)."
    )
    guard: Literal["error", "zeros"] = Field(
        default="error", description="What a prompt without a channel above the threshold gives."
    )

    @property
    def cutoff(self) -> int | None:
        """Rows of w_plus to truncate; None means all."""
        return FIRST_TRUNCATED if self.s_truncation == "first8" else None


CORRECTED = Reference()
OFFICIAL = Reference(
    clip_preprocess="raw_box",
    l2_reduction="sum",
    mapper_pixelnorm_axis="layer",
    relevance_base="mean_anchored",
    relevance_cumulative_bug=True,
    relevance_layers="res<=128",
    templates="imagenet_79",
    uint8="+128",
    guard="zeros",
)


def reference_named(name: str | None) -> Reference:
    """The preset of a name: None for the corrected behaviour, ``official`` for the published TensorFlow code's.

    Raises:
        PipelineError: for another name.
    """
    if name not in (None, "official"):
        raise PipelineError(f"`reference` must be 'official' or left out; got {name!r}.")
    return CORRECTED if name is None else OFFICIAL


@lru_cache(maxsize=8)
def _box_matrix(resolution: int) -> Float[Tensor, "224 r"]:
    """Nearest upsampling by 7 followed by averages over resolution / 32 pixels, as one matrix."""
    window = resolution // 32
    matrix = torch.zeros(RAW_BOX_SIZE, resolution)
    for row in range(RAW_BOX_SIZE):
        for fine in range(row * window, (row + 1) * window):
            matrix[row, fine // RAW_BOX_UP] += 1 / window
    return matrix


def raw_box_preprocess(images: Float[Tensor, "n 3 r r"]) -> Float[Tensor, "n 3 224 224"]:
    """Images as the published optimiser and mapper show them to CLIP: a box filter and nothing else.

    ``A X A^T`` equals nearest upsampling by 7 and average pooling by r / 32, without the 49-fold image in between.

    Args:
        images: [-1, 1]; square, a multiple of 32 px.
    Returns:
        [-1, 1], which is not what CLIP was trained on; differentiable.
    Raises:
        ValueError: if the size is another.
    """
    height, width = images.shape[2:]
    if height != width or height % 32:
        raise ValueError(f"raw_box needs square images of a multiple of 32 px; got {height} x {width}.")
    matrix = _box_matrix(height).to(images)
    return matrix @ images @ matrix.T


def styles_with_gain(styles: Float[Tensor, "n s"], space: StyleSpace) -> Float[Tensor, "n s"]:
    """Style vectors in the post-gain convention: toRGB parts times ``1 / sqrt(channels)``, the others as they are."""
    parts = [
        part / layer.num_channels**0.5 if layer.is_torgb else part
        for part, layer in zip(space.split(styles), space.layers, strict=True)
    ]
    return torch.cat(parts, dim=1)


def to_uint8(images: Float[Tensor, "n 3 h w"], how: Literal["round", "+127.5", "+128"]) -> UInt8[Tensor, "n 3 h w"]:
    """Pixels in [-1, 1] to 8 bits: rounded to the nearest level, or shifted and cut as the published versions do."""
    if how == "round":
        return ((images.clamp(-1, 1) + 1) * 127.5).round().to(torch.uint8)
    return (images * 127.5 + float(how)).clamp(0, 255).to(torch.uint8)
