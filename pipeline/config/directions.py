"""Settings of global directions: statistics, channels, screening, rules, trials."""

from typing import Annotated, ClassVar, Literal

from pydantic import Field, model_validator

from pipeline.config.settings import (
    NOT_A_PARAMETER,
    Count,
    Cutoff,
    FirstSeed,
    NumChannels,
    Psi,
    RelevanceLayers,
    RenderBatch,
    RenderPrecision,
    Rounding,
    SelectionRule,
    StageConfig,
    Step,
    Templates,
    parameter,
)


class StyleStatisticsConfig(StageConfig):
    """Mean and standard deviation of every style channel."""

    switches: ClassVar[frozenset[str]] = frozenset({"torgb_style"})

    num_samples: int = Field(
        default=10_000, ge=2, description="Latents to take the moments over; the paper uses 100,000."
    )
    first_seed: FirstSeed = 1_000_000
    psi: Psi = 0.7
    cutoff: Cutoff = None
    ddof: int = Field(default=0, ge=0, le=1, description="0: population deviation, as published; 1: sample deviation.")
    torgb_style: Literal["pre_gain", "post_gain"] = Field(
        default="pre_gain",
        description="post_gain: toRGB styles times 1/sqrt(channels), in the table only.",
        json_schema_extra=NOT_A_PARAMETER,
    )
    shard_size: Count = Field(
        default=2_500, description="Samples per shard.", json_schema_extra=parameter("samples_per_shard")
    )


class ChannelDirectionsConfig(StageConfig):
    """What each style channel does to CLIP's embedding, measured by rendering."""

    switches: ClassVar[frozenset[str]] = frozenset(
        {"cutoff", "relevance_base", "relevance_cumulative_bug", "relevance_layers", "uint8"}
    )

    num_images: Count = Field(default=24, description="Images each channel is moved in; the paper uses 100.")
    first_seed: FirstSeed = 2_000_000
    psi: Psi = 0.7
    step: Step = 5.0
    cutoff: Annotated[Cutoff, Field(json_schema_extra=NOT_A_PARAMETER)] = None
    relevance_base: Literal["sample_anchored", "mean_anchored"] = Field(
        default="sample_anchored",
        description="mean_anchored: a channel moves around its mean, not its own value.",
        json_schema_extra=NOT_A_PARAMETER,
    )
    relevance_cumulative_bug: bool = Field(
        default=False,
        description="Every measured channel stays at its mean for all later ones.",
        json_schema_extra=NOT_A_PARAMETER,
    )
    relevance_layers: RelevanceLayers = Field(
        default="all_conv", description="res<=128: layers to 16 only.", json_schema_extra=NOT_A_PARAMETER
    )
    uint8: Rounding = Field(
        default="round",
        description="+127.5 or +128: renders are cut to 8 bits so before CLIP sees them.",
        json_schema_extra=NOT_A_PARAMETER,
    )
    shard_size: Count = Field(
        default=128,
        description="Channels per shard, in the order the layers run.",
        json_schema_extra=parameter("channels_per_shard"),
    )
    precision: RenderPrecision = "full"
    images_per_shard: int = Field(
        default=128, ge=8, multiple_of=8, description="Images per shard; a multiple of the 8 that share a batch."
    )
    batch_size: RenderBatch = None


class ScreeningConfig(StageConfig):
    """Channel directions for a prompt list: measured only where the prompts need them, or from slopes alone."""

    performance_only: ClassVar[frozenset[str]] = frozenset({"batch_size", "gradient_batch_size"})

    mode: Literal["screened", "gradient"] = Field(
        default="screened",
        description="screened: slopes, then differences where they decide; gradient: slopes alone.",
        json_schema_extra=NOT_A_PARAMETER,
    )
    num_gradient_images: Count = Field(
        default=12, description="Images whose slopes are averaged.", json_schema_extra=parameter("gradient_images")
    )
    num_probes: int = Field(
        default=16,
        ge=0,
        description="Random directions that estimate a slope's whole length.",
        json_schema_extra=parameter("gradient_probes"),
    )
    num_images: Count = Field(
        default=24,
        description="Images that screening measures a channel in at most.",
        json_schema_extra=parameter("screening_images"),
    )
    num_rounds: Count = Field(
        default=6,
        description="Rounds of screening at most: one image for many candidates, then more for fewer.",
        json_schema_extra=parameter("screening_rounds"),
    )
    rule: SelectionRule = Field(
        default="effect",
        description="Score by which the rounds decide who gets more images; see style directions.",
        json_schema_extra=NOT_A_PARAMETER,
    )
    by_control: bool = Field(
        default=False,
        description="Measure channels that always move together as one; rule pursuit does.",
        json_schema_extra=NOT_A_PARAMETER,
    )
    renders_per_prompt: int | None = Field(
        default=None,
        ge=1,
        description="Renders that screening may spend on a prompt on average. By default a hundredth of what the exact "
        "table costs, and another one for the whole list: a prompt alone has two.",
    )
    first_seed: Annotated[FirstSeed, Field(json_schema_extra=parameter("screening_first_seed"))] = 2_000_000
    psi: Annotated[Psi, Field(json_schema_extra=parameter("screening_psi"))] = 0.7
    step: Annotated[Step, Field(json_schema_extra=parameter("screening_step"))] = 5.0
    num_channels: Annotated[NumChannels, Field(json_schema_extra=NOT_A_PARAMETER)] = None
    templates: Annotated[Templates, Field(json_schema_extra=NOT_A_PARAMETER)] = "imagenet_79"
    images_per_shard: Count = Field(
        default=4, description="Images per shard of slopes.", json_schema_extra=parameter("gradient_images_per_shard")
    )
    precision: RenderPrecision = "full"
    shard_size: Count = Field(
        default=64,
        description="Channels per shard of screening.",
        json_schema_extra=parameter("screening_channels_per_shard"),
    )
    batch_size: Annotated[RenderBatch, Field(json_schema_extra=parameter("screening_batch_size"))] = None
    gradient_batch_size: int | None = Field(
        default=None,
        ge=1,
        description="Images whose slopes are taken at a time. By default as many as the free memory allows.",
    )

    @model_validator(mode="after")
    def _gradient_images_are_among_the_images(self) -> "ScreeningConfig":
        if self.num_gradient_images > self.num_images:
            raise ValueError(
                f"`num_gradient_images` must not exceed `num_images`; got {self.num_gradient_images} and "
                f"{self.num_images}. Raise `num_images`."
            )
        return self


