"""The artifacts' columns: name, type, meaning and unit, in one place.

Each artifact is a folder of Parquet files under a run's URI. Vectors are ``fixed_size_list<float>``; a matrix is
flattened and its shape stands in the schema's metadata. The first columns are the key.
"""

import json
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow as pa

from storage import IMAGE_TYPE

STRING, INT32, INT64, FLOAT = pa.string(), pa.int32(), pa.int64(), pa.float32()
EDITS_FOLDER = "edits"  # the prompts of edited_latents, in the columns of PROMPTS
DIRECTIONS_HASH = "style_directions_hash"  # metadata of edited_latents: which directions it refers to
VECTOR = pa.list_(FLOAT)  # for a column that holds vectors of two spaces, and so of two lengths
LABELS_TYPE = pa.list_(pa.struct([("name", STRING), ("value", STRING)]))


@dataclass(frozen=True)
class Column:
    """One column: its Arrow type (None for a vector whose length the model decides), meaning and unit."""

    name: str
    type: pa.DataType | None
    doc: str
    element: pa.DataType = FLOAT


@dataclass(frozen=True)
class Artifact:
    """One artifact: a folder name and its columns."""

    name: str
    columns: tuple[Column, ...]

    def schema(
        self, *, widths: Mapping[str, int] | None = None, metadata: Mapping[str, object] | None = None
    ) -> pa.Schema:
        """Arrow schema; ``widths`` gives the length of each vector column, ``metadata`` is stored as JSON.

        Columns of images are named in the key ``huggingface``, by which the library ``datasets`` opens them as such.
        """
        fields = [
            pa.field(
                column.name,
                column.type if column.type is not None else pa.list_(column.element, (widths or {})[column.name]),
                metadata={"doc": column.doc},
            )
            for column in self.columns
        ]
        images = {column.name: {"_type": "Image"} for column in self.columns if column.type == IMAGE_TYPE}
        features = {"huggingface": {"info": {"features": images}}} if images else {}
        return pa.schema(fields, metadata={k: json.dumps(v) for k, v in {**features, **(metadata or {})}.items()})

    def table(
        self,
        values: Mapping[str, Sequence[object] | np.ndarray | pa.Array],
        *,
        widths: Mapping[str, int] | None = None,
        metadata: Mapping[str, object] | None = None,
    ) -> pa.Table:
        """A table with exactly this artifact's columns."""
        schema = self.schema(widths=widths, metadata=metadata)
        assert set(values) == set(schema.names), f"{self.name}: {set(values) ^ set(schema.names)}"
        arrays = [_column(values[field.name], field.type) for field in schema]
        return pa.Table.from_arrays(arrays, schema=schema)


def _column(values: Any, kind: pa.DataType) -> pa.Array:
    return values.cast(kind) if isinstance(values, pa.Array) else pa.array(values, type=kind)


LOSS_COLUMNS = (
    Column("loss", FLOAT, "Weighted sum of the terms; null where failed."),
    Column("clip_loss", FLOAT, "1 less the cosine of image and target text, 0 to 2."),
    Column("direction_loss", FLOAT, "1 less the cosine of the image's and the text's move in CLIP space, 0 to 2."),
    Column("l2_loss", FLOAT, "Squared distance to the source latent: summed (optimize) or averaged (mapper)."),
    Column("identity_loss", FLOAT, "1 less the cosine of the identities, 0 to 2; 0 where nothing weighs it."),
)


def shape_of(table: pa.Table, column: str) -> tuple[int, ...]:
    """The matrix shape of a flattened vector column, from the schema's metadata."""
    metadata = table.schema.metadata or {}
    return tuple(json.loads(metadata[f"{column}_shape".encode()]))


def vectors_of(column: pa.ChunkedArray) -> list[np.ndarray | None]:
    """A ``VECTOR`` column as one float32 array per row, None where null; shares the column's memory."""
    found: list[np.ndarray | None] = []
    for chunk in column.chunks:
        values, offsets = chunk.values.to_numpy(zero_copy_only=False), chunk.offsets.to_numpy()
        valid = chunk.is_valid().to_numpy(zero_copy_only=False)
        found += [values[a:b] if ok else None for a, b, ok in zip(offsets[:-1], offsets[1:], valid, strict=True)]
    return found


