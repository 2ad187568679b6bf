"""Long recordings as jobs: submitted, watched, fetched, cancelled, lost with their server."""

import json
import shutil
import time

import pytest

pytest.importorskip("fastapi", reason="needs the extra serve")

import httpx

from made_attack import until
from made_client import ask
from made_server import HeldPredictor, MadePredictor, encoded, melody
from multimodal_ser.common.files import write_file
from multimodal_ser.config.settings import SAMPLE_RATE
from multimodal_ser.errors import SerError
from multimodal_ser.serve import Settings, create_app, serving
from multimodal_ser.serve.jobs import STATE
from multimodal_ser.timeline import analyze

pytestmark = pytest.mark.usefixtures("level_is_speech")

SOUND = melody(200, 600, 1000)
WAV = encoded(SOUND)
TYPE = {"Content-Type": "audio/wav"}


def served(folder, predictor=None, **how):
    return serving(create_app(predictor or MadePredictor(), Settings(jobs=folder, **how)))


def over(http, job, *statuses):
    def ended():
        told = http.get(f"/v1/jobs/{job}").json()
        return told if told["status"] in (statuses or ("done", "failed", "cancelled")) else None

    return until(ended)


def test_a_job_is_done_and_fetched_in_the_commands_formats(tmp_path):
    with served(tmp_path / "jobs") as here, httpx.Client(base_url=here, timeout=60) as http:
        answer = http.post("/v1/jobs?formats=json,srt,html", content=WAV, headers=TYPE)
        assert answer.status_code == 202
        job = answer.json()["id"]
        told = over(http, job)
        assert (told["status"], told["progress"], told["files"]) == (
            "done", 1.0, ["html", "json", "srt"]
        )  # fmt: skip
        found = http.get(f"/v1/jobs/{job}/result").json()
        want = analyze((SOUND, SAMPLE_RATE), MadePredictor()).as_dict()
        assert {key: found[key] for key in ("segments", "track")} == {
            key: want[key] for key in ("segments", "track")
        }
        assert " --> " in http.get(f"/v1/jobs/{job}/result?format=srt").text
        assert http.get(f"/v1/jobs/{job}/result?format=csv").status_code == 422
        kept = {file.name for file in (tmp_path / "jobs" / job).iterdir()}
        assert kept == {STATE, "timeline.json", "timeline.srt", "timeline.html"}  # no sound
        assert http.delete(f"/v1/jobs/{job}").status_code == 204
        assert http.get(f"/v1/jobs/{job}").status_code == 404
        assert not list((tmp_path / "jobs").iterdir())


def test_answers_are_as_the_description_of_the_routes_says(tmp_path):
    with served(tmp_path) as here, httpx.Client(base_url=here) as http:
        described = http.get("/openapi.json").json()["paths"]
        expected = {(path, way.upper()) for path, ways in described.items() for way in ways}

        def answered(way, path, address=None, **how):
            answer = http.request(way, address or path, **how)
            stated = described[path][way.lower()]["responses"][str(answer.status_code)]
            kind = answer.headers.get("Content-Type", "").split(";")[0]
            contents = stated.get("content", {})
            assert kind in contents or "*/*" in contents or not (contents or kind), (path, kind)
            if kind == "application/json" and "*/*" not in contents:
                told = answer.json()
                assert set(contents[kind]["schema"].get("properties", told)) == set(told)
            expected.discard((path, way))
            return answer

        sound, given = {"content": WAV, "headers": TYPE}, "?formats=json,srt,csv,html"
        for path in ("/v1/predict", "/v1/analyze"):
            assert answered("POST", path, **sound).status_code == 200
            for content in (b"", b"no sound", WAV[:44]):
                assert answered("POST", path, content=content, headers=TYPE).status_code >= 415
        job = answered("POST", "/v1/jobs", f"/v1/jobs{given}", **sound).json()["id"]
        over(http, job)
        for path in ("/v1/models", "/metrics", "/health"):
            assert answered("GET", path).status_code == 200
        one, result = "/v1/jobs/{job}", "/v1/jobs/{job}/result"
        assert answered("GET", one, f"/v1/jobs/{job}").json()["status"] == "done"
        for kind, status in (("json", 200), ("srt", 200), ("csv", 200), ("html", 200), ("x", 422)):
            found = answered("GET", result, f"/v1/jobs/{job}/result?format={kind}")
            assert found.status_code == status
        for status in (204, 404):
            assert answered("DELETE", one, f"/v1/jobs/{job}").status_code == status
        assert not expected, "every route was asked"


