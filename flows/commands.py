"""Commands: named steps with parameters, the same whether a terminal, a Python program or Prefect calls them."""

import inspect
import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import datetime
from difflib import get_close_matches
from functools import cached_property
from typing import TYPE_CHECKING, Any, TypeVar

from pydantic import BaseModel, ConfigDict, ValidationError, create_model

from flows.engine import ENGINE
from flows.jobs import Job
from flows.parameter_groups import in_groups
from flows.parameters import Parameter
from pipeline.config import StageConfig, recommended
from pipeline.errors import ParameterError

if TYPE_CHECKING:
    from pipeline.packs.pack import Pack
    from pipeline.prompts import Prompt

ConfigT = TypeVar("ConfigT", bound=StageConfig)
COMMANDS: dict[str, "Command"] = {}


@dataclass(frozen=True)
class Request:
    """A command's checked parameters.

    Attributes:
        command: what is to be done.
        values: every parameter by name, defaults filled in.
    """

    command: "Command"
    values: Mapping[str, Any]

    def __getitem__(self, name: str) -> Any:
        """A parameter's value."""
        return self.values[name]

    def config(self, kind: type[ConfigT], *, stage: str = "", **known: Any) -> ConfigT:
        """A stage's settings from the parameters that are its fields.

        Args:
            kind: the settings.
            stage: name of the stage, where ``reference`` has a say in it.
            known: fields that are no parameters.
        """
        return kind(**self._fields(kind, stage, known))

    def recommended_config(self, kind: type[ConfigT], pack: "Pack", method: str, *, stage: str) -> ConfigT:
        """As ``config``; what is not given is the pack's recommendation for the method, else the published value."""
        return recommended(kind, pack.description.settings.get(method, {}), self._fields(kind, stage, {}))

    def _fields(self, kind: type[StageConfig], stage: str, known: Mapping[str, Any]) -> dict[str, Any]:
        fields = {p.field: self.values[p.name] for p in self.command.parameters if p.owner is kind}
        if stage and self.values.get("reference") is not None:
            from pipeline.reference import reference_named

            fields |= reference_named(self.values["reference"]).settings(stage)
        return {**fields, **known}

    def job(
        self,
        config: StageConfig | None = None,
        *,
        prompts: "tuple[Prompt, ...] | list[Prompt]" = (),
        inputs: str | None = None,
        **options: Any,
    ) -> Job:
        """What the shards of a stage of this command are told."""
        return Job(
            run=self["run"],
            inputs=self.values.get("inputs") if inputs is None else inputs,
            pack=self["pack"],
            device=self["device"],
            config=config,
            prompts=tuple(prompts),
            options=options,
            tries=self.values.get("tries", 1),
        )

    @property
    def where(self) -> dict[str, Any]:
        """The parameters that a step hands on to its own steps."""
        names = ("run", "pack", "device", "workers", "tries", "runner", "runner_address")
        return {name: self.values[name] for name in names if name in self.values}

    @property
    def places(self) -> list[str]:
        """The URIs among the parameters under which the command reads or writes runs."""
        named = [self.values[p.name] for p in self.command.parameters if p.place]
        return [place for place in named if isinstance(place, str)]

    def shared_with(self, command: "Command", *, without: tuple[str, ...] = ()) -> dict[str, Any]:
        """The parameters of another command that this one has too: the same name and the same type."""
        own = {(p.name, p.annotation) for p in self.command.parameters}
        names = [p.name for p in command.parameters if (p.name, p.annotation) in own and p.name not in without]
        return {name: self.values[name] for name in names}


