"""Secrets out of what a run says: its log, its tracebacks and the error it ends with."""

import logging
import traceback
from typing import Any


def keep_secrets_out_of_logs() -> None:
    """Have every log record of this process made without credentials, its traceback too."""
    make = logging.getLogRecordFactory()
    if getattr(make, "keeps_secrets_out", False):
        return

    def made(*args: Any, **more: Any) -> logging.LogRecord:
        record = make(*args, **more)
        _clean(record)
        return record

    made.keeps_secrets_out = True  # type: ignore[attr-defined]
    logging.setLogRecordFactory(made)


def _clean(record: logging.LogRecord) -> None:
    from storage import without_secrets

    try:
        text = record.getMessage()
    except Exception:  # a record that cannot be formatted is its handler's to report
        return
    cleaned = without_secrets(text)
    if cleaned != text:
        record.msg, record.args = cleaned, ()
    if record.exc_info and record.exc_info[1] is not None:
        trace = trace_of(record.exc_info[1])
        if trace is not None:
            record.exc_info, record.exc_text = None, trace


def trace_of(error: BaseException) -> str | None:
    """A traceback with its secrets hidden; None where it has none."""
    from storage import without_secrets

    text = "".join(traceback.format_exception(error))
    cleaned = without_secrets(text)
    return None if cleaned == text else cleaned


def without_its_secrets(error: Exception) -> Exception:
    """The error itself; where its words hold a secret, one with the same words without."""
    from storage import without_secrets

    text = str(error)
    cleaned = without_secrets(text)
    return error if cleaned == text else RuntimeError(f"{type(error).__name__}: {cleaned}")
