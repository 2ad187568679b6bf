"""`ser serve` as a process: its log, its end, its options."""

import json
import os
import signal
import socket
import subprocess
import sys
import threading
from contextlib import suppress
from pathlib import Path

import httpx
import pytest

pytest.importorskip("fastapi", reason="needs the extra serve")

from made_attack import until
from made_server import MadePredictor, encoded
from made_sound import tone
from multimodal_ser.cli import main
from multimodal_ser.serve import create_app, serving

PROGRAM = """
import sys
from made_attack import until
from made_server import MadePredictor
import multimodal_ser.predict
from multimodal_ser.cli import main

multimodal_ser.predict.load = lambda model, **_: MadePredictor(1.0)
sys.exit(main(["serve", "--port", sys.argv[1]]))
"""
HEADERS = {"Content-Type": "audio/wav"}


def test_a_port_that_there_is_not_is_refused(capsys):
    assert main(["serve", "--port", "99999"]) == 1
    assert "--port 99999; allowed: 0 to 65535" in capsys.readouterr().err


def free_port():
    with socket.create_server(("127.0.0.1", 0)) as listening:
        return listening.getsockname()[1]


def answers(address):
    with suppress(httpx.TransportError):
        return httpx.get(f"{address}/health", timeout=60).status_code == 200
    return False


def requests(address):
    """The number of requests that a server is answering."""
    return httpx.get(f"{address}/health", timeout=60).json()["requests"]


def test_a_running_request_is_finished_when_told_to_stop():
    port, here = free_port(), Path(__file__).parent
    address = f"http://127.0.0.1:{port}"
    process = subprocess.Popen(
        [sys.executable, "-c", PROGRAM, str(port)],
        stderr=subprocess.PIPE, cwd=here, env={**os.environ, "PYTHONPATH": str(here)},
    )  # fmt: skip
    try:
        until(lambda: answers(address))
        got = []
        asked = {"content": encoded(tone()), "headers": HEADERS, "timeout": 60}
        send = threading.Thread(
            target=lambda: got.append(httpx.post(f"{address}/v1/predict", **asked))
        )
        send.start()
        until(lambda: got or requests(address) == 1)
        process.send_signal(signal.SIGTERM)
        send.join()
        _, log = process.communicate(timeout=120)
    finally:
        process.kill()
    assert got[0].status_code == 200
    assert process.returncode == 0
    lines = [json.loads(line) for line in log.decode().splitlines()]
    (request,) = [one for one in lines if one.get("route") == "/v1/predict"]
    assert request["status"] == 200
    assert request["ms"] > 900


def test_an_address_in_use_is_an_error(monkeypatch, capsys):
    monkeypatch.setattr("multimodal_ser.predict.load", lambda model, **_: MadePredictor())
    with socket.create_server(("127.0.0.1", 0)) as taken:
        assert main(["serve", "--port", str(taken.getsockname()[1])]) == 1
    assert "choose another --host or --port" in capsys.readouterr().err


def test_options_reach_the_server(monkeypatch, capsys):
    ran = []
    monkeypatch.setattr("multimodal_ser.predict.load", lambda model, **_: MadePredictor())
    monkeypatch.setattr("multimodal_ser.serve.run", lambda app, host, port: ran.append((app, port)))
    monkeypatch.setenv("SER_KEY", "sesame")
    options = "--port 9 --max-mb 3 --max-seconds 4 --concurrency 5 --no-batching"
    assert main(["serve", *options.split(), "--api-key-env", "SER_KEY"]) == 0
    ((app, port),) = ran
    settings = app.state.service.settings
    assert (settings.max_mb, settings.max_seconds, settings.concurrency) == (3, 4, 5)
    assert (port, settings.batching, settings.api_key) == (9, False, "sesame")
    assert main(["serve", "--api-key-env", "NOT_SET"]) == 1
    assert "NOT_SET" in capsys.readouterr().err
    assert main(["serve", "--max-mb", "-1"]) == 1


def test_a_slow_client_is_left_alone_and_the_others_answered():
    """A connection that sends half a request holds a place, not the server."""
    with serving(create_app(MadePredictor())) as address:
        port = int(address.rsplit(":", 1)[1])
        with socket.create_connection(("127.0.0.1", port)) as half:
            half.sendall(
                b"POST /v1/predict HTTP/1.1\r\nHost: localhost\r\nContent-Type: audio/wav\r\n"
                b"Content-Length: 1000\r\n\r\nRIFF"
            )
            body = encoded(tone())
            asked = {"content": body, "headers": HEADERS, "timeout": 60}
            assert httpx.post(f"{address}/v1/predict", **asked).status_code == 200
            assert requests(address) == 1
        until(lambda: requests(address) == 0)  # the client has gone: its place is free again
