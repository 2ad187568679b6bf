"""Expensive work: refused before it begins, divided into turns, ended in time.

Times are upper bounds that a busy machine of two cores keeps; what decides is status, order, count.
"""

import time

import httpx
import numpy as np
import pytest

pytest.importorskip("fastapi", reason="needs the extra serve")

from made_attack import WAV, Costly, honest_clients_are_answered, sending, until
from made_server import MadePredictor, encoded
from multimodal_ser.config.settings import SAMPLE_RATE
from multimodal_ser.serve import Settings, create_app, serving

pytestmark = pytest.mark.usefixtures("level_is_speech")


@pytest.fixture(scope="module")
def minutes():
    """Ten minutes that never fall silent, as FLAC."""
    noise = np.random.default_rng(0).normal(0, 0.1, 600 * SAMPLE_RATE).astype("f4")
    seconds = np.arange(len(noise)) / SAMPLE_RATE
    return encoded(noise * (0.01 + (np.sin(seconds) > 0)) * 0.5, "FLAC")


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
    from multimodal_ser.serve.refusals import RefusedError
    from multimodal_ser.serve.scheduling import check_work

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
            assert httpx.get(f"{address}/health", timeout=60).json()["requests"] == 8
            for client in clients:
                client.setblocking(False)
                with pytest.raises(BlockingIOError):
                    client.recv(1)
        until(lambda: httpx.get(f"{address}/health", timeout=60).json()["requests"] == 0)
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
        until(lambda: httpx.get(f"{address}/health", timeout=60).json()["requests"] == 0)


def test_long_requests_have_places_of_their_own(minutes):
    predictor = Costly(speed=50)
    with (
        serving(create_app(predictor, Settings(max_long=2))) as address,
        sending(address, minutes, 2, "/v1/analyze"),
    ):
        until(lambda: predictor.heard > 0)
        answer = httpx.post(f"{address}/v1/analyze", content=minutes, headers=WAV, timeout=60)
        assert answer.status_code == 429
        assert (
            "2 long recordings are being processed; allowed: 2" in answer.json()["error"]["message"]
        )
        honest_clients_are_answered(address, rounds=1)


def test_a_small_upload_of_much_sound_takes_a_place_for_long_work():
    silence = encoded(np.zeros(300 * SAMPLE_RATE, "f4"), "FLAC")
    assert len(silence) < 100_000
    app = create_app(Costly(), Settings(max_long=1))
    with serving(app) as address, app.state.service.admission.enter() as place:
        place.lengthen()
        answer = httpx.post(f"{address}/v1/predict", content=silence, headers=WAV, timeout=60)
        assert answer.status_code == 429
        honest_clients_are_answered(address, rounds=1)


@pytest.mark.parametrize("path", ["/v1/analyze", "/v1/predict"])
def test_an_answer_has_a_deadline(minutes, path):
    predictor = Costly(speed=200)  # three seconds: longer than is allowed
    with serving(create_app(predictor, Settings(deadline_seconds=1))) as address:
        answer = httpx.post(f"{address}{path}", content=minutes, headers=WAV, timeout=60)
        assert answer.status_code == 504
        assert answer.json()["error"]["code"] == "deadline"
        assert "longer than 1 s" in answer.json()["error"]["message"]
        if path == "/v1/analyze":
            heard = predictor.heard
            time.sleep(1.5)
            assert predictor.heard - heard <= 66
