"""What settings have in common: their base class, and the fields that several stages share.

A setting stands in one class of this package and nowhere else: flow parameters, Prefect's form and the command's
options are derived from these fields (``flows/parameters.py``). Limits stand in the fields themselves, so that Prefect
refuses a bad value before it creates a run. A field that goes by another name outside its stage says so with
``parameter``; one that is not set by hand, or only through ``reference``, with ``NOT_A_PARAMETER``. Nothing here
imports tensors: help must come at once.
"""

from collections.abc import Mapping
from typing import Annotated, Any, ClassVar, Literal, TypeVar

from pydantic import BaseModel, ConfigDict, Field

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
