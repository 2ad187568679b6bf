"""A server under attack, on the loopback: every attack is bounded, and honest clients are answered.

Times are upper bounds that a busy machine of two cores keeps; what decides is status, order, count.
"""

from __future__ import annotations

import json
import logging
import os
import resource
import socket
import subprocess
import sys
import threading
import time
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path

import httpx
import numpy as np
import pytest

pytest.importorskip("fastapi", reason="needs the extra serve")

from made_server import MadePredictor, encoded
from made_sound import tone
from multimodal_ser.config import SAMPLE_RATE
from multimodal_ser.serve import Settings, create_app, serving

HERE = Path(__file__).parent
SOURCE = Path(sys.modules["multimodal_ser"].__path__[0]).parent
CLIP = encoded(tone(3.0, hertz=600))
WAV = {"Content-Type": "audio/wav"}
HALF = b"POST /v1/predict HTTP/1.1\r\nHost: localhost\r\nContent-Type: audio/wav\r\n"


class Costly(MadePredictor):
    """Takes as long for its sound as a small network does; knows how much it has heard."""

    def __init__(self, speed=100.0):
        super().__init__()
        self.speed, self.heard, self.most = speed, 0.0, 0.0

    def waves(self, waves, texts=None, **_):
        sound = sum(map(len, waves)) / SAMPLE_RATE
        self.heard, self.most = self.heard + sound, max(self.most, sound)
        time.sleep(sound / self.speed)
        return super().waves(waves, texts)


@pytest.fixture(autouse=True)
def _level_decides_what_is_speech(monkeypatch):
    monkeypatch.setattr("multimodal_ser.speech.gates.AUTO", "energy")


@pytest.fixture(scope="module")
def minutes():
    """Ten minutes that never fall silent, as FLAC."""
    noise = np.random.default_rng(0).normal(0, 0.1, 600 * SAMPLE_RATE).astype("f4")
    seconds = np.arange(len(noise)) / SAMPLE_RATE
    return encoded(noise * (0.01 + (np.sin(seconds) > 0)) * 0.5, "FLAC")


def slack():
    """1 on a machine that does nothing else; more where others leave us part of a processor."""
    wall, used = time.monotonic(), time.thread_time()
    while time.thread_time() - used < 0.1:
        pass
    return max(1.0, 3 * (time.monotonic() - wall) / 0.1 - 2)


def honest_clients_are_answered(address, rounds=3):
    """`/health` in under a second, a clip of 3 s in under five."""
    for _ in range(rounds):
        before = slack()
        began = time.monotonic()
        assert httpx.get(f"{address}/health", timeout=60).status_code == 200
        took = [(time.monotonic() - began) / 1]
        for where in ("predict", "analyze"):
            began = time.monotonic()
            answer = httpx.post(f"{address}/v1/{where}", content=CLIP, headers=WAV, timeout=60)
            assert answer.status_code == 200, answer.text
            took.append((time.monotonic() - began) / 5)
        assert max(took) < max(before, slack()), took


def until(condition, seconds=60):
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end, "it did not happen in time"
        time.sleep(0.02)


@contextmanager
def sending(address, body, count, path):
    """Clients that wait for their answers in threads; closing them ends their connections."""
    port = int(address.rsplit(":", 1)[1])
    head = (
        f"POST {path} HTTP/1.1\r\nHost: localhost\r\nContent-Type: audio/flac\r\n"
        f"Content-Length: {len(body)}\r\n\r\n"
    ).encode()
    with ExitStack() as stack:
        clients = [
            stack.enter_context(socket.create_connection(("127.0.0.1", port), timeout=60))
            for _ in range(count)
        ]
        senders = [threading.Thread(target=c.sendall, args=(head + body,)) for c in clients]
        for sender in senders:
            sender.start()
        for sender in senders:
            sender.join()
        yield clients


def status(client):
    return int(client.recv(65_536).split(b" ", 2)[1])


