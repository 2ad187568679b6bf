"""The server's routes: answers, limits, refusals, key, batches, log, end."""

import re
from types import SimpleNamespace

import numpy as np
import pytest

pytest.importorskip("fastapi", reason="needs the extra serve")

from made_client import WAV, WAV_TYPE, ask, refusal
from made_server import MadePredictor, encoded, melody
from made_sound import tone
from multimodal_ser.errors import SerError
from multimodal_ser.serve import Settings
from multimodal_ser.serve.routes import STATIC
from multimodal_ser.timeline import Word

pytestmark = pytest.mark.usefixtures("level_is_speech")


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


@pytest.mark.parametrize("route", ["predict", "analyze"])
def test_warnings_about_the_recording_are_returned(route):
    told = ask("POST", f"/v1/{route}", content=WAV, headers=WAV_TYPE).json()
    assert told["warnings"] == []
    told = ask("POST", f"/v1/{route}", content=WAV[:-8000], headers=WAV_TYPE).json()
    assert told["duration"] == 0.75
    assert "recording: its header claims 32000 bytes, it holds 24000" in told["warnings"][0]
    told = ask("POST", f"/v1/{route}", content=WAV + WAV, headers=WAV_TYPE).json()
    assert told["duration"] == 2.0
    assert told["warnings"] == ["recording: holds 2 recordings one after another; all are read"]
    if route == "analyze":  # as `ser analyze` has them
        assert told["notes"] == ["holds 2 recordings one after another; all are read"]


def test_one_prediction_for_a_long_recording_is_told():
    told = ask("POST", "/v1/predict", content=encoded(tone(31.0)), headers=WAV_TYPE).json()
    assert told["warnings"] == ["one prediction for 31 s; /v1/analyze shows emotions over time"]
    short = ask("POST", "/v1/predict", content=encoded(tone(30.0)), headers=WAV_TYPE).json()
    assert short["warnings"] == []


def test_a_model_of_both_says_that_it_was_given_no_words():
    predictor = MadePredictor()
    predictor.modalities = ("text", "audio")
    sent = {"content": WAV, "headers": WAV_TYPE, "predictor": predictor}
    told = ask("POST", "/v1/predict", **sent).json()["warnings"]
    assert told == ["predicted from sound alone, although made also reads words; give them as text"]
    assert ask("POST", "/v1/predict?text=oh", **sent).json()["warnings"] == []
    assert "made also reads words" in ask("POST", "/v1/analyze", **sent).json()["notes"][0]


def test_words_that_the_model_does_not_read_are_told():
    predictor = MadePredictor()
    predictor.backend = SimpleNamespace(cuts=lambda text: len(text) > 2)
    sent = {"content": WAV, "headers": WAV_TYPE, "predictor": predictor}
    assert ask("POST", "/v1/predict?text=oh", **sent).json()["warnings"] == []
    (told,) = ask("POST", "/v1/predict?text=ohno", **sent).json()["warnings"]
    assert told.startswith("the last words of 1 recording were not read: made reads no more")


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


def conversation():
    """Two who speak in turn, each on a channel."""
    one, other = melody(200), melody(600)
    quiet = 1e-3 * np.random.default_rng(1).standard_normal(max(len(one), len(other)))
    left, right = np.concatenate([one, quiet]), np.concatenate([quiet, other])
    size = min(len(left), len(right))
    return np.stack([left[:size], right[:size]], 1).astype("f4")


def test_channels_and_their_speakers():
    how = {"content": encoded(conversation()), "headers": WAV_TYPE}
    for channels in ("", "&channels=each", "&channels=0,1"):
        told = ask("POST", f"/v1/analyze?names=agent,customer{channels}", **how).json()
        assert [(one["name"], one["channel"]) for one in told["speakers"]] == [
            ("agent", 0), ("customer", 1)
        ]  # fmt: skip
        labels = [(one["speaker"], one["label"]) for one in told["segments"]]
        assert [labels[0], labels[-1]] == [("agent", "disgust"), ("customer", "happiness")]
    mixed = ask("POST", "/v1/analyze?channels=mix&peaks=true", **how).json()
    assert len(mixed["peaks"]) > 10  # which the page draws
    assert 0.1 < max(mixed["peaks"]) <= 1
    assert mixed["speakers"] == []
    assert {one["speaker"] for one in mixed["segments"]} == {None}


@pytest.mark.parametrize(
    ("asked", "words"),
    [
        ("channels=2", "the recording has 2, numbered from 0"),
        ("channels=left", "allowed: mix, each, auto"),
        ("speakers=pyannote", "allowed: off, auto, their number"),
        ("speakers=/etc/passwd.rttm", "allowed: off, auto, their number"),
        ("speakers=0", "allowed: off, auto"),
        ("channels=each&hop=0.1", "take a hop of"),
    ],
)
def test_refuses_channels_and_speakers_as_the_command_does(asked, words):
    small = Settings(max_heard=40)
    answer = ask(
        "POST", f"/v1/analyze?{asked}", small, content=encoded(conversation()), headers=WAV_TYPE
    )
    refusal(answer, 422, "unreadable", words)
    assert ".rttm" not in answer.text.partition("allowed")[2]  # clients must not name files


