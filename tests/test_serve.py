"""The server's routes: answers, limits, refusals, key, batches, log, end."""

from __future__ import annotations

import asyncio
import json
import logging

import httpx
import numpy as np
import pytest

pytest.importorskip("fastapi", reason="needs the extra serve")

from made_server import MadePredictor, encoded, melody
from made_sound import tone
from multimodal_ser.errors import SerError
from multimodal_ser.serve import Settings, create_app
from multimodal_ser.serve.log import JsonFormatter
from multimodal_ser.timeline import Word

WAV = encoded(tone(1.0, hertz=600))
WAV_TYPE = {"Content-Type": "audio/wav"}


@pytest.fixture(autouse=True)
def _level_decides_what_is_speech(monkeypatch):
    monkeypatch.setattr("multimodal_ser.speech.gates.AUTO", "energy")


def client(app):
    transport = httpx.ASGITransport(app, raise_app_exceptions=False)
    return httpx.AsyncClient(transport=transport, base_url="http://here", timeout=20)


def ask(method, address, settings=None, predictor=None, words=None, **how):
    async def one():
        app = create_app(predictor or MadePredictor(), settings or Settings(), words=words)
        async with client(app) as http:
            return await http.request(method, address, **how)

    return asyncio.run(one())


def refusal(answer, status, code, *words):
    assert answer.status_code == status, answer.text
    error = answer.json()["error"]
    assert set(answer.json()) == {"error"}
    assert set(error) == {"code", "message"}
    assert error["code"] == code
    for word in words:
        assert word in error["message"], error["message"]


def test_predicts_a_file_of_a_form_with_its_words():
    given = {"files": {"file": ("../../x.wav", WAV, "audio/wav")}, "data": {"text": "hm"}}
    answer = ask("POST", "/v1/predict", **given)
    told = answer.json()
    assert answer.status_code == 200
    assert (told["model"], told["label"], told["text"]) == ("made", "happiness", "hm")
    assert told["duration"] == 1.0
    assert sum(told["probabilities"].values()) == pytest.approx(1, abs=1e-4)


@pytest.mark.parametrize("kind", ["WAV", "FLAC", "OGG", "MP3", "AIFF"])
def test_predicts_a_recording_that_is_the_body(kind):
    body = encoded(tone(1.0, hertz=600), kind)
    answer = ask("POST", "/v1/predict?text=oh", content=body, headers={"Content-Type": "audio/x"})
    assert (answer.json()["label"], answer.json()["text"]) == ("happiness", "oh")


def test_analyses_over_time():
    body = encoded(melody(200, 600))
    answer = ask("POST", "/v1/analyze?window=2&hop=0.5", content=body, headers=WAV_TYPE)
    told = answer.json()
    assert answer.status_code == 200, answer.text
    labels = [one["label"] for one in told["segments"]]
    assert [labels[0], labels[-1]] == ["disgust", "happiness"]
    assert told["track"]


def said(samples):
    """A word near the beginning of what is heard, and one near its end."""
    end = len(samples) / 16_000
    return [Word(0.5, 0.9, "oh"), Word(end - 0.9, end - 0.5, "well")]


def test_words_where_they_are_asked_for():
    how = {"content": encoded(melody(200, 600)), "headers": WAV_TYPE}
    told = ask("POST", "/v1/analyze?words=true", words=said, **how).json()
    assert [one["text"] for one in told["segments"]] == ["oh", "well"]
    assert [one["text"] for one in told["words"]] == ["oh", "well"]
    start, end = told["segments"][1]["start"], told["segments"][1]["end"]
    assert start < told["words"][1]["start"] < told["words"][1]["end"] < end
    unasked = ask("POST", "/v1/analyze", words=said, **how).json()
    assert (unasked["words"], unasked["segments"][0]["text"]) == ([], None)
    refused = ask("POST", "/v1/analyze?words=true", **how)
    refusal(refused, 422, "unreadable", "words=true", "--words")
    assert ask("GET", "/v1/models", words=said).json()["words"] is True
    assert ask("GET", "/v1/models").json()["words"] is False


def test_models_limits_card_and_health():
    told = ask("GET", "/v1/models").json()
    (model,) = told["models"]
    assert model["labels"][0] == "anger"
    assert model["colours"]["anger"]["light"].startswith("#")
    assert told["limits"]["max_seconds"] == 600
    assert "<table>" in model["card_html"]
    assert "<script" not in model["card_html"]
    assert "<img" not in model["card_html"]
    assert "license" not in model["card_html"]
    assert ask("GET", "/health").json()["status"] == "ok"


@pytest.mark.parametrize("address", ["/", "/docs", "/static/page.js", "/v1/models", "/nothing"])
def test_nothing_may_come_from_elsewhere(address):
    answer = ask("GET", address)
    policy = answer.headers["content-security-policy"]
    assert policy.startswith("default-src 'none'; script-src 'self'; style-src 'self'")
    assert "unsafe" not in policy
    assert "http" not in policy
    assert answer.headers["x-content-type-options"] == "nosniff"
    outside = answer.text.replace("http://www.w3.org/2000/svg", "")
    assert "http://" not in outside
    assert "https://" not in outside.replace("https:// or localhost", "").replace(
        "https://example.org/x.png", ""
    )


