"""Images that a run drew before it grew: found by latent, prompt and strength, and put back among the new ones."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace

from pipeline.prompts import ORIGINAL
from pipeline.rows import ImageRow, rows_of
from pipeline.runs.contents import same_keys
from pipeline.runs.growth import earlier_shards
from pipeline.runs.shard import Contents
from pipeline.schemas import DATASET
from storage import Store

ImageKey = tuple[str, str, float]  # latent_id, prompt_id and strength


def load_drawn_images(store: Store, contents: Contents, *, config_hash: str) -> dict[ImageKey, ImageRow]:
    """What earlier shards of a run that has grown hold of a shard's images, without what photos say of them.

    Args:
        store: the run's folder.
        contents: of the shard, with its latents and edits.
        config_hash: of the dataset's settings.
    """
    found: dict[ImageKey, ImageRow] = {}
    for old, source, number in earlier_shards(store, DATASET.name, config_hash=config_hash):
        latents = same_keys(old, contents, "latents")
        edits = same_keys(old, contents, "edits") | {ORIGINAL}
        if not latents:
            continue
        for row in rows_of(ImageRow, source.shard_table(number)):
            if row.latent_id in latents and row.prompt_id in edits:
                found[row.latent_id, row.prompt_id, row.strength] = replace(row, source_path=None, labels=None)
    return found


def in_order(rows: Iterable[ImageRow], edits: Mapping[str, Sequence[tuple[str, float]]]) -> list[ImageRow]:
    """Rows as they would have been drawn in one go: latent by latent, the original before its edits.

    Args:
        rows: in any order; every image that is asked for.
        edits: latent_id to prompt_id and strength of its edits.
    """
    of_key: dict[ImageKey, ImageRow] = {(row.latent_id, row.prompt_id, row.strength): row for row in rows}
    return [of_key[latent, *edit] for latent, found in edits.items() for edit in ((ORIGINAL, 0.0), *found)]
