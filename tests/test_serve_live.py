"""Sound that is still coming, over a real WebSocket; and what a server counts."""

import asyncio
import json
from contextlib import closing, suppress
from itertools import pairwise

import httpx
import numpy as np
import pytest

pytest.importorskip("fastapi", reason="needs the extra serve")
pytest.importorskip("websocket", reason="needs websocket-client, of selenium")

import websocket

from made_attack import until
from made_client import ask
from made_server import MadePredictor, melody
from multimodal_ser.config.settings import SAMPLE_RATE
from multimodal_ser.errors import SerError
from multimodal_ser.serve import Settings, create_app, serving
from multimodal_ser.timeline import analyze

pytestmark = pytest.mark.usefixtures("level_is_speech")

SOUND = melody(200, 600, 1000)


@pytest.fixture
def served():
    app = create_app(MadePredictor(), Settings(max_streams=3, stream_seconds=60))
    with serving(app) as here:
        yield here.replace("http", "ws") + "/v1/stream", app.state.service


def opened(address, begin=None, **how):
    socket = websocket.create_connection(address, timeout=60, **how)
    socket.send(json.dumps({"rate": SAMPLE_RATE, "format": "f32"} if begin is None else begin))
    return socket


def told(socket):
    found = []
    with suppress(websocket.WebSocketConnectionClosedException):
        while message := socket.recv():
            found.append(json.loads(message))
    socket.shutdown()
    return found


def heard(address, sound, begin, size=0.37):
    socket, rate = opened(address, begin), begin.get("rate", SAMPLE_RATE)
    step = round(size * rate)
    for at in range(0, len(sound), step):
        socket.send_binary(sound[at : at + step].tobytes())
    socket.send(json.dumps({"end": True}))
    return told(socket)


def test_the_end_equals_the_offline_result(served):
    """Times are equal, and probabilities to 1e-4: as_dict has four places."""
    address, service = served
    want = analyze((SOUND, SAMPLE_RATE), MadePredictor()).as_dict()
    ready, *running, last = heard(address, SOUND, {"format": "f32"})
    assert ready["type"] == "ready"
    assert {one["type"] for one in running} == {"estimate", "segment"}
    kinds = [one["type"] for one in running]
    assert kinds.index("estimate") < kinds.index("segment")
    assert last.pop("type") == "timeline"
    assert last == want
    segments = [one for one in running if one["type"] == "segment"]
    assert [{k: v for k, v in s.items() if k != "type"} for s in segments] == last["segments"]
    assert service.streams.open == 0


def test_16_bits_at_another_rate_in_stereo(served):
    address, _ = served
    loud = np.repeat(SOUND, 3) * 32_767
    pair = np.stack([loud, loud], 1).astype("<i2")
    last = heard(address, pair, {"rate": 48_000, "format": "s16", "channels": 2})[-1]
    assert [s["label"] for s in last["segments"]] == ["disgust", "happiness", "sadness"]


