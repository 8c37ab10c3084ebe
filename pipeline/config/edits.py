"""Settings of edits: searches, mappers, and what is put together from them."""

from typing import ClassVar, Literal

from pydantic import Field, model_validator

from pipeline.config.settings import (
    MAX_SEED,
    NOT_A_PARAMETER,
    AdamRate,
    ClipWeight,
    Count,
    DirectionWeight,
    IdentityWeight,
    ImageBatch,
    ImageInterval,
    LatentsPerShard,
    LearningRate,
    PairsPerShard,
    Preprocess,
    RenderPrecision,
    StageConfig,
    Templates,
    parameter,
)


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
