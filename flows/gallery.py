"""The gallery of a run: a page to look at its edits with, from a disk or from object storage."""

from dataclasses import replace
from typing import Any

from flows.commands import Request, command
from flows.engine import ENGINE
from flows.export_dataset import FROM, WORK, find_labels, find_sources, open_labels
from flows.jobs import Job, OpenWork, Work
from flows.parameters import INPUTS, RUN_ON, WORKERS, settings_of
from flows.shards import run_stage
from pipeline.config import GalleryConfig

FOLDER = "gallery"


def redraw(opener: OpenWork, job: Job, *, workers: int = 1) -> dict[str, Any]:
    """Run a stage of a view, which takes the place of one drawn with other settings."""
    from pipeline.runs.conflicts import forget_other_settings

    work = opener(job)
    forget_other_settings(job.store, work.stage, config_hash=work.config_hash)
    return run_stage(opener, job, workers=workers)


def is_current(run: str) -> bool:
    """Whether the run has a gallery of its present images, with whatever rules."""
    import storage
    from pipeline.runs.shard import find_optional_input

    store = storage.Store(run)
    shown = storage.read_stage(store.child(FOLDER).child(WORK), "labels")
    scores = find_optional_input("scores", store)
    page = storage.read_stage(store.child(FOLDER), "gallery_page")
    if shown is None or scores is None or page is None:
        return False
    return shown["contents"]["scores"] == scores.state


def open_gallery(job: Job) -> Work:
    """Sprites and data of the faces, by the dataset's shards."""
    from pipeline.stages import gallery as stage

    config, pack, sources, labels = job.config, job.open_pack(), find_sources(job), find_labels(job)
    dataset, columns = sources["dataset"], stage.load_columns(sources["edited_latents"])
    return Work(
        stage=stage.STAGE,
        num_shards=dataset.num_shards,
        config_hash=stage.gallery_hash(config, pack, labels),
        run_shard=lambda shard: stage.run_gallery_shard(
            config, job.store, pack, shard, columns=columns, labels=labels, dataset=dataset
        ),
        facts={"labels": labels.config_hash},
        rows_in=lambda _: 0,
        contents={"labels": labels.state},
        contents_of=lambda shard: labels.receipt(shard).contents,
    )


def open_gallery_page(job: Job) -> Work:
    """The page, in one piece."""
    from pipeline.stages import gallery as stage

    config, pack, sources, labels = job.config, job.open_pack(), find_sources(job), find_labels(job)
    columns = stage.load_columns(sources["edited_latents"])
    return Work(
        stage=stage.PAGE_STAGE,
        num_shards=1,
        config_hash=stage.gallery_hash(config, pack, labels),
        run_shard=lambda _: stage.run_gallery_page(
            config, job.store, pack, columns=columns, labels=labels, dataset=sources["dataset"]
        ),
        facts={"labels": labels.config_hash},
        contents={"labels": labels.state},
        contents_of=lambda _: {"labels": labels.state},
    )


@command(
    "A page to look at a run's edits with, in any browser.",
    *(replace(FROM, description="Folder or fsspec URI of the run to show. Needs score-edits."), INPUTS, *RUN_ON),
    *(settings_of(GalleryConfig), WORKERS),
)
def gallery(request: Request) -> dict[str, Any]:
    """Write RUN/gallery/index.html and what it shows: faces by prompts, with a slider over the rendered strengths.

    It needs no server: open it from the disk, or put the folder into object storage. Edits that break a rule
    (require_hit, min_kept ...) are hidden until they are asked for. Needs score-edits.
    """
    from pipeline.stages.gallery import labels_config
    from storage import Store

    config = request.config(GalleryConfig)
    job = Job(
        run=Store(request["run"]).child(FOLDER).uri,
        inputs=request["run"],
        pack=request["pack"],
        device=request["device"],
        config=config,
        options={"also": request["inputs"]},
        tries=request["tries"],
    )
    workers = request["workers"]
    stages = [
        redraw(open_labels, replace(job, run=job.store.child(WORK).uri, config=labels_config(config)), workers=workers),
        redraw(open_gallery, job, workers=workers),
        redraw(open_gallery_page, job),
    ]
    ENGINE.get().log.info("gallery: %s/index.html", job.store.uri)
    return {
        **stages[1],
        "shards": sum(closed["shards"] for closed in stages),
        "shards_skipped": sum(closed["shards_skipped"] for closed in stages),
        "missing": [one for closed in stages for one in closed["missing"]],
        "where": f"{job.store.uri}/index.html",
    }
