"""The ``styleclip`` command: one sub-command per flow with the flow's own parameters, and ``pack``.

Exit codes: 0 done; 1 a bug, with its traceback; 2 what the user can mend, in one line; 3 done but for shards that
failed, which are listed and which the same command makes; 130 and 143 stopped by Ctrl-C and SIGTERM.

Without ``PREFECT_API_URL`` a command runs in this process, with progress on the terminal; with it, as a Prefect run.
torch and Prefect are imported when the work starts, not for help or for what the user got wrong.
"""

import importlib
import inspect
import io
import logging
import os
import signal
import sys
from datetime import datetime
from types import UnionType
from typing import Annotated, Any, Union, get_args, get_origin

import typer
from rich.console import Console
from rich.logging import RichHandler
from rich.markup import escape
from rich.text import Text

from flows.commands import COMMANDS, Command, Request, fill_places
from flows.engine import ENGINE, Local
from flows.failures import Missing, shortfall
from flows.pack_cli import pack_app, told
from flows.parameter_groups import WORK, group_of
from flows.parameters import Parameter
from flows.progress import Bars, Lines, Progress
from flows.runs_cli import runs_app
from flows.stopping import stopping_between_shards
from pipeline.errors import IncompleteError, ParameterError, PipelineError

MODULES = (  # in the order in which `styleclip --help` lists them
    "edit_dataset",
    "sample_latents",
    "invert_images",
    "import_latents",
    "style_statistics",
    "channel_directions",
    "global_directions",
    "optimize_latents",
    "tedigan_latents",
    "train_mappers",
    "edit_latents",
    "render_dataset",
    "score_edits",
    "report",
    "recommend_settings",
    "compare_methods",
    "check_prompts",
    "gallery",
    "export_dataset",
    "balance_dataset",
)
REMOTE_CLIENTS = ("botocore", "aiobotocore", "aiohttp", "google", "gcsfs", "azure")  # their errors name the remedy
INCOMPLETE = 3  # exit code
HUGE = 2**31  # limits from here on are not shown in help
VERBOSE = typer.Option("--verbose", "-v", help="Show the log of every shard.", rich_help_panel=WORK)
AS_JSON = typer.Option("--log-json", help="Write log and progress as JSON, one object a line.", rich_help_panel=WORK)

console = Console(markup=False)  # names and messages hold brackets of their own, as in [n, 18, 512]
errors = Console(stderr=True, markup=False)
log = logging.getLogger("styleclip")


def load_commands() -> dict[str, Command]:
    """All commands by name, in the order of the list."""
    for module in MODULES:
        importlib.import_module(f"flows.{module}")
    return {name: COMMANDS[name] for name in (module.replace("_", "-") for module in MODULES)}


def build_app() -> typer.Typer:
    """The command line with every command."""
    app = typer.Typer(
        name="styleclip",
        help="Text-driven editing of StyleGAN images in batches. Start with `styleclip edit-dataset --help`.",
        no_args_is_help=True,
        add_completion=False,
        pretty_exceptions_enable=False,
    )
    for name, command in load_commands().items():
        app.command(name, short_help=command.summary, help=command.description)(_typer_function(command))
    app.add_typer(pack_app, name="pack")
    app.add_typer(runs_app, name="runs")
    return app


def _typer_function(command: Command) -> Any:
    """A function with the command's parameters as typer options."""
    keyword = inspect.Parameter.KEYWORD_ONLY
    options = [inspect.Parameter(p.name, keyword, default=p.default, annotation=_option(p)) for p in command.parameters]
    verbose = inspect.Parameter("verbose", keyword, default=False, annotation=Annotated[bool, VERBOSE])
    as_json = inspect.Parameter("log_json", keyword, default=False, annotation=Annotated[bool, AS_JSON])

    def function(verbose: bool = False, log_json: bool = False, **values: Any) -> None:
        if log_json:
            from flows.logs import log_as_json

            log_as_json()
        run(command, values, verbose=verbose, log_json=log_json)

    function.__signature__ = inspect.Signature([*options, verbose, as_json])  # type: ignore[attr-defined]
    return function


def _option(parameter: Parameter) -> Any:
    """A parameter as a typer option: same name, help, limits and default."""
    kind, limits = _plain_type(parameter.annotation)
    if get_origin(kind) is tuple:
        kind, limits = list[str], {}  # several numbers: repeated, or in one word with commas
    help_text = parameter.description
    shown: Any = True if parameter.shown is None else parameter.shown
    if not parameter.required and parameter.default is None:
        kind = kind | None
        shown = False if parameter.shown is None else parameter.shown
    words = [f"--{parameter.option}"] if parameter.option else []
    panel = group_of(parameter)
    return Annotated[
        kind, typer.Option(*words, help=escape(help_text), show_default=shown, rich_help_panel=panel, **limits)
    ]