def test_a_result_is_removed_in_time_though_nobody_asks(tmp_path):
    kept = {"jobs_kept_seconds": 1.5}
    with served(tmp_path, **kept) as here, httpx.Client(base_url=here, timeout=60) as http:
        job = http.post("/v1/jobs", content=WAV, headers=TYPE).json()["id"]
        until(lambda: not (tmp_path / job).exists())  # without a request, which might remove it
        assert http.get(f"/v1/jobs/{job}").status_code == 404


@pytest.mark.parametrize("route", ["jobs", "analyze"])
def test_wrong_settings_are_refused_at_once(tmp_path, route):
    with served(tmp_path) as here, httpx.Client(base_url=here, timeout=60) as http:
        for given, words in (
            ("channels=left", "channels='left'; allowed: mix, each"),
            ("names=a,b,a", "names has 'a' twice"),
            ("speakers=0", "allowed: off, auto, their number"),
        ):
            answer = http.post(f"/v1/{route}?{given}", content=WAV, headers=TYPE)
            assert answer.status_code == 422
            assert words in answer.json()["error"]["message"]
        assert not list(tmp_path.iterdir())


def test_jobs_wait_their_turn_and_are_cancelled(tmp_path):
    held = HeldPredictor()
    with (
        served(tmp_path, held, max_jobs=3) as here,
        httpx.Client(base_url=here, timeout=60) as http,
    ):
        jobs = [http.post("/v1/jobs", content=WAV, headers=TYPE).json()["id"] for _ in range(3)]
        assert http.post("/v1/jobs", content=WAV, headers=TYPE).status_code == 429
        over(http, jobs[0], "running")
        last = http.get(f"/v1/jobs/{jobs[2]}").json()
        assert (last["status"], last["ahead"]) == ("queued", 1)
        assert http.get(f"/v1/jobs/{jobs[2]}/result").status_code == 404
        for job in jobs[:2]:
            http.delete(f"/v1/jobs/{job}")
        held.go.set()
        for job in jobs[:2]:  # the first while it was running
            told = over(http, job)
            assert (told["status"], told["error"]) == ("cancelled", None)
        assert over(http, jobs[2])["status"] == "done"
        assert http.get("/health").json()["status"] == "ok"


def test_a_job_that_ended_with_its_server_is_lost(tmp_path):
    slow = MadePredictor(3.0)  # still at work when its server is told to stop
    with served(tmp_path, slow) as here, httpx.Client(base_url=here, timeout=60) as http:
        jobs = [http.post("/v1/jobs", content=WAV, headers=TYPE).json()["id"] for _ in range(2)]
        over(http, jobs[0], "running")
    with served(tmp_path) as here, httpx.Client(base_url=here, timeout=60) as http:
        for job in jobs:
            told = http.get(f"/v1/jobs/{job}").json()
            assert told["status"] == "lost"
            assert "send it again" in told["error"]
            assert http.get(f"/v1/jobs/{job}/result").status_code == 404
        assert {file.name for file in tmp_path.rglob("*") if file.is_file()} == {STATE}
        done = http.post("/v1/jobs", content=WAV, headers=TYPE).json()["id"]
        over(http, done, "done")
    with served(tmp_path) as here, httpx.Client(base_url=here, timeout=60) as http:
        assert http.get(f"/v1/jobs/{done}").json()["status"] == "done"
        assert http.get(f"/v1/jobs/{done}/result").json()["segments"]
    state = json.loads((tmp_path / done / STATE).read_text())
    state["over"] -= 1e6
    (tmp_path / done / STATE).write_text(json.dumps(state))
    (tmp_path / "other").mkdir()
    (tmp_path / "other" / STATE).write_text("{")
    with served(tmp_path) as here, httpx.Client(base_url=here, timeout=60) as http:
        assert http.get(f"/v1/jobs/{done}").status_code == 404  # too old to be kept
    assert not (tmp_path / done).exists()


