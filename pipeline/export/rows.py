"""Rows of an exported dataset: what every image is, shows and scores, without its pixels.

The stage ``labels`` writes them beside the export, the stage ``exported_dataset`` adds the pixels.
"""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import pyarrow as pa

from pipeline.config import ExportedDatasetConfig
from pipeline.errors import PipelineError
from pipeline.export.acceptance import reject_reason
from pipeline.export.captions import compute_captions, prompt_captions
from pipeline.export.columns import ARROW, ExportColumn
from pipeline.export.questions import Question, answer, read_question
from pipeline.export.seeing import Shown
from pipeline.export.splits import split_of
from pipeline.prompts import ORIGINAL

REJECTED = "rejected"  # the subset of edits that broke a rule
METHODS = ("none", "global", "mapper", "optimize")
SCORES_TAKEN = (
    ("clip_similarity", "Cosine of the edited image and the target text, -1 to 1."),
    ("clip_gain", "clip_similarity less that of the original image."),
    ("clip_direction", "Cosine of the image's move and the text's move in CLIP space, -1 to 1."),
    ("pixel_distance", "Mean absolute difference to the original, on [0, 1]."),
    ("identity_similarity", "Cosine of the identities of edited and original image, -1 to 1."),
)
SUBSET = "subset"  # of a labels row: train, validation, test or rejected


@dataclass(frozen=True)
class RunFacts:
    """What the rows of a whole run share.

    Attributes:
        attributes: the judge's attributes and their categories; empty without one.
        prompts: rows of the run's edits by prompt_id.
        questions: what each prompt asks for, by prompt_id; None where no judge can tell.
        neutral: what every image of the pack shows.
        sources: photo of a latent, by latent_id; latents of seeds are not in it.
        photo_labels: names of the labels that the photos' table gave them; None where there are no photos.
    """

    attributes: Mapping[str, tuple[str, ...]]
    prompts: Mapping[str, Mapping[str, Any]]
    questions: Mapping[str, Question | None]
    neutral: str
    sources: Mapping[str, str]
    photo_labels: tuple[str, ...] | None = None


def read_questions(
    config: ExportedDatasetConfig, prompts: Sequence[Mapping[str, Any]], attributes: Mapping[str, tuple[str, ...]]
) -> dict[str, Question | None]:
    """What every prompt asks for: the settings' word, else the prompt's own.

    Raises:
        PipelineError: if the settings name a prompt, attribute or category that is not there.
    """
    found = {row["prompt_id"]: read_question(row["target"], attributes) for row in prompts}
    for prompt_id, wanted in config.questions.items():
        if prompt_id not in found or len(wanted) != 1:
            raise PipelineError(
                f"`questions` must name one attribute and category for a prompt_id of {sorted(found)}; got "
                f"{prompt_id!r}: {wanted}."
            )
        attribute, category = next(iter(wanted.items()))
        if category not in attributes.get(attribute, ()):
            raise PipelineError(
                f"`questions` must name a category that the judge knows, of {dict(attributes)}; got "
                f"{attribute}: {category} for prompt {prompt_id!r}."
            )
        found[prompt_id] = Question(attribute, category)
    return found


def label_name(attribute: str) -> str:
    """Column of an attribute's category; set apart where the export has a column of that name."""
    taken = {"image_id", "image", "before", "after", "pair_id", "latent_id", "prompt", "method", "strength", "target"}
    return f"{attribute}_label" if attribute in taken else attribute


def photo_column(label: str) -> str:
    """Column of a label that the photos came with: set apart from what the judge sees."""
    return f"photo_{label}"


def label_columns(facts: RunFacts) -> list[ExportColumn]:
    """Columns of the export but the pixels, in order."""
    prompts = (ORIGINAL, *facts.prompts)
    categories = {name: tuple(known) for name, known in facts.attributes.items()}
    asked = tuple(facts.attributes)
    column = ExportColumn
    columns = [
        column("image_id", "string", "Unique name: latent, prompt and strength."),
        column("pair_id", "string", "The same for an original and all edits of it."),
        column("original_id", "string", "image_id of the original; its own for an original."),
        column("latent_id", "string", "Latent the image starts from."),
        column("prompt_id", "label", "The edit's prompt; original for unedited images.", prompts),
        column("prompt", "string", "Name given in the prompt list; null for originals."),
        column("target", "string", "Text of the wanted image; null for originals."),
        column("neutral", "string", "Text of the image it starts from; null for originals."),
        column("method", "label", "How the edit was found; none for originals.", METHODS),
        column("strength", "float64", "Standard deviations (global) or multiples of the learnt move; 0: original."),
        column("captions", "strings", "What the image shows, each time in other words."),
    ]
    for name in asked:
        columns += [
            column(label_name(name), "label", f"{name} that the judge sees in the image.", categories[name]),
            column(f"{label_name(name)}_probability", "float32", "Its probability; null where not recorded."),
            column(f"before_{label_name(name)}", "label", f"{name} that it sees in the original.", categories[name]),
        ]
    if asked:
        columns += [
            column("judged_attribute", "label", "Multiple choice: the attribute that the prompt asks about.", asked),
            column("judged_wanted", "string", "The category that the prompt asks for."),
            column("judged_before", "string", "The judge's answer before the edit."),
            column("judged_after", "string", "The judge's answer after the edit."),
            column("judged_probability", "float32", "Probability of that answer, 0 to 1."),
        ]
    if facts.photo_labels is not None:
        columns.append(column("source_path", "string", "Path of the photo that the face was inverted from."))
        given = "What the photos' table says of the photo."
        columns += [column(photo_column(name), "string", given) for name in facts.photo_labels]
    columns += [
        column("already", "bool", "The original showed what was asked; null where no judge can tell."),
        column("hit", "bool", "The edit brought what was asked; null where it was there or no judge can tell."),
        column("kept", "float32", "Share of the other attributes that stayed, 0 to 1."),
        *(column(name, "float32", doc) for name, doc in SCORES_TAKEN),
        column("accept", "bool", "Whether the image meets the rules; originals do."),
        column("reject_reason", "string", "The rules it breaks; null where accepted."),
    ]
    return columns


