"""Columns of rendered images and of their scores."""

from collections.abc import Sequence

import pyarrow as pa

from pipeline.schemas.artifact import FLOAT, INT32, INT64, LABELS_TYPE, STRING, Artifact, Column
from storage import IMAGE_TYPE

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
