"""Columns of edits: searches, mappers, and what is put together from them."""

import pyarrow as pa

from pipeline.schemas.artifact import FLOAT, INT32, INT64, STRING, VECTOR, Artifact, Column
from storage import IMAGE_TYPE

LOSS_COLUMNS = (
    Column("loss", FLOAT, "Weighted sum of the terms; null where failed."),
    Column("clip_loss", FLOAT, "1 less the cosine of image and target text, 0 to 2."),
    Column("direction_loss", FLOAT, "1 less the cosine of the image's and the text's move in CLIP space, 0 to 2."),
    Column("l2_loss", FLOAT, "Squared distance to the source latent: summed (optimize) or averaged (mapper)."),
    Column("identity_loss", FLOAT, "1 less the cosine of the identities, 0 to 2; 0 where nothing weighs it."),
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
