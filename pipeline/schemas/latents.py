"""Columns of latents and of the photos they come from."""

import pyarrow as pa

from pipeline.schemas.artifact import FLOAT, INT32, INT64, LABELS_TYPE, STRING, Artifact, Column
from storage import IMAGE_TYPE

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
