"""A server under attack, on the loopback: every attack is bounded, and honest clients are answered.

Times are upper bounds that a busy machine of two cores keeps; what decides is status, order, count.
"""

import json
import logging
import os
import resource
import socket
import subprocess
import sys
import time
from contextlib import ExitStack, contextmanager, suppress

import httpx
import pytest

pytest.importorskip("fastapi", reason="needs the extra serve")

from made_attack import CLIP, HALF, HERE, SOURCE, WAV, honest_clients_are_answered, status, until
from made_server import MadePredictor
from multimodal_ser.serve import Settings, create_app, serving

pytestmark = pytest.mark.usefixtures("level_is_speech")


PROGRAM = """
import sys
from made_server import MadePredictor
import multimodal_ser.predict
from multimodal_ser.cli import main

multimodal_ser.predict.load = lambda model, **_: MadePredictor()
sys.exit(main(["serve", *sys.argv[1:]]))
"""


@contextmanager
def process(tmp_path, files=1024):
    """`ser serve` as a process that may open so many files; its address, and its log's file."""
    with socket.create_server(("127.0.0.1", 0)) as listening:
        port = listening.getsockname()[1]
    log = tmp_path / "log"
    with log.open("wb") as file:
        running = subprocess.Popen(
            [sys.executable, "-c", PROGRAM, "--port", str(port)], stderr=file, cwd=HERE,
            env={**os.environ, "PYTHONPATH": f"{SOURCE}:{HERE}"},
            preexec_fn=lambda: resource.setrlimit(resource.RLIMIT_NOFILE, (files, files)),
        )  # fmt: skip
    address = f"http://127.0.0.1:{port}"

    def up():
        assert running.poll() is None, log.read_text()
        try:
            return httpx.get(f"{address}/health", timeout=60).status_code == 200
        except httpx.TransportError:
            return False

    try:
        until(up, 120)
        yield address, log
    finally:
        running.terminate()
        try:
            running.wait(120)
        finally:
            running.kill()
            running.wait()


@contextmanager
def connections(address, count, sent):
    port = int(address.rsplit(":", 1)[1])
    with ExitStack() as stack:
        found = []
        for _ in range(count):
            one = stack.enter_context(socket.create_connection(("127.0.0.1", port), timeout=60))
            with suppress(OSError):  # closed already, to make room
                one.sendall(sent)
            found.append(one)
        yield found


def is_closed(client):
    """Whether the server has ended a connection; what it said before is read and dropped."""
    client.settimeout(0.01)
    try:
        while client.recv(65_536):
            pass
    except TimeoutError:
        return False
    except OSError:
        pass
    return True


def test_half_headers_do_not_use_up_the_files_that_a_process_may_open(tmp_path):
    """More than the process may open, where nothing bounds them; a quarter of these is allowed."""
    with process(tmp_path, files=256) as (address, log), connections(address, 300, HALF) as clients:
        honest_clients_are_answered(address)
        assert sum(map(is_closed, clients)) >= 300 - 64
        lines = log.read_text().splitlines()
        assert "out of system resource" not in "".join(lines)
        assert len(lines) < 60


def test_announced_bodies_that_never_arrive():
    promise = HALF + b"Content-Length: 100000\r\n\r\nRIFF"
    with serving(create_app(MadePredictor())) as address, connections(address, 150, promise):
        honest_clients_are_answered(address)
        assert httpx.get(f"{address}/health", timeout=60).json()["requests"] <= 128


def test_the_slowest_sender_is_dropped_first():
    head = HALF + f"Content-Length: {len(CLIP)}\r\n\r\n".encode()
    app = create_app(MadePredictor(), Settings(max_uploads=2))
    with serving(app) as address, connections(address, 2, head) as (slow, slower):
        slow.sendall(CLIP[:50_000])
        until(lambda: httpx.get(f"{address}/health", timeout=60).json()["requests"] == 2)
        time.sleep(0.5)
        answer = httpx.post(f"{address}/v1/predict", content=CLIP, headers=WAV, timeout=60)
        assert answer.status_code == 200
        assert status(slower) == 408
        assert not is_closed(slow)
        slow.settimeout(60)
        slow.sendall(CLIP[50_000:])
        assert status(slow) == 200


def test_bodies_on_their_way_do_not_fill_the_memory():
    head = HALF + b"Content-Length: 90001\r\n\r\n" + bytes(90_000)
    app = create_app(MadePredictor(), Settings(max_mb=0.1))
    with serving(app) as address, connections(address, 12, head) as clients:
        until(lambda: sum(map(is_closed, clients)) >= 3)
        assert httpx.get(f"{address}/health", timeout=60).json()["requests"] <= 9


