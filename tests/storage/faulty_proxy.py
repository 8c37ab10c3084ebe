"""A proxy in front of an S3 server that answers some requests as overloaded, failing or broken networks do."""

import http.client
import random
import socket
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from threading import Lock, Thread
from urllib.parse import urlsplit

HANG_SECONDS = 3.0
ERROR = "<?xml version='1.0'?><Error><Code>{code}</Code><Message>{code}, for a test</Message></Error>"
# what happens instead of the answer; "after" means that the server has done what it was asked
FAULTS = ("500", "503", "SlowDown", "reset", "hang", "cut", "cut without length", "500 after", "reset after")
STATUS = {"500": (500, "InternalError"), "503": (503, "ServiceUnavailable"), "SlowDown": (503, "SlowDown")}
STATUS |= {"500 after": (500, "InternalError"), "403": (403, "AccessDenied"), "404": (404, "NoSuchBucket")}


class FaultyProxy(ThreadingHTTPServer):
    """Passes requests on, and spoils a share of the answers.

    Args:
        target: URL of the server behind.
        share: of the requests that are spoilt.
        faults: what happens to them, in turn.
        seed: of the choice.
    """

    daemon_threads = True

    def __init__(self, target: str, *, share: float, faults: tuple[str, ...] = FAULTS, seed: int = 0) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.target = urlsplit(target).netloc
        self.share, self.faults, self.lock, self.random = share, faults, Lock(), random.Random(seed)
        self.spoilt: Counter[str] = Counter()
        self.requests = 0

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_address[1]}"

    def fault(self) -> str | None:
        with self.lock:
            self.requests += 1
            if self.random.random() >= self.share:
                return None
            fault = self.faults[self.spoilt.total() % len(self.faults)]
            self.spoilt[fault] += 1
            return fault

    def handle_error(self, request: object, client_address: object) -> None:
        """A client that went away is no news here."""


@contextmanager
def running(proxy: FaultyProxy) -> Iterator[FaultyProxy]:
    thread = Thread(target=proxy.serve_forever, kwargs={"poll_interval": 0.05}, daemon=True)
    thread.start()
    try:
        yield proxy
    finally:
        proxy.shutdown()
        proxy.server_close()


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    server: FaultyProxy

    def handle_one_request(self) -> None:
        self.raw_requestline = self.rfile.readline(65537)
        if not self.raw_requestline or not self.parse_request():
            self.close_connection = True
            return
        data = self.rfile.read(int(self.headers.get("Content-Length") or 0))
        fault = self.server.fault()
        if fault in ("reset", "hang"):
            if fault == "hang":
                time.sleep(HANG_SECONDS)
            self._reset()
            return
        if fault in STATUS and not fault.endswith("after"):
            self._error(*STATUS[fault])
            return
        status, headers, body = self._pass_on(data)
        if fault == "500 after":
            self._error(*STATUS[fault])
        elif fault == "reset after":
            self._reset()
        else:
            self._answer(status, headers, body, cut=fault if self.command == "GET" else None)

    def _pass_on(self, data: bytes) -> tuple[int, list[tuple[str, str]], bytes]:
        connection = http.client.HTTPConnection(self.server.target, timeout=30)
        headers = {name: value for name, value in self.headers.items() if name.lower() not in ("expect", "connection")}
        try:
            connection.request(self.command, self.path, data or None, headers)
            answer = connection.getresponse()
            return answer.status, answer.getheaders(), answer.read()
        finally:
            connection.close()

    def _answer(self, status: int, headers: list[tuple[str, str]], body: bytes, *, cut: str | None) -> None:
        self.send_response_only(status)
        length = next((value for name, value in headers if name.lower() == "content-length"), str(len(body)))
        for name, value in headers:
            if name.lower() not in ("content-length", "connection", "transfer-encoding"):
                self.send_header(name, value)
        if cut == "cut without length":
            self.send_header("Connection", "close")
        else:
            self.send_header("Content-Length", length)
        self.end_headers()
        self.wfile.write(body if cut is None else body[: len(body) // 2])
        if cut is not None:
            self.close_connection = True

    def _error(self, status: int, code: str) -> None:
        body = b"" if self.command == "HEAD" else ERROR.format(code=code).encode()
        self.send_response_only(status)
        self.send_header("Content-Type", "application/xml")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def _reset(self) -> None:
        self.connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\x01\x00\x00\x00\x00\x00\x00\x00")
        self.connection.close()
        self.close_connection = True