def test_openapi_names_routes_and_bodies():
    paths = ask("GET", "/openapi.json").json()["paths"]
    assert set(paths) == {"/v1/predict", "/v1/analyze", "/v1/models", "/health"}
    assert "multipart/form-data" in paths["/v1/predict"]["post"]["requestBody"]["content"]
    assert {"413", "415", "422", "429", "503"} <= set(paths["/v1/analyze"]["post"]["responses"])


def test_refuses_what_is_too_large_stated_or_not():
    small = Settings(max_mb=0.01)

    async def without_length():
        for _ in range(100):
            yield b"x" * 1000

    stated = ask("POST", "/v1/predict", small, content=WAV, headers=WAV_TYPE)
    refusal(stated, 413, "too_large", "0.01 MB")
    hidden = ask("POST", "/v1/predict", small, content=without_length(), headers=WAV_TYPE)
    refusal(hidden, 413, "too_large")
    form = ask("POST", "/v1/predict", small, files={"file": WAV})
    refusal(form, 413, "too_large")


def test_stops_reading_where_the_limit_is():
    read = 0

    async def endless():
        nonlocal read
        while True:
            read += 1000
            yield b"x" * 1000

    refusal(
        ask("POST", "/v1/predict", Settings(max_mb=0.1), content=endless(), headers=WAV_TYPE),
        413,
        "too_large",
    )
    assert read <= 102_000


def test_refuses_what_is_too_long_by_header_and_by_count():
    short = Settings(max_seconds=2)
    for kind in ("WAV", "FLAC", "OGG", "MP3"):
        body = encoded(tone(3), kind)
        answer = ask("POST", "/v1/predict", short, content=body, headers=WAV_TYPE)
        refusal(answer, 413, "too_large", "allowed: 2 s")


def test_a_header_that_hides_its_length_is_counted():
    flac = bytearray(encoded(tone(3), "FLAC"))
    flac[21] &= 0xF0  # the 36 bits of STREAMINFO that state the samples: 0 is unknown
    flac[22:26] = bytes(4)
    body = bytes(flac)
    answer = ask("POST", "/v1/predict", Settings(max_seconds=2), content=body, headers=WAV_TYPE)
    refusal(answer, 413, "too_large")
    assert ask("POST", "/v1/predict", content=body, headers=WAV_TYPE).status_code == 200


def test_decoding_has_a_time_limit():
    slow = Settings(decode_seconds=1e-9)
    answer = ask("POST", "/v1/predict", slow, content=WAV, headers=WAV_TYPE)
    refusal(answer, 422, "unreadable", "decoding took longer")


def test_refuses_other_kinds():
    refusal(ask("POST", "/v1/predict", json={"a": 1}), 415, "unsupported_media_type", "json")
    refusal(ask("POST", "/v1/predict"), 415, "unsupported_media_type", "missing")
    text = {"files": {"file": ("a.wav", b"hello, this is text", "audio/wav")}}
    refusal(ask("POST", "/v1/predict", **text), 415, "unsupported_media_type", "allowed: wav")


def test_refuses_what_is_damaged_or_short():
    for body, word in ((WAV[:30], "recording"), (b"", "empty"), (encoded(tone(0.01)), "short")):
        answer = ask("POST", "/v1/predict", content=body, headers=WAV_TYPE)
        refusal(answer, 422, "unreadable", word)
    nan = encoded(np.full(1600, np.nan, "f4"), subtype="FLOAT")
    refusal(ask("POST", "/v1/predict", content=nan, headers=WAV_TYPE), 422, "unreadable", "NaN")


def test_refuses_parameters_and_forms():
    long = ask("POST", "/v1/analyze?window=900", content=WAV, headers=WAV_TYPE)
    refusal(long, 422, "unreadable", "window", "30")
    swapped = ask("POST", "/v1/analyze?window=1&hop=2", content=WAV, headers=WAV_TYPE)
    refusal(swapped, 422, "unreadable", "hop=2")
    refusal(ask("POST", "/v1/predict", data={"text": "a"}, files={"other": b"x"}), 422,
            "unreadable", "`file`")  # fmt: skip
    words = {"files": {"file": WAV}, "data": {"text": "a" * 6000}}
    refusal(ask("POST", "/v1/predict", **words), 422, "unreadable", "6000", "5000")


def test_refuses_addresses_and_verbs():
    refusal(ask("GET", "/nothing"), 404, "not_found", "/docs")
    refusal(ask("GET", "/v1/predict"), 405, "method_not_allowed", "GET")
    refusal(ask("GET", "/static/../settings.py"), 404, "not_found")
    refusal(ask("GET", "/static/%2e%2e/settings.py"), 404, "not_found")


