"""``styleclip runs``: what runs there are, what is in one, whether it is whole, and what can be deleted."""

import json
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.box import SIMPLE_HEAD
from rich.console import Console
from rich.table import Table
from rich.text import Text

from flows.pack_cli import told

if TYPE_CHECKING:
    from storage import StageState, Store

runs_app = typer.Typer(help="Runs: list, show, verify, clean.", no_args_is_help=True)
console = Console(markup=False)
errors = Console(stderr=True, markup=False)
Uri = Annotated[str, typer.Argument(help="Folder or URI.")]
Run = Annotated[str, typer.Argument(help="A run's folder or URI.")]
AsJson = Annotated[bool, typer.Option("--json", help="One JSON object a line.")]
UNITS = ("B", "KB", "MB", "GB", "TB")
MOST_LISTED = 20  # files named before the rest is only counted


@contextmanager
def _one_line_errors() -> Iterator[None]:
    """What the store says is one line on stderr; exit code 2."""
    from storage import StorageError

    try:
        yield
    except (StorageError, OSError) as error:
        errors.print(Text("error: ", "bold red") + Text(told(error)), soft_wrap=True)
        raise typer.Exit(2) from error


@runs_app.command("list")
def list_runs(uri: Uri = "output", as_json: AsJson = False) -> None:
    """The runs at and below a folder: last stage, rows, failures, size, when."""
    from storage import Store, find_runs, read_states

    with _one_line_errors():
        found = [(run, read_states(run)) for run in find_runs(Store(uri))]
    if as_json:
        for run, states in found:
            _print_json({"run": run.uri, **_totals(states)})
        return
    if not found:
        console.print(f"no runs at {Store(uri).uri}", soft_wrap=True)
        return
    where = Store(uri).uri
    console.print(where, soft_wrap=True)
    table = Table(box=SIMPLE_HEAD, pad_edge=False, collapse_padding=True)
    for heading in ("run", "last stage", "whole", "rows", "failed", "size", "written"):
        right = heading in ("rows", "failed", "size")
        table.add_column(heading, justify="right" if right else "left", overflow="fold", no_wrap=heading != "run")
    for run, states in found:
        total = _totals(states)
        table.add_row(
            run.uri.removeprefix(where).strip("/") or ".",
            total["last_stage"],
            _yes(total["whole"]),
            f"{total['rows']:,}",
            f"{total['failures']:,}",
            _size(total["bytes"]),
            _when(states[-1].last if states else None),
        )
    console.print(table)


def _totals(states: "list[StageState]") -> dict[str, Any]:
    """A run in one line: its rows are those of its last stage that has any, its failures those of all stages."""
    last = max(states, key=lambda state: state.last.timestamp() if state.last else 0.0, default=None)
    by_name = {state.stage: state for state in states}
    rows = by_name.get("dataset", last)
    return {
        "last_stage": "" if last is None else last.stage,
        "whole": all(state.whole is not False for state in states),
        "rows": 0 if rows is None else rows.rows,
        "failures": sum(state.failures for state in states),
        "bytes": sum(state.bytes for state in states),
        "last_written": None if last is None or last.last is None else last.last.isoformat(),
    }


@runs_app.command("show")
def show_run(run: Run, as_json: AsJson = False) -> None:
    """A run's stages in the order in which they were made, with rows, failures, size, time and settings."""
    from storage import read_states

    with _one_line_errors():
        found = [(store, read_states(store)) for store in _inner_runs(run)]
    if as_json:
        for store, states in found:
            for state in states:
                _print_json({"run": store.uri, **_as_json(state)})
        return
    for store, states in found:
        _print_states(store, states)


def _print_states(store: "Store", states: "list[StageState]") -> None:
    packs = sorted({state.pack for state in states if state.pack})
    console.print(f"\n{store.uri}" + (f"  (pack {', '.join(packs)})" if packs else ""), soft_wrap=True)
    table = Table(box=SIMPLE_HEAD, pad_edge=False, collapse_padding=True)
    for heading in ("stage", "whole", "shards", "rows", "failed", "size", "written"):
        table.add_column(heading, justify="left" if heading in ("stage", "whole", "written") else "right", no_wrap=True)
    for state in states:
        of = "" if state.of_shards in (None, state.shards) else f" of {state.of_shards}"
        table.add_row(
            state.stage,
            _yes(state.whole),
            f"{state.shards}{of}",
            f"{state.rows:,}",
            f"{state.failures:,}",
            _size(state.bytes),
            _when(state.last),
        )
    console.print(table)
    for state in states:
        if state.config:
            settings = ", ".join(f"{name} {_value(value)}" for name, value in state.config.items() if value is not None)
            console.print(f"{state.stage}: {settings}", soft_wrap=True)


