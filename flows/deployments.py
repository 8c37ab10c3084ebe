"""Every command as a Prefect flow: what ``prefect.yaml`` deploys, and what the command runs where a server is named.

A flow has its command's parameters, with their limits and descriptions; its steps are sub-flows and its shards tasks.
"""

import inspect
import os
from collections.abc import Iterator
from contextlib import nullcontext
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

from prefect import Flow, Task, get_run_logger, task
from prefect.cache_policies import NO_CACHE
from prefect.client.schemas.objects import State
from prefect.futures import as_completed
from prefect.runtime import flow_run
from prefect.states import Completed, Failed
from prefect.task_runners import ThreadPoolTaskRunner
from prefect.utilities.callables import parameter_schema
from pydantic import Field

from flows.artifacts import PUBLISHERS, Meter, publish_stage
from flows.cli import load_commands
from flows.commands import Command, Request, fill_places
from flows.engine import ENGINE, Log
from flows.environment import one_writer
from flows.failures import shortfall
from flows.groups import GroupFailedError, for_every_process, grouped, outcomes, run_task
from flows.jobs import Job, OpenWork, Work, name_of
from flows.parameter_groups import group_of
from flows.redaction import keep_secrets_out_of_logs, without_its_secrets
from flows.run_names import place_name, run_name
from flows.runners import CLUSTER, on_runner
from flows.stopping import check_stopped

if TYPE_CHECKING:
    from pipeline.runs.shard import ShardReport


# not as a decorator: a worker elsewhere finds the function by its name, under which a decorator would put the task
SHARD_TASK = task(name="shard", cache_policy=NO_CACHE)(run_task)


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
        """As tasks on the cluster that is open; without one in threads, in the flow's own where one works alone.

        ``Local.shards`` says why.
        """
        cluster = CLUSTER.get()
        groups = grouped(work.num_shards, workers if cluster is None else cluster.slots)
        named = [_task_of(work, group) for group in groups]
        meter = Meter(work.stage, work.num_shards)
        if cluster is None:
            parameters = [{"opener": name_of(opener), "job": job, "shards": group} for group in groups]
            if workers == 1:
                for run, given in zip(named, parameters, strict=True):
                    yield from _outcomes(run(**given, return_state=True).result(raise_on_failure=False))
                    meter.advance(len(given["shards"]))
                return
            placed, task_runner = nullcontext(), ThreadPoolTaskRunner(max_workers=workers)
        else:
            far, threads = for_every_process(job), cluster.runner.threads()
            parameters = [
                {"opener": name_of(opener), "job": far, "shards": group, "threads": threads} for group in groups
            ]
            placed, task_runner = cluster.placed(), cluster.task_runner()
        with task_runner as runner:
            with placed:
                futures: list[Any] = [
                    runner.submit(run, parameters=given) for run, given in zip(named, parameters, strict=True)
                ]
            sizes = {id(future): len(group) for future, group in zip(futures, groups, strict=True)}
            for future in as_completed(futures):
                yield from _outcomes(future.result(raise_on_failure=False))
                meter.advance(sizes[id(future)])
                check_stopped()  # the workers of a cluster do not hear of it


def _task_of(work: Work, group: range) -> "Task[..., Any]":
    """The task of a group, named after its shards."""
    title, first = work.stage.replace("_", " "), group.start + 1
    numbers = f"{first}" if len(group) == 1 else f"{first} to {group.stop}"
    return SHARD_TASK.with_options(
        name=f"{work.stage.replace('_', '-')}-shard", task_run_name=f"{title} {numbers} of {work.num_shards}"
    )


def _outcomes(result: Any) -> "list[ShardReport | BaseException]":
    """What became of each shard of a task, from what the task returned or raised."""
    if isinstance(result, GroupFailedError):
        return outcomes(result.results)
    return [result] if isinstance(result, BaseException) else outcomes(result)


class CommandFlow(Flow[..., dict[str, Any]]):
    """A flow whose parameters are checked as its command checks them: the state's message then names each problem."""

    command: Command

    def validate_parameters(self, parameters: dict[str, Any]) -> dict[str, Any]:
        """The parameters with their types.

        Raises:
            ParameterError: see ``Command.check``.
        """
        return dict(self.command.check(parameters).values)

    def __reduce__(self) -> tuple[Any, ...]:
        """By name: the context of a run goes to the workers of a cluster, and its flow with it."""
        return flow_named, (self.command.name,)


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


def _short_of(result: dict[str, Any], *, of_a_run: bool) -> State[dict[str, Any]]:
    """The state of a run that went on without the shards that failed.

    A step's counts as completed, because its run goes on; the run's own as failed, so that whoever waits for it, or has
    an automation on failures, is told. Either has the whole result, and the run's message says which shards and why.
    """
    lines = shortfall(result["missing"])
    if of_a_run:
        return Completed(name="CompletedWithFailures", message=f"{len(result['missing'])} shards missing", data=result)
    message = f"completed with failures; run it again to do only these: {'; '.join(lines)}"
    return Failed(name="CompletedWithFailures", message=message, data=result)


def as_flow(command: Command) -> CommandFlow:
    """A command as a flow of the same name and parameters."""

    def body(**values: Any) -> Any:
        request = command.check(values)
        outer = ENGINE.get()
        of_a_run = isinstance(outer, PrefectEngine)  # a step of one, not the run itself
        if not of_a_run:
            when = (flow_run.scheduled_start_time or datetime.now(UTC)).astimezone()
            place = place_name(str(flow_run.name), str(flow_run.id))
            request = fill_places(request, flow_run=place, when=when)
            request.job().store.check_writable()
        waiting = get_run_logger().warning
        alone = nullcontext() if of_a_run else one_writer(request, waiting=waiting)
        token = ENGINE.set(PrefectEngine())
        try:
            with alone, on_runner(request.values, request.places):
                result = command.body(request)
        except Exception as error:
            cleaned = without_its_secrets(error)
            if cleaned is error:
                raise
            raise cleaned from None
        finally:
            ENGINE.reset(token)
        publish_stage(result)
        if command.name in PUBLISHERS:
            PUBLISHERS[command.name](request["run"])
        if result.get("missing"):
            return _short_of(result, of_a_run=of_a_run)
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
    made.__signature__ = _form(command)  # type: ignore[attr-defined]
    made.parameters = parameter_schema(made)
    return made


def _form(command: Command) -> inspect.Signature:
    """The command's signature as Prefect reads a form from it: in place of a default a field with that and a title.

    The title is the name after the name of its group, since the form shows parameters as one list.
    """
    fields = []
    for parameter in command.parameters:
        titled: Any = {"title": f"{group_of(parameter)}: {parameter.name}"}
        default = ... if parameter.required else parameter.default
        field = Field(default=default, description=parameter.help, json_schema_extra=titled)
        fields.append(parameter.signature().replace(default=field))
    return inspect.Signature(fields, return_annotation=dict[str, Any])


def flow_named(name: str) -> CommandFlow:
    """The flow of a command."""
    return FLOWS[name]


keep_secrets_out_of_logs()
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
recommend_settings = FLOWS["recommend-settings"]
compare_methods = FLOWS["compare-methods"]
check_prompts = FLOWS["check-prompts"]
gallery = FLOWS["gallery"]
balance_dataset = FLOWS["balance-dataset"]
export_dataset = FLOWS["export-dataset"]