def test_words_that_a_timeline_would_not_use_are_refused():
    form = {"file": ("a.wav", WAV), "text": (None, "so what")}
    refusal(ask("POST", "/v1/analyze", files=form), 422, "unreadable", "text is for /v1/predict")
    assert ask("POST", "/v1/predict", files=form).json()["text"] == "so what"
    body = ask("GET", "/openapi.json").json()["paths"]["/v1/analyze"]["post"]["requestBody"]
    assert [*body["content"]["multipart/form-data"]["schema"]["properties"]] == ["file"]


def test_many_channels_of_long_recordings_are_not_kept_apart():
    sound = np.repeat(melody(200)[:, None], 4, 1)
    how = {"content": encoded(sound), "headers": WAV_TYPE}
    limits = Settings(max_seconds=len(sound) / 16_000)
    refused = ask("POST", "/v1/analyze", limits, **how)
    refusal(refused, 413, "too_large", "4 channels", "channels=mix")
    assert ask("POST", "/v1/analyze?channels=mix", limits, **how).status_code == 200
    assert ask("POST", "/v1/predict", limits, **how).status_code == 200


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


def test_the_pages_name_nothing_by_its_place_on_the_host():
    """A proxy may have the server in a folder, such as https://example.org/ser/."""
    files = [file for file in STATIC.iterdir() if file.suffix in (".html", ".js", ".css")]
    assert len(files) > 5
    told = {file.name: re.findall(r"""["'`(]/[^"'`)\s>]*""", file.read_text()) for file in files}
    assert {name: found for name, found in told.items() if found} == {}


@pytest.mark.parametrize("address", ["/", "/docs", "/static/page.js", "/v1/models", "/nothing"])
def test_the_page_loads_nothing_from_other_hosts(address):
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
    assert set(paths) == {"/v1/predict", "/v1/analyze", "/v1/models", "/metrics", "/health"}
    assert "multipart/form-data" in paths["/v1/predict"]["post"]["requestBody"]["content"]
    asked = {one["name"] for one in paths["/v1/analyze"]["post"]["parameters"]}
    assert asked == {
        "window", "hop", "words", "peaks", "channels", "speakers", "names", "adapt"
    }  # fmt: skip
    assert {"413", "415", "422", "429", "503"} <= set(paths["/v1/analyze"]["post"]["responses"])


def test_openapi_describes_every_refusal_as_it_is(tmp_path):
    paths = ask("GET", "/openapi.json", Settings(jobs=tmp_path)).json()["paths"]
    refused = {
        (path, status): answer["content"]["application/json"]["schema"]
        for path, methods in paths.items()
        for method in methods.values()
        for status, answer in method["responses"].items()
        if status[0] in "45"
    }
    assert {("/v1/jobs", "507"), ("/v1/jobs/{job}", "404"), ("/v1/predict", "408")} <= set(refused)
    for schema in refused.values():
        assert set(schema["properties"]) == {"error"}
        assert set(schema["properties"]["error"]["properties"]) == {"code", "message"}


def test_refuses_what_is_too_large_stated_or_not():
    small = Settings(max_mb=0.01)

    async def without_length():
        for _ in range(100):
            yield b"x" * 1000

    stated = ask("POST", "/v1/predict", small, content=WAV, headers=WAV_TYPE)
    refusal(stated, 413, "too_large", "0.01 MB")
    hidden = ask("POST", "/v1/predict", small, content=without_length(), headers=WAV_TYPE)
    refusal(hidden, 413, "too_large")
    refusal(ask("POST", "/v1/predict", small, files={"file": WAV}), 413, "too_large")


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


def test_refuses_parameters_and_fields_that_it_does_not_know():
    sound = {"files": {"file": WAV}}
    for route, name in (("predict", "hop"), ("analyze", "channel"), ("analyze", "vad")):
        answer = ask("POST", f"/v1/{route}", params={name: "1"}, **sound)
        refusal(answer, 422, "unreadable", f"unknown parameter '{name}'", "allowed: ")
    answer = ask("POST", "/v1/analyze", data={"hop": "0.5"}, **sound)
    refusal(answer, 422, "unreadable", "unknown field 'hop'", "?hop=0.5")


def test_refuses_what_is_given_twice():
    sound = {"files": {"file": WAV}}
    answer = ask("POST", "/v1/analyze?hop=0.5&window=1&hop=1", **sound)
    refusal(answer, 422, "unreadable", "hop is given 2 times")
    for query, form in (("", ["a", "b"]), ("?text=a", ["b"])):
        answer = ask("POST", f"/v1/predict{query}", data={"text": form}, **sound)
        refusal(answer, 422, "unreadable", "text is given 2 times")


def test_refuses_addresses_and_verbs():
    refusal(ask("GET", "/nothing"), 404, "not_found", "/docs")
    refusal(ask("POST", "/v1/predict/", content=WAV, headers=WAV_TYPE), 404, "not_found", "/docs")
    refusal(ask("POST", "/v1/jobs"), 404, "not_found", "started with --jobs FOLDER")
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
