"""Parameters that several flows share, with the text that Prefect's form and ``--help`` show."""

from typing import Annotated, Any, Literal

from pydantic import Field

RunUri = Annotated[
    str, Field(min_length=1, description="Folder or fsspec URI of the run; results are written under it.")
]
InputsUri = Annotated[
    str | None, Field(description="Another run to read from what this run does not hold; none means only this run.")
]
PackUri = Annotated[str, Field(min_length=1, description="Name of a built-in pack, or folder or URI of a pack.")]
Device = Annotated[str, Field(min_length=1, description="auto (CUDA where there is one), cpu, cuda, cuda:1...")]
Workers = Annotated[int, Field(ge=1, le=64, description="Shards worked on at a time, as threads of this process.")]
PromptList = Annotated[
    str | list[dict[str, Any]],
    Field(description="Prompt list: URI of a .csv, .jsonl, .yaml or .parquet file, or the rows themselves."),
]
Strengths = Annotated[
    list[float] | None,
    Field(description="Strengths for prompts that name none, in standard deviations; none means the pack's default."),
]
Threshold = Annotated[
    float | None,
    Field(ge=0, le=1, description="Keep channels at or above this absolute relevance; none means by count."),
]
NumChannels = Annotated[
    int | None, Field(ge=1, description="Keep this many of the most relevant channels; none means the pack's default.")
]
Templates = Annotated[str, Field(description="Prompt templates to average: imagenet_79, imagenet_80 or none.")]
NumLatents = Annotated[int, Field(ge=1, description="How many latents to sample, one seed each.")]
FirstSeed = Annotated[int, Field(ge=0, description="Seed of the first latent; the rest count up from it.")]
Psi = Annotated[float, Field(ge=0, le=2, description="Truncation: 1 keeps w, 0 gives the mean face.")]
LatentsPerShard = Annotated[int, Field(ge=1, description="Latents per shard.")]
ImagesPerShard = Annotated[int, Field(ge=1, description="About how many images a shard holds.")]
BatchSize = Annotated[int, Field(ge=1, description="Images at a time; memory, not result.")]
AutoBatchSize = Annotated[
    int | None,
    Field(ge=1, description="Renders at a time; none takes what the free memory allows. Memory, not result."),
]
DirectionsMode = Annotated[
    Literal["screened", "exact", "gradient"],
    Field(
        description="screened: measure only the channels that the prompts need, unless a whole table is at hand; "
        "exact: the whole table of channel-directions; gradient: from derivatives alone, a preview."
    ),
]
RendersPerPrompt = Annotated[
    int | None,
    Field(
        ge=1,
        description="Screened: renders that a prompt may cost on average; none means a hundredth of the exact table's.",
    ),
]
ScreeningBatchSize = Annotated[
    int | None,
    Field(ge=1, description="Screened: renders at a time; none takes what the free memory allows. Memory, not result."),
]
ReuseDirections = Annotated[
    bool,
    Field(description="Screened: take the whole table where the run or the pack has one; off measures anew."),
]
Rule = Annotated[
    Literal["paper", "agreement", "effect"] | None,
    Field(
        description="Score of a channel. paper: relevance; agreement: times its agreement across images; effect: "
        "relevance times the fourth root of its effect on the image. None: effect where screened, else paper."
    ),
]
Reference = Annotated[
    str | None,
    Field(
        description="official: the published code's departures from the paper; or single ones, as "
        "'relevance_base=mean_anchored,uint8=+128'; none: corrected. It wins over other parameters of the same meaning."
    ),
]
# settings that a pack may recommend: none means the pack's recommendation, else the published value
Steps = Annotated[int | None, Field(ge=1, description="Steps or updates; none means the pack's or the published.")]
LearningRate = Annotated[
    float | None, Field(gt=0, le=100, description="Learning rate; none means the pack's or the published.")
]
ClipWeight = Annotated[
    float | None, Field(ge=0, description="Weight of the CLIP distance, for prompts that give none; none as above.")
]
DirectionWeight = Annotated[
    float | None, Field(ge=0, description="Weight of the directional CLIP loss, for prompts that give none.")
]
L2Weight = Annotated[
    float | None, Field(ge=0, description="Weight of the distance to the source latent, for prompts that give none.")
]
IdentityWeight = Annotated[
    float | None, Field(ge=0, description="Weight of the identity loss, for prompts that give none.")
]
TextForms = Annotated[
    str | None, Field(description="Prompt templates of the loss: imagenet_79, imagenet_80 or none (as published).")
]
