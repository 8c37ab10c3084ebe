"""The parameters of a command, derived from the settings of its stages: written once, in ``pipeline/config``.

What is left to write here are the parameters that belong to no stage: where to read and write, and what to run on.
Nothing here imports torch or Prefect, because ``--help`` must come at once.
"""

import inspect
import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from functools import cache
from importlib.resources import files
from typing import Annotated, Any, Literal

from pydantic import AfterValidator, Field, GetJsonSchemaHandler
from pydantic.fields import FieldInfo
from pydantic.json_schema import JsonSchemaValue
from pydantic_core import CoreSchema

from pipeline.config import StageConfig

DEFAULT_PACK = "peeps"
REQUIRED = inspect.Parameter.empty


class WithoutNull:
    """In a form, an empty field says none: null is no choice beside the others."""

    def __get_pydantic_json_schema__(self, core: CoreSchema, handler: GetJsonSchemaHandler) -> JsonSchemaValue:
        """The type's schema, without the branch for None."""
        schema = handler(core)
        kinds = [kind for kind in schema.get("anyOf", []) if kind.get("type") != "null"]
        if not kinds:
            return schema
        rest = {key: value for key, value in schema.items() if key != "anyOf"}
        return rest | (kinds[0] if len(kinds) == 1 else {"anyOf": kinds})


@dataclass(frozen=True)
class Parameter:
    """One parameter of a command.

    Attributes:
        name: as in Python and in Prefect; the option is the same with dashes.
        annotation: type with its limits, as pydantic reads it.
        default: ``REQUIRED`` where there is none.
        description: one or two sentences.
        shown: the default in words, where the value alone would not say it; None shows the value.
        owner: settings that it is a field of; None for those that belong to no stage.
        field: its name there.
        place: whether it is a URI in which placeholders such as ``{date}`` are filled in.
        option: the option's own word, where the name cannot be a Python parameter of every flow.
    """

    name: str
    annotation: Any
    default: Any
    description: str
    shown: str | None = None
    owner: type[StageConfig] | None = None
    field: str = ""
    place: bool = False
    option: str = ""

    @property
    def required(self) -> bool:
        """Whether it must be given."""
        return self.default is REQUIRED

    @property
    def help(self) -> str:
        """Description with the default where the value alone does not say it."""
        return self.description if self.shown is None else f"{self.description} Default: {self.shown}."

    def signature(self) -> inspect.Parameter:
        """As a parameter of a Python function, with limits and description in the annotation."""
        annotation = Annotated[self.annotation, WithoutNull(), Field(description=self.help)]
        kind = inspect.Parameter.POSITIONAL_OR_KEYWORD
        return inspect.Parameter(self.name, kind, default=self.default, annotation=annotation)


def settings_of(
    kind: type[StageConfig],
    *,
    only: Iterable[str] | None = None,
    names: Mapping[str, str] | None = None,
    defaults: Mapping[str, Any] | None = None,
    shown: Mapping[str, str] | None = None,
    method: str | None = None,
) -> tuple[Parameter, ...]:
    """The settings of a stage as parameters.

    Args:
        kind: the settings.
        only: fields to take; None takes all that are set by hand.
        names: other names than the fields' own, for commands in which stages meet.
        defaults: other defaults than the fields' own, where the command decides.
        shown: defaults in words, by field.
        method: the pack may recommend these settings, under this name: what is not given is then the pack's
            recommendation, else the field's default.
    """
    chosen = kind.model_fields if only is None else {field: kind.model_fields[field] for field in only}
    given = {**(names or {})}
    made = []
    for field, info in chosen.items():
        name = given.get(field, _outside_name(field, info))
        if name is None:
            continue
        parameter = _from_field(kind, field, info, name)
        if field in (defaults or {}):
            parameter = replace(parameter, default=(defaults or {})[field])
        if field in (shown or {}):
            parameter = replace(parameter, shown=(shown or {})[field])
        made.append(parameter if method is None else _recommended(parameter, method))
    return tuple(made)


def _outside_name(field: str, info: FieldInfo) -> str | None:
    extra = info.json_schema_extra
    return extra.get("parameter", field) if isinstance(extra, dict) else field  # type: ignore[return-value]


def _from_field(kind: type[StageConfig], field: str, info: FieldInfo, name: str) -> Parameter:
    annotation: Any = info.annotation
    for limit in info.metadata:
        annotation = Annotated[annotation, limit]
    default = REQUIRED if info.is_required() else info.default
    return Parameter(name, annotation, default, info.description or "", owner=kind, field=field)