class StyleDirectionsConfig(StageConfig):
    """From prompts to directions in StyleSpace."""

    switches: ClassVar[frozenset[str]] = frozenset({"guard", "relevance_layers"})

    relevance_threshold: float | None = Field(
        default=None,
        ge=0,
        le=1,
        description="Move every channel of at least this absolute relevance. By default their number decides.",
    )
    num_channels: NumChannels = None
    rule: SelectionRule = Field(
        default="paper",
        description="Which channels. By score, paper: relevance of the unit mean direction, as published; agreement: "
        "times its agreement across images, the mean relevance; effect: relevance times the fourth root of its effect. "
        "pursuit: the few that together make the text direction, as many as it takes; for several wishes at once.",
    )
    lowering: float | None = Field(
        default=None,
        gt=0,
        le=1,
        description="Rule pursuit: how far channels are moved against their direction, as a share of along it; none "
        "goes by how much of the text they make up.",
        json_schema_extra=NOT_A_PARAMETER,
    )
    templates: Templates = "imagenet_79"
    guard: Literal["error", "zeros"] = Field(
        default="error",
        description="A prompt without a channel above its threshold: a failed row, or no move.",
        json_schema_extra=NOT_A_PARAMETER,
    )
    relevance_layers: RelevanceLayers = Field(
        default="all_conv",
        description="res<=128: channels of layers to 16 only, whatever the table holds.",
        json_schema_extra=NOT_A_PARAMETER,
    )
    shard_size: Count = Field(
        default=256, description="Prompts per shard.", json_schema_extra=parameter("prompts_per_shard")
    )


class TrialsConfig(StageConfig):
    """Settings of a prompt found by trial: a grid around the pack's own, drawn on a few latents of their own."""

    by: Literal["similarity", "hit"] = Field(
        default="similarity",
        description="similarity: CLIP's to the target text plus a share of the identity's; hit: the most hits that "
        "keep the rest, in the oracle's eyes, and by similarity where it cannot tell.",
        json_schema_extra=NOT_A_PARAMETER,
    )
    num_latents: Count = Field(
        default=8, description="Latents that settings are tried on.", json_schema_extra=parameter("trial_latents")
    )
    first_seed: Annotated[FirstSeed, Field(json_schema_extra=parameter("trial_first_seed"))] = 6_000_000
    psi: Annotated[Psi, Field(json_schema_extra=parameter("trial_psi"))] = 0.7
    strengths: tuple[Annotated[float, Field(gt=0)], ...] = Field(
        default=(0.5, 1.0, 1.5),
        min_length=1,
        description="Strengths to try, as multiples of the pack's.",
        json_schema_extra=parameter("trial_strengths"),
    )
    identity_share: float = Field(
        default=0.1, ge=0, le=10, description="Weight of the identity similarity beside that to the text."
    )
    margin: float = Field(
        default=0.01,
        ge=0,
        le=1,
        description="How much better than the usual setting another must score to be taken, where similarity decides.",
    )
    kept: float = Field(
        default=0.95,
        gt=0,
        le=1,
        description="Share of the other attributes that settings must keep, where hits decide.",
        json_schema_extra=parameter("wanted_kept"),
    )
    num_samples: Annotated[int, Field(ge=0, json_schema_extra=NOT_A_PARAMETER)] = 256
    shard_size: Count = Field(
        default=4, description="Prompts per shard of trials.", json_schema_extra=parameter("trial_prompts_per_shard")
    )
    batch_size: Annotated[RenderBatch, Field(json_schema_extra=parameter("trial_batch_size"))] = None
