"""What a finished run shows in Prefect's UI: summary as a table, contact sheet as a picture, where it all is."""

import base64
import io

from prefect.artifacts import create_markdown_artifact, create_table_artifact

SHEET_SIDE = 1_600  # pixels of the longer side: the picture travels inside the artifact
JPEG_QUALITY = 80


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
    picture = _jpeg(store.read_bytes(CONTACT_SHEET))
    create_markdown_artifact(
        key="contact-sheet",
        markdown=f"![contact sheet](data:image/jpeg;base64,{picture})\n\nDataset: `{store.uri}/dataset`\n\n"
        f"Sheet in full: `{store.uri}/{CONTACT_SHEET}`",
        description="Originals on the left, one edit per column",
    )


def _jpeg(png: bytes) -> str:
    """A picture, made smaller where it is large, as base64 of a JPEG."""
    from PIL import Image

    image = Image.open(io.BytesIO(png)).convert("RGB")
    image.thumbnail((SHEET_SIDE, SHEET_SIDE))
    buffer = io.BytesIO()
    image.save(buffer, "JPEG", quality=JPEG_QUALITY)
    return base64.b64encode(buffer.getvalue()).decode("ascii")