def test_a_timeline_that_costs_too_much_is_refused_before_it_begins(minutes):
    predictor = Costly()
    with serving(create_app(predictor)) as address:
        for _ in range(2):
            path = f"{address}/v1/analyze?window=30&hop=0.1"
            answer = httpx.post(path, content=minutes, headers=WAV, timeout=60)
            assert answer.status_code == 422
            for word in ("171030 s of sound", "allowed: 3600 s", "hop of 5 s or more"):
                assert word in answer.json()["error"]["message"]
        assert predictor.heard == 0
        honest_clients_are_answered(address, rounds=1)


def test_the_hop_that_is_advised_is_allowed():
    from multimodal_ser.serve.limits import check_work
    from multimodal_ser.serve.refusals import RefusedError

    for seconds, window, hop in ((600, 30, 0.1), (600, 3, 0.1), (599, 0.7, 0.1), (60, 30, 0.1)):
        settings = Settings(max_heard=200)
        with pytest.raises(RefusedError, match="allowed: 200 s") as told:
            check_work(seconds, window, hop, settings)
        advised = float(str(told.value).split("a hop of ")[1].split(" s")[0])
        check_work(seconds, window, advised, settings)
    check_work(600, 3, 1, Settings())


def test_short_requests_flow_beside_long_ones(minutes):
    predictor = Costly()
    with serving(create_app(predictor)) as address:
        with sending(address, minutes, 8, "/v1/analyze") as clients:
            until(lambda: predictor.heard > 0)
            honest_clients_are_answered(address)
            assert predictor.most <= 66  # seconds in one call: no turn is long
            assert httpx.get(f"{address}/health").json()["requests"] == 8
            for client in clients:
                client.setblocking(False)
                with pytest.raises(BlockingIOError):
                    client.recv(1)
        until(lambda: httpx.get(f"{address}/health").json()["requests"] == 0)
        heard = predictor.heard  # the clients have gone: nothing more is computed for them
        time.sleep(1.5)
        assert predictor.heard - heard <= 66


def test_a_long_prediction_is_cut_into_turns_too(minutes):
    """One answer for ten minutes: a network with windows of its own pauses between them."""
    from multimodal_ser.encoders.base import between_passes

    class Windowed(Costly):
        def waves(self, waves, texts=None, **_):
            for first in range(0, max(map(len, waves)), 30 * SAMPLE_RATE):
                if first:
                    between_passes.get()()
                self.heard += 30
                time.sleep(0.3)
            return MadePredictor.waves(self, waves, texts)

    predictor = Windowed()
    with serving(create_app(predictor)) as address:
        with sending(address, minutes, 4, "/v1/predict"):
            until(lambda: predictor.heard > 60)
            honest_clients_are_answered(address, rounds=1)
            assert predictor.heard < 4 * 600
        until(lambda: httpx.get(f"{address}/health").json()["requests"] == 0)


def test_long_requests_have_places_of_their_own(minutes):
    predictor = Costly(speed=50)
    with (
        serving(create_app(predictor, Settings(max_long=2))) as address,
        sending(address, minutes, 2, "/v1/analyze"),
    ):
        until(lambda: predictor.heard > 0)
        answer = httpx.post(f"{address}/v1/analyze", content=minutes, headers=WAV, timeout=60)
        assert answer.status_code == 429
        assert "2 long recordings are inside; allowed: 2" in answer.json()["error"]["message"]
        honest_clients_are_answered(address, rounds=1)


def test_a_small_upload_of_much_sound_takes_a_place_for_long_work():
    silence = encoded(np.zeros(300 * SAMPLE_RATE, "f4"), "FLAC")
    assert len(silence) < 100_000
    app = create_app(Costly(), Settings(max_long=1))
    with serving(app) as address, app.state.service.gate.enter() as place:
        place.lengthen()
        answer = httpx.post(f"{address}/v1/predict", content=silence, headers=WAV, timeout=60)
        assert answer.status_code == 429
        honest_clients_are_answered(address, rounds=1)