LATENTS = Artifact(
    "latents",
    (
        Column("latent_id", STRING, "Stable name, e.g. seed-00000042."),
        Column("source", STRING, "Where the latent comes from: seed, image or file."),
        Column("seed", INT64, "Seed of z; null for images and files."),
        Column("source_uri", STRING, "URI of the inverted image, or name of the file; null for seeds."),
        Column("psi", FLOAT, "Truncation applied to w, 0 to 2; null for images and files."),
        Column("w_plus", None, "w_plus [num_ws, w_dim], row-major; shape in the metadata key w_plus_shape."),
        Column("inversion_error", FLOAT, "Mean absolute pixel error of the reconstruction on [-1, 1]; null for seeds."),
        Column(
            "generator_delta",
            STRING,
            "File in the run of the change to the generator that this latent is drawn with; null for none.",
        ),
        Column("status", STRING, "ok or failed."),
        Column("error", STRING, "Why it failed; null where ok."),
    ),
)

IMAGE_LISTING = Artifact(
    "image_listing",
    (
        Column("latent_id", STRING, "Name of the latent: the image's path, made safe for file names, and unique."),
        Column("uri", STRING, "Where the image is, or the table that holds it; empty where its row names none."),
        Column(
            "relative_path", STRING, "Path below the folder that was listed, or as the table spells it, if it does."
        ),
        Column("row", INT64, "Row of the table that holds the image's bytes, from 0; null for a file."),
        Column("size", INT64, "Bytes of the file; null where unknown."),
        Column("version", STRING, "Time of change or entity tag of the file; empty where unknown."),
        Column("labels", LABELS_TYPE, "The other columns of its table, as text."),
    ),
)

INVERTED_IMAGES = Artifact(
    "inverted_images",
    (
        Column("latent_id", STRING, "As in latents."),
        Column("name", STRING, "The file's own name."),
        Column("relative_path", STRING, "As in image_listing."),
        Column("labels", LABELS_TYPE, "As in image_listing."),
        Column("sha256", STRING, "Of the image's bytes; null where they could not be read."),
        Column("width", INT32, "Pixels of the upright photo; null where it was not decoded."),
        Column("height", INT32, "Pixels of the upright photo; null where it was not decoded."),
        Column("faces", INT32, "Faces found in it; null where none was looked for."),
        Column("note", STRING, "What else to know, e.g. which of several faces was taken; null for nothing."),
        Column(
            "frame",
            pa.list_(pa.float64()),
            "Where in the photo the aligned picture lies, in pixels: x and y of its upper left corner, of the way from "
            "there to the upper right corner, and of the way to the lower left one; null where failed.",
        ),
        Column("exif", pa.binary(), "The photo's EXIF block; null unless asked for with keep_exif."),
        Column("aligned", IMAGE_TYPE, "What the encoder was shown: PNG bytes and file name; null where failed."),
        Column("reconstruction", IMAGE_TYPE, "What the generator draws from the latent; null where failed."),
        Column("encoder_error", FLOAT, "Mean absolute pixel error of the code before refinement, on [-1, 1]."),
        Column("pivot_error", FLOAT, "The same of the latent before pivotal tuning; null without any."),
        Column("inversion_error", FLOAT, "The same of what is drawn in the end, as in latents."),
        Column("perceptual_distance", FLOAT, "Squared distance of unit features, mean of layers and places, 0 to 4."),
        Column("identity_similarity", FLOAT, "Cosine of identities, -1 to 1; null without such a network."),
        Column("oracle_agreement", FLOAT, "Share of attributes the oracle sees alike, 0 to 1; null without an oracle."),
        Column("quality", FLOAT, "1 less half the inversion error, 0 to 1; null where failed."),
        Column("is_good", pa.bool_(), "Whether the quality is min_quality or more; null where failed."),
        Column("refine_steps", INT32, "Steps of refinement taken; 0 for none."),
        Column(
            "refine_stop", STRING, "Why it ended: steps, flat, target or failed (the code was kept); null for none."
        ),
        Column("tuning_steps", INT32, "Steps of pivotal tuning taken; 0 for none."),
        Column("tuning_stop", STRING, "Why it ended: steps, target or failed (no change was kept); null for none."),
        Column("delta_bytes", INT64, "Size of the file of the change to the generator; null for none."),
        Column("seconds", FLOAT, "Seconds that it took, its share of those of its batch; null where failed."),
        Column("status", STRING, "ok or failed."),
        Column("reason", STRING, "One word for why it failed, e.g. not_an_image or no_face; null where ok."),
        Column("error", STRING, "Why it failed; null where ok."),
    ),
)

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