def test_key():
    closed = Settings(api_key="open sesame")
    for headers in ({}, {"Authorization": "Bearer wrong"}, {"X-API-Key": b"n\xe9"}):
        answer = ask("POST", "/v1/predict", closed, files={"file": WAV}, headers=headers)
        refusal(answer, 401, "unauthorized", "Bearer")
        assert answer.headers["www-authenticate"] == "Bearer"
    for headers in ({"Authorization": "Bearer open sesame"}, {"X-API-Key": "open sesame"}):
        answer = ask("POST", "/v1/predict", closed, files={"file": WAV}, headers=headers)
        assert answer.status_code == 200
    assert ask("GET", "/v1/models", closed).status_code == 401
    assert ask("GET", "/health", closed).status_code == 200
    with pytest.raises(SerError, match="empty"):
        Settings(api_key=" ")


def many(app, count, body=WAV, address="/v1/predict"):
    async def all_of_them():
        async with client(app) as http:
            jobs = [http.post(address, content=body, headers=WAV_TYPE) for _ in range(count)]
            return await asyncio.gather(*jobs)

    return asyncio.run(all_of_them())


def test_concurrent_predictions_share_a_call_of_the_network():
    together, alone = MadePredictor(0.01), MadePredictor(0.01)
    gathered = many(create_app(together, Settings()), 24)
    single = many(create_app(alone, Settings(batching=False)), 24)
    assert {one.status_code for one in gathered + single} == {200}
    assert alone.batches == [1] * 24
    assert sum(together.batches) == 24
    assert len(together.batches) <= 12
    assert max(together.batches) <= 16
    assert [one.json() for one in gathered] == [one.json() for one in single]


def test_a_bad_neighbour_in_a_batch_fails_alone():
    app = create_app(MadePredictor(0.01), Settings(batch_wait_ms=50))

    async def both():
        async with client(app) as http:
            bodies = [encoded(tone(0.01)), WAV, WAV]
            jobs = [http.post("/v1/predict", content=b, headers=WAV_TYPE) for b in bodies]
            return [one.status_code for one in await asyncio.gather(*jobs)]

    assert asyncio.run(both()) == [422, 200, 200]


def test_too_many_at_a_time():
    app = create_app(MadePredictor(0.05), Settings(concurrency=1, queue=3))
    answers = many(app, 10)
    codes = sorted(one.status_code for one in answers)
    assert codes == [200] * 4 + [429] * 6
    refused = next(one for one in answers if one.status_code == 429)
    refusal(refused, 429, "too_many_requests", "allowed: 4")
    assert refused.headers["retry-after"] == "1"
    assert app.state.service.gate.inside == 0


def test_an_upload_that_dawdles():
    async def slow():
        yield WAV[:100]
        await asyncio.sleep(5)

    answer = ask("POST", "/v1/predict", Settings(upload_seconds=0.1), content=slow(),
                 headers=WAV_TYPE)  # fmt: skip
    refusal(answer, 408, "upload_timeout", "0.1 s")


def test_finishes_what_runs_and_refuses_what_comes_while_stopping():
    app = create_app(MadePredictor(0.2), Settings())

    async def stop_midway():
        async with client(app) as http:
            running = asyncio.create_task(http.post("/v1/predict", content=WAV, headers=WAV_TYPE))
            await asyncio.sleep(0.1)
            app.state.service.gate.stopping = True
            late = await http.post("/v1/predict", content=WAV, headers=WAV_TYPE)
            health = await http.get("/health")
            return await running, late, health

    running, late, health = asyncio.run(stop_midway())
    assert running.status_code == 200
    refusal(late, 503, "stopping")
    refusal(health, 503, "stopping")


def test_the_log_is_json_without_content_or_names(caplog):
    caplog.set_level(logging.INFO)
    files = {"file": ("secret-name.wav", WAV, "audio/wav")}
    ask("POST", "/v1/predict?text=secret", files=files, data={"text": "secret"})
    ask("GET", "/secret")
    records = [r for r in caplog.records if r.name == "multimodal_ser.serve"]
    lines = [json.loads(JsonFormatter().format(record)) for record in records]
    assert [(one["route"], one["status"]) for one in lines] == [
        ("/v1/predict", 200),
        ("unmatched", 404),
    ]
    assert lines[0]["bytes"] == len(WAV)
    assert lines[0]["seconds"] == 1.0
    assert "secret" not in json.dumps(lines)


def test_a_defect_is_a_500_that_tells_nothing_inside():
    class Broken(MadePredictor):
        def waves(self, waves, texts=None, *, speech=False):
            raise ZeroDivisionError("inner matter")

    answer = ask("POST", "/v1/predict", predictor=Broken(), content=WAV, headers=WAV_TYPE)
    refusal(answer, 500, "internal_error")
    assert "inner" not in answer.text


def test_settings_refuse_what_makes_no_sense():
    for wrong in ({"max_mb": 0}, {"concurrency": 0}, {"queue": -1}, {"max_seconds": float("nan")}):
        with pytest.raises(SerError, match="allowed"):
            Settings(**wrong)
