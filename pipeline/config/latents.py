"""Settings of latents: sampled, imported, or inverted from photos."""

from typing import ClassVar, Literal

from pydantic import Field, model_validator

from pipeline.config.settings import (
    NOT_A_PARAMETER,
    Count,
    Cutoff,
    FirstSeed,
    ImageBatch,
    LatentsPerShard,
    Psi,
    StageConfig,
)

PILLOWS_MOST = 178_956_970  # pixels; it refuses to open more


class LatentsConfig(StageConfig):
    """Latents sampled from seeds."""

    grows: ClassVar[frozenset[str]] = frozenset({"num_latents"})

    num_latents: Count = Field(default=16, description="How many latents to sample, one seed each.")
    first_seed: FirstSeed = 0
    psi: Psi = 0.7
    cutoff: Cutoff = None
    shard_size: LatentsPerShard = 64


class ImportedLatentsConfig(StageConfig):
    """Latents read from a file."""

    name: str = Field(description="Name of the file, which names the latents.", json_schema_extra=NOT_A_PARAMETER)
    sha256: str = Field(description="Of the file's contents.", json_schema_extra=NOT_A_PARAMETER)
    shard_size: LatentsPerShard = 64


class ImageListingConfig(StageConfig):
    """The images that are to be inverted, by name."""

    images: str = Field(description="The folder, pattern or table that names them.", json_schema_extra=NOT_A_PARAMETER)
    image_column: str | None = Field(
        default=None, description="The column that was asked for.", json_schema_extra=NOT_A_PARAMETER
    )
    num_images: Count = Field(description="How many there are.", json_schema_extra=NOT_A_PARAMETER)
    digest: str = Field(description="SHA-256 over names, sizes and times of change.", json_schema_extra=NOT_A_PARAMETER)


class InvertedLatentsConfig(StageConfig):
    """Latents of real images."""

    performance_only: ClassVar[frozenset[str]] = frozenset({"batch_size", "max_delta_bytes"})

    image_column: str | None = Field(
        default=None, description="The table's column of URIs or images; none guesses by name."
    )
    align: Literal["ffhq", "center-crop", "none"] | None = Field(
        default=None, description="How photos are framed; none means as the pack says."
    )
    landmarks_model: str | None = Field(
        default=None, description="Local dlib shape predictor of 68 landmarks, for ffhq; none takes the packaged one."
    )
    background: str = Field(default="white", description="Colour behind transparent pixels: a name or #rrggbb.")
    min_side: Count = Field(default=32, description="Pixels that an image's shorter side must have.")
    max_pixels: Count = Field(
        default=64_000_000, le=PILLOWS_MOST, description="Pixels that an image may have; larger ones are rows."
    )
    max_bytes: Count = Field(default=100_000_000, description="Bytes that an image's file may have.")
    start: Literal["encoder", "mean"] = Field(
        default="encoder", description="mean: no encoder, refinement starts from the mean latent."
    )
    encoder_steps: int | None = Field(
        default=None,
        ge=1,
        le=100,
        description="Passes of an encoder that also sees its reconstruction (ReStyle): none means 5; others take 1.",
    )
    refine: int = Field(
        default=0, ge=0, description="Steps of optimisation after the encoder; 0 for none, else from 2."
    )
    refine_space: Literal["w", "w_plus"] = Field(
        default="w_plus", description="What refinement moves; w moves all rows of w_plus alike."
    )
    learning_rate: float = Field(default=0.02, gt=0, le=100, description="Largest learning rate of refinement's Adam.")
    pixel_weight: float = Field(default=1.0, ge=0, description="Weight of the mean absolute pixel difference.")
    perceptual_weight: float = Field(default=0.5, ge=0, description="Weight of the distance of features.")
    identity_weight: float = Field(
        default=0.1, ge=0, description="Weight of the identity loss; 0 without such a network."
    )
    code_weight: float = Field(default=0.1, ge=0, description="Weight of the mean squared distance to the start.")
    spread_weight: float = Field(
        default=1.0, ge=0, description="Weight of what moves the rows of w_plus apart; keeps edits working."
    )
    perceptual: Literal["auto", "oracle", "clip"] = Field(
        default="auto", description="Network whose features are compared; auto: the oracle's, else CLIP's."
    )
    target_error: float = Field(default=0.0, ge=0, description="Pixel error at which refinement has done enough.")
    tolerance: float = Field(default=1e-5, ge=0, description="A gain of refinement's loss below this counts as none.")
    patience: int = Field(default=30, ge=0, description="Steps without gain that end a refinement; 0 never does.")
    pivotal_tuning: int = Field(
        default=0,
        ge=0,
        description="Steps of a small change of the generator for each photo, its latent kept; 0: none, else from 2.",
    )
    tuning_rate: float = Field(default=0.003, gt=0, le=100, description="Largest learning rate of pivotal tuning.")
    tuning_rank: int = Field(
        default=8, ge=0, description="Rank of the change of each weight: size and freedom; 0 changes whole weights."
    )
    locality_weight: float = Field(
        default=0.1, ge=0, description="Weight of what keeps the tuned generator the pack's at latents around."
    )
    max_delta_bytes: Count = Field(
        default=10_000_000_000, description="Bytes that all changes of the generator may take; more is refused at once."
    )
    min_quality: float = Field(
        default=0.0, ge=0, le=1, description="Quality, 1 less half the pixel error, that an inversion should have."
    )
    below_quality: Literal["flag", "drop"] = Field(
        default="flag", description="flag: is_good says so; drop: the row fails and no later step edits it."
    )
    keep_exif: bool = Field(default=False, description="Keep the photos' EXIF blocks, with place and time of taking.")
    batch_size: ImageBatch = 16
    shard_size: LatentsPerShard = 64

    @model_validator(mode="after")
    def _refine_can_work(self) -> "InvertedLatentsConfig":
        if self.refine == 1:
            raise ValueError("`refine` must be 0 or at least 2, as its first step has learning rate 0; got 1")
        if self.pivotal_tuning == 1:
            raise ValueError("`pivotal_tuning` must be 0 or at least 2, as its first step has learning rate 0; got 1")
        if self.start == "mean" and not self.refine:
            raise ValueError("start=mean needs `refine`: the mean latent alone is no inversion; got refine=0")
        return self