OPTIMIZED_LATENTS = Artifact(
    "optimized_latents",
    (
        Column("latent_id", STRING, "Latent the search starts from."),
        Column("prompt_id", STRING, "File-safe name of the prompt."),
        Column("space", STRING, "What was optimised: w_plus or styles."),
        Column("vector", VECTOR, "The latent of the lowest loss: w_plus row-major, or styles; null where failed."),
        Column("start_seed", INT64, "Seed of the noise on the start."),
        Column("steps", INT32, "Steps taken."),
        Column("best_step", INT32, "Step of the lowest loss; null where failed."),
        Column("stop", STRING, "Why it ended: steps (all done), flat (no more gain) or failed."),
        *LOSS_COLUMNS,
        Column("status", STRING, "ok or failed."),
        Column("error", STRING, "Why it failed; null where ok."),
    ),
)

OPTIMIZATION_CURVES = Artifact(
    "optimization_curves",
    (
        Column("latent_id", STRING, "As in optimized_latents."),
        Column("prompt_id", STRING, "As in optimized_latents."),
        Column("step", INT32, "From 0, before the step's update."),
        *LOSS_COLUMNS,
    ),
)

OPTIMIZATION_IMAGES = Artifact(
    "optimization_images",
    (
        Column("latent_id", STRING, "As in optimized_latents."),
        Column("prompt_id", STRING, "As in optimized_latents."),
        Column("step", INT32, "As in optimization_curves."),
        Column("image", IMAGE_TYPE, "PNG bytes and file name."),
    ),
)

TEDIGAN_LOSS_COLUMNS = (
    Column("loss", FLOAT, "Weighted sum of the terms; null where failed."),
    Column("clip_loss", FLOAT, "1 less the cosine of image and target text, 0 to 2."),
    Column("pixel_loss", FLOAT, "Mean squared pixel distance to the source image, on [-1, 1]."),
    Column("feature_loss", FLOAT, "Squared distance of the identity embeddings, 0 to 4; 0 without such a network."),
    Column("latent_loss", FLOAT, "Mean squared distance to the inverted latent."),
)


def _of_tedigan(artifact: Artifact, name: str) -> Artifact:
    """The same table with TediGAN's loss terms in the place of the edit loss's."""
    columns: list[Column] = []
    for column in artifact.columns:
        if column.name == "loss":
            columns += TEDIGAN_LOSS_COLUMNS
        elif column not in LOSS_COLUMNS:
            columns.append(column)
    return Artifact(name, tuple(columns))


TEDIGAN_LATENTS = _of_tedigan(OPTIMIZED_LATENTS, "tedigan_latents")
TEDIGAN_CURVES = _of_tedigan(OPTIMIZATION_CURVES, "tedigan_curves")
TEDIGAN_IMAGES = _of_tedigan(OPTIMIZATION_IMAGES, "tedigan_images")

MAPPERS = Artifact(
    "mappers",
    (
        Column("prompt_id", STRING, "File-safe name of the prompt."),
        Column("prompt", STRING, "Name given in the prompt list."),
        Column("target", STRING, "Text of the wanted image."),
        Column("neutral", STRING, "Text of the image it starts from."),
        Column("weights_file", STRING, "The mapper's safetensors file in the run; null where failed."),
        Column("description", STRING, "The mapper's architecture, residual scale included, as JSON."),
        Column("best_step", INT32, "Step of the lowest validation loss; null where failed."),
        *LOSS_COLUMNS,
        Column("similarity_mean", FLOAT, "Mean cosine between the moves of different validation latents, -1 to 1."),
        Column("similarity_std", FLOAT, "Standard deviation of that cosine."),
        Column("status", STRING, "ok or failed."),
        Column("error", STRING, "Why it failed; null where ok."),
    ),
)

