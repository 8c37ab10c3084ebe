"""Columns of what channels do and of what prompts make of it."""

import pyarrow as pa

from pipeline.schemas.artifact import FLOAT, INT32, INT64, STRING, Artifact, Column

STYLE_MOMENTS = Artifact(
    "style_moments",
    (
        Column("layer", INT32, "Layer index in running order, toRGB included."),
        Column("channel", INT32, "Channel of the layer."),
        Column("mean", pa.float64(), "Mean of the raw affine output over this shard."),
        Column("m2", pa.float64(), "Sum of squared deviations over this shard."),
        Column("count", INT64, "Samples in this shard."),
    ),
)

STYLE_STATISTICS = Artifact(
    "style_statistics",
    (
        Column("layer", INT32, "Layer index in running order, toRGB included."),
        Column("channel", INT32, "Channel of the layer."),
        Column("mean", FLOAT, "Mean of the raw affine output."),
        Column("std", FLOAT, "Standard deviation; the manifest states psi, cutoff and ddof (0 unless asked)."),
        Column("count", INT64, "Samples."),
    ),
)

CHANNEL_SUMS = Artifact(
    "channel_sums",
    (
        Column("layer", INT32, "Layer index in running order."),
        Column("channel", INT32, "Channel of the layer."),
        Column("total", None, "Sum over this shard's images of unit differences, in units of 2^-40.", INT64),
        Column("effect", None, "Sum over this shard's images of differences, in units of 2^-40.", INT64),
        Column("count", INT64, "Images with a visible difference."),
        Column("seen", INT64, "Images measured; 0 for a constant channel."),
    ),
)

SCREENING_PLAN = Artifact(
    "screening_plan",
    (
        Column("layer", INT32, "Layer index in running order."),
        Column("channel", INT32, "Channel of the layer."),
        Column("seen", INT64, "Images the channel was measured in before; the round goes on from there."),
    ),
)

CHANNEL_DIRECTIONS = Artifact(
    "channel_directions",
    (
        Column("layer", INT32, "Layer index in running order."),
        Column("channel", INT32, "Channel of the layer."),
        Column("direction", None, "Unit vector in CLIP space; zero where the channel changes nothing."),
        Column("effect", None, "Mean difference of the unit embeddings of the plus and the minus render; not a unit."),
        Column("agreement", FLOAT, "Length of the mean unit difference across images, 0 to 1."),
        Column("count", INT32, "Images with a visible difference."),
        Column("status", STRING, "ok, constant (standard deviation 0), no_effect (no image changes) or not_measured."),
    ),
)

PROMPTS = Artifact(
    "prompts",
    (
        Column("prompt_id", STRING, "File-safe name of the prompt."),
        Column("prompt", STRING, "Name given in the prompt list."),
        Column("target", STRING, "Text of the wanted image."),
        Column("neutral", STRING, "Text of the image it starts from."),
        Column("method", STRING, "Edit method: global, mapper, optimize or tedigan."),
        Column("wants", STRING, "What an oracle must see, as the prompt list says; null: read from the text."),
        Column("strengths", pa.list_(pa.float64()), "Strengths to render; for their unit see edited_latents."),
        Column("rule", STRING, "Rule that chose the channels; null for other methods and where failed."),
        Column("relevance_threshold", FLOAT, "Smallest absolute relevance kept; null where failed."),
        Column("num_channels", INT32, "Channels kept; null where failed."),
        Column("max_relevance", FLOAT, "Largest absolute relevance of any channel."),
        Column(
            "channel_counts",
            pa.list_(INT32),
            "Channels that a relevance_threshold of 0.00, 0.01, ... 0.50 would keep; null where there is no direction.",
        ),
        Column("text_direction", None, "Unit difference of target and neutral text embeddings."),
        Column("status", STRING, "ok or failed."),
        Column("error", STRING, "Why it failed; null where ok."),
    ),
)

STYLE_DIRECTIONS = Artifact(
    "style_directions",
    (
        Column("prompt_id", STRING, "File-safe name of the prompt."),
        Column("layer", INT32, "Layer index in running order."),
        Column("channel", INT32, "Channel of the layer."),
        Column("value", FLOAT, "Move of the raw style at strength 1: normalised relevance times standard deviation."),
        Column("relevance", FLOAT, "Cosine of channel direction and text direction, -1 to 1."),
        Column(
            "limit",
            FLOAT,
            "A channel that is lowered moves at most twice as far as its raw style is away from here; null: no bound.",
        ),
    ),
)

TRIED_SETTINGS = Artifact(
    "tried_settings",
    (
        Column("prompt_id", STRING, "File-safe name of the prompt."),
        Column("prompt", STRING, "Name given in the prompt list."),
        Column("rule", STRING, "Rule that chose the channels."),
        Column("num_channels", INT32, "Channels asked for; null: as many as the rule finds, or by threshold."),
        Column("strength", pa.float64(), "As in edited_latents."),
        Column("moved", INT32, "Channels that the direction moves."),
        Column("similarity", FLOAT, "Mean cosine of the trial's images and the target text."),
        Column("identity", FLOAT, "Mean cosine of identities before and after; null without such a network."),
        Column("score", FLOAT, "Similarity plus a share of the identity."),
        Column("judged", INT64, "Latents that did not show the target before; null where no oracle can tell."),
        Column("hit", FLOAT, "Share of them that reach the target; null likewise."),
        Column("hit_low", FLOAT, "Lower end of its 95 % bootstrap interval over latents."),
        Column("hit_high", FLOAT, "Upper end."),
        Column("kept", FLOAT, "Mean share of the other attributes that stay, over all latents; null likewise."),
        Column("kept_low", FLOAT, "Lower end of its interval."),
        Column("kept_high", FLOAT, "Upper end."),
        Column("is_default", pa.bool_(), "What the prompt would have had without trials."),
        Column("is_chosen", pa.bool_(), "What was chosen."),
    ),
)

CHOSEN_SETTINGS = Artifact(
    "chosen_settings",
    (
        Column("prompt_id", STRING, "File-safe name of the prompt."),
        Column("prompt", STRING, "Name given in the prompt list."),
        Column("target", STRING, "Text of the wanted image."),
        Column("neutral", STRING, "Text of the image it starts from."),
        Column("method", STRING, "Edit method."),
        Column("rule", STRING, "Rule that chooses the channels; null for other methods, and where failed."),
        Column("num_channels", INT32, "Channels asked for; null: as many as the rule finds, or by threshold."),
        Column("strength", pa.float64(), "As in edited_latents; null where failed."),
        Column("by", STRING, "What decided: similarity (CLIP and identity) or hit (the oracle)."),
        Column("hit", FLOAT, "Share of hits in the trial; null where no oracle can tell."),
        Column("kept", FLOAT, "Mean share of the other attributes that stayed; null likewise."),
        Column("gain", FLOAT, "Score of the choice less that of the default."),
        Column("renders", INT64, "Images drawn for the trial of this prompt."),
        Column("status", STRING, "ok or failed."),
        Column("error", STRING, "Why there is no choice; null where ok."),
    ),
)

RECOMMENDED_SETTINGS = Artifact("recommended_settings", CHOSEN_SETTINGS.columns)