def compute_label_rows(
    config: ExportedDatasetConfig,
    facts: RunFacts,
    images: Sequence[Mapping[str, Any]],
    scores: Mapping[str, Mapping[str, Any]],
    seen: Mapping[str, Shown],
) -> Iterator[dict[str, Any]]:
    """Rows of some latents' images, in order; each original before its edits, and no edits without their original.

    Args:
        config: settings of the export.
        facts: what the run's rows share.
        images: rows of the dataset without pixels.
        scores: rows of the scores by image_id.
        seen: what the judge sees in the images, by image_id; empty without a judge.
    """
    there = {image["latent_id"] for image in images if image["prompt_id"] == ORIGINAL}
    for image in images:
        latent = image["latent_id"]
        if latent not in there:
            continue  # its original failed: an edit of nothing
        before = seen.get(f"{latent}__{ORIGINAL}", {})
        original = image["prompt_id"] == ORIGINAL
        if original and config.layout == "pairs":
            continue
        score = {} if original else scores.get(image["image_id"], {})
        shown = seen.get(image["image_id"], {})
        row = {
            "image_id": image["image_id"],
            "pair_id": latent,
            "original_id": f"{latent}__{ORIGINAL}",
            **{key: image[key] for key in ("latent_id", "prompt_id", "prompt", "target", "neutral", "strength")},
            "method": image["method"] or METHODS[0],
            **{name: score.get(name) for name, _ in SCORES_TAKEN},
        }
        for name in facts.attributes:
            category, probability = shown.get(name, (None, None))
            row[label_name(name)], row[f"{label_name(name)}_probability"] = category, probability
            row[f"before_{label_name(name)}"] = before.get(name, (None, None))[0]
        if facts.photo_labels is not None:
            given = {label["name"]: label["value"] for label in image["labels"] or ()}
            row["source_path"] = image["source_path"]
            row |= {photo_column(name): given.get(name) for name in facts.photo_labels}
        question = None if original else facts.questions.get(image["prompt_id"])
        row |= _verdict(question, before, shown, score)
        row["captions"] = _captions(config, facts, image, shown, question)
        reason = None if original else reject_reason(config, row)
        row |= {"accept": reason is None, "reject_reason": reason}
        split = split_of(
            facts.sources.get(latent, latent),
            validation_share=config.validation_share,
            test_share=config.test_share,
            seed=config.split_seed,
        )
        yield row | {SUBSET: split if reason is None else REJECTED}


def labels_table(columns: Sequence[ExportColumn], rows: Sequence[Mapping[str, Any]]) -> pa.Table:
    """Label rows as a table, categories by name."""
    fields = [pa.field(c.name, pa.string() if c.kind == "label" else ARROW[c.kind]) for c in columns]
    schema = pa.schema([*fields, pa.field(SUBSET, pa.string())])
    return pa.Table.from_arrays([pa.array([r[f.name] for r in rows], f.type) for f in schema], schema=schema)


def shown_in(score: Mapping[str, Any], attributes: Iterable[str]) -> Shown:
    """What the scores of an image say that the judge saw in it; what it cannot show is left out."""
    seen = {name: (score.get(f"after_{name}"), score.get(f"after_{name}_probability")) for name in attributes}
    return {name: (category, p) for name, (category, p) in seen.items() if category is not None}


def _verdict(question: Question | None, before: Shown, after: Shown, score: Mapping[str, Any]) -> dict[str, Any]:
    """The multiple choice; where the scores have it from an oracle, or nobody can be asked, they are right."""
    question = _scored_question(score.get("wants"), before) or question
    if question is not None and not (question.attribute in before and question.attribute in after):
        question = None  # the attribute cannot be seen in one of the two
    probability = after[question.attribute][1] if question is not None else None
    found = answer(question, {k: v[0] for k, v in before.items()}, {k: v[0] for k, v in after.items()}, probability)
    if question is None or score.get("hit_by") == "oracle":
        found |= {key: score[key] for key in ("hit", "kept", "already") if key in score}
    if found["judged_probability"] is None:
        found["judged_probability"] = score.get("target_score")
    return found


def _scored_question(wants: str | None, attributes: Iterable[str]) -> Question | None:
    """The first wish of the scores' ``wants``, such as ``accessories=glasses|sunglasses;head!=hat``."""
    if not wants:
        return None
    attribute, _, wanted = wants.split(";")[0].partition("=")
    name, excluded = attribute.rstrip("!"), attribute.endswith("!")
    words = wanted.replace("|", " or ")
    return Question(name, f"not {words}" if excluded else words) if name in attributes else None


def _captions(
    config: ExportedDatasetConfig,
    facts: RunFacts,
    image: Mapping[str, Any],
    shown: Shown,
    question: Question | None,
) -> list[str]:
    if not shown:
        return prompt_captions(config, image["target"] or facts.neutral)
    first = question.attribute if question is not None else None
    return compute_captions(config, shown, subject=facts.neutral, first=first, name=image["image_id"])
