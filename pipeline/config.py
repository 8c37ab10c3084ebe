"""Settings of the stages: frozen, validated once, each field described. The hash of a config names a result.

A setting stands here and nowhere else: flow parameters, Prefect's form and the command's options are derived from these
fields (``flows/parameters.py``). Limits stand in the fields themselves, so that Prefect refuses a bad value before it
creates a run. A field that goes by another name outside its stage says so with ``parameter``; one that is not set by
hand, or only through ``reference``, with ``NOT_A_PARAMETER``. This module imports no tensors: help must come at once.
"""

from collections.abc import Mapping
from typing import Annotated, Any, ClassVar, Literal, TypeVar

from pydantic import BaseModel, ConfigDict, Field, model_validator

MAX_SEED = 2**63 - 1
NOT_A_PARAMETER: dict[str, Any] = {"parameter": None}


def parameter(name: str) -> dict[str, Any]:
    """What a setting is called outside its stage, where several stages meet."""
    return {"parameter": name}


RelevanceLayers = Literal["all_conv", "res<=128"]
Rounding = Literal["round", "+127.5", "+128"]
ClipPreprocess = Literal["clip_normalised", "raw_box"]
Precision = Literal["full", "tf32", "half"]
Rule = Literal["paper", "agreement", "effect"]  # scores of single channels
SelectionRule = Literal["paper", "agreement", "effect", "pursuit"]  # pursuit chooses channels together

Count = Annotated[int, Field(ge=1)]
# settings that several stages share, described once
Psi = Annotated[float, Field(ge=0.0, le=2.0, description="Truncation: 1 keeps w, 0 gives the mean face.")]
Cutoff = Annotated[
    int | None,
    Field(
        ge=0,
        description="Truncate only this many rows of w_plus (the published PyTorch code: 8). By default all are.",
    ),
]
Templates = Annotated[
    Literal["imagenet_79", "imagenet_80", "none"],
    Field(description="Prompt templates whose embeddings are averaged; none takes the bare prompt."),
]
FirstSeed = Annotated[int, Field(ge=0, le=MAX_SEED, description="Seed of the first latent; the rest count up from it.")]
Step = Annotated[
    float,
    Field(gt=0, description="How far a channel is moved each way, in standard deviations; the paper uses 5."),
]
RenderBatch = Annotated[
    int | None,
    Field(
        ge=1,
        description="Renders at a time. By default as many as the free memory allows, at most 16 on a CPU. It changes "
        "memory and speed, not the result.",
    ),
]
RenderPrecision = Annotated[
    Precision,
    Field(description="full: float32 on every device. tf32 and half: a GPU's faster arithmetic (docs/gpu.md)."),
]
AdamRate = Annotated[float, Field(gt=0, le=100, description="Largest learning rate of Adam.")]
ImageInterval = Annotated[int, Field(ge=0, description="Keep the image of every k-th step; 0 keeps none.")]
PairsPerShard = Annotated[
    int, Field(ge=1, description="Pairs per shard.", json_schema_extra=parameter("pairs_per_shard"))
]
ImageBatch = Annotated[int, Field(ge=1, description="Images at a time. It changes memory and speed, not the result.")]
LatentsPerShard = Annotated[
    int, Field(ge=1, description="Latents per shard.", json_schema_extra=parameter("latents_per_shard"))
]
NumChannels = Annotated[
    int | None,
    Field(ge=1, description="Move this many of the most relevant channels; with rule pursuit at most so many."),
]
ClipWeight = Annotated[float, Field(ge=0, description="Weight of the CLIP distance to the target text.")]
DirectionWeight = Annotated[float, Field(ge=0, description="Weight of the directional CLIP loss.")]
IdentityWeight = Annotated[float, Field(ge=0, description="Weight of the identity loss.")]
LearningRate = Annotated[float, Field(gt=0, le=100)]
Preprocess = Annotated[
    ClipPreprocess,
    Field(description="raw_box: what the published code shows CLIP.", json_schema_extra=NOT_A_PARAMETER),
]


