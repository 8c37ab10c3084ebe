"""What a person sees while stages run: a bar each on a terminal, now and then a plain line elsewhere."""

import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from threading import Lock
from typing import Protocol

from rich.console import Console
from rich.progress import BarColumn, ProgressColumn, SpinnerColumn, Task, TextColumn, TimeRemainingColumn
from rich.progress import Progress as RichProgress
from rich.text import Text

LINE_SECONDS = 15.0  # between two plain lines of one stage


class Bar(Protocol):
    """One stage's progress."""

    def advance(self, amount: int) -> None:
        """So many more units are done."""
        ...

    def skip(self, amount: float) -> None:
        """So many units were done in an earlier run."""
        ...


class Progress(Protocol):
    """Where stages report."""

    def stage(self, name: str, total: int, unit: str) -> AbstractContextManager[Bar]:
        """A stage that is running for as long as the context is open."""
        ...


class Quiet:
    """Shows nothing."""

    @contextmanager
    def stage(self, name: str, total: int, unit: str) -> Iterator[Bar]:
        """A bar that nobody sees."""
        yield self

    def advance(self, amount: int) -> None:
        """Nothing is shown."""

    def skip(self, amount: float) -> None:
        """Nothing is shown."""


class _Rate(ProgressColumn):
    """Units done, and units a second of those that this run did itself."""

    def render(self, task: Task) -> Text:
        """The column's text."""
        unit = task.fields["unit"]
        done = f"{task.completed:,.0f} of {task.total:,.0f} {unit}" if task.total else ""
        own, elapsed = task.completed - task.fields["skipped"], task.elapsed
        rate = f"  {own / elapsed:,.1f}/s" if elapsed and own > 0 else ""
        return Text(done + rate, style="progress.percentage")


class Bars:
    """One bar a stage on a terminal, with rate and time left.

    Args:
        console: the terminal.
    """

    def __init__(self, console: Console) -> None:
        self.console = console

    @contextmanager
    def stage(self, name: str, total: int, unit: str) -> Iterator[Bar]:
        """A bar that stays when its stage has ended."""
        columns = (
            SpinnerColumn(
                finished_text="[green]+[/green]" if self.console.encoding == "ascii" else "[green]\u2713[/green]"
            ),
            TextColumn("{task.description:<22}"),
            BarColumn(bar_width=30),
            _Rate(),
            TimeRemainingColumn(elapsed_when_finished=True),
        )
        with RichProgress(*columns, console=self.console, refresh_per_second=8) as display:
            task = display.add_task(name.replace("_", " "), total=total or None, unit=unit, skipped=0.0)
            bar = _RichBar(display, task)
            yield bar
            bar.finish()


class _RichBar:
    """A bar of rich."""

    def __init__(self, display: RichProgress, task: object) -> None:
        self.display, self.task = display, task

    def advance(self, amount: int) -> None:
        """Move the bar."""
        self.display.advance(self.task, amount)  # type: ignore[arg-type]

    def skip(self, amount: float) -> None:
        """Move the bar, without counting it to the rate."""
        task = self.display.tasks[-1]
        self.display.update(task.id, advance=amount, skipped=task.fields["skipped"] + amount)

    def finish(self) -> None:
        """Fill the bar: what was estimated may differ a little from what there was."""
        task = self.display.tasks[-1]
        done = task.total or task.completed or 1
        self.display.update(task.id, total=done, completed=done)


class Lines:
    """Plain lines, for logs and pipes: one when a stage ends, and in a long one every 15 seconds.

    Args:
        say: writes a line.
    """

    def __init__(self, say: Callable[[str], None]) -> None:
        self.say = say

    @contextmanager
    def stage(self, name: str, total: int, unit: str) -> Iterator[Bar]:
        """A stage's lines."""
        bar = _LineBar(self.say, name.replace("_", " "), total, unit)
        yield bar
        bar.finish()


class _LineBar:
    """Counts, and writes a line now and then."""

    def __init__(self, say: Callable[[str], None], name: str, total: int, unit: str) -> None:
        self.say, self.name, self.total, self.unit = say, name, total, unit
        self.done, self.skipped, self.lock = 0.0, 0.0, Lock()
        self.start = self.last = time.monotonic()

    def advance(self, amount: int) -> None:
        """Count, and write a line if the last one is long ago."""
        with self.lock:
            self.done += amount
            now = time.monotonic()
            if now - self.last < LINE_SECONDS:
                return
            self.last = now
        rate = self.done / (now - self.start)
        of = f" of {self.total:,}" if self.total else ""
        left = (self.total - self.done - self.skipped) / rate if self.total and rate else 0
        when = f", {left:,.0f} s left" if left > 0 else ""
        self._say(f"{self.done + self.skipped:,.0f}{of} {self.unit}, {rate:,.1f}/s{when}")

    def skip(self, amount: float) -> None:
        """Count what was there."""
        with self.lock:
            self.skipped += amount

    def finish(self) -> None:
        """The line at the end."""
        seconds = time.monotonic() - self.start
        if self.skipped and not self.done:
            self._say("already done")
        else:
            self._say(f"done in {seconds:,.1f} s")

    def _say(self, text: str) -> None:
        self.say(f"{self.name}: {text}")
