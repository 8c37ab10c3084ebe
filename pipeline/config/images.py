"""Settings of what is drawn and seen: dataset, scores, report, comparison."""

from typing import Annotated, ClassVar

from pydantic import Field

from pipeline.config.settings import (
    NOT_A_PARAMETER,
    Count,
    ImageBatch,
    RenderPrecision,
    Rounding,
    StageConfig,
    Templates,
    parameter,
)


class DatasetConfig(StageConfig):
    """Rendering of the edits."""

    switches: ClassVar[frozenset[str]] = frozenset({"uint8", "paste_back", "feather"})

    precision: RenderPrecision = "full"
    uint8: Rounding = Field(
        default="round",
        description="How pixels become 8 bits; x * 127.5 + offset, cut.",
        json_schema_extra=NOT_A_PARAMETER,
    )
    paste_back: bool = Field(
        default=False, description="Also write whole photos, with the edited picture pasted back where it was cut out."
    )
    feather: float = Field(
        default=0.1, ge=0, le=0.5, description="Width of a pasted picture's soft edge, in parts of its side."
    )
    images_per_shard: Count = Field(
        default=1_024, description="About how many images a shard holds; latents are never split."
    )
    batch_size: ImageBatch = 16


class ScoresConfig(StageConfig):
    """Scoring of the rendered edits."""

    templates: Templates = "imagenet_79"
    judge: str | None = Field(
        default=None,
        description="A second CLIP to judge the edits: a pack, an open_clip model as 'ViT-B-32-quickgelu:openai', or "
        "none. Without one, free prompts are judged by the CLIP that guided them.",
    )
    num_samples: int = Field(
        default=256,
        ge=0,
        description="Unedited samples that show what a prompt wants and whether it can be reached; 0 asks neither.",
        json_schema_extra=parameter("judging_samples"),
    )
    batch_size: ImageBatch = 32


class ReportConfig(StageConfig):
    """The contact sheet and the summary."""

    rows: Count = Field(default=16, description="Latents on the contact sheet; it says how many it leaves out.")
    columns: Count = Field(default=16, description="Prompts on the contact sheet.")


class EditDatasetConfig(StageConfig):
    """What the whole chain decides, beside the settings of its stages."""

    mapper_latents: int = Field(
        default=1_000, ge=2, description="Latents that mappers are trained on; none of them is edited."
    )
    thresholds: str | None = Field(
        default=None,
        description="Render every global prompt at several thresholds, for the gallery's slider: relevances as in "
        "'0.1,0.15,0.2', or 'auto:5' for five that keep from one channel to four times the usual number.",
    )


class ComparisonConfig(StageConfig):
    """Methods side by side."""

    kept: float = Field(
        default=0.9,
        gt=0,
        le=1,
        description="Share of the other attributes that an edit must keep to count.",
        json_schema_extra=parameter("wanted_kept"),
    )
    rows: Count = Field(
        default=4, description="Latents on the picture grid.", json_schema_extra=parameter("picture_rows")
    )
    batch_size: Annotated[ImageBatch, Field(json_schema_extra=NOT_A_PARAMETER)] = 32