MAPPER_CURVES = Artifact(
    "mapper_curves",
    (
        Column("prompt_id", STRING, "As in mappers."),
        Column("split", STRING, "train (one batch) or validation (all validation latents)."),
        Column("step", INT32, "Updates made before the loss was taken."),
        *LOSS_COLUMNS,
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

EDITED_LATENTS = Artifact(
    "edited_latents",
    (
        Column("latent_id", STRING, "Latent the edit starts from."),
        Column("edit_id", STRING, "The prompt_id of the edit."),
        Column(
            "strength",
            pa.float64(),
            "Standard deviations of the top channel (global), or multiples of the learnt move (all others).",
        ),
        Column("space", STRING, "Space of the edited latent: w_plus or styles."),
        Column("vector", VECTOR, "The edited latent: w_plus row-major, or styles; null where `direction` is given."),
        Column("direction", STRING, "prompt_id in style_directions to add `strength` times; null where `vector` is."),
        Column("status", STRING, "ok, failed, or left_out: a plan gives the latent other edits."),
        Column("error", STRING, "Why it failed; null where ok."),
    ),
)

EDIT_PLAN = Artifact(
    "edit_plan",
    (
        Column("latent_id", STRING, "As in latents."),
        Column("prompt_id", STRING, "The edit it is to get; original: none."),
        Column("strength", pa.float64(), "As in edited_latents; 0 for the original."),
    ),
)

DATASET = Artifact(
    "dataset",
    (
        Column("image_id", STRING, "latent_id, prompt_id and strength."),
        Column("image", IMAGE_TYPE, "PNG bytes and file name; null where failed."),
        Column("latent_id", STRING, "Latent the image starts from."),
        Column(
            "prompt_id",
            STRING,
            "File-safe name of the prompt; original for the unedited image, photo for what it reconstructs.",
        ),
        Column("prompt", STRING, "Name given in the prompt list; null for the original."),
        Column("target", STRING, "Text of the wanted image; null for the original."),
        Column("neutral", STRING, "Text of the image it starts from; null for the original."),
        Column("method", STRING, "Edit method; none for the original."),
        Column("strength", pa.float64(), "As in edited_latents; 0 for the original."),
        Column("rule", STRING, "Rule that chose the channels; null but for global edits."),
        Column("num_channels", INT32, "Channels that the edit moves; null but for global edits."),
        Column(
            "saturation",
            FLOAT,
            "Share of pixels with a colour beyond 1.5 in size, of which the image holds [-1, 1]; null where failed.",
        ),
        Column("status", STRING, "ok or failed."),
        Column("error", STRING, "Why it failed; null where ok."),
        Column("source_path", STRING, "Path of the photo the latent was inverted from; null for others."),
        Column("labels", LABELS_TYPE, "The photo's labels, as its table gave them; null for others."),
    ),
)

PASTED_PHOTOS = Artifact(
    "pasted_photos",
    (
        Column("image_id", STRING, "As in the dataset."),
        Column("image", IMAGE_TYPE, "The whole photo with the edited picture in its place: PNG; null where failed."),
        Column("latent_id", STRING, "As in the dataset."),
        Column("prompt_id", STRING, "As in the dataset."),
        Column("strength", pa.float64(), "As in the dataset."),
        Column("source_path", STRING, "As in the dataset."),
        Column("status", STRING, "ok or failed."),
        Column("error", STRING, "Why it failed, e.g. the photo has changed since; null where ok."),
    ),
)

PHOTO_SCORES = Artifact(
    "photo_scores",
    (
        Column("image_id", STRING, "As in the dataset; the reconstruction has a row too."),
        Column("latent_id", STRING, "As in the dataset."),
        Column("prompt_id", STRING, "As in the dataset; original for the reconstruction."),
        Column("strength", pa.float64(), "As in the dataset."),
        Column("photo_clip_gain", FLOAT, "clip_similarity less that of the photo; null for the reconstruction."),
        Column("photo_clip_direction", FLOAT, "As clip_direction, of the move away from the photo; null likewise."),
        Column("photo_pixel_distance", FLOAT, "Mean absolute difference to the aligned photo, on [0, 1]."),
        Column("photo_identity_similarity", FLOAT, "Cosine of identities with the photo, -1 to 1; null if not seen."),
    ),
)

SCORES = Artifact(
    "scores",
    (
        Column("image_id", STRING, "As in the dataset; originals have a row too, without the prompt's columns."),
        Column("latent_id", STRING, "As in the dataset."),
        Column("prompt_id", STRING, "As in the dataset."),
        Column("strength", pa.float64(), "As in the dataset."),
        Column(
            "clip_similarity",
            FLOAT,
            "Cosine of the edited image and the target text, -1 to 1; null where failed, as are the next six.",
        ),
        Column("clip_gain", FLOAT, "clip_similarity less that of the original image."),
        Column("clip_direction", FLOAT, "Cosine of the image's move and the text's move in CLIP space, -1 to 1."),
        Column("pixel_distance", FLOAT, "Mean absolute difference to the original, on [0, 1]."),
        Column("perceptual_distance", FLOAT, "1 less the structural similarity (SSIM) to the original, 0 to 2."),
        Column("wants", STRING, "What the oracle must see once the prompt is true; null where a CLIP judges."),
        Column("hit_by", STRING, "Who says whether the target is reached: oracle, judge or clip (the guide itself)."),
        Column("reachable", pa.bool_(), "Whether the pack can draw what the prompt asks for; null: not asked."),
        Column("already", pa.bool_(), "What the prompt asks for was there before: neither hit nor miss."),
        Column("hit", pa.bool_(), "Target reached; null where it was there already or cannot be seen."),
        Column("target_score", FLOAT, "Probability of the target after the edit, 0 to 1, by `hit_by`."),
        Column("target_gain", FLOAT, "target_score less that of the original image."),
        Column("saturated", pa.bool_(), "Whether the dataset's saturation is above 0.05."),
        Column("status", STRING, "ok or failed."),
        Column("error", STRING, "Why it failed; null where ok."),
    ),
)

IDENTITY_SCORES = (
    Column("identity_similarity", FLOAT, "Cosine of the identity embeddings of edited and original image, -1 to 1."),
)

JUDGE_SCORES = (
    Column("judge_similarity", FLOAT, "clip_similarity in the eyes of the judge."),
    Column("judge_gain", FLOAT, "clip_gain in the eyes of the judge; far below the guide's where the guide is fooled."),
    Column("judge_direction", FLOAT, "clip_direction in the eyes of the judge."),
)

ORACLE_SCORES = (
    Column("kept", FLOAT, "Share of the attributes not asked for that stayed, of those seen, 0 to 1."),
    Column("outside_change", FLOAT, "Mean grey change outside the wanted attributes' regions, on [0, 1]."),
)


def scores_artifact(*, attributes: Sequence[str], identity: bool, judge: bool, oracle: bool) -> Artifact:
    """The scores with the columns of the networks at hand.

    Args:
        attributes: the oracle's; none without an oracle.
        identity: whether there is an identity network.
        judge: whether a second CLIP judges.
        oracle: whether there is an oracle.
    """
    seen = [
        Column(f"{when}_{attribute}", STRING, f"The oracle's category of {attribute}, {meaning}; null: not to be seen.")
        for when, meaning in (("before", "in the original"), ("after", "in this image"))
        for attribute in attributes
    ]
    seen += [
        Column(f"after_{attribute}_probability", FLOAT, f"Its probability of after_{attribute}, 0 to 1; null likewise.")
        for attribute in attributes
    ]
    columns = [*SCORES.columns, *(IDENTITY_SCORES if identity else ()), *(JUDGE_SCORES if judge else ())]
    return Artifact(SCORES.name, (*columns, *(ORACLE_SCORES if oracle else ()), *seen))


SUMMARY = Artifact(
    "summary",
    (
        Column("prompt", STRING, "Name given in the prompt list."),
        Column("method", STRING, "Edit method."),
        Column("strength", pa.float64(), "As in edited_latents."),
        Column("images", INT64, "Edited images."),
        Column("failed", INT64, "Edits that failed."),
        Column("saturated", INT64, "Images among them with saturated colours, see scores."),
        Column("mean_clip_gain", FLOAT, "Mean clip_gain."),
        Column("mean_clip_direction", FLOAT, "Mean clip_direction."),
        Column("mean_pixel_distance", FLOAT, "Mean pixel_distance."),
        Column("mean_identity_similarity", FLOAT, "Mean identity_similarity; null without an identity network."),
        Column("verdict", STRING, "The result in words, e.g. '16 of 16' or 'unchanged; train longer'."),
        Column("hits", INT64, "Edits that reached the target; null where nobody can tell."),
        Column("judged", INT64, "Edits that could: the target was not there before and can be seen."),
        Column("already", INT64, "Edits that ask for what was there before."),
        Column("mean_kept", FLOAT, "Mean share of the other attributes that stayed; null without an oracle."),
        Column("mean_outside_change", FLOAT, "Mean outside_change; null without an oracle."),
        Column("mean_perceptual_distance", FLOAT, "Mean perceptual_distance."),
        Column("mean_judge_gain", FLOAT, "Mean judge_gain; null without a judge."),
        Column(
            "disputed", INT64, "Edits that the guide finds closer to the target and the judge does not; null without."
        ),
        Column("wants", STRING, "What the oracle must see; null where a CLIP judges."),
        Column("hit_by", STRING, "Who judges: oracle, judge or clip (the guide itself)."),
        Column("reachable", pa.bool_(), "Whether the pack can draw what the prompt asks for; null: not asked."),
        Column("unknown_words", pa.list_(STRING), "Words of the target that CLIP never saw."),
        Column("status", STRING, "ok, or failed where there is no image."),
        Column("error", STRING, "Why the prompt, or the first of its edits that did, failed; null where none did."),
    ),
)

_COMPARED = (
    Column("prompt", STRING, "Name given in the prompt list."),
    Column("class", STRING, "complex, medium or simple, as the prompt list says."),
    Column("method", STRING, "Edit method."),
)

COMPARISON_CURVES = Artifact(
    "comparison_curves",
    (
        *_COMPARED,
        Column("strength", pa.float64(), "As in edited_latents; the unit differs between methods."),
        Column("images", INT64, "Edits."),
        Column("judged", INT64, "Edits whose target was not there before and can be seen."),
        Column("hit", FLOAT, "Share of the judged that reached the target."),
        Column("hit_low", FLOAT, "Lower end of its 95 % bootstrap interval over latents."),
        Column("hit_high", FLOAT, "Upper end."),
        Column("kept", FLOAT, "Mean share of the other attributes that stayed."),
        Column("kept_low", FLOAT, "Lower end of its interval."),
        Column("kept_high", FLOAT, "Upper end."),
        Column("target_gain", FLOAT, "Mean change of the target's score."),
        Column("identity", FLOAT, "Mean identity similarity; null without such a network."),
        Column("clip_gain", FLOAT, "Mean clip_gain, in the eyes of the guide."),
        Column("judge_gain", FLOAT, "Mean judge_gain; null without a judge."),
        Column("outside_change", FLOAT, "Mean grey change outside the wanted attributes' regions."),
        Column("diversity", FLOAT, "1 less the mean cosine between the CLIP features of different edits."),
        Column("kid", FLOAT, "Kernel distance of the edits' CLIP features to the unedited images'; not Inception's."),
    ),
)

COMPARISON = Artifact(
    "comparison",
    (
        *_COMPARED,
        Column("images", INT64, "Edits at each strength."),
        Column("judged", INT64, "Of them, those whose target was not there before and can be seen."),
        Column("strength", pa.float64(), "The strength of the most hits that keeps the rest; null where none does."),
        Column("hit_at_kept", FLOAT, "Share of the judged that reached the target there; 0 where none keeps the rest."),
        Column("hit_at_kept_low", FLOAT, "Lower end of its 95 % bootstrap interval over latents."),
        Column("hit_at_kept_high", FLOAT, "Upper end."),
        Column("kept", FLOAT, "Mean share of the other attributes that stayed there."),
        Column("kept_low", FLOAT, "Lower end of its interval."),
        Column("kept_high", FLOAT, "Upper end."),
        Column("identity", FLOAT, "Mean identity similarity there."),
        Column("largest_target_gain", FLOAT, "Largest mean change of the target's score at any strength."),
        Column("matched_target_gain", FLOAT, "The change at which the methods of a prompt are compared."),
        Column("matched_hit", FLOAT, "Share of hits at that change; null where the method does not get there."),
        Column("matched_kept", FLOAT, "Share kept at that change."),
        Column("matched_identity", FLOAT, "Identity similarity at that change."),
        Column("renders", FLOAT, "Renders behind the edit of all latents, before the first edited image is drawn."),
    ),
)

COMPARISON_CLASSES = Artifact(
    "comparison_classes",
    (
        Column("class", STRING, "complex, medium or simple."),
        Column("method", STRING, "Edit method."),
        Column("prompts", INT64, "Prompts of the class."),
        Column("latents", INT64, "Latents that each was tried on."),
        Column("judged", INT64, "Pairs whose target was not there before and can be seen."),
        Column(
            "hit_at_kept", FLOAT, "Mean over latents of the hits, each prompt at its best strength that keeps the rest."
        ),
        Column("hit_at_kept_low", FLOAT, "Lower end of its 95 % bootstrap interval over latents."),
        Column("hit_at_kept_high", FLOAT, "Upper end."),
        Column("kept", FLOAT, "Mean share of the other attributes that stayed."),
        Column("renders", FLOAT, "Mean renders behind a prompt's edits of all latents, before the first is drawn."),
    ),
)

_OF_SCORES = {  # columns of the comparison that a column of the scores is behind
    "kept": ("kept", "kept_low", "kept_high", "matched_kept"),
    "outside_change": ("outside_change",),
    "identity_similarity": ("identity", "matched_identity"),
    "judge_gain": ("judge_gain",),
}


def comparison_artifacts(scores: Collection[str], attributes: Sequence[str]) -> tuple[Artifact, Artifact, Artifact]:
    """The tables of a comparison, its classes and its dose-response curves with the columns that the scores can fill.

    Args:
        scores: columns of the scores artifact.
        attributes: of the oracle; each has a column in the curves.
    """
    gone = {name for column, names in _OF_SCORES.items() if column not in scores for name in names}
    changed = tuple(
        Column(f"changed_{a}", FLOAT, f"Share of the edits that changed {a}, where it can be seen.") for a in attributes
    )

    def seen(artifact: Artifact) -> Artifact:
        return Artifact(artifact.name, tuple(c for c in artifact.columns if c.name not in gone))

    curves = seen(COMPARISON_CURVES)
    return seen(COMPARISON), seen(COMPARISON_CLASSES), Artifact(curves.name, (*curves.columns, *changed))


ARTIFACTS = (
    LATENTS,
    IMAGE_LISTING,
    INVERTED_IMAGES,
    STYLE_MOMENTS,
    STYLE_STATISTICS,
    CHANNEL_SUMS,
    SCREENING_PLAN,
    CHANNEL_DIRECTIONS,
    PROMPTS,
    STYLE_DIRECTIONS,
    TRIED_SETTINGS,
    CHOSEN_SETTINGS,
    RECOMMENDED_SETTINGS,
    OPTIMIZED_LATENTS,
    OPTIMIZATION_CURVES,
    OPTIMIZATION_IMAGES,
    TEDIGAN_LATENTS,
    TEDIGAN_CURVES,
    TEDIGAN_IMAGES,
    MAPPERS,
    MAPPER_CURVES,
    EDITED_LATENTS,
    EDIT_PLAN,
    DATASET,
    PASTED_PHOTOS,
    SCORES,
    PHOTO_SCORES,
    SUMMARY,
    COMPARISON_CURVES,
    COMPARISON,
    COMPARISON_CLASSES,
)
