"""The log as JSON, one object a line, with the run, stage and shard that a line is about."""

import logging
import sys
import traceback
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Any, TextIO

from pythonjsonlogger.json import JsonFormatter

LOGGERS = ("styleclip", "pipeline")
_WHERE: ContextVar[Mapping[str, Any]] = ContextVar("where", default={})  # noqa: B039 - never changed, replaced


@contextmanager
def logged_as(**names: Any) -> Iterator[None]:
    """Have every line that is logged in this context carry these names, besides those of the contexts around it."""
    token = _WHERE.set({**_WHERE.get(), **names})
    try:
        yield
    finally:
        _WHERE.reset(token)


class JsonHandler(logging.StreamHandler[TextIO]):
    """Writes records as JSON lines: ``time``, ``level``, ``message``, and the names given to ``logged_as``.

    Args:
        stream: where to; standard error by default.
    """

    def __init__(self, stream: TextIO | None = None) -> None:
        super().__init__(stream or sys.stderr)
        self.setFormatter(
            JsonFormatter(
                "{asctime}{levelname}{message}",
                style="{",
                rename_fields={"asctime": "time", "levelname": "level"},
                datefmt="%Y-%m-%dT%H:%M:%S%z",
            )
        )

    def emit(self, record: logging.LogRecord) -> None:
        """Write the record with where it comes from."""
        record.__dict__.update(_WHERE.get())
        super().emit(record)


def log_as_json(stream: TextIO | None = None) -> None:
    """Send the log of this process, and nothing else, to a stream as JSON lines.

    A traceback of an error that nobody caught is a line too, with the fields ``exc_info`` and ``level`` CRITICAL.
    """
    handler = JsonHandler(stream)
    for name in LOGGERS:
        logger = logging.getLogger(name)
        logger.setLevel(logging.INFO)
        logger.handlers[:] = [handler]
        logger.propagate = False

    def say(kind: type[BaseException], error: BaseException, trace: Any) -> None:
        del trace
        text = "".join(traceback.format_exception(error))
        logging.getLogger("styleclip").critical("%s: %s", kind.__name__, error, extra={"traceback": text})

    sys.excepthook = say
