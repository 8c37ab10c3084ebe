"""Every command as a Prefect flow: what ``prefect.yaml`` deploys, and what the command runs where a server is named.

A flow has its command's parameters, with their limits and descriptions; its steps are sub-flows and its shards tasks.
"""

import inspect
import os
from collections.abc import Iterator
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

from prefect import Flow, get_run_logger, task
from prefect.cache_policies import NO_CACHE
from prefect.futures import as_completed
from prefect.runtime import flow_run
from prefect.task_runners import ThreadPoolTaskRunner
from prefect.utilities.callables import parameter_schema

from flows.artifacts import Meter, publish_report, publish_stage
from flows.cli import load_commands
from flows.commands import Command, Request, fill_places
from flows.engine import ENGINE, Log
from flows.jobs import Job, OpenWork, Work, name_of, work_named
from flows.run_names import place_name, run_name

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
        meter = Meter(work.stage, work.num_shards)
        if workers == 1:
            for run, parameters in zip(named, every, strict=True):
                yield run(**parameters, return_state=True).result(raise_on_failure=False)
                meter.advance()
            return
        with ThreadPoolTaskRunner(max_workers=workers) as runner:
            futures: list[Any] = [runner.submit(run, parameters=p) for run, p in zip(named, every, strict=True)]
            for future in as_completed(futures):
                yield future.result(raise_on_failure=False)
                meter.advance()


class CommandFlow(Flow[..., dict[str, Any]]):
    """A flow whose parameters are checked as its command checks them: the state's message then names each problem."""

    command: Command

    def validate_parameters(self, parameters: dict[str, Any]) -> dict[str, Any]:
        """The parameters with their types.

        Raises:
            ParameterError: see ``Command.check``.
        """
        return dict(self.command.check(parameters).values)


def _unknown_parameters(command: Command) -> list[inspect.Parameter]:
    """Parameters for names that the run of this process was given and the command does not have.

    The API takes unknown names, and the engine, which binds them to the function, would crash before it has a state to
    say why. With a place for them they come as far as the check of the parameters, which names them.
    """
    if "PREFECT__FLOW_RUN_ID" not in os.environ or flow_run.flow_name != command.name:
        return []
    known = {p.name for p in command.parameters}
    kind = inspect.Parameter.KEYWORD_ONLY
    return [inspect.Parameter(name, kind, default=None) for name in flow_run.parameters or {} if name not in known]


def as_flow(command: Command) -> CommandFlow:
    """A command as a flow of the same name and parameters."""

    def body(**values: Any) -> dict[str, Any]:
        request = command.check(values)
        outer = ENGINE.get()
        of_a_run = isinstance(outer, PrefectEngine)  # a step of one, not the run itself
        if not of_a_run:
            when = (flow_run.scheduled_start_time or datetime.now(UTC)).astimezone()
            place = place_name(str(flow_run.name), str(flow_run.id))
            request = fill_places(request, flow_run=place, when=when)
            request.job().store.check_writable()
        token = ENGINE.set(PrefectEngine())
        try:
            result = command.body(request)
        finally:
            ENGINE.reset(token)
        publish_stage(result)
        if command.name == "report":
            publish_report(request["run"])
        return result

    def name() -> str:
        return run_name(command.name, flow_run.parameters or {})

    body.__name__ = body.__qualname__ = command.name.replace("-", "_")
    body.__doc__ = command.docstring()
    signature = command.signature()
    by_name = [p.replace(kind=inspect.Parameter.KEYWORD_ONLY) for p in signature.parameters.values()]
    body.__signature__ = signature.replace(parameters=[*by_name, *_unknown_parameters(command)])  # type: ignore[attr-defined]
    made = CommandFlow(body, name=command.name, description=command.summary, flow_run_name=name)
    made.command = command
    made.__signature__ = signature  # type: ignore[attr-defined]
    made.parameters = parameter_schema(made)
    return made


FLOWS = {name: as_flow(command) for name, command in load_commands().items()}

edit_dataset = FLOWS["edit-dataset"]
sample_latents = FLOWS["sample-latents"]
invert_images = FLOWS["invert-images"]
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
tedigan_latents = FLOWS["tedigan-latents"]
compare_methods = FLOWS["compare-methods"]
check_prompts = FLOWS["check-prompts"]
gallery = FLOWS["gallery"]
export_dataset = FLOWS["export-dataset"]
