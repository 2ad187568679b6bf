"""Application → running server, which finishes its requests before it stops."""

from __future__ import annotations

import signal
import socket
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
from multimodal_ser.serve.log import log_json

_MESSAGE = 1_000_000  # bytes of a message of a stream
_LAST = 30  # seconds for running requests once told to stop


class _Server(uvicorn.Server):
    """Tells the application before it stops listening, so that open connections hear 503."""

    def __init__(self, config: uvicorn.Config, app: FastAPI) -> None:
        super().__init__(config)
        self._service = app.state.service

    def handle_exit(self, sig: int, frame: FrameType | None) -> None:
        """Begins to stop; a second Ctrl-C stops at once."""
        self._service.gate.stopping = True
        super().handle_exit(signal.Signals(sig), frame)


def run(app: FastAPI, host: str = "127.0.0.1", port: int = 8000) -> None:
    """Serves until SIGTERM or Ctrl-C; then finishes running requests, for at most 30 s.

    Args:
        app: from `create_app`.
        host: address to listen on.
        port: port to listen on; 0 for any free one, which the log then names.

    Raises:
        SerError: the address cannot be had.
    """
    log_json()
    config = _config(app, host=host, port=port, timeout_graceful_shutdown=_LAST)
    # uvicorn sends itself the signal again at the end; having stopped as told is a success.
    signal.signal(signal.SIGTERM, lambda *_: None)
    try:
        _Server(config, app).run()
    except KeyboardInterrupt:
        return
    except SystemExit as stopped:  # uvicorn's word for an address that is taken
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
