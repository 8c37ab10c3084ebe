"""A run as a dataset for training: labels, then parts in the format that is asked for, then the card."""

from collections.abc import Mapping
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from flows.commands import Request, command
from flows.engine import ENGINE
from flows.jobs import Job, Work
from flows.parameters import INPUTS, REQUIRED, RUN, RUN_ON, WORKERS, Parameter, Uri, settings_of
from flows.shards import run_stage
from pipeline.config import ExportedDatasetConfig
from pipeline.errors import ParameterError

if TYPE_CHECKING:
    from pipeline.export.rows import RunFacts
    from pipeline.runs.shard import Input

WORK = "_work"  # what an export is made from, beside it: readers pass over it
FROM = replace(RUN, description="Folder or fsspec URI of the run to export. Needs score-edits.")
TO = Parameter("to", Uri, REQUIRED, "Folder or fsspec URI of the export; a folder of its own.", place=True)
SETTINGS = Parameter(
    "settings",
    Uri | dict[str, Any] | None,
    None,
    "YAML or JSON file with settings of the export, those that are no options (questions, phrases) among them; what "
    "it says wins over the options. In Prefect also the settings themselves.",
    shown="none",
)


def find_sources(job: Job) -> "dict[str, Input]":
    """What an export reads: the run is the job's ``inputs``, another run to read from its option ``also``.

    Of several runs with the same edits, its option ``runs``, everything is joined.
    """
    from pipeline.runs.growth import check_made_of
    from pipeline.runs.joined import join_inputs
    from pipeline.runs.shard import find_input
    from storage import Store

    assert job.inputs is not None
    also = job.options.get("also")
    others = None if also is None else Store(also)
    runs = [Store(run) for run in job.options.get("runs", [job.inputs])]
    found: dict[str, list[Input]] = {"dataset": [], "scores": [], "latents": []}
    for run in runs:
        of_run = {stage: find_input(stage, run, others) for stage in found}
        check_made_of(of_run["scores"], of_run["dataset"])
        for stage, source in of_run.items():
            found[stage].append(source)
    joined = {stage: join_inputs(parts) for stage, parts in found.items()}
    return {**joined, "edited_latents": find_input("edited_latents", runs[0], others)}


def facts_of(job: Job, sources: "dict[str, Input]") -> "RunFacts":
    """What the rows of the run share; latents of photos are read for it."""
    from pipeline.stages.labels import load_run_facts

    return load_run_facts(job.config, job.open_pack(), sources["edited_latents"], sources["latents"])


def open_labels(job: Job) -> Work:
    """Labels, by the dataset's shards."""
    from pipeline.stages import labels as stage

    config, pack, sources = job.config, job.open_pack(), find_sources(job)
    dataset, scores = sources["dataset"], sources["scores"]
    facts = facts_of(job, sources)
    return Work(
        stage=stage.STAGE,
        num_shards=dataset.num_shards,
        config_hash=stage.labels_hash(config, pack, dataset, scores),
        run_shard=lambda shard: stage.run_labels_shard(
            config, job.store, pack, shard, facts=facts, dataset=dataset, scores=scores
        ),
        total=dataset.rows,
        unit="images",
        rows_in=lambda _: 0,
        provisional=scores.is_partial,
        facts={"dataset": dataset.config_hash, "scores": scores.config_hash},
        contents={**dataset.contents, "scores": scores.state},
        contents_of=lambda shard: dataset.receipt(shard).contents,
    )


def find_labels(job: Job) -> "Input":
    """The labels beside an export or a gallery; of a balanced request those that it takes."""
    from pipeline.runs.shard import find_input

    balanced = getattr(job.config, "balance", None) is not None
    return find_input("balanced_labels" if balanced else "labels", job.store.child(WORK))


def open_balanced_labels(job: Job) -> Work:
    """The labels that a balanced request takes, by the shards of all labels."""
    from pipeline.runs.joined import join_inputs
    from pipeline.runs.shard import find_input
    from pipeline.stages import balanced_labels as stage
    from storage import Store

    config, pack = job.config, job.open_pack()
    stores = [Store(run) for run in job.options["runs"]] if "runs" in job.options else [job.store]
    labels = join_inputs([find_input("labels", store) for store in stores])
    facts = facts_of(job, find_sources(job))
    return Work(
        stage=stage.STAGE,
        num_shards=labels.num_shards,
        config_hash=stage.balanced_labels_hash(config, pack, labels),
        run_shard=lambda shard: stage.run_balanced_labels_shard(
            config, job.store, pack, shard, facts=facts, labels=labels
        ),
        facts={"labels": labels.config_hash},
        contents={"labels": labels.state},
        contents_of=lambda _: {"labels": labels.state},
    )