class Command:
    """A step that can be called alone: checks its parameters, then has the engine run its body.

    Attributes:
        name: as typed, with dashes.
        summary: one line, for lists of commands.
        body: what it does with a checked request; its docstring is the command's help.
        parameters: in their groups, which is the order of the signature too.
    """

    def __init__(
        self, name: str, summary: str, body: Callable[[Request], dict[str, Any]], parameters: tuple[Parameter, ...]
    ) -> None:
        self.name, self.summary, self.body = name, summary, body
        self.parameters = in_groups(parameters)

    def __call__(self, *args: Any, **values: Any) -> dict[str, Any]:
        """Check and run.

        Raises:
            ParameterError: for a name or a value that it does not take.
        """
        named = dict(zip((p.name for p in self.parameters), args, strict=False)) | values
        return ENGINE.get().call(self, self.check(named))

    def check(self, values: Mapping[str, Any]) -> Request:
        """The request with defaults filled in.

        Raises:
            ParameterError: naming every parameter that is unknown, missing or out of range.
        """
        names = [p.name for p in self.parameters]
        problems = [_unknown(name, names) for name in values if name not in names]
        known = {name: value for name, value in values.items() if name in names}
        checked: dict[str, Any] = {}
        try:
            model = self._model.model_validate(known)
            checked = {name: getattr(model, name) for name in names}
        except ValidationError as error:
            problems += [_problem(details) for details in error.errors()]
        if problems:
            raise ParameterError(f"{self.name}: {'; '.join(problems)}.")
        return Request(self, checked)

    @cached_property
    def _model(self) -> type[BaseModel]:
        fields: dict[str, Any] = {p.name: (p.annotation, ... if p.required else p.default) for p in self.parameters}
        config = ConfigDict(extra="forbid", protected_namespaces=(), arbitrary_types_allowed=True)
        return create_model(self.name, __config__=config, **fields)

    def signature(self) -> inspect.Signature:
        """As the signature of a Python function."""
        return inspect.Signature([p.signature() for p in self.parameters], return_annotation=dict[str, Any])

    @property
    def description(self) -> str:
        """What it does, in full: paragraphs, each on one line."""
        paragraphs = inspect.cleandoc(self.body.__doc__ or "").replace("``", "`").split("\n\n")
        return "\n\n".join(" ".join(paragraph.split()) for paragraph in paragraphs)

    def docstring(self) -> str:
        """Description and parameters, in the form from which Prefect takes the texts of its form."""
        return "\n".join([self.description, "", "Args:", *(f"    {p.name}: {p.help}" for p in self.parameters)])


def command(summary: str, *parameters: tuple[Parameter, ...] | Parameter) -> Callable[..., Command]:
    """Make a command of a function of a request; it is named after the function."""
    flat: list[Parameter] = []
    for item in parameters:
        flat += [item] if isinstance(item, Parameter) else item

    def make(body: Callable[[Request], dict[str, Any]]) -> Command:
        name = body.__name__.replace("_", "-")
        COMMANDS[name] = Command(name, summary, body, tuple(flat))
        return COMMANDS[name]

    return make


def fill_places(request: Request, *, flow_run: str, when: datetime) -> Request:
    """The request with the placeholders of its URIs filled in: ``{date}``, ``{time}``, ``{flow_run}``.

    Args:
        request: of a command that a user called, not of a step within one.
        flow_run: name of the run.
        when: the time it was scheduled for, else now.
    Raises:
        ParameterError: for another placeholder.
    """
    known = {"date": f"{when:%Y-%m-%d}", "time": f"{when:%H%M%S}", "flow_run": flow_run}
    filled = dict(request.values)
    for parameter in request.command.parameters:
        value = filled[parameter.name]
        if parameter.place and isinstance(value, str) and "{" in value:
            filled[parameter.name] = _filled(parameter.name, value, known)
    return Request(request.command, filled)


def _filled(name: str, uri: str, known: Mapping[str, str]) -> str:
    try:
        return uri.format_map(known)
    except (KeyError, ValueError, IndexError, AttributeError) as error:
        places = ", ".join(f"{{{key}}}" for key in known)
        raise ParameterError(f"`{name}` may hold the placeholders {places}; got {uri!r}.") from error


def _unknown(name: str, names: list[str]) -> str:
    near = get_close_matches(name, names, n=1)
    hint = f"did you mean `{near[0]}`?" if near else f"its parameters are {', '.join(names)}"
    return f"unknown parameter `{name}`; {hint}"


def _problem(details: Mapping[str, Any]) -> str:
    where = ".".join(str(part) for part in details["loc"][:1])
    got = details["input"]
    if details["type"] == "missing":
        return f"`{where}` must be given"
    from storage import without_secrets

    shown = "NaN" if isinstance(got, float) and math.isnan(got) else without_secrets(repr(got))
    return f"`{where}`: {details['msg'].lower()}; got {shown[:100]}"
