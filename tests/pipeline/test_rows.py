from dataclasses import fields
from typing import Any

import numpy as np
import pytest

from pipeline.rows import EditedLatentRow, ImageRow, PromptRow, ScoreRow, SummaryRow, artifact_table, rows_of
from pipeline.schemas import DATASET, EDITED_LATENTS, PROMPTS, SUMMARY, scores_artifact

PROMPT = PromptRow(
    prompt_id="red-hat",
    prompt="red hat",
    target="a face with a red hat",
    neutral="a face",
    method="global",
    strengths=[2.0, -6.5],
    status="ok",
    error=None,
    relevance_threshold=0.125,
    num_channels=3,
    max_relevance=0.5,
    channel_counts=[5, 3],
    text_direction=[0.5, -0.25],
)


@pytest.mark.parametrize(
    ("kind", "artifact"),
    [
        (PromptRow, PROMPTS),
        (EditedLatentRow, EDITED_LATENTS),
        (ImageRow, DATASET),
        (ScoreRow, scores_artifact(attributes=(), identity=True, judge=True, oracle=True)),
        (SummaryRow, SUMMARY),
    ],
)
def test_fields_of_a_row_are_the_columns_of_its_artifact(kind: Any, artifact: Any):
    assert {field.name for field in fields(kind)} == {column.name for column in artifact.columns}


def test_rows_of_returns_what_artifact_table_was_given():
    failed = PromptRow("x", "x", "a hat", "a face", "optimize", [], "failed", "too long")
    table = artifact_table(PROMPTS, [PROMPT, failed], widths={"text_direction": 2})
    assert rows_of(PromptRow, table) == [PROMPT, failed]


def test_rows_of_gives_vectors_as_arrays_and_none_where_null():
    vector = np.array([1.0, 2.0], dtype=np.float32)
    rows = [
        EditedLatentRow("a", "hat", 2.0, "styles", vector, None, "ok", None),
        EditedLatentRow("b", "hat", 2.0, "styles", None, "hat", "ok", None),
    ]
    first, second = rows_of(EditedLatentRow, artifact_table(EDITED_LATENTS, rows))
    assert isinstance(first.vector, np.ndarray)
    np.testing.assert_array_equal(first.vector, vector)
    assert second == rows[1]


def test_rows_of_an_older_table_fills_missing_columns_with_their_defaults():
    table = artifact_table(PROMPTS, [PROMPT], widths={"text_direction": 2}).drop_columns(["channel_counts"])
    (row,) = rows_of(PromptRow, table)
    assert row.channel_counts is None
    assert row.text_direction == PROMPT.text_direction


def test_rows_of_a_table_without_a_column_that_must_be_there_raises():
    table = artifact_table(PROMPTS, [PROMPT], widths={"text_direction": 2}).drop_columns(["status"])
    with pytest.raises(TypeError, match="status"):
        rows_of(PromptRow, table)
