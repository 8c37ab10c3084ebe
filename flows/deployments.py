"""Every command as a Prefect flow: what ``prefect.yaml`` deploys, and what the command runs where a server is named.

A flow has its command's parameters, with their limits and descriptions; its steps are sub-flows and its shards tasks.
"""

from collections.abc import Iterator
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

from prefect import Flow, flow, get_run_logger, task
from prefect.cache_policies import NO_CACHE
from prefect.futures import as_completed
from prefect.runtime import flow_run
from prefect.task_runners import ThreadPoolTaskRunner
from prefect.utilities.callables import ParameterSchema

from flows.cli import load_commands
from flows.commands import Command, Request, fill_places
from flows.engine import ENGINE, Log
from flows.jobs import Job, OpenWork, Work, name_of, work_named

if TYPE_CHECKING:
    from pipeline.runs.shard import ShardReport


@task(name="shard", cache_policy=NO_CACHE)
def shard_task(opener: str, job: Job, shard: int) -> "ShardReport":
    """One shard, opened in whatever process the task runs in."""
    return work_named(opener, job).run_shard(shard)


class PrefectEngine:
    """Steps as sub-flows, shards as tasks."""

    @property
    def log(self) -> Log:
        """The log of the run, which the server keeps."""
        return get_run_logger()

    def call(self, command: Command, request: Request) -> dict[str, Any]:
        """The command's flow, as a sub-flow of the one that is running."""
        return FLOWS[command.name](**request.values)

    def shards(
        self, opener: OpenWork, job: Job, work: Work, *, workers: int
    ) -> "Iterator[ShardReport | BaseException]":
        """As tasks; one worker works in the flow's own thread, see ``Local.shards``."""
        title = work.stage.replace("_", " ")
        every = [{"opener": name_of(opener), "job": job, "shard": shard} for shard in range(work.num_shards)]
        named = [
            shard_task.with_options(
                name=f"{work.stage.replace('_', '-')}-shard", task_run_name=f"{title} {shard + 1} of {work.num_shards}"
            )
            for shard in range(work.num_shards)
        ]
        if workers == 1:
            for run, parameters in zip(named, every, strict=True):
                yield run(**parameters, return_state=True).result(raise_on_failure=False)
            return
        with ThreadPoolTaskRunner(max_workers=workers) as runner:
            futures: list[Any] = [runner.submit(run, parameters=p) for run, p in zip(named, every, strict=True)]
            for future in as_completed(futures):
                yield future.result(raise_on_failure=False)


class ClosedSchema(ParameterSchema):
    """A flow's parameters, and no others: the server refuses an unknown name before it makes a run."""

    additionalProperties: bool = False  # noqa: N815 - the name in JSON schema


def as_flow(command: Command) -> Flow[..., dict[str, Any]]:
    """A command as a flow of the same name and parameters."""

    def body(**values: Any) -> dict[str, Any]:
        request = command.check(values)
        outer = ENGINE.get()
        if not isinstance(outer, PrefectEngine):  # the run itself, not a step of one
            when = flow_run.scheduled_start_time or datetime.now(UTC)
            request = fill_places(request, flow_run=str(flow_run.name), when=when)
        token = ENGINE.set(PrefectEngine())
        try:
            return command.body(request)
        finally:
            ENGINE.reset(token)

    body.__name__ = body.__qualname__ = command.name.replace("-", "_")
    body.__doc__ = command.docstring()
    body.__signature__ = command.signature()  # type: ignore[attr-defined]
    made: Flow[..., dict[str, Any]] = flow(name=command.name, description=command.summary)(body)
    made.parameters = _form(made.parameters)
    return made


def _form(schema: ParameterSchema) -> ParameterSchema:
    """The parameters as the form shows them: an empty field says none, so null is no choice beside it."""
    properties = {}
    for name, about in schema.properties.items():
        kinds = [kind for kind in about.get("anyOf", []) if kind.get("type") != "null"]
        if len(kinds) < len(about.get("anyOf", [])):
            about = {key: value for key, value in about.items() if key != "anyOf"}
            about |= kinds[0] if len(kinds) == 1 else {"anyOf": kinds}
            if about.get("default", "") is None:
                del about["default"]
        properties[name] = about
    return ClosedSchema(**{**schema.model_dump(), "properties": properties})


FLOWS = {name: as_flow(command) for name, command in load_commands().items()}

edit_dataset = FLOWS["edit-dataset"]
sample_latents = FLOWS["sample-latents"]
import_latents = FLOWS["import-latents"]
style_statistics = FLOWS["style-statistics"]
channel_directions = FLOWS["channel-directions"]
global_directions = FLOWS["global-directions"]
optimize_latents = FLOWS["optimize-latents"]
train_mappers = FLOWS["train-mappers"]
edit_latents = FLOWS["edit-latents"]
render_dataset = FLOWS["render-dataset"]
score_edits = FLOWS["score-edits"]
report = FLOWS["report"]
