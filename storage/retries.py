"""Once more, what may pass by itself: throttled requests, cut connections, servers that are restarted; nothing else.

A store's client (botocore, gcsfs, Azure's) tries a request two or three times within seconds. What it then gives up is
tried again here, with waits that grow and are random, until it has taken longer than we are ready to wait. A refusal
(403), an absence (404), a bad request or a wrong name is told at once.
"""

import logging
import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Any, TypeVar

from tenacity import RetryCallState, Retrying, retry_if_exception, stop_after_delay, wait_random_exponential

from storage.secrets import without_secrets

_T = TypeVar("_T")
PATIENCE = "STYLECLIP_STORE_PATIENCE"  # variable: seconds for which a store may be away while a run goes on
USUAL_PATIENCE = 120.0
FIRST_WAIT, LONGEST_WAIT = 0.5, 20.0  # seconds between two tries, at most

STATUSES = (408, 429, 500, 502, 503, 504)
CODES = frozenset(
    (
        *("InternalError", "ServiceUnavailable", "SlowDown", "RequestTimeout", "Throttling", "ThrottlingException"),
        *("OperationAborted", "ConditionalRequestConflict"),
    )
)
# Classes by name, because the clients are optional: botocore's, aiohttp's, requests', gcsfs's, Azure's.
CLASSES = frozenset(
    (
        *("HTTPClientError", "EndpointConnectionError", "ConnectionClosedError", "IncompleteReadError"),
        *("ResponseStreamingError", "ResponseParserError", "FlexibleChecksumError", "ChecksumError"),
        *("ClientConnectionError", "ClientPayloadError", "IncompleteRead", "ChunkedEncodingError"),
        *("ServiceRequestError", "ServiceResponseError", "TransportError"),
    )
)
NEVER = frozenset(("SSLError", "ClientSSLError", "InvalidURL", "ProxyConnectionError"))
CLIENTS = ("botocore", "aiobotocore", "aiohttp", "requests", "urllib3", "gcsfs", "google", "azure", "http")

log = logging.getLogger("styleclip")
_PATIENCE: ContextVar[float | None] = ContextVar("patience", default=None)


def is_transient(error: BaseException) -> bool:
    """Whether the same request may work a moment later, by the status that the server gave or the kind of the error."""
    for one in _chain(error):
        if NEVER & _names(one):
            return False
        if _code(one) in CODES or CLASSES & _names(one):
            return True
        status = _status(one)
        if status is not None:
            return status in STATUSES
    return any(isinstance(one, ConnectionError | TimeoutError) for one in _chain(error))


def call_again(call: Callable[[], _T], *, what: str) -> _T:
    """The call's result; while it fails in a way that may pass, it is called again.

    Args:
        call: may be called any number of times to the same effect.
        what: for the log, as ``read s3://bucket/key``.
    Raises:
        Exception: the call's own, at once where it would not pass, else when we waited long enough.
    """

    def told(state: RetryCallState) -> None:
        error = state.outcome.exception() if state.outcome else None
        log.info("to %s, try %d: %s", what, state.attempt_number + 1, without_secrets(" ".join(str(error).split())))

    again = Retrying(
        retry=retry_if_exception(is_transient),
        wait=wait_random_exponential(multiplier=FIRST_WAIT, max=LONGEST_WAIT),
        stop=stop_after_delay(patience()),
        before_sleep=told,
        reraise=True,
    )
    return again(call)


def patience() -> float:
    """Seconds for which a store may be away: ``STYLECLIP_STORE_PATIENCE``, else two minutes; less in ``impatient``."""
    given = _PATIENCE.get()
    return float(os.environ.get(PATIENCE, USUAL_PATIENCE)) if given is None else given


@contextmanager
def impatient(seconds: float = 0.0) -> Iterator[None]:
    """In this context a store that is away is told within ``seconds``: for the first look, before any work."""
    token = _PATIENCE.set(min(seconds, patience()))
    try:
        yield
    finally:
        _PATIENCE.reset(token)


def is_client_error(error: BaseException) -> bool:
    """Whether a remote store's client raised it: of its credentials, its configuration or what it was asked for."""
    return bool(_names(error))


def _chain(error: BaseException) -> Iterator[BaseException]:
    """The error and what caused it."""
    seen: set[int] = set()
    cause: BaseException | None = error
    while cause is not None and id(cause) not in seen:
        seen.add(id(cause))
        yield cause
        cause = cause.__cause__


def _names(error: BaseException) -> set[str]:
    return {kind.__name__ for kind in type(error).__mro__ if kind.__module__.split(".")[0] in CLIENTS}


def _status(error: BaseException) -> int | None:
    """An HTTP status, where the client tells it: botocore in ``response``, gcsfs as ``code``, others as ``status``."""
    response: Any = getattr(error, "response", None)
    if isinstance(response, dict):
        return response.get("ResponseMetadata", {}).get("HTTPStatusCode")
    if type(error).__module__.split(".")[0] not in CLIENTS:
        return None
    for name in ("status_code", "status", "code"):
        value = getattr(error, name, None)
        if isinstance(value, int):
            return value
    return None


def _code(error: BaseException) -> str | None:
    response: Any = getattr(error, "response", None)
    return response.get("Error", {}).get("Code") if isinstance(response, dict) else None
