"""Several requests at a time: batches, neighbours, places, the end, the log."""

import asyncio
import json
import logging

import pytest

pytest.importorskip("fastapi", reason="needs the extra serve")

from made_client import WAV, WAV_TYPE, ask, client, refusal
from made_server import HeldPredictor, MadePredictor, encoded
from made_sound import tone
from multimodal_ser.errors import SerError
from multimodal_ser.serve import Settings, create_app
from multimodal_ser.serve.run import JsonFormatter

pytestmark = pytest.mark.usefixtures("level_is_speech")


async def happened(condition):
    """`made_attack.until` for what runs in the same thread."""
    for _ in range(12_000):
        if condition():
            return
        await asyncio.sleep(0.01)
    pytest.fail("it did not happen in time")


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


def test_a_bad_recording_fails_without_its_batch():
    app = create_app(MadePredictor(0.01), Settings(batch_wait_ms=50))

    async def both():
        async with client(app) as http:
            bodies = [encoded(tone(0.01)), WAV, WAV]
            jobs = [http.post("/v1/predict", content=b, headers=WAV_TYPE) for b in bodies]
            return [one.status_code for one in await asyncio.gather(*jobs)]

    assert asyncio.run(both()) == [422, 200, 200]


def test_too_many_at_a_time():
    held = HeldPredictor()
    app = create_app(held, Settings(concurrency=1, queue=3))

    async def all_of_them():
        async with client(app) as http:
            jobs = [
                asyncio.create_task(http.post("/v1/predict", content=WAV, headers=WAV_TYPE))
                for _ in range(10)
            ]
            await happened(lambda: sum(job.done() for job in jobs) == 6)  # are refused
            held.go.set()
            return await asyncio.gather(*jobs)

    answers = asyncio.run(all_of_them())
    assert sorted(one.status_code for one in answers) == [200] * 4 + [429] * 6
    refused = next(one for one in answers if one.status_code == 429)
    refusal(refused, 429, "too_many_requests", "allowed: 4")
    assert refused.headers["retry-after"] == "1"
    assert app.state.service.admission.active == 0


def test_a_slow_upload_is_ended():
    async def slow():
        yield WAV[:100]
        await asyncio.sleep(5)

    answer = ask("POST", "/v1/predict", Settings(upload_seconds=0.1), content=slow(),
                 headers=WAV_TYPE)  # fmt: skip
    refusal(answer, 408, "upload_timeout", "0.1 s")


def test_finishes_what_runs_and_refuses_what_comes_while_stopping():
    held = HeldPredictor()
    app = create_app(held, Settings())

    async def stop_midway():
        async with client(app) as http:
            running = asyncio.create_task(http.post("/v1/predict", content=WAV, headers=WAV_TYPE))
            await happened(held.begun.is_set)
            app.state.service.admission.stopping = True
            late = await http.post("/v1/predict", content=WAV, headers=WAV_TYPE)
            health = await http.get("/health")
            held.go.set()
            return await running, late, health

    running, late, health = asyncio.run(stop_midway())
    assert running.status_code == 200
    refusal(late, 503, "stopping")
    refusal(health, 503, "stopping")


def test_what_a_stopping_server_does_not_wait_for_is_told_so():
    held = HeldPredictor()
    app = create_app(held, Settings())

    async def cut_off():
        async with client(app) as http:
            running = asyncio.create_task(http.post("/v1/predict", content=WAV, headers=WAV_TYPE))
            await happened(held.begun.is_set)
            running.cancel()  # as uvicorn does with what is not finished in time
            told = await running
            held.go.set()
            return told

    refusal(asyncio.run(cut_off()), 503, "stopping", "send it again")


def test_the_log_is_json_without_content_or_names(caplog):
    caplog.set_level(logging.INFO)
    files = {"file": ("secret-name.wav", WAV, "audio/wav")}
    ask("POST", "/v1/predict?text=secret", files=files)
    ask("POST", "/v1/predict", files=files, data={"text": "secret"})
    ask("GET", "/secret")
    records = [r for r in caplog.records if r.name == "multimodal_ser.serve"]
    lines = [json.loads(JsonFormatter().format(record)) for record in records]
    assert [(one["route"], one["status"]) for one in lines] == [
        ("/v1/predict", 200),
        ("/v1/predict", 200),
        ("unmatched", 404),
    ]
    assert lines[0]["bytes"] == len(WAV)
    assert lines[0]["seconds"] == 1.0
    assert "secret" not in json.dumps(lines)


def test_an_internal_error_is_a_500_without_details():
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