@pytest.mark.parametrize(
    ("begin", "then", "words"),
    [
        ({"rate": 1}, None, "rate: 8000 to 48000"),
        ({"sample_rate": 48_000}, None, "rate: 8000 to 48000"),
        ({"format": "mp3"}, None, "format: s16 or f32"),
        ([1], None, "a stream begins with"),
        ({"rate": True}, None, "a stream begins with"),
        ({"hop": 9.0}, None, "hop=9"),
        ({"format": "f32"}, np.array([np.nan], "f4").tobytes(), "NaN"),
        ({"format": ["s16"]}, None, 'format is ["s16"]'),
        ({"rate": "16000"}, None, 'rate is "16000"'),
        ({"channel": 2}, None, "channel is 2"),
        ({"format": "f32"}, '{"stop": 1}', '"end": true'),
        ({"format": "f32"}, np.zeros(61 * SAMPLE_RATE // 4, "f4").tobytes(), "longer than 60 s"),
    ],
)
def test_errors_of_a_stream_are_reported(served, begin, then, words):
    address, service = served
    socket = opened(address, begin)
    send = socket.send if isinstance(then, str) else socket.send_binary
    for _ in range(4 if then and len(then) > 1000 else 1):
        if then is not None:
            send(then)
    last = told(socket)[-1]
    assert last["type"] == "error"
    assert words in last["error"]["message"]
    assert service.streams.open == 0


def test_an_error_at_the_end_of_a_stream_is_reported_too(served, monkeypatch):
    """Such as that of a model of words alone, whose first window is predicted only then."""

    def wordless(waves, texts=None, **how):
        raise SerError("reads only words")

    address, service = served
    monkeypatch.setattr(service.predictor, "waves", wordless)
    *_, last = heard(address, SOUND[: 2 * SAMPLE_RATE], {"format": "f32"})
    assert last == {"type": "error", "error": {"code": "unreadable", "message": "reads only words"}}
    assert service.streams.open == 0


@pytest.mark.parametrize("sizes", [(1, 2, 3, 501), (4001, 7)])
def test_messages_may_end_within_a_sample(served, sizes):
    address, _ = served
    sound = (SOUND[: SAMPLE_RATE if 1 in sizes else None] * 32_767).astype("<i2")
    pair = np.stack([sound, sound], 1)
    data = pair.tobytes()
    cuts = np.cumsum(np.resize(sizes, 2 * len(data) // sum(sizes)))
    wanted = heard(address, pair, {"channels": 2})[-1]
    socket = opened(address, {"channels": 2})
    for first, last in pairwise([0, *cuts[cuts < len(data)], len(data)]):
        socket.send_binary(data[first:last])
    socket.send_binary(b"\0")  # the end of a recording that was cut off
    socket.send(json.dumps({"end": True}))
    assert told(socket)[-1] == wanted


def test_broken_clients_leave_nothing_behind(served):
    address, service = served
    sockets = [opened(address) for _ in range(3)]
    for socket in sockets:
        socket.recv()
        socket.send_binary(SOUND[:8_000].tobytes())
    with pytest.raises(websocket.WebSocketBadStatusException, match="403"):
        opened(address)  # one too many
    for socket in sockets:
        socket.sock.close()  # without a word
    until(lambda: not service.streams.open and not service.connections.open)
    assert heard(address, SOUND, {"format": "f32"})[-1]["type"] == "timeline"


def test_foreign_pages_and_keys():
    with serving(create_app(MadePredictor(), Settings(api_key="sesame"))) as here:
        address = here.replace("http", "ws") + "/v1/stream"
        for how in ({"origin": "http://evil.example"}, {"host": "evil.example"}):
            with pytest.raises(websocket.WebSocketBadStatusException, match="403"):
                opened(address, **how)
        assert told(opened(address))[-1]["error"]["code"] == "unauthorized"
        for begin, header in (({"key": "sesame"}, []), ({}, ["Authorization: Bearer sesame"])):
            with closing(opened(address, begin, header=header)) as socket:
                assert json.loads(socket.recv())["type"] == "ready"


def test_quiet_clients_are_closed():
    settings = Settings(stream_quiet_seconds=0.2, header_seconds=0.2)
    with serving(create_app(MadePredictor(), settings)) as here:
        address = here.replace("http", "ws") + "/v1/stream"
        assert "nothing came" in told(opened(address))[-1]["error"]["message"]
        silent = websocket.create_connection(address, timeout=60)
        assert "nothing came" in told(silent)[-1]["error"]["message"]


def test_metrics():
    answer = ask("GET", "/metrics")
    assert answer.status_code == 200
    assert "ser_requests_inside 0.0" in answer.text
    assert ask("GET", "/metrics", Settings(api_key="x")).status_code == 401

    async def counted():
        from made_client import WAV, WAV_TYPE, client

        app = create_app(MadePredictor())
        async with client(app) as http:
            await http.post("/v1/predict", content=WAV, headers=WAV_TYPE)
            await http.get("/nothing/here")
            return (await http.get("/metrics")).text

    text = asyncio.run(counted())
    assert 'ser_requests_total{method="POST",route="/v1/predict",status="200"} 1.0' in text
    assert 'route="unmatched",status="404"} 1.0' in text
    assert "nothing" not in text
    assert "ser_audio_seconds_total 1.0" in text


def test_head_is_answered_as_get_is_without_a_body(served):
    address = served[0].replace("ws", "http", 1).removesuffix("/v1/stream")
    for path in ("/", "/docs", "/health", "/v1/models", "/static/page.js"):
        head, get = (one(address + path, timeout=60) for one in (httpx.head, httpx.get))
        assert (head.status_code, head.content) == (200, b"")
        assert head.headers["content-length"] == str(len(get.content))
    assert httpx.head(address + "/v1/predict").status_code == 405
    assert (
        'method="HEAD",route="/health",status="200"'
        in httpx.get(address + "/metrics", timeout=60).text
    )
