"""Settings of the stages: frozen, validated once, each field described. The hash of a config names a result.

Limits stand in the fields themselves, so that Prefect refuses a bad value before it creates a run.
"""

from collections.abc import Mapping
from typing import Annotated, Any, ClassVar, Literal, TypeVar

from pydantic import BaseModel, ConfigDict, Field, model_validator

from pipeline.pixels import Rounding

Count = Annotated[int, Field(ge=1)]
Weight = Annotated[float, Field(ge=0)]
Psi = Annotated[float, Field(ge=0.0, le=2.0)]
RelevanceLayers = Literal["all_conv", "res<=128"]
ClipPreprocess = Literal["clip_normalised", "raw_box"]
MAX_SEED = 2**63 - 1


class StageConfig(BaseModel):
    """Base of all stage settings: frozen, no unknown keys, no NaN."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)
    performance_only: ClassVar[frozenset[str]] = frozenset({"batch_size"})
    switches: ClassVar[frozenset[str]] = frozenset()

    def identity(self) -> dict[str, Any]:
        """The settings a result depends on, as JSON values: all but those that only trade memory for speed.

        A switch of ``pipeline/reference.py`` stands in it only where it departs from the default, so that a switch new
        to a stage leaves the hashes of earlier results as they were.
        """
        usual = {name for name in self.switches if getattr(self, name) == type(self).model_fields[name].default}
        return self.model_dump(mode="json", exclude={*self.performance_only, *usual})


ConfigT = TypeVar("ConfigT", bound=StageConfig)


def recommended(kind: type[ConfigT], settings: Mapping[str, Any], given: Mapping[str, Any]) -> ConfigT:
    """Settings of a stage: what was given, else what the pack recommends, else the stage's own defaults.

    Args:
        kind: the stage's settings.
        settings: the pack's recommendation.
        given: by the user; None means not given.
    """
    return kind(**{**settings, **{key: value for key, value in given.items() if value is not None}})


class LatentsConfig(StageConfig):
    """Latents sampled from seeds."""

    num_latents: Count = Field(default=16, description="How many latents to sample, one seed each.")
    first_seed: int = Field(
        default=0, ge=0, le=MAX_SEED, description="Seed of the first latent; the rest count up from it."
    )
    psi: Psi = Field(default=0.7, description="Truncation: 1 keeps w, 0 gives the mean face.")
    cutoff: int | None = Field(
        default=None, ge=0, description="Truncate only this many rows of w_plus; none means all."
    )
    shard_size: Count = Field(default=64, description="Latents per shard.")


class ImportedLatentsConfig(StageConfig):
    """Latents read from a file."""

    name: str = Field(description="Name of the file, which names the latents.")
    sha256: str = Field(description="Of the file's contents.")
    shard_size: Count = Field(default=64, description="Latents per shard.")


class StyleStatisticsConfig(StageConfig):
    """Mean and standard deviation of every style channel."""

    switches: ClassVar[frozenset[str]] = frozenset({"torgb_style"})

    num_samples: int = Field(
        default=10_000, ge=2, description="Latents to take the moments over; the paper uses 100,000."
    )
    first_seed: int = Field(default=1_000_000, ge=0, le=MAX_SEED, description="Seed of the first sample.")
    psi: Psi = Field(default=0.7, description="Truncation of the samples, on all rows as in the TensorFlow reference.")
    cutoff: int | None = Field(
        default=None,
        ge=0,
        description="Truncate only this many rows of w_plus (the PyTorch reference: 8); none: all.",
    )
    ddof: int = Field(default=0, ge=0, le=1, description="0: population deviation, as published; 1: sample deviation.")
    torgb_style: Literal["pre_gain", "post_gain"] = Field(
        default="pre_gain", description="post_gain: toRGB styles times 1/sqrt(channels), in the table only."
    )
    shard_size: Count = Field(default=2_500, description="Samples per shard.")


class ChannelDirectionsConfig(StageConfig):
    """What each style channel does to CLIP's embedding, measured by rendering."""

    switches: ClassVar[frozenset[str]] = frozenset(
        {"cutoff", "relevance_base", "relevance_cumulative_bug", "relevance_layers", "uint8"}
    )

    num_images: Count = Field(default=24, description="Images each channel is moved in; the paper uses 100.")
    first_seed: int = Field(default=2_000_000, ge=0, le=MAX_SEED, description="Seed of the first image.")
    psi: Psi = Field(default=0.7, description="Truncation of the images.")
    step: float = Field(default=5.0, gt=0, description="Size of the move in standard deviations; the paper uses 5.")
    cutoff: int | None = Field(
        default=None, ge=0, description="Truncate only this many rows of w_plus; none means all."
    )
    relevance_base: Literal["sample_anchored", "mean_anchored"] = Field(
        default="sample_anchored", description="mean_anchored: a channel moves around its mean, not its own value."
    )
    relevance_cumulative_bug: bool = Field(
        default=False, description="Every measured channel stays at its mean for all later ones."
    )
    relevance_layers: RelevanceLayers = Field(default="all_conv", description="res<=128: layers to 16 only.")
    uint8: Rounding = Field(
        default="round", description="+127.5 or +128: renders are cut to 8 bits so before CLIP sees them."
    )
    shard_size: Count = Field(default=128, description="Channels per shard, in the order the layers run.")
    images_per_shard: int = Field(
        default=128, ge=8, multiple_of=8, description="Images per shard; a multiple of the 8 that share a batch."
    )
    batch_size: int | None = Field(
        default=None, ge=1, description="Renders at a time; none takes what the free memory allows, 16 on a CPU."
    )


