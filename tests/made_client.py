"""Sends requests to a server's application without a socket."""

import asyncio

import httpx

from made_server import MadePredictor, encoded
from made_sound import tone
from multimodal_ser.serve import Settings, create_app

WAV = encoded(tone(1.0, hertz=600))
WAV_TYPE = {"Content-Type": "audio/wav"}


def client(app, base="http://here"):
    transport = httpx.ASGITransport(app, raise_app_exceptions=False)
    return httpx.AsyncClient(transport=transport, base_url=base, timeout=20)


def ask(method, address, settings=None, predictor=None, words=None, base="http://here", **how):
    async def one():
        app = create_app(predictor or MadePredictor(), settings or Settings(), words=words)
        async with client(app, base) as http:
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