@pytest.mark.parametrize("path", ["/v1/analyze", "/v1/predict"])
def test_an_answer_has_a_deadline(minutes, path):
    predictor = Costly()
    with serving(create_app(predictor, Settings(deadline_seconds=2))) as address:
        answer = httpx.post(f"{address}{path}", content=minutes, headers=WAV, timeout=60)
        assert answer.status_code == 504
        assert answer.json()["error"]["code"] == "deadline"
        assert "longer than 2 s" in answer.json()["error"]["message"]
        if path == "/v1/analyze":
            heard = predictor.heard
            time.sleep(1.5)
            assert predictor.heard - heard <= 66


PROGRAM = """
import sys
from made_server import MadePredictor
import multimodal_ser.predict
from multimodal_ser.cli import main

multimodal_ser.predict.load = lambda model, **_: MadePredictor()
sys.exit(main(["serve", *sys.argv[1:]]))
"""


@contextmanager
def process(tmp_path, *options, files=1024):
    """`ser serve` as a process that may open so many files; its address, and its log's file."""
    with socket.create_server(("127.0.0.1", 0)) as listening:
        port = listening.getsockname()[1]
    log = tmp_path / "log"
    with log.open("wb") as file:
        running = subprocess.Popen(
            [sys.executable, "-c", PROGRAM, "--port", str(port), *options], stderr=file, cwd=HERE,
            env={**os.environ, "PYTHONPATH": f"{SOURCE}:{HERE}"},
            preexec_fn=lambda: resource.setrlimit(resource.RLIMIT_NOFILE, (files, files)),
        )  # fmt: skip
    address = f"http://127.0.0.1:{port}"

    def up():
        assert running.poll() is None, log.read_text()
        try:
            return httpx.get(f"{address}/health").status_code == 200
        except httpx.TransportError:
            return False

    try:
        until(up, 120)
        yield address, log
    finally:
        running.terminate()
        try:
            running.wait(20)
        finally:
            running.kill()
            running.wait()


