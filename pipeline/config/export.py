"""Settings of what is handed on: accepted images, balanced requests, exports, gallery."""

from typing import ClassVar, Literal

from pydantic import Field, model_validator

from pipeline.config.settings import MAX_SEED, NOT_A_PARAMETER, Count, FirstSeed, ImageBatch, Psi, StageConfig


class AcceptRules(StageConfig):
    """Thresholds an edit must meet; a threshold of none asks nothing, and so does one on a score that is missing."""

    require_hit: bool = Field(default=False, description="The judge must see what the prompt asks for.")
    reject_already: bool = Field(default=False, description="Leave out edits of faces that showed it before.")
    min_kept: float | None = Field(default=None, ge=0, le=1, description="Least share of the other attributes kept.")
    min_identity: float | None = Field(default=None, ge=-1, le=1, description="Least identity similarity.")
    min_clip_gain: float | None = Field(default=None, ge=-2, le=2, description="Least gain of CLIP similarity.")
    min_clip_direction: float | None = Field(default=None, ge=-1, le=1, description="Least CLIP direction.")
    min_judge_probability: float | None = Field(
        default=None, ge=0, le=1, description="Least probability of the judge's answer, whichever it is."
    )
    max_pixel_distance: float | None = Field(default=None, ge=0, le=1, description="Largest mean pixel difference.")


class BalanceConfig(StageConfig):
    """A dataset with given shares of attributes."""

    total: Count = Field(description="Images in all.", json_schema_extra=NOT_A_PARAMETER)
    attributes: dict[str, Literal["even"] | tuple[str, ...] | dict[str, float]] = Field(
        min_length=1,
        description="Attribute to the share of each category, to categories of equal shares, or even for all of them.",
        json_schema_extra=NOT_A_PARAMETER,
    )
    tolerance: float = Field(
        default=0.01,
        ge=0,
        le=1,
        description="How far a category's share may be from what is asked for.",
        json_schema_extra=NOT_A_PARAMETER,
    )
    kind: Literal["images", "faces", "pairs"] = Field(
        default="images",
        description="images: any originals and edits; faces: every face once, as it is or edited; pairs: every edit "
        "with its original, a face once, both counted.",
        json_schema_extra=NOT_A_PARAMETER,
    )

    @model_validator(mode="after")
    def _pairs_are_two(self) -> "BalanceConfig":
        if self.kind == "pairs" and self.total % 2:
            raise ValueError(f"`total` of pairs must be even, two images a pair; got {self.total}")
        return self


class BalancePlanConfig(StageConfig):
    """How a balanced request is planned and rendered."""

    pilot_latents: int = Field(
        default=48, ge=8, description="Faces that every prompt is tried on, to see what comes of it."
    )
    survey_latents: Count = Field(
        default=256, description="Faces that are looked at without an edit, to see how often each attribute is there."
    )
    max_latents: Count | None = Field(
        default=None,
        description="Faces that may be looked at in a round; a request that needs more is refused. By default ten "
        "times the images asked for.",
    )
    spare: float = Field(
        default=0.05, ge=0, le=10, description="Images planned beyond those asked for, as a share, for edits that fail."
    )
    rounds: Count = Field(default=4, description="Rounds of rendering at most; further ones make up for what failed.")
    first_seed: FirstSeed = 0
    psi: Psi = 0.7


class ExportedDatasetConfig(AcceptRules):
    """A run as a dataset for training: format, labels, splits and what is accepted."""

    performance_only: ClassVar[frozenset[str]] = frozenset({"batch_size"})
    switches: ClassVar[frozenset[str]] = frozenset({"judge"})

    format: Literal["parquet", "imagefolder", "webdataset", "csv"] = Field(
        default="parquet", description="parquet, imagefolder and webdataset open with datasets.load_dataset(FOLDER)."
    )
    layout: Literal["images", "pairs"] = Field(
        default="images", description="images: a row per image, originals too; pairs: a row per edit, before and after."
    )
    image_format: Literal["png", "webp", "jpeg"] = Field(
        default="png", description="png and webp keep every bit; jpeg does not."
    )
    quality: int = Field(default=95, ge=1, le=100, description="Of JPEG; the others ignore it.")
    images_per_shard: Count = Field(default=1_000, description="Rows per file, tar shard or folder.")
    validation_share: float = Field(default=0.1, ge=0, le=1, description="Share of the faces in split validation.")
    test_share: float = Field(default=0.1, ge=0, le=1, description="Share of the faces in split test.")
    split_seed: int = Field(default=0, ge=0, le=MAX_SEED, description="Another seed gives another division.")
    captions: int = Field(default=3, ge=0, le=10, description="Captions of every image, each in other words.")
    min_caption_probability: float = Field(
        default=0.5, ge=0, le=1, description="Captions leave out attributes that the judge is less sure of."
    )
    alternatives: dict[str, tuple[str, ...] | dict[str, str]] = Field(
        default_factory=dict,
        description="Attributes that a CLIP is asked for, multiple choice, where no oracle knows them: each with its "
        "categories, or with the text of every category.",
        json_schema_extra=NOT_A_PARAMETER,
    )
    judge: str | None = Field(
        default=None,
        description="The CLIP that is asked for `alternatives`, as in score-edits; none takes the pack's own.",
        json_schema_extra=NOT_A_PARAMETER,
    )
    phrases: dict[str, dict[str, tuple[str, ...]]] = Field(
        default_factory=dict,
        description="Words of the captions by attribute and category, in place of the built-in ones.",
        json_schema_extra=NOT_A_PARAMETER,
    )
    questions: dict[str, dict[str, str]] = Field(
        default_factory=dict,
        description="prompt_id to the attribute and category it asks for, e.g. {shades: {accessories: sunglasses}}; "
        "prompts that are not named here are read by their words.",
        json_schema_extra=NOT_A_PARAMETER,
    )
    balance: BalanceConfig | None = Field(
        default=None,
        description="Take images so that attributes have given shares; refused with the numbers where that cannot be.",
        json_schema_extra=NOT_A_PARAMETER,
    )
    photo_columns: bool = Field(
        default=True, description="Of photos: write their paths, and the labels that their table gave them."
    )
    keep_rejected: bool = Field(default=True, description="Write rejected edits too, apart, with the reason.")
    batch_size: ImageBatch = 32

    @model_validator(mode="after")
    def _shares_leave_some(self) -> "ExportedDatasetConfig":
        if self.validation_share + self.test_share > 1:
            raise ValueError(
                f"`validation_share` and `test_share` must not exceed 1 together; got {self.validation_share} and "
                f"{self.test_share}."
            )
        return self


class GalleryConfig(AcceptRules):
    """The gallery of a run."""

    thumbnail_size: int = Field(default=160, ge=16, le=1024, description="Pixels of a thumbnail at most.")
    view_size: int = Field(
        default=768, ge=16, le=4096, description="Pixels of the closer look at most; no more than the images have."
    )
    quality: int = Field(default=88, ge=1, le=100, description="WebP quality of the thumbnails and closer looks.")