def _recommended(parameter: Parameter, method: str) -> Parameter:
    """Not given means the pack's recommendation; the words say what that is for the built-in pack."""
    published = _in_words(parameter.default)
    advised = pack_facts().get("settings", {}).get(method, {}).get(parameter.field)
    shown = published if advised is None else f"{_in_words(advised)}, the pack's; published {published}"
    return replace(parameter, annotation=parameter.annotation | None, default=None, shown=shown)


def _in_words(value: Any) -> str:
    if isinstance(value, bool):
        return "on" if value else "off"
    return f"{value:g}" if isinstance(value, float) else str(value)


@cache
def pack_facts() -> dict[str, Any]:
    """What the built-in pack's description says, for defaults in words; read without loading the pack."""
    text = files("pipeline.packs").joinpath(DEFAULT_PACK, "pack.json").read_text(encoding="utf-8")
    return json.loads(text)


def _of_pack(key: str) -> str:
    return f"{pack_facts()[key]:g}, the pack's"


def _shared(name: str, annotation: Any, description: str, default: Any = REQUIRED, **more: Any) -> Parameter:
    return Parameter(name, annotation, default, description, **more)


# What Prefect's API refuses before there is a run, in whose record the URI would stand; see storage.has_credentials.
NO_CREDENTIALS = r"^(?![A-Za-z0-9+.-]+://(?!arn:)[^/\s:@]*:(?![0-9]{1,5}/)[^\s@]*@)"


def _without_credentials(uri: str) -> str:
    if "://" in uri:  # a path has none, and need not import storage
        from storage import has_credentials

        if has_credentials(uri):
            raise ValueError("a URI must hold no credentials; give them as the client looks for them (AWS_*, ~/.aws)")
    return uri


Uri = Annotated[
    str, Field(min_length=1, json_schema_extra={"pattern": NO_CREDENTIALS}), AfterValidator(_without_credentials)
]
Rows = list[dict[str, Any]]

RUN = _shared(
    "run",
    Uri,
    "Folder or fsspec URI of the run; results are written under it. {date}, {time} and {flow_run} in it are filled in "
    "for every run, so that a scheduled run has a place of its own.",
    place=True,
)
INPUTS = _shared(
    "inputs",
    Uri | None,
    "Another run to read from what this run does not hold.",
    None,
    shown="only this run",
    place=True,
)
PACK = _shared("pack", Uri, "Name of a built-in pack, or folder or URI of a pack.", DEFAULT_PACK)
DEVICE = _shared("device", Uri, "auto (a GPU where there is one), cpu, cuda, cuda:1 ...", "auto")
WORKERS = (
    _shared(
        "workers",
        Annotated[int, Field(ge=1, le=64)],
        "Shards worked on at a time: threads of this process, or processes of a Dask or Ray cluster of its own.",
        1,
    ),
    _shared(
        "runner",
        Literal["local", "dask", "ray"],
        "Who works on the shards: local, this process; dask or ray, a cluster, which needs the extra of that name.",
        "local",
    ),
    _shared(
        "runner_address",
        Uri | None,
        "Where the cluster is: tcp://host:8786 of a Dask scheduler, ray://host:10001 of a Ray cluster.",
        None,
        shown="one on this machine for the length of the run",
    ),
    _shared(
        "tries",
        Annotated[int, Field(ge=1, le=10)],
        "How often a shard is tried, where trying again can help (a cut file, memory taken by another), before it is "
        "set aside and the others go on.",
        2,
    ),
)
PROMPTS = _shared(
    "prompts",
    Uri | Rows,
    "Prompt list: URI of a .csv, .jsonl, .yaml or .parquet file; in Prefect also the rows themselves.",
)
REFERENCE = _shared(
    "reference",
    str | None,
    "official: the published code's departures from the paper; or single ones, as "
    "'relevance_base=mean_anchored,uint8=+128'. It wins over other parameters of the same meaning.",
    None,
    shown="corrected",
)
MODE = _shared(
    "mode",
    Literal["screened", "exact", "gradient"],
    "screened: measure only the channels that the prompts need, unless a whole table is at hand; exact: the whole "
    "table of channel-directions; gradient: from derivatives alone, a preview.",
    "screened",
)
REUSE_DIRECTIONS = _shared(
    "reuse_directions",
    bool,
    "In mode screened, take the whole table where the run or the pack has one; off measures anew.",
    True,
)
RUN_ON = (PACK, DEVICE)
NUM_CHANNELS_SHOWN = _of_pack("num_channels")
STRENGTHS_SHOWN = _of_pack("strength")
