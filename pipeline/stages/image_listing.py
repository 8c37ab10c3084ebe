"""The listing of images to invert: their names, in pieces, so that shards need not list them again."""

from collections.abc import Iterator
from itertools import islice

import storage
from pipeline.config import ImageListingConfig
from pipeline.errors import PipelineError
from pipeline.inversion.sources import ImageListing, ImageReference, list_images
from pipeline.packs.pack import Pack
from pipeline.runs.shard import Input, Made, close_stage, find_input, part_path, run_shard, stage_hash
from pipeline.schemas import IMAGE_LISTING
from storage import Store

STAGE = IMAGE_LISTING.name
ROWS_PER_SHARD = 8_192


def run_image_listing(images: str, store: Store, pack: Pack, *, column: str | None = None) -> Input:
    """List the images and write the listing; memory does not grow with their number. Run again, it looks again.

    Args:
        images: folder, pattern, image or table; see ``list_images``.
        store: the run's folder.
        pack: for the receipts.
        column: the table's column of images.
    Raises:
        PipelineError: if there are none, or the run's listing was of others: files that came, went or changed.
    """
    with list_images(images, column=column, run=store.uri) as listing:
        config = ImageListingConfig(
            images=images, image_column=column, num_images=listing.count, digest=listing.digest()
        )
        _check_unchanged(config, store)
        config_hash = stage_hash(STAGE, config, pack)
        shards = 0
        for shard, part in enumerate(_parts(listing)):
            run_shard(
                store, STAGE, shard, config_hash=config_hash, pack=pack, make=lambda part=part, n=shard: _made(part, n)
            )
            shards += 1
    close_stage(store, STAGE, num_shards=shards, config_hash=config_hash, config=config, pack=pack)
    return find_input(STAGE, store)


def _check_unchanged(config: ImageListingConfig, store: Store) -> None:
    run = storage.read_stage(store, STAGE)
    earlier = None if run is None else run["config"]
    if earlier is not None and earlier != config.identity():
        raise PipelineError(
            f"a run's images must stay as they were listed; {store.uri} has {earlier['num_images']} of "
            f"{earlier['images']}, now there are {config.num_images} of {config.images}, or some have changed. "
            f"Name a new run for them."
        )


def _parts(listing: ImageListing) -> Iterator[list[ImageReference]]:
    rows = iter(listing)
    while part := list(islice(rows, ROWS_PER_SHARD)):
        yield part


def _made(part: list[ImageReference], shard: int) -> Made:
    columns = {column.name: [getattr(row, column.name) for row in part] for column in IMAGE_LISTING.columns}
    columns["labels"] = [[{"name": name, "value": value} for name, value in row.labels] for row in part]
    return Made({part_path(STAGE, shard): storage.table_bytes(IMAGE_LISTING.table(columns))}, rows=len(part))
