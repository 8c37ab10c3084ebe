"""Latents that other tools wrote."""

from typing import Any

from flows.commands import Request, command
from flows.jobs import Job, Work
from flows.parameters import REQUIRED as NO_DEFAULT
from flows.parameters import RUN, RUN_ON, WORKERS, Parameter, Uri, settings_of
from flows.shards import run_stage
from pipeline.config import ImportedLatentsConfig

FILE = Parameter("file", Uri, NO_DEFAULT, "w_plus latents: path or URI of a .npy, .pt or .pth, [n, rows, 512].")


def open_imported_latents(job: Job) -> Work:
    """A file's latents by ranges of rows."""
    from pipeline.runs.shard import shard_bounds
    from pipeline.stages import imported_latents as stage

    config, pack, file = job.config, job.open_pack(), job.options["file"]
    num_latents = job.options["num_latents"]
    return Work(
        stage=stage.STAGE,
        num_shards=stage.imported_latents_num_shards(config, num_latents),
        config_hash=stage.imported_latents_hash(config, pack),
        run_shard=lambda shard: stage.run_imported_latents_shard(config, job.store, pack, shard, file=file),
        total=num_latents,
        unit="latents",
        rows_in=lambda shard: len(shard_bounds(num_latents, config.shard_size, shard)),
    )


@command(
    "Latents from a file of w_plus that other tools wrote.",
    FILE,
    RUN,
    *RUN_ON,
    settings_of(ImportedLatentsConfig),
    WORKERS,
)
def import_latents(request: Request) -> dict[str, Any]:
    """Read w_plus latents, as e4e and the published StyleCLIP write them, into RUN/latents. Nothing in the file is run.

    They stand where sample-latents' would, for every later step. A latent that is not finite is a failed row.
    """
    from pipeline.stages.imported_latents import describe_latents
    from storage import Store

    pack = request.job().open_pack()
    config, num_latents = describe_latents(request["file"], pack, shard_size=request["latents_per_shard"])
    folder, name = Store.of_file(request["file"])  # as every process finds it
    job = request.job(config, file=f"{folder.uri}/{name}", num_latents=num_latents)
    return run_stage(open_imported_latents, job, workers=request["workers"])