def open_exported_dataset(job: Job) -> Work:
    """Parts of the export."""
    from pipeline.export.rows import label_columns
    from pipeline.stages import exported_dataset as stage

    config, pack, sources, labels = job.config, job.open_pack(), find_sources(job), find_labels(job)
    parts, columns = stage.plan_parts(config, labels), label_columns(facts_of(job, sources))
    return Work(
        stage=stage.STAGE,
        num_shards=len(parts),
        config_hash=stage.exported_dataset_hash(config, pack, labels),
        run_shard=lambda shard: stage.run_exported_dataset_shard(
            config, job.store, pack, shard, columns=columns, labels=labels, dataset=sources["dataset"]
        ),
        total=sum(part.rows for part in parts),
        facts={"labels": labels.config_hash},
        contents={"labels": labels.state},
        contents_of=lambda _: {"labels": labels.state},
    )


def open_dataset_card(job: Job) -> Work:
    """The card, in one piece."""
    from pipeline.export.rows import label_columns
    from pipeline.stages import dataset_card as stage
    from pipeline.stages.exported_dataset import plan_parts

    config, pack, sources, labels = job.config, job.open_pack(), find_sources(job), find_labels(job)
    facts = facts_of(job, sources)
    return Work(
        stage=stage.STAGE,
        num_shards=1,
        config_hash=stage.dataset_card_hash(config, pack, labels),
        run_shard=lambda _: stage.run_dataset_card(
            config,
            job.store,
            pack,
            pack_uri=job.pack,
            made_by=job.options.get("made_by"),
            columns=label_columns(facts),
            parts=plan_parts(config, labels),
            facts=facts,
            labels=labels,
            dataset=sources["dataset"],
            edited=sources["edited_latents"],
        ),
        facts={"labels": labels.config_hash},
        contents={"labels": labels.state},
        contents_of=lambda _: {"labels": labels.state},
    )


@command(
    "A run as a dataset: Parquet, image folder, tar shards or CSV.",
    *(FROM, TO, INPUTS, *RUN_ON, settings_of(ExportedDatasetConfig), SETTINGS, WORKERS),
)
def export_dataset(request: Request) -> dict[str, Any]:
    """Write a run's images with typed labels, captions, splits by face and a dataset card to a folder of its own.

    Edits that break a rule (require_hit, min_kept ...) are kept apart, with the reason. A rerun goes on where an
    earlier one ended. Needs score-edits.
    """
    from storage import Store

    config = request.config(ExportedDatasetConfig)
    if request["settings"] is not None:
        config = read_settings(request["settings"], config)
    job = Job(
        run=request["to"],
        inputs=request["run"],
        pack=request["pack"],
        device=request["device"],
        config=config,
        options={"also": None if request["inputs"] is None else Store(request["inputs"]).uri},
        tries=request["tries"],
    )
    labelled = run_stage(open_labels, beside(job), workers=request["workers"])
    return sum_up([labelled, *write_export(job, workers=request["workers"])], job)


def beside(job: Job) -> Job:
    """The job of what an export is made from, in a folder within it that readers pass over."""
    return replace(job, run=job.store.child(WORK).uri)


def write_export(job: Job, *, workers: int) -> list[dict[str, Any]]:
    """The stages of an export once there are labels: what is chosen of them, the parts and the card."""
    stages = [] if job.config.balance is None else [run_stage(open_balanced_labels, beside(job))]
    stages.append(run_stage(open_exported_dataset, job, workers=workers))
    stages.append(run_stage(open_dataset_card, job))
    ENGINE.get().log.info("dataset card: %s/README.md", job.store.uri)
    return stages


def sum_up(stages: list[dict[str, Any]], job: Job) -> dict[str, Any]:
    """What a command says of its stages, the last but one of which wrote the parts."""
    return {
        **stages[-2],
        "shards": sum(closed["shards"] for closed in stages),
        "shards_skipped": sum(closed["shards_skipped"] for closed in stages),
        "missing": [one for closed in stages for one in closed["missing"]],
        "where": f"{job.store.uri}/README.md",
    }


def read_settings(given: str | Mapping[str, Any], config: ExportedDatasetConfig) -> ExportedDatasetConfig:
    """The settings with those of a YAML or JSON file, or with given ones, in their place.

    Raises:
        ParameterError: if the file is no mapping of settings, or one of them is not right.
        storage.MissingError: if there is no such file.
    """
    from pydantic import ValidationError

    found, of = (_read_file(given), f" of {given}") if isinstance(given, str) else (dict(given), "")
    try:
        return ExportedDatasetConfig.model_validate({**config.model_dump(), **found})
    except ValidationError as error:
        wrong = "; ".join(f"`{'.'.join(map(str, e['loc']))}`: {e['msg'].lower()}" for e in error.errors())
        raise ParameterError(f"`settings`{of}: {wrong}.") from error


def _read_file(uri: str) -> dict[str, Any]:
    import posixpath

    import yaml

    from storage import Store

    folder, name = posixpath.split(uri)
    try:
        found = yaml.safe_load(Store(folder or ".").read_bytes(name))
    except yaml.YAMLError as error:
        raise ParameterError(f"`settings` must be a YAML or JSON file; {uri}: {error}.") from error
    if not isinstance(found, dict):
        raise ParameterError(f"`settings` must hold settings by name, as in 'require_hit: true'; got {found!r}.")
    return found