def test_a_header_has_its_time():
    with serving(create_app(MadePredictor(), Settings(header_seconds=0.5))) as address:
        with connections(address, 3, b"") as (silent, half, trickling):
            half.sendall(HALF)
            until(lambda: trickled(trickling))
            assert status(half) == 408
            assert status(silent) == 408
        with connections(address, 1, b"GET /health HTTP/1.1\r\nHost: localhost\r\n\r\n") as (kept,):
            heard = kept.recv(9999)
            assert b" 200 " in heard
            kept.sendall(HALF)  # a second request is under the same rule
            while more := kept.recv(9999):
                heard += more
            assert b" 408 " in heard


def trickled(client):
    """Sends a byte of a header that never ends; True once the server has had enough."""
    try:
        client.sendall(b"X")
    except OSError:
        return True
    return is_closed(client)


def test_a_client_that_does_not_read_is_closed():
    asked = b"GET /static/page.js HTTP/1.1\r\nHost: localhost\r\n\r\n" * 2_000
    app = create_app(MadePredictor(), Settings(header_seconds=0.5))
    with serving(app) as address, connections(address, 1, b"") as (client,):
        client.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        client.settimeout(1)
        with suppress(OSError):
            client.sendall(asked)
        until(lambda: not app.state.service.connections.open)
        honest_clients_are_answered(address, rounds=1)


def test_a_body_that_nobody_asked_for_does_not_hold_a_connection():
    app = create_app(MadePredictor(), Settings(header_seconds=0.5))
    asked = b"GET /health HTTP/1.1\r\nHost: localhost\r\nContent-Length: 1000000\r\n\r\n"
    with serving(app) as address, connections(address, 1, asked) as (client,):
        assert status(client) == 200
        until(lambda: not app.state.service.connections.open)


def test_every_connection_at_work_leaves_no_room_for_another():
    app = create_app(MadePredictor(3.0), Settings(max_connections=8, batching=False))
    body = HALF + f"Content-Length: {len(CLIP)}\r\n\r\n".encode() + CLIP
    with serving(app) as address, connections(address, 8, body):
        until(lambda: app.state.service.admission.active == 8)
        answer = httpx.get(f"{address}/health", timeout=60)
        assert answer.status_code == 503
        assert "8 connections are open" in answer.json()["error"]["message"]
        assert answer.headers["x-content-type-options"] == "nosniff"


def test_one_client_gives_up_its_own_connections_first():
    app = create_app(MadePredictor(), Settings(max_per_client=3))
    port_of = lambda address: int(address.rsplit(":", 1)[1])  # noqa: E731
    with serving(app) as address, ExitStack() as stack:
        other = socket.create_connection(
            ("127.0.0.1", port_of(address)), source_address=("127.0.0.2", 0)
        )
        stack.enter_context(other)
        until(lambda: len(app.state.service.connections.open) == 1)
        with connections(address, 6, HALF) as clients:
            until(lambda: sum(map(is_closed, clients)) == 3)
            assert [is_closed(one) for one in clients] == [True] * 3 + [False] * 3
            assert not is_closed(other)


def test_garbage_is_refused_and_does_not_fill_the_log(tmp_path):
    with process(tmp_path) as (address, log):
        began = time.monotonic()
        for place in range(0, 150, 2):
            with connections(address, 1, bytes([place]) * 50 + b"\r\n\r\n") as (client,):
                answer = client.recv(9999)
                assert answer.startswith(b"HTTP/1.1 400 Bad Request\r\n")
                assert b"Content-Security-Policy: default-src 'none'" in answer
        with httpx.Client(timeout=60) as http:
            for _ in range(60):
                assert http.get(f"{address}/nothing").status_code == 404
        honest_clients_are_answered(address, rounds=1)
        most = 20 * (1 + (time.monotonic() - began) // 10 + 1)
        lines = [json.loads(line) for line in log.read_text().splitlines()]
        assert 0 < sum("Invalid HTTP" in line["message"] for line in lines) <= most
        assert 0 < sum(line.get("status") == 404 for line in lines) <= most
        assert any(line.get("route") == "/v1/predict" for line in lines)


def test_log_lines_of_a_kind_are_limited_and_counted():
    from multimodal_ser.serve.run import Limited

    limited = Limited(most=3, seconds=10)

    def passes(at, message="m", status=404):
        record = logging.makeLogRecord({"msg": message, "created": at, "levelno": 20,
                                        "fields": {"route": "/", "status": status}})  # fmt: skip
        return limited.filter(record) and record.fields

    assert [bool(passes(at)) for at in range(6)] == [True] * 3 + [False] * 3
    assert passes(5, "other")
    assert sum(bool(passes(5, status=200)) for _ in range(50)) == 30
    assert passes(11)["suppressed"] == 3
    assert "suppressed" not in passes(12)
    assert sum(bool(passes(13, f"m{place}")) for place in range(5_000)) == 5_000
    assert len(limited._kinds) <= 1_001
