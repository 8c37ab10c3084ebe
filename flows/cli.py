"""The ``styleclip`` command: one sub-command per flow with the flow's own parameters, and ``pack``.

A command's options are read off the flow's signature, so the two cannot drift apart. Prefect and torch are imported
only when a command runs.
"""

import importlib
import inspect
import logging
import os
import sys
from collections.abc import Callable
from typing import Annotated, Any, get_args, get_origin, get_type_hints

import typer
from rich.console import Console
from rich.markup import escape
from rich.table import Table
from rich.text import Text

from flows.pack_cli import pack_app
from pipeline.machine.memory import keep_memory

# command -> its line in `styleclip --help`, which must not have to import torch and prefect
FLOWS = {
    "edit-dataset": "The whole chain: prompts and seeds to a scored dataset of edited images.",
    "sample-latents": "Latents from seeds.",
    "import-latents": "Latents from a file of w_plus that other tools wrote.",
    "style-statistics": "Mean and standard deviation of every style channel.",
    "channel-directions": "What every style channel does to CLIP's embedding.",
    "global-directions": "Prompts to directions in StyleSpace.",
    "optimize-latents": "A search for the latent of every pair of latent and prompt.",
    "train-mappers": "One small network per prompt that edits any latent.",
    "edit-latents": "Every latent with every edit, from the prompts' methods.",
    "render-dataset": "Originals and edits as labelled images.",
    "score-edits": "CLIP scores of every edited image.",
    "report": "Contact sheet and summary of a run.",
}

app = typer.Typer(
    name="styleclip",
    help="Text-driven editing of StyleGAN images in batches. Start with `styleclip edit-dataset --help`.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
)
app.add_typer(pack_app, name="pack")
console = Console(markup=False)  # names and messages hold brackets of their own, as in [n, 18, 512]
errors = Console(stderr=True, markup=False)


def _set_prefect_defaults() -> None:
    """No telemetry, and time for a busy machine to start Prefect's temporary server; the user's own settings win."""
    os.environ.setdefault("PREFECT_SERVER_ANALYTICS_ENABLED", "false")
    os.environ.setdefault("DO_NOT_TRACK", "1")
    os.environ.setdefault("PREFECT_SERVER_EPHEMERAL_STARTUP_TIMEOUT_SECONDS", "180")


def load_flow(name: str) -> Any:
    """The Prefect flow of a command name."""
    module = importlib.import_module(f"flows.{name.replace('-', '_')}")
    return getattr(module, name.replace("-", "_"))


def command_for(name: str) -> Callable[..., None]:
    """A typer command with the flow's parameters, descriptions and limits."""
    function = load_flow(name).fn
    hints = get_type_hints(function, include_extras=True)
    parameters = [
        parameter.replace(annotation=_option(hints[key]), kind=inspect.Parameter.KEYWORD_ONLY)
        for key, parameter in inspect.signature(function).parameters.items()
    ]

    def command(**values: Any) -> None:
        _run(name, values)

    command.__signature__ = inspect.Signature(parameters)  # type: ignore[attr-defined]
    command.__doc__ = function.__doc__
    return command


def _option(annotation: Any) -> Any:
    """``Annotated[T, Field(...)]`` as the typer option with the same help and limits."""
    assert get_origin(annotation) is Annotated
    kind, field = get_args(annotation)[:2]
    if dict in {get_origin(a) for b in get_args(kind) for a in get_args(b)}:
        kind = str  # rows can be given in Prefect only; here a prompt list is a file
    limits = {
        bound: getattr(item, attribute)
        for item in field.metadata
        for attribute, bound in (("ge", "min"), ("le", "max"))
        if hasattr(item, attribute)
    }
    return Annotated[kind, typer.Option(help=escape(field.description), **limits)]


class _ExpectedErrors(logging.Filter):
    """Drops Prefect's traceback of an error that the command says in one line."""

    def __init__(self, expected: tuple[type[BaseException], ...]) -> None:
        super().__init__()
        self.expected = expected

    def filter(self, record: logging.LogRecord) -> bool:
        """Whether the record is to be shown."""
        return not (record.exc_info and isinstance(record.exc_info[1], self.expected))


def _run(name: str, values: dict[str, Any]) -> None:
    """Run a flow; what the user got wrong is one line on stderr and exit code 2, what we got wrong a traceback."""
    from prefect.exceptions import ParameterTypeError
    from pydantic import ValidationError

    from pipeline.errors import PipelineError
    from storage import StorageError

    expected = (PipelineError, StorageError, ValidationError, ParameterTypeError)
    for logger in ("prefect.flow_runs", "prefect.task_runs"):
        logging.getLogger(logger).addFilter(_ExpectedErrors(expected))
    try:
        result = load_flow(name)(**values)
    except expected as error:
        errors.print(Text("error: ", "bold red") + Text(str(error)), soft_wrap=True)
        raise typer.Exit(2) from error
    if name in ("edit-dataset", "report"):
        print_summary(values["run"])
    if name == "edit-dataset" and result["failed_prompts"]:
        errors.print(f"{result['failed_prompts']} prompts failed, see the table", style="yellow")


def print_summary(run: str) -> None:
    """The summary of a run as a table: prompt, images, mean CLIP gain, and where the dataset is."""
    from pipeline.stages.report import CONTACT_SHEET, SUMMARY_FILE
    from storage import Store, read_table

    store = Store(run)
    table = Table(title=f"dataset: {store.uri}/dataset", title_justify="left")
    for heading in ("prompt", "strength", "images", "mean CLIP gain", "path"):
        justify = "left" if heading in ("prompt", "path") else "right"
        table.add_column(heading, justify=justify, overflow="fold")
    for row in read_table(store, SUMMARY_FILE).to_pylist():
        if row["status"] == "ok":
            gain = f"{row['mean_clip_gain']:+.3f}" if row["mean_clip_gain"] is not None else "-"
            strength = "-" if row["strength"] is None else f"{row['strength']:g}"
            table.add_row(row["prompt"], strength, str(row["images"]), gain, f"{run}/dataset")
        else:
            table.add_row(row["prompt"], "-", "0", "-", Text(row["error"], "red"))
    console.print(table)
    console.print(f"contact sheet: {store.uri}/{CONTACT_SHEET}", soft_wrap=True)
    console.print(f'open it:       pandas.read_parquet("{store.uri}/dataset")', soft_wrap=True)


def main() -> None:
    """Entry point of the console script; builds only the command that was asked for."""
    _set_prefect_defaults()
    keep_memory()
    asked = sys.argv[1] if len(sys.argv) > 1 else ""
    for name, line in FLOWS.items():
        app.command(name, help=None if name == asked else line)(command_for(name) if name == asked else _not_asked)
    app()


def _not_asked() -> None:
    """Stand-in for a command that was not asked for: only its name and line are shown."""


if __name__ == "__main__":
    main()