def test_what_was_still_arriving_is_lost_too(tmp_path):
    left = tmp_path / "half"
    (left / "sound").mkdir(parents=True)
    (left / STATE).write_text(json.dumps({"id": "half", "status": "arriving", "name": "a.wav"}))
    (left / "sound" / "a.wav").write_bytes(WAV)
    with served(tmp_path) as here, httpx.Client(base_url=here, timeout=60) as http:
        assert http.get("/v1/jobs/half").json()["status"] == "lost"
    assert not (left / "sound").exists()


def test_room_on_disk_is_shared_by_all_jobs(tmp_path):
    room, held = 1.5 * len(WAV) / 1e6, HeldPredictor()
    with (
        served(tmp_path, held, jobs_disk_mb=room) as here,
        httpx.Client(base_url=here, timeout=60) as http,
    ):
        first = http.post("/v1/jobs", content=WAV, headers=TYPE).json()["id"]
        refused = http.post("/v1/jobs", content=WAV, headers=TYPE)
        assert refused.status_code == 429
        assert "share of the disk" in refused.json()["error"]["message"]
        held.go.set()
        over(http, first, "done")  # its sound is gone
        assert http.post("/v1/jobs", content=WAV, headers=TYPE).status_code == 202


@pytest.mark.parametrize(
    ("address", "body", "kind", "status", "words"),
    [
        ("?formats=pdf", WAV, "audio/wav", 422, "unknown format"),
        ("?speakers=/etc/x.rttm", WAV, "audio/wav", 422, "allowed: off, auto"),
        ("?speakers=pyannote", WAV, "audio/wav", 422, "allowed: off, auto"),
        ("", WAV, "text/plain", 415, "Content-Type"),
        ("", b"", "audio/wav", 422, "empty"),
        ("", bytes(2_000_000), "audio/wav", 413, "larger than 1 MB"),
    ],
)
def test_what_is_no_job(tmp_path, address, body, kind, status, words):
    settings = Settings(jobs=tmp_path, job_mb=1)
    answer = ask(
        "POST", f"/v1/jobs{address}", settings, content=body, headers={"Content-Type": kind}
    )
    assert answer.status_code == status
    assert words in answer.json()["error"]["message"]
    assert not list(tmp_path.iterdir())


def test_what_fails_says_why(tmp_path):
    with served(tmp_path, job_seconds=5) as here, httpx.Client(base_url=here, timeout=60) as http:
        bad = http.post("/v1/jobs", content=b"RIFF" + bytes(99), headers=TYPE).json()["id"]
        told = over(http, bad)
        assert told["status"] == "failed"
        assert told["error"]
        assert str(tmp_path) not in told["error"]
        long = http.post("/v1/jobs", content=WAV, headers=TYPE).json()["id"]
        assert "longer than 5 s" in over(http, long)["error"]


def test_jobs_are_guarded(tmp_path):
    with (
        served(tmp_path, api_key="sesame") as here,
        httpx.Client(base_url=here, timeout=60) as http,
    ):
        assert http.post("/v1/jobs", content=WAV, headers=TYPE).status_code == 401
        assert http.get("/v1/jobs/x").status_code == 401
        foreign = {**TYPE, "Origin": "http://evil.example"}
        assert http.post("/v1/jobs", content=WAV, headers=foreign).status_code == 403
    assert ask("POST", "/v1/jobs", content=WAV, headers=TYPE).status_code == 404  # without --jobs