@pytest.fixture
def many_files():
    """Enough open files for the attacker, who is this process."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if hard != resource.RLIM_INFINITY and hard < 2_000:
        pytest.skip("this process may not open 2,000 files")
    resource.setrlimit(resource.RLIMIT_NOFILE, (max(soft, 2_000), hard))
    yield
    resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))


@contextmanager
def connections(address, count, sent):
    port = int(address.rsplit(":", 1)[1])
    with ExitStack() as stack:
        found = []
        for _ in range(count):
            one = stack.enter_context(socket.create_connection(("127.0.0.1", port), timeout=20))
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


def test_a_thousand_half_headers(tmp_path, many_files):
    """As many as use up the file descriptors of a process, where nothing bounds them."""
    with process(tmp_path) as (address, log), connections(address, 1_100, HALF) as clients:
        honest_clients_are_answered(address)
        assert sum(map(is_closed, clients)) >= 1_100 - 256
        lines = log.read_text().splitlines()
        assert "out of system resource" not in "".join(lines)
        assert len(lines) < 60


def test_the_open_connections_fit_the_files_that_a_process_may_open(tmp_path):
    with process(tmp_path, files=256) as (address, log), connections(address, 300, HALF):
        honest_clients_are_answered(address, rounds=1)
        assert "out of system resource" not in log.read_text()


def test_promised_bodies_that_do_not_come():
    promise = HALF + b"Content-Length: 100000\r\n\r\nRIFF"
    with serving(create_app(MadePredictor())) as address, connections(address, 150, promise):
        honest_clients_are_answered(address)
        assert httpx.get(f"{address}/health").json()["requests"] <= 128


def test_the_slowest_sender_is_dropped_first():
    settings = Settings(max_uploads=2)
    head = HALF + f"Content-Length: {len(CLIP)}\r\n\r\n".encode()
    app = create_app(MadePredictor(), settings)
    with serving(app) as address, connections(address, 2, head) as (slow, slower):
        slow.sendall(CLIP[:50_000])
        until(lambda: httpx.get(f"{address}/health").json()["requests"] == 2)
        time.sleep(0.5)
        answer = httpx.post(f"{address}/v1/predict", content=CLIP, headers=WAV)
        assert answer.status_code == 200
        assert status(slower) == 408
        assert not is_closed(slow)
        slow.settimeout(20)
        slow.sendall(CLIP[50_000:])
        assert status(slow) == 200


def test_bodies_on_their_way_do_not_fill_the_memory():
    settings = Settings(max_mb=0.1)
    head = HALF + b"Content-Length: 90001\r\n\r\n" + bytes(90_000)
    app = create_app(MadePredictor(), settings)
    with serving(app) as address, connections(address, 12, head) as clients:
        until(lambda: sum(map(is_closed, clients)) >= 3)
        assert httpx.get(f"{address}/health").json()["requests"] <= 9


def test_a_header_has_its_time():
    settings = Settings(header_seconds=0.5)
    with serving(create_app(MadePredictor(), settings)) as address:
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


def test_a_client_that_takes_no_answer_is_closed():
    settings = Settings(header_seconds=0.5)
    asked = b"GET /static/page.js HTTP/1.1\r\nHost: localhost\r\n\r\n" * 2_000
    app = create_app(MadePredictor(), settings)
    with serving(app) as address, connections(address, 1, b"") as (client,):
        client.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        client.settimeout(1)
        with suppress(OSError):
            client.sendall(asked)
        until(lambda: not app.state.service.doors.open)
        honest_clients_are_answered(address, rounds=1)


def test_a_body_that_nobody_asked_for_does_not_hold_a_connection():
    app = create_app(MadePredictor(), Settings(header_seconds=0.5))
    asked = b"GET /health HTTP/1.1\r\nHost: localhost\r\nContent-Length: 1000000\r\n\r\n"
    with serving(app) as address, connections(address, 1, asked) as (client,):
        assert status(client) == 200
        until(lambda: not app.state.service.doors.open)


def test_every_connection_at_work_leaves_no_room_for_another():
    app = create_app(MadePredictor(3.0), Settings(max_connections=8, batching=False))
    body = HALF + f"Content-Length: {len(CLIP)}\r\n\r\n".encode() + CLIP
    with serving(app) as address, connections(address, 8, body):
        until(lambda: app.state.service.gate.inside == 8)
        answer = httpx.get(f"{address}/health")
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
        until(lambda: len(app.state.service.doors.open) == 1)
        with connections(address, 6, HALF) as clients:
            until(lambda: sum(map(is_closed, clients)) == 3)
            assert [is_closed(one) for one in clients] == [True] * 3 + [False] * 3
            assert not is_closed(other)


def test_garbage_is_refused_and_does_not_fill_the_log(tmp_path):
    with process(tmp_path) as (address, log):
        began = time.monotonic()
        for place in range(150):
            with connections(address, 1, bytes([place]) * 50 + b"\r\n\r\n") as (client,):
                answer = client.recv(9999)
                assert answer.startswith(b"HTTP/1.1 400 Bad Request\r\n")
                assert b"Content-Security-Policy: default-src 'none'" in answer
        with httpx.Client() as http:
            for _ in range(150):
                assert http.get(f"{address}/nothing").status_code == 404
        honest_clients_are_answered(address, rounds=1)
        most = 20 * (1 + (time.monotonic() - began) // 10 + 1)
        lines = [json.loads(line) for line in log.read_text().splitlines()]
        assert 0 < sum("Invalid HTTP" in line["message"] for line in lines) <= most
        assert 0 < sum(line.get("status") == 404 for line in lines) <= most
        assert any(line.get("route") == "/v1/predict" for line in lines)


def test_log_lines_of_a_kind_are_limited_and_counted():
    from multimodal_ser.serve.log import Limited

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