def _plain_type(annotation: Any) -> tuple[Any, dict[str, Any]]:
    """The type under annotations and unions with None, and its limits as typer knows them."""
    limits: dict[str, Any] = {}
    while True:
        if get_origin(annotation) is Annotated:
            annotation, *marks = get_args(annotation)
            for mark in marks:
                for item in (mark, *getattr(mark, "metadata", ())):
                    limits |= {to: getattr(item, at) for at, to in (("ge", "min"), ("le", "max")) if hasattr(item, at)}
        elif get_origin(annotation) in (Union, UnionType):
            kinds = [kind for kind in get_args(annotation) if kind is not type(None)]
            annotation = kinds[0]  # rows of a prompt list can be given in Prefect only; here it is a file
        else:
            shown = {to: limit for to, limit in limits.items() if limit < HUGE}
            return annotation, shown if annotation in (int, float) else {}


def _numbers(parameter: Parameter, given: list[str] | None) -> list[float] | None:
    """``--strengths 6,10`` and ``--strengths 6 --strengths 10`` alike; for ``-5:5:11`` see ``_range``."""
    if given is None:
        return None
    words = [word for text in given for word in text.replace(",", " ").replace(";", " ").split()]
    try:
        return [number for word in words for number in _range(word)]
    except ValueError as error:
        option = "--" + parameter.name.replace("_", "-")
        raise ParameterError(f"{option} must be numbers, as in `{option} 6,10`; got {', '.join(given)!r}.") from error


def _range(word: str) -> list[float]:
    """A number, or ``first:last:count`` evenly spaced ones without 0, which is the original."""
    if ":" not in word:
        return [float(word)]
    first, last, count = word.split(":")
    low, high, steps = float(first), float(last), int(count)
    if steps < 2:
        raise ValueError(f"a range needs two numbers or more; got {steps}")
    spaced = [round(low + (high - low) * i / (steps - 1), 6) for i in range(steps)]
    return [number for number in spaced if number != 0]


def run(command: Command, values: dict[str, Any], *, verbose: bool = False, log_json: bool = False) -> None:
    """Run a command; what the user got wrong is one line on stderr and exit code 2, what we got wrong a traceback."""
    stopping = "stopping after the shards at work; once more stops at once"
    with stopping_between_shards(lambda: _say(stopping, log_json)) as signals:
        try:
            _run(command, values, verbose=verbose, log_json=log_json)
        except KeyboardInterrupt as error:
            _say("stopped; finished shards are kept, the same command goes on from them", log_json)
            raise typer.Exit(128 + (signals[0] if signals else signal.SIGINT)) from error


def _run(command: Command, values: dict[str, Any], *, verbose: bool, log_json: bool) -> None:
    from flows.environment import check_places, check_prompt_list, check_server, one_writer

    try:
        for parameter in command.parameters:
            if get_origin(_plain_type(parameter.annotation)[0]) is tuple:
                values[parameter.name] = _numbers(parameter, values[parameter.name])
        request = command.check(values)
        if os.environ.get("PREFECT_API_URL"):
            check_server(os.environ["PREFECT_API_URL"])
            result = _run_in_prefect(command, request)
        else:
            now = datetime.now()
            request = fill_places(request, flow_run=f"{command.name}-{now:%Y%m%d-%H%M%S}", when=now)
            check_places(request)
            check_prompt_list(request)
            progress = _progress(verbose, log_json)
            with one_writer(request, waiting=lambda text: _say(text, log_json)):
                result = _run_here(command, request, progress=progress)
    except typer.Exit:
        raise
    except Exception as error:
        if not _is_expected(error):
            raise
        _say_error(_one_line(error), log_json)
        raise typer.Exit(INCOMPLETE if isinstance(error, IncompleteError) else 2) from error
    _close(command, request, result)
    if result.get("missing"):
        _list_missing(result["missing"], log_json)
        raise typer.Exit(INCOMPLETE)


def _list_missing(missing: list[Missing], log_json: bool) -> None:
    """What failed, a line each, and what to do."""
    _say("completed with failures; the rest is there, and the same command run again makes only these:", log_json)
    for line in shortfall(missing):
        _say(f"  {line}", log_json)