@runs_app.command("verify")
def verify_run(run: Run, as_json: AsJson = False) -> None:
    """Read every file of a run and compare it with its receipt. Exit code 1 where something is not as it should be."""
    from storage import find_damage, read_states

    files = size = 0
    damaged = 0
    with _one_line_errors():
        for store in _inner_runs(run):
            for damage in find_damage(store):
                damaged += 1
                if as_json:
                    _print_json(
                        {"run": store.uri, "stage": damage.stage, "shard": damage.shard, "reason": damage.reason}
                    )
                else:
                    which = "" if damage.shard is None else f" shard {damage.shard}"
                    console.print(f"{store.uri}: {damage.stage}{which}: {damage.reason}", soft_wrap=True)
            if not damaged:
                states = read_states(store)
                files += sum(state.files for state in states)
                size += sum(state.bytes for state in states)
    if damaged:
        errors.print(
            f"{damaged} things are not as their receipts say; the command that made the run makes these shards again",
            soft_wrap=True,
            style="yellow",
        )
        raise typer.Exit(1)
    if not as_json:
        console.print(f"whole: {files:,} files, {_size(size)}, all as their receipts say")


@runs_app.command("clean")
def clean_run(
    run: Run,
    stage: Annotated[
        list[str] | None,
        typer.Option(help="Take this stage out of the run, files and all; repeat for several. Later stages stay."),
    ] = None,
    yes: Annotated[bool, typer.Option("--yes", help="Delete. Without it, say what would be deleted.")] = False,
) -> None:
    """Delete what crashes left behind, or whole stages; a dry run unless `--yes` is given.

    Crashes leave temporary files, and files in a stage's folder that no receipt names. Nothing else is touched.
    """
    from pipeline.runs.growth import forget_earlier
    from storage import delete_stage, delete_waste, find_waste, read_states

    with _one_line_errors():
        stores = _inner_runs(run)
        if stage:
            states = {state.stage: state for state in read_states(stores[0])}
            for name in stage:
                if name not in states:
                    there = ", ".join(states)
                    raise typer.BadParameter(
                        f"must be a stage of this run ({there}); got {name!r}.", param_hint="--stage"
                    )
                state = states[name]
                console.print(f"{name}: {state.files:,} files, {_size(state.bytes)}")
                if yes:
                    delete_stage(stores[0], name)
                    forget_earlier(stores[0], name)
        else:
            total = count = 0
            for store in stores:
                for waste in list(find_waste(store, now=datetime.now(UTC))):
                    count, total = count + 1, total + waste.bytes
                    if count <= MOST_LISTED:
                        console.print(f"{store.uri}/{waste.path}: {waste.reason}", soft_wrap=True)
                    if yes:
                        delete_waste(store, waste)
            console.print("nothing to clean" if not count else f"{count:,} files, {_size(total)}")
            if not count:
                return
    console.print("deleted" if yes else "nothing was deleted; add --yes to delete")


def _inner_runs(run: str) -> "list[Store]":
    """The run and those inside it.

    Raises:
        MissingError: if the folder holds no run.
    """
    from storage import MissingError, Store, find_runs

    stores = list(find_runs(Store(run), inner=True))
    if not stores or stores[0].uri != Store(run).uri:
        below = f" There are runs below it: {', '.join(store.uri for store in stores[:3])}." if stores else ""
        raise MissingError(f"{Store(run).uri} must be a run's folder; it holds no receipts.{below}")
    return stores


def _as_json(state: "StageState") -> dict[str, Any]:
    times = {"first": state.first, "last": state.last}
    return {**vars(state), **{name: time and time.isoformat() for name, time in times.items()}}


def _print_json(row: dict[str, Any]) -> None:
    console.print(json.dumps(row), soft_wrap=True, highlight=False)


def _yes(whole: bool | None) -> Text:
    if whole is None:
        return Text("-")
    return Text("yes", "green") if whole else Text("no", "yellow")


def _size(count: int) -> str:
    size, unit = float(count), 0
    while size >= 1000 and unit < len(UNITS) - 1:
        size, unit = size / 1000, unit + 1
    return f"{size:.0f} {UNITS[unit]}" if not unit or size >= 100 else f"{size:.1f} {UNITS[unit]}"


def _when(time: datetime | None) -> str:
    return "-" if time is None else f"{time.astimezone():%Y-%m-%d %H:%M}"


def _value(value: Any) -> str:
    return json.dumps(value) if isinstance(value, dict | list) else str(value)
