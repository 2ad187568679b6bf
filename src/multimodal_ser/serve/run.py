"""Application → running server, which finishes its requests before it stops; its log in JSON."""

from __future__ import annotations

import json
import logging
import signal
import socket
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType
from typing import Any

import uvicorn
from fastapi import FastAPI

from multimodal_ser.errors import SerError
from multimodal_ser.serve.connections import BACKLOG, LimitedProtocol

_MOST_KINDS = 1_000  # of log records that are counted
_MESSAGE = 1_000_000  # bytes of a message of a stream
_LAST = 30  # seconds for running requests once told to stop


class _Server(uvicorn.Server):
    """Tells the application before it stops listening, so that open connections get 503."""

    def __init__(self, config: uvicorn.Config, app: FastAPI) -> None:
        super().__init__(config)
        self._service = app.state.service

    def handle_exit(self, sig: int, frame: FrameType | None) -> None:
        """Begins to stop; a second Ctrl-C stops at once."""
        self._service.admission.stopping = True
        super().handle_exit(signal.Signals(sig), frame)


def run(app: FastAPI, host: str = "127.0.0.1", port: int = 8000) -> None:
    """Serves until SIGTERM or Ctrl-C; then finishes running requests, for at most 30 s.

    Args:
        app: from `create_app`.
        host: address to listen on.
        port: port to listen on; 0 for any free one, which the log then names.

    Raises:
        SerError: the address is in use, or not this machine's.
    """
    log_json()
    config = _config(app, host=host, port=port, timeout_graceful_shutdown=_LAST)
    # After its shutdown uvicorn raises the signal again; without this handler the process would
    # count as killed, although it stopped as it was asked to.
    signal.signal(signal.SIGTERM, lambda *_: None)
    try:
        _Server(config, app).run()
    except KeyboardInterrupt:
        return
    except SystemExit as stopped:  # uvicorn exits if it cannot listen on the address
        if stopped.code:
            raise SerError(
                f"cannot listen on {host}:{port}; it is in use or not this machine's: choose "
                "another --host or --port"
            ) from None


@contextmanager
def serving(app: FastAPI) -> Iterator[str]:
    """Serves in a thread, on a free port of the loopback: for tests, notebooks and pictures.

    Args:
        app: from `create_app`.

    Yields:
        The address, such as ``http://127.0.0.1:40123``.
    """
    listening = socket.create_server(("127.0.0.1", 0), backlog=BACKLOG)
    server = uvicorn.Server(_config(app, timeout_graceful_shutdown=5))
    thread = threading.Thread(target=server.run, args=([listening],), daemon=True)
    thread.start()
    try:
        while not server.started and thread.is_alive():
            time.sleep(0.01)
        yield f"http://127.0.0.1:{listening.getsockname()[1]}"
    finally:
        server.should_exit = True
        thread.join()
        listening.close()


def _config(app: FastAPI, **how: Any) -> uvicorn.Config:
    return uvicorn.Config(
        app, log_config=None, access_log=False, server_header=False, lifespan="on",
        http=LimitedProtocol, ws="wsproto", ws_max_size=_MESSAGE, loop="asyncio", backlog=BACKLOG,
        timeout_keep_alive=10, **how,
    )  # fmt: skip


class JsonFormatter(logging.Formatter):
    """Formats log records as one JSON object per line."""

    def format(self, record: logging.LogRecord) -> str:
        """Writes time, level, logger and message, and the fields of a request if it is one."""
        line: dict[str, Any] = {
            "time": time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(record.created))
            + f".{int(record.msecs):03d}Z",
            "level": record.levelname.lower(),
            "logger": record.name,
            "message": record.getMessage(),
            **getattr(record, "fields", {}),
        }
        if record.exc_info:
            line["exception"] = self.formatException(record.exc_info)
        return json.dumps(line, ensure_ascii=False)


class Limited(logging.Filter):
    """Lets `most` records of a kind pass per `seconds`, and counts the others.

    The next record that passes reports how many were suppressed. A kind is logger, level, message
    and, for a request, its route and status. Successful requests may be ten times as many.
    """

    def __init__(self, most: int = 20, seconds: float = 10.0) -> None:
        super().__init__()
        self.most, self.seconds = most, seconds
        self._kinds: dict[object, tuple[float, int]] = {}

    def filter(self, record: logging.LogRecord) -> bool:
        """Whether the record passes."""
        fields = getattr(record, "fields", {})
        answered = fields.get("status", 500) < 400
        kind = record.name, record.levelno, record.msg, fields.get("route"), fields.get("status")
        began, count = self._kinds.get(kind, (-self.seconds, 0))
        most = 10 * self.most if answered else self.most
        if record.created - began >= self.seconds:
            if count > most:
                record.fields = {**fields, "suppressed": count - most}
            began, count = record.created, 0
        self._kinds[kind] = began, count + 1
        # messages that differ every time must not fill the memory
        if len(self._kinds) > _MOST_KINDS:
            self._kinds.clear()
        return count < most


def log_json() -> None:
    """Sends the log to standard error as JSON lines."""
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(JsonFormatter())
    handler.addFilter(Limited())
    logging.basicConfig(handlers=[handler], level=logging.INFO, force=True)
    logging.getLogger("python_multipart").setLevel(logging.ERROR)  # it quotes what was sent
