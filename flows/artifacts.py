"""What a run shows in Prefect's UI: how far a stage is, what each left where, summary and contact sheet at the end."""

import base64
import io
import logging
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any, cast
from uuid import UUID

import httpx
from prefect.artifacts import (
    create_image_artifact,
    create_markdown_artifact,
    create_progress_artifact,
    create_table_artifact,
    update_progress_artifact,
)

SHEET_SIDE = 1_600  # pixels of the longer side: the picture travels inside the artifact
JPEG_QUALITY = 80

log = logging.getLogger("styleclip")


@contextmanager
def _beside_the_run() -> Iterator[None]:
    """What is only there to be looked at: a server that is away for a while must not end a run over it."""
    try:
        yield
    except (httpx.HTTPError, OSError) as error:
        log.warning("not shown in Prefect, because its server did not take it: %s", error or type(error).__name__)


class Meter:
    """A stage's progress as an artifact of the current flow run; none where one shard is all there is.

    Args:
        stage: its name.
        num_shards: how many shards it has.
    """

    def __init__(self, stage: str, num_shards: int) -> None:
        self.done, self.num_shards = 0, num_shards
        self.artifact: UUID | None = None
        if num_shards > 1:
            words = stage.replace("_", " ")
            with _beside_the_run():
                made = create_progress_artifact(0.0, key=_key(stage, "progress"), description=f"{words}, shards")
                self.artifact = cast(UUID, made)  # a coroutine only where an event loop runs

    def advance(self, shards: int = 1) -> None:
        """So many more shards have ended."""
        self.done += shards
        if self.artifact is not None:
            with _beside_the_run():
                _ = update_progress_artifact(self.artifact, round(100 * self.done / self.num_shards, 1))


def publish_stage(closed: Mapping[str, Any]) -> None:
    """Leave what a stage made, and where, as an artifact of the current flow run.

    Args:
        closed: what the command came to; nothing is left where it names no stage, as for a command of several.
    """
    if "stage" not in closed or "rows" not in closed:
        return
    from storage import Store

    stage = closed["stage"]
    made = closed["shards"] - closed.get("shards_skipped", 0)
    lines = [
        f"**{closed['rows']:,} rows** in `{Store(closed['run']).uri}/{stage}`",
        f"{made} of {closed['shards']} shards made now, the others were done",
    ]
    if closed.get("failures"):
        lines.append(f"**{closed['failures']:,} rows failed**; their `status` and `error` columns say why")
    if closed.get("where"):
        lines.append(f"See `{closed['where']}`")
    title = stage.replace("_", " ")
    with _beside_the_run():
        create_markdown_artifact(key=_key(stage, "made"), markdown="\n\n".join(lines), description=f"What {title} left")


def _key(stage: str, what: str) -> str:
    """An artifact's key may hold small letters, digits and dashes only."""
    return f"{stage.lower().replace('_', '-')}-{what}"


@_beside_the_run()
def publish_report(run: str) -> None:
    """Leave the summary and the contact sheet of a run's report as artifacts of the current flow run.

    Args:
        run: the run's folder.
    """
    from pipeline.stages.report import CONTACT_SHEET, SUMMARY_FILE
    from storage import Store, read_table

    store = Store(run)
    rows = [
        {key: round(value, 4) if isinstance(value, float) else value for key, value in row.items() if value is not None}
        for row in read_table(store, SUMMARY_FILE).to_pylist()
    ]
    create_table_artifact(key="summary", table=rows, description=f"Edits of {store.uri}, a row per prompt and strength")
    picture = _jpeg_url(store.read_bytes(CONTACT_SHEET))
    create_markdown_artifact(
        key="contact-sheet",
        markdown=f"![contact sheet]({picture})\n\nDataset: `{store.uri}/dataset`\n\n"
        f"Sheet in full: `{store.uri}/{CONTACT_SHEET}`\n\nGallery: `{store.uri}/gallery/index.html`",
        description="Originals on the left, one edit per column",
    )


@_beside_the_run()
def publish_comparison(run: str) -> None:
    """Leave the comparison of methods of a run as artifacts of the current flow run: table, text and pictures.

    Args:
        run: the run's folder.
    """
    from flows.summary import comparison_rows
    from pipeline.stages.comparison import HIT_KEPT, PICTURES, TEXT
    from storage import Store

    store = Store(run)
    create_table_artifact(
        key="comparison", table=comparison_rows(run), description=f"Methods compared in {store.uri}, by class"
    )
    create_markdown_artifact(
        key="comparison-text", markdown=store.read_bytes(TEXT).decode(), description="The comparison, prompt by prompt"
    )
    pictures = {
        "comparison-pictures": (PICTURES, "The first prompt of every class, originals on the left"),
        "comparison-plot": (HIT_KEPT, "Target reached against what is kept"),
    }
    for key, (name, about) in pictures.items():
        if store.exists(name):  # no plot without matplotlib
            create_image_artifact(key=key, image_url=_jpeg_url(store.read_bytes(name)), description=about)


PUBLISHERS: dict[str, Callable[[str], None]] = {"report": publish_report, "compare-methods": publish_comparison}


def _jpeg_url(png: bytes) -> str:
    """A picture, made smaller where it is large, as a data URL of a JPEG: the UI needs no way to where it lies."""
    from PIL import Image

    image = Image.open(io.BytesIO(png)).convert("RGB")
    image.thumbnail((SHEET_SIDE, SHEET_SIDE))
    buffer = io.BytesIO()
    image.save(buffer, "JPEG", quality=JPEG_QUALITY)
    return f"data:image/jpeg;base64,{base64.b64encode(buffer.getvalue()).decode('ascii')}"
