"""The log as JSON lines: run, stage and shard of each; an error is a line too."""

import io
import json
import logging
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from flows.engine import ENGINE, Local
from flows.logs import LOGGERS, log_as_json, logged_as
from flows.progress import Lines
from flows.sample_latents import sample_latents
from flows.shards import _pace
from pipeline.runs.shard import ShardReport


@pytest.fixture
def stream() -> Iterator[io.StringIO]:
    """Where the JSON lines go; the loggers are as before afterwards."""
    before = [(logging.getLogger(n), [*logging.getLogger(n).handlers], logging.getLogger(n).level) for n in LOGGERS]
    hook = sys.excepthook
    lines = io.StringIO()
    log_as_json(lines)
    yield lines
    sys.excepthook = hook
    for logger, handlers, level in before:
        logger.handlers[:], logger.level, logger.propagate = handlers, level, True


def objects(stream: io.StringIO) -> list[dict[str, Any]]:
    return [json.loads(line) for line in stream.getvalue().splitlines()]


def test_a_run_logs_run_stage_and_shard(stream: io.StringIO, tiny_pack_uri: str, tmp_path: Path):
    run = str(tmp_path / "run")
    log = logging.getLogger("styleclip")
    token = ENGINE.set(Local(Lines(lambda line: log.info("%s", line))))
    try:
        sample_latents(run=run, pack=tiny_pack_uri, num_latents=4, latents_per_shard=2, device="cpu")
    finally:
        ENGINE.reset(token)
    found = objects(stream)
    assert {line["run"] for line in found} == {run}
    assert {line["command"] for line in found} == {"sample-latents"}
    assert {line["level"] for line in found} == {"INFO"}
    shards = [(line["stage"], line["shard"]) for line in found if "shard" in line]
    assert shards == [("latents", 0), ("latents", 1)]
    first = next(line["message"] for line in found if line.get("shard") == 0)
    assert first.startswith("latents: 1 of 2 shards, 2 rows, ")
    assert first.endswith(" s left")


def test_pace_counts_what_was_made_now_and_the_shards_that_are_left():
    made = [ShardReport("dataset", shard, rows=10, failures=0, skipped=shard == 0) for shard in range(3)]
    assert _pace(made, 7, 4.0) == ", 5.0 rows/s, 8 s left"
    assert _pace(made, 3, 4.0) == ""


def test_names_of_inner_contexts_are_added_and_taken_back(stream: io.StringIO):
    log = logging.getLogger("pipeline.somewhere")
    with logged_as(run="r"):
        with logged_as(stage="s", shard=3):
            log.warning("inside")
        log.warning("outside")
    inside, outside = objects(stream)
    assert (inside["run"], inside["stage"], inside["shard"]) == ("r", "s", 3)
    assert "stage" not in outside
    assert outside["level"] == "WARNING"


def test_an_error_that_nobody_caught_is_one_line(stream: io.StringIO):
    try:
        raise RuntimeError("two\nlines")
    except RuntimeError as error:
        sys.excepthook(RuntimeError, error, error.__traceback__)
    (line,) = objects(stream)
    assert line["level"] == "CRITICAL"
    assert "two\nlines" in line["message"]
    assert "test_logs.py" in line["traceback"]
