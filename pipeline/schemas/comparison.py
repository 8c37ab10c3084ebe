"""Columns of a comparison of methods."""

from collections.abc import Collection, Sequence

import pyarrow as pa

from pipeline.schemas.artifact import FLOAT, INT64, STRING, Artifact, Column

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