class ScreeningConfig(StageConfig):
    """Channel directions for a prompt list: measured only where the prompts need them, or from slopes alone."""

    performance_only: ClassVar[frozenset[str]] = frozenset({"batch_size", "gradient_batch_size"})

    mode: Literal["screened", "gradient"] = Field(
        default="screened", description="screened: slopes, then differences where they decide; gradient: slopes alone."
    )
    num_gradient_images: Count = Field(default=12, description="Images whose slopes are averaged.")
    num_probes: int = Field(default=16, ge=0, description="Random directions that estimate a slope's whole length.")
    num_images: Count = Field(default=24, description="Images a channel is measured in at most.")
    num_rounds: Count = Field(
        default=6, description="Rounds of measuring at most: one image for many candidates, then more for fewer."
    )
    rule: Literal["paper", "agreement", "effect"] = Field(
        default="effect", description="Score by which the rounds decide who gets more images; see style directions."
    )
    renders_per_prompt: int | None = Field(
        default=None,
        ge=1,
        description="Renders that a prompt may cost on average; none means a hundredth of the exact table's.",
    )
    first_seed: int = Field(default=2_000_000, ge=0, le=MAX_SEED, description="Seed of the first image.")
    psi: Psi = Field(default=0.7, description="Truncation of the images.")
    step: float = Field(default=5.0, gt=0, description="Size of the move in standard deviations; the paper uses 5.")
    num_channels: int | None = Field(
        default=None, ge=1, description="Channels a prompt keeps, where it does not say; none means the pack's default."
    )
    templates: str = Field(
        default="imagenet_79", description="Prompt templates to average: imagenet_79, imagenet_80 or none."
    )
    images_per_shard: Count = Field(default=4, description="Images per shard of slopes.")
    shard_size: Count = Field(default=64, description="Channels per shard of measuring.")
    batch_size: int | None = Field(
        default=None, ge=1, description="Renders at a time; none takes what the free memory allows, 16 on a CPU."
    )
    gradient_batch_size: int | None = Field(
        default=None, ge=1, description="Images whose slopes are taken at a time; none takes what the memory allows."
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
        description="Keep channels at or above this absolute relevance; none means use num_channels.",
    )
    num_channels: int | None = Field(
        default=None, ge=1, description="Keep this many of the most relevant channels; none means the pack's default."
    )
    rule: Literal["paper", "agreement", "effect"] = Field(
        default="paper",
        description="Score of a channel. paper: relevance of the unit mean direction, as published; agreement: "
        "times its agreement across images, the mean relevance; effect: relevance times the fourth root of its effect.",
    )
    templates: str = Field(
        default="imagenet_79", description="Prompt templates to average: imagenet_79, imagenet_80 or none."
    )
    guard: Literal["error", "zeros"] = Field(
        default="error", description="A prompt without a channel above its threshold: a failed row, or no move."
    )
    relevance_layers: RelevanceLayers = Field(
        default="all_conv", description="res<=128: channels of layers to 16 only, whatever the table holds."
    )
    shard_size: Count = Field(default=256, description="Prompts per shard.")