def _is_expected(error: BaseException) -> bool:
    """Whether it says what the user can do, and its traceback nothing more."""
    from storage import StorageError

    of_client = type(error).__module__.split(".")[0] in REMOTE_CLIENTS
    return of_client or isinstance(error, PipelineError | StorageError | OSError)


def _one_line(error: BaseException) -> str:
    from storage import without_secrets

    text = without_secrets(told(error))
    if isinstance(error, OSError) and not isinstance(error, PipelineError):
        return f"{text}. Mend what it names (space, rights, connection) and run the same command again."
    return text


def _say(text: str, log_json: bool) -> None:
    if log_json:
        log.warning("%s", text)
    else:
        errors.print(text, soft_wrap=True)


def _say_error(text: str, log_json: bool) -> None:
    if log_json:
        log.error("%s", text)
    else:
        errors.print(Text("error: ", "bold red") + Text(text), soft_wrap=True)


def _progress(verbose: bool, log_json: bool) -> Progress:
    """Where progress is to be shown; the log goes there too."""
    if log_json:
        return Lines(lambda line: log.info("%s", line))
    handler = RichHandler(console=errors, show_path=False, show_level=True, markup=False)
    handler.setLevel(logging.INFO if verbose else logging.WARNING)
    for name in ("styleclip", "pipeline"):
        logging.getLogger(name).setLevel(logging.INFO)
        logging.getLogger(name).addHandler(handler)
    if errors.is_terminal and not verbose:
        return Bars(errors)
    return Lines(lambda line: errors.print(line, soft_wrap=True, highlight=False))


def _run_here(command: Command, request: Request, *, progress: Progress) -> dict[str, Any]:
    """In this process."""
    from flows.redaction import keep_secrets_out_of_logs
    from pipeline.machine.memory import keep_memory

    keep_secrets_out_of_logs()
    keep_memory()
    ENGINE.set(Local(progress))
    return ENGINE.get().call(command, request)


class _ExpectedErrors(logging.Filter):
    """Drops Prefect's traceback of an error that the command says in one line."""

    def filter(self, record: logging.LogRecord) -> bool:
        """Whether the record is to be shown."""
        error = record.exc_info[1] if record.exc_info else None
        return error is None or not _is_expected(error)


def _run_in_prefect(command: Command, request: Request) -> dict[str, Any]:
    """As a run of the server in ``PREFECT_API_URL``."""
    os.environ.setdefault("PREFECT_SERVER_ANALYTICS_ENABLED", "false")
    os.environ.setdefault("DO_NOT_TRACK", "1")
    from flows.deployments import FLOWS

    for logger in ("prefect.flow_runs", "prefect.task_runs"):
        logging.getLogger(logger).addFilter(_ExpectedErrors())
    state: Any = FLOWS[command.name](**request.values, return_state=True)
    result = state.result(raise_on_failure=False)
    if isinstance(result, BaseException):
        raise result
    return result


def _close(command: Command, request: Request, result: dict[str, Any]) -> None:
    """The last lines: what there is, and where to look."""
    from flows.summary import fate, print_comparison, print_reachability, print_summary
    from storage import Store

    if command.name == "check-prompts":
        print_reachability(result["prompts"], console, as_json=request["as_json"])
        return
    if command.name == "compare-methods":
        print_comparison(result["run"], console)
    elif command.name in ("edit-dataset", "report"):
        print_summary(result["run"], console)
    elif "where" in result:
        again = " (nothing to do, it was all there)" if result["shards_skipped"] == result["shards"] else ""
        console.print(f"{result['rows']:,} rows, see {result['where']}{again}", soft_wrap=True)
    else:
        again = " (nothing to do, it was all there)" if result["shards_skipped"] == result["shards"] else ""
        uri = Store(result["run"]).uri
        console.print(f"{result['rows']:,} rows in {uri}/{result['stage']}{again}{fate(uri)}", soft_wrap=True)
    if command.name == "edit-dataset" and result["shards_skipped"] >= result["shards"]:
        console.print("nothing to do: the run is complete and unchanged")
    if command.name == "edit-dataset" and result["failed_prompts"]:
        errors.print(f"{result['failed_prompts']} prompts failed, see the table", style="yellow")


def main() -> None:
    """Entry point of the console script."""
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="replace")  # a terminal that cannot show a character shows a question mark
    from flows.redaction import trace_of

    try:
        build_app()()
    except Exception as error:
        trace = trace_of(error)
        if trace is None:
            raise
        sys.stderr.write(trace)
        sys.exit(1)


if __name__ == "__main__":
    sys.exit(main())