class StageConfig(BaseModel):
    """Base of all stage settings: frozen, no unknown keys, no NaN."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)
    performance_only: ClassVar[frozenset[str]] = frozenset({"batch_size"})
    switches: ClassVar[frozenset[str]] = frozenset()
    grows: ClassVar[frozenset[str]] = frozenset()  # how many rows there are, not what they are

    def identity(self) -> dict[str, Any]:
        """The settings a result depends on, as JSON values: all but those that only trade memory for speed.

        A switch of ``pipeline/reference.py`` stands in it only where it departs from the default, so that a switch new
        to a stage leaves the hashes of earlier results as they were.
        """
        usual = {name for name in self.switches | {"precision"} if name in type(self).model_fields}
        usual = {name for name in usual if getattr(self, name) == type(self).model_fields[name].default}
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
    rule: Rule = Field(
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
        "table costs.",
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
        "all rows alike): it leads over plateaus of the loss, and away from latents that only barely please CLIP.",
    )
    seed: int = Field(default=0, ge=0, le=MAX_SEED, description="Seed of both noises.")
    num_steps: int = Field(
        default=300, ge=2, description="Steps of a pair at most; from 2, as the first has learning rate 0."
    )
    learning_rate: AdamRate = 0.1
    rampup: float = Field(default=0.05, gt=0, le=1, description="Share of the steps over which the rate rises.")
    rampdown: float = Field(default=0.25, gt=0, le=1, description="Share of the steps over which the rate falls.")
    clip_weight: ClipWeight = 1.0
    direction_weight: DirectionWeight = 0.0
    l2_weight: float = Field(
        default=0.008, ge=0, description="Weight of the summed squared distance to the source latent."
    )
    l2_reduction: Literal["sum", "mean"] = Field(
        default="sum",
        description="Of the squared distance; the published weight is made for the sum.",
        json_schema_extra=NOT_A_PARAMETER,
    )
    clip_preprocess: Preprocess = "clip_normalised"
    identity_weight: IdentityWeight = 0.0
    templates: Templates = "none"
    tolerance: float = Field(default=1e-4, ge=0, description="A gain of the loss below this counts as none.")
    patience: int = Field(
        default=60, ge=0, description="Stop a pair after this many steps without gain; 0 never stops early."
    )
    precision: RenderPrecision = "full"
    image_interval: ImageInterval = 50
    batch_size: ImageBatch = 16
    shard_size: PairsPerShard = 64


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
        default="channel",
        description="What a mapper's input is normalised over; layer is the published code's.",
        json_schema_extra=NOT_A_PARAMETER,
    )
    residual_scale: float = Field(default=0.1, gt=0, le=100, description="Factor on the mapper's output.")
    num_steps: Count = Field(default=50_000, description="Updates.")
    batch_size: Count = Field(
        default=2,
        description="Latents per update; changes the result.",
        json_schema_extra=parameter("latents_per_step"),
    )
    learning_rate: LearningRate = Field(default=0.5, description="Learning rate of RAdam with Lookahead.")
    clip_weight: ClipWeight = 1.0
    direction_weight: DirectionWeight = 0.0
    l2_weight: float = Field(default=0.8, ge=0, description="Weight of the mean squared distance to the source latent.")
    l2_reduction: Literal["mean", "sum"] = Field(
        default="mean",
        description="Of the squared distance; the published weight is made for the mean.",
        json_schema_extra=NOT_A_PARAMETER,
    )
    clip_preprocess: Preprocess = "clip_normalised"
    identity_weight: IdentityWeight = 0.1
    search_noise: float = Field(
        default=0.0,
        ge=0,
        le=100,
        description="Noise added to the moved latents, in parts of their distance from the mean face, in training and "
        "validation: it leads away from latents that only barely please CLIP.",
    )
    precision: RenderPrecision = "full"
    templates: Templates = "none"
    validation_share: float = Field(default=0.1, gt=0, lt=1, description="Share of the latents kept for validation.")
    validation_interval: Count = Field(default=2_000, description="Updates between validations.")
    log_interval: Count = Field(default=50, description="Updates between points of the training curve.")
    seed: int = Field(default=0, ge=0, le=MAX_SEED, description="Seed of the first weights and of the batches.")
    mixed_precision: bool = Field(default=False, description="bfloat16 where the pack is on a GPU.")
    checkpoint_interval: Count = Field(default=100, description="Updates between checkpoints.")
    shard_size: Count = Field(
        default=8, description="Prompts trained together.", json_schema_extra=parameter("prompts_per_shard")
    )

    @model_validator(mode="after")
    def _some_level(self) -> "MappersConfig":
        if self.kind == "levels" and not (self.coarse or self.medium or self.fine):
            raise ValueError("a mapper must move something: coarse, medium or fine must be on; all three are off")
        return self


class EditedLatentsConfig(StageConfig):
    """Every latent with every edit, whatever its method."""

    strengths: tuple[float, ...] | None = Field(
        default=None,
        min_length=1,
        description="How far to go, for global prompts that do not say, in standard deviations of the most relevant "
        "channel; several are several edits.",
    )
    templates: Templates = "imagenet_79"
    shard_size: LatentsPerShard = 64


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
    max_pixels: Count = Field(default=64_000_000, description="Pixels that an image may have; larger ones are rows.")
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


class TediganLatentsConfig(StageConfig):
    """TediGAN's instance-level optimisation, a baseline (Xia et al. 2021); defaults are its published code's."""

    start: Literal["mean", "inverted"] = Field(
        default="mean",
        description="Where the search starts: the mean latent, as published, or the inverter's latent of the image.",
    )
    num_steps: int = Field(default=200, ge=2, description="Steps of a pair; from 2, as the first has learning rate 0.")
    learning_rate: AdamRate = 0.1
    clip_weight: ClipWeight = 1.0
    pixel_weight: float = Field(
        default=1.0, ge=0, description="Weight of the mean squared pixel distance to the source."
    )
    feature_weight: float = Field(
        default=0.05,
        ge=0,
        description="Weight of the squared distance of the pack's identity embeddings, which stand in for VGG's.",
    )
    latent_weight: float = Field(
        default=2.0, ge=0, description="Weight of the mean squared distance to the inverted latent."
    )
    mix_rows: tuple[int, ...] | None = Field(
        default=None,
        description="Rows of w_plus that take the found style, the others keep the source's. By default all do.",
        json_schema_extra=NOT_A_PARAMETER,
    )
    mix_share: float = Field(default=1.0, ge=0, le=1, description="How far the rows go to the found style.")
    templates: Templates = "none"
    seed: int = Field(
        default=0,
        ge=0,
        le=MAX_SEED,
        description="Names each pair's search; nothing is drawn.",
        json_schema_extra=NOT_A_PARAMETER,
    )
    image_interval: ImageInterval = 0
    batch_size: ImageBatch = 16
    shard_size: PairsPerShard = 64

    def search(self) -> OptimizedLatentsConfig:
        """The same search as fields of latent optimisation: space, start and schedule."""
        return OptimizedLatentsConfig(
            space="w_plus",
            start="mean" if self.start == "mean" else "latent",
            num_steps=self.num_steps,
            learning_rate=self.learning_rate,
            patience=0,
            seed=self.seed,
            image_interval=self.image_interval,
            batch_size=self.batch_size,
        )