class OptimizedLatentsConfig(StageConfig):
    """Latent optimisation (StyleCLIP section 4); defaults are the published code's where nothing else is said."""

    switches: ClassVar[frozenset[str]] = frozenset({"clip_preprocess", "l2_reduction"})

    mode: Literal["edit", "free"] = Field(
        default="edit",
        description="edit: stay near the source latent; free: only the text counts, l2 and identity weights are 0.",
    )
    space: Literal["w", "w_plus", "styles"] = Field(
        default="w_plus",
        description="What is optimised: w_plus; w, one move for all rows of w_plus; or styles, toRGB left alone.",
    )
    start: Literal["latent", "mean"] = Field(
        default="latent", description="Where the search starts: the source latent or the mean face."
    )
    start_noise: float = Field(
        default=0.0,
        ge=0,
        le=10,
        description="Noise on the start, in parts of the source's distance from the mean face; every pair has its own.",
    )
    search_noise: float = Field(
        default=0.0,
        ge=0,
        le=100,
        description="Noise added to the latent at every step but the last, in the same unit and within the space (in w "
        "all rows alike): leads over plateaus of the loss, and away from latents that please CLIP by a hair.",
    )
    seed: int = Field(default=0, ge=0, le=MAX_SEED, description="Seed of both noises.")
    num_steps: int = Field(
        default=300, ge=2, description="Steps of a pair at most; from 2, as the first has learning rate 0."
    )
    learning_rate: float = Field(default=0.1, gt=0, le=100, description="Largest learning rate of Adam.")
    rampup: float = Field(default=0.05, gt=0, le=1, description="Share of the steps over which the rate rises.")
    rampdown: float = Field(default=0.25, gt=0, le=1, description="Share of the steps over which the rate falls.")
    clip_weight: Weight = Field(default=1.0, description="Weight of the CLIP distance to the target.")
    direction_weight: Weight = Field(default=0.0, description="Weight of the directional CLIP loss.")
    l2_weight: Weight = Field(default=0.008, description="Weight of the summed squared distance to the source latent.")
    l2_reduction: Literal["sum", "mean"] = Field(
        default="sum", description="Of the squared distance; the published weight is made for the sum."
    )
    clip_preprocess: ClipPreprocess = Field(
        default="clip_normalised", description="raw_box: what the published code shows CLIP."
    )
    identity_weight: Weight = Field(default=0.0, description="Weight of the identity loss.")
    templates: str = Field(
        default="none", description="Prompt templates to average: imagenet_79, imagenet_80 or none, as published."
    )
    tolerance: float = Field(default=1e-4, ge=0, description="A gain of the loss below this counts as none.")
    patience: int = Field(
        default=60, ge=0, description="Stop a pair after this many steps without gain; 0 never stops early."
    )
    image_interval: int = Field(default=50, ge=0, description="Keep the image of every k-th step; 0 keeps none.")
    batch_size: Count = Field(default=16, description="Pairs worked on at a time; does not change the result.")
    shard_size: Count = Field(default=64, description="Pairs per shard.")