def test_a_job_that_breaks_the_server_does_not_stop_the_others(tmp_path, monkeypatch):
    def broken(*given, **how):
        monkeypatch.setattr("multimodal_ser.serve.jobs.analyze", analyze)
        time.sleep(0.5)  # until the others are there
        raise ZeroDivisionError

    monkeypatch.setattr("multimodal_ser.serve.jobs.analyze", broken)
    with served(tmp_path) as here, httpx.Client(base_url=here, timeout=60) as http:
        first, second = (
            http.post("/v1/jobs", content=WAV, headers=TYPE).json()["id"] for _ in range(2)
        )
        assert "its log says why" in over(http, first)["error"]
        assert over(http, second)["status"] == "done"


def test_a_folder_that_is_lost_ends_its_job_alone(tmp_path):
    held = HeldPredictor()
    with served(tmp_path, held) as here, httpx.Client(base_url=here, timeout=60) as http:
        first, second = (
            http.post("/v1/jobs", content=WAV, headers=TYPE).json()["id"] for _ in range(2)
        )
        over(http, first, "running")
        shutil.rmtree(tmp_path / first)
        (tmp_path / first).write_text("a file in its place, so that not even its state is stored")
        held.go.set()
        assert over(http, first)["status"] == "failed"
        assert over(http, second)["status"] == "done"


def test_files_that_were_ready_stay_if_a_later_one_fails(tmp_path, monkeypatch):
    def full(path, content):
        if path.suffix == ".vtt":
            raise SerError(f"{path}: cannot be written") from OSError(28, "No space left on device")
        write_file(path, content)

    monkeypatch.setattr("multimodal_ser.serve.jobs.write_file", full)
    with served(tmp_path) as here, httpx.Client(base_url=here, timeout=60) as http:
        asked = "/v1/jobs?formats=json,vtt,csv"
        job = http.post(asked, content=WAV, headers=TYPE).json()["id"]
        told = over(http, job)
        assert (told["status"], told["files"]) == ("failed", ["json"])
        assert told["error"].startswith("the server cannot store it (No space left on device)")
        assert http.get(f"/v1/jobs/{job}/result").json()["segments"]
        assert http.get(f"/v1/jobs/{job}/result?format=csv").status_code == 404


def test_a_recording_that_the_disk_does_not_take_is_refused(tmp_path, monkeypatch):
    monkeypatch.setattr("multimodal_ser.serve.jobs.SOUND", "a" * 300)
    with served(tmp_path) as here, httpx.Client(base_url=here, timeout=60) as http:
        answer = http.post("/v1/jobs", content=WAV, headers=TYPE)
        assert (answer.status_code, answer.json()["error"]["code"]) == (507, "no_room")
        assert str(tmp_path) not in answer.text
        assert not list(tmp_path.iterdir())


def test_recordings_of_several_jobs_have_names_of_their_own(tmp_path):
    with served(tmp_path) as here, httpx.Client(base_url=here, timeout=60) as http:
        named = []
        for query in ("", "", "&name=job.json", "&name=Call 1.wav"):
            job = http.post(f"/v1/jobs?formats=rttm{query}", content=WAV, headers=TYPE).json()
            told = over(http, job["id"], "done")
            named.append(told["name"])
            found = http.get(f"/v1/jobs/{job['id']}/result?format=rttm").text
            assert told["name"].partition(".")[0].replace(" ", "_") in found
        assert len(set(named)) == 4
        assert named[2:] == ["job.json", "Call 1.wav"]
        for name in ("a/b.wav", "..", "a\\b.wav", "a\0.wav", "a" * 61):
            answer = http.post("/v1/jobs", params={"name": name}, content=WAV, headers=TYPE)
            assert answer.status_code == 422
            assert "allowed: a file's name" in answer.json()["error"]["message"]


def test_what_is_odd_about_a_recording_is_told(tmp_path):
    with served(tmp_path) as here, httpx.Client(base_url=here, timeout=60) as http:
        given = {"Content-Type": "Application/Ogg"}  # as clients name what they do not know
        job = http.post("/v1/jobs", content=WAV[:-9000], headers=given).json()["id"]
        (line,) = over(http, job, "done")["warnings"]
        assert line.startswith("its header claims")
