"""Latents of real images, names kept."""

from collections import Counter
from typing import TYPE_CHECKING, Any

from flows.commands import Request, command
from flows.engine import ENGINE
from flows.jobs import Job, Work
from flows.parameters import REQUIRED as NO_DEFAULT
from flows.parameters import RUN, RUN_ON, WORKERS, Parameter, Uri, settings_of
from flows.shards import run_stage
from pipeline.config import InvertedLatentsConfig

if TYPE_CHECKING:
    from storage import Store

IMAGES = Parameter(
    "images",
    Uri,
    NO_DEFAULT,
    "Photos: a folder, a pattern or one image, or a table (.parquet, .csv, .jsonl) of URIs or of images; local or at "
    "any fsspec URI.",
)


def open_inverted_latents(job: Job) -> Work:
    """Latents by ranges of the listed images."""
    from pipeline.runs.shard import find_input, shard_bounds
    from pipeline.schemas import IMAGE_LISTING
    from pipeline.stages import inverted_latents as stage

    config, pack = job.config, job.open_pack()
    listing = find_input(IMAGE_LISTING.name, job.store)
    return Work(
        stage=stage.STAGE,
        num_shards=stage.inverted_latents_num_shards(config, listing),
        config_hash=stage.inverted_latents_hash(config, pack, listing),
        run_shard=lambda shard: stage.run_inverted_latents_shard(config, job.store, pack, shard, listing=listing),
        total=listing.rows,
        unit="images",
        facts={"image_listing": listing.config_hash},
        rows_in=lambda shard: len(shard_bounds(listing.rows, config.shard_size, shard)),
    )


@command(
    "Latents of photos, from a folder, a bucket or a table.",
    IMAGES,
    RUN,
    *RUN_ON,
    settings_of(InvertedLatentsConfig),
    WORKERS,
)
def invert_images(request: Request) -> dict[str, Any]:
    """Find the latents of photos, into RUN/latents, where sample-latents' would stand for every later step.

    Every file becomes a latent or a failed row with its reason. Beside them, RUN/inverted_images has each photo as it
    was framed, its reconstruction, its quality, its name and its labels. Photos are read where they are; nothing is
    written but to RUN.
    """
    from pipeline.stages.image_listing import run_image_listing
    from pipeline.stages.inverted_latents import check_delta_budget, check_inversion

    job = request.job(request.config(InvertedLatentsConfig))
    check_inversion(job.config, job.open_pack())
    listing = run_image_listing(request["images"], job.store, job.open_pack(), column=request["image_column"])
    ENGINE.get().log.info("%s: %d images listed", request["images"], listing.rows)
    check_delta_budget(job.config, job.open_pack(), listing.rows)
    closed = run_stage(open_inverted_latents, job, workers=request["workers"])
    if closed["failures"]:
        _say_reasons(job.store)
    return closed


def _say_reasons(store: "Store") -> None:
    """How many images were left out for which reason, and where the rows are."""
    from pipeline.runs.shard import find_input
    from pipeline.schemas import INVERTED_IMAGES, LATENTS

    reasons: Counter[str] = Counter()
    latents = find_input(LATENTS.name, store)
    for shard in latents.present:
        table = latents.shard_table(shard, folder=INVERTED_IMAGES.name)
        reasons.update(reason for reason in table["reason"].to_pylist() if reason is not None)
    listed = ", ".join(f"{count} {reason}" for reason, count in sorted(reasons.items()))
    ENGINE.get().log.warning("left out: %s; %s/%s says why of each", listed, store.uri, INVERTED_IMAGES.name)