class MappersConfig(StageConfig):
    """Training of latent mappers (StyleCLIP section 5); defaults are the paper's where nothing else is said."""

    performance_only: ClassVar[frozenset[str]] = frozenset({"checkpoint_interval"})
    switches: ClassVar[frozenset[str]] = frozenset({"clip_preprocess", "l2_reduction", "reuse_mappers"})

    reuse_mappers: bool = Field(
        default=True, description="Take a prompt's mapper from the pack where it holds one of the prompt's name."
    )
    kind: Literal["levels", "single", "styles"] = Field(
        default="levels",
        description="levels: a network each for coarse, medium and fine rows of w_plus; single: one for all; styles: "
        "one for every convolution layer of StyleSpace.",
    )
    coarse: bool = Field(default=True, description="Move the coarse rows of w_plus; read by kind levels.")
    medium: bool = Field(default=True, description="Move the medium rows.")
    fine: bool = Field(default=True, description="Move the fine rows; the published haircuts leave them alone.")
    norm_axis: Literal["channel", "layer"] = Field(
        default="channel", description="What a mapper's input is normalised over; layer is the published code's."
    )
    residual_scale: float = Field(default=0.1, gt=0, le=100, description="Factor on the mapper's output.")
    num_steps: Count = Field(default=50_000, description="Updates.")
    batch_size: Count = Field(default=2, description="Latents per update; changes the result.")
    learning_rate: float = Field(default=0.5, gt=0, le=100, description="Learning rate of RAdam with Lookahead.")
    clip_weight: Weight = Field(default=1.0, description="Weight of the CLIP distance to the target.")
    direction_weight: Weight = Field(default=0.0, description="Weight of the directional CLIP loss.")
    l2_weight: Weight = Field(default=0.8, description="Weight of the mean squared distance to the source latent.")
    l2_reduction: Literal["mean", "sum"] = Field(
        default="mean", description="Of the squared distance; the published weight is made for the mean."
    )
    clip_preprocess: ClipPreprocess = Field(
        default="clip_normalised", description="raw_box: what the published code shows CLIP."
    )
    identity_weight: Weight = Field(default=0.1, description="Weight of the identity loss.")
    search_noise: float = Field(
        default=0.0,
        ge=0,
        le=100,
        description="Noise added to the moved latents, in parts of their distance from the mean face, in training and "
        "validation: away from latents that please CLIP by a hair.",
    )
    templates: str = Field(
        default="none", description="Prompt templates to average: imagenet_79, imagenet_80 or none, as published."
    )
    validation_share: float = Field(default=0.1, gt=0, lt=1, description="Share of the latents kept for validation.")
    validation_interval: Count = Field(default=2_000, description="Updates between validations.")
    log_interval: Count = Field(default=50, description="Updates between points of the training curve.")
    seed: int = Field(default=0, ge=0, le=MAX_SEED, description="Seed of the first weights and of the batches.")
    mixed_precision: bool = Field(default=False, description="bfloat16 where the pack is on a GPU.")
    checkpoint_interval: Count = Field(default=100, description="Updates between checkpoints.")
    shard_size: Count = Field(default=8, description="Prompts trained together.")

    @model_validator(mode="after")
    def _some_level(self) -> "MappersConfig":
        if self.kind == "levels" and not (self.coarse or self.medium or self.fine):
            raise ValueError("a mapper must move something: coarse, medium or fine must be on; all three are off")
        return self


class EditedLatentsConfig(StageConfig):
    """Every latent with every edit, whatever its method."""

    strengths: tuple[float, ...] | None = Field(
        default=None,
        description="Strengths for global prompts that name none, in standard deviations; none means the pack's.",
    )
    templates: str = Field(
        default="imagenet_79", description="Prompt templates to average: imagenet_79, imagenet_80 or none."
    )
    shard_size: Count = Field(default=64, description="Latents per shard.")


class DatasetConfig(StageConfig):
    """Rendering of the edits."""

    switches: ClassVar[frozenset[str]] = frozenset({"uint8"})

    uint8: Rounding = Field(default="round", description="How pixels become 8 bits; x * 127.5 + offset, cut.")

    images_per_shard: Count = Field(
        default=1_024, description="About how many images a shard holds; latents are never split."
    )
    batch_size: Count = Field(default=16, description="Images rendered at a time; does not change the result.")


class ScoresConfig(StageConfig):
    """Scoring of the rendered edits."""

    templates: str = Field(
        default="imagenet_79", description="Prompt templates to average: imagenet_79, imagenet_80 or none."
    )
    batch_size: Count = Field(default=32, description="Images embedded at a time; does not change the result.")


class ReportConfig(StageConfig):
    """The contact sheet and the summary."""

    rows: Count = Field(default=8, description="Latents on the contact sheet.")
    columns: Count = Field(default=10, description="Prompts on the contact sheet.")
