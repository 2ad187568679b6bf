"""500 malformed requests: no crash, no 500, no file, and the server still answers."""

import asyncio
import json
import random
import struct
import sys
from pathlib import Path

import httpx
import pytest

pytest.importorskip("fastapi", reason="needs the extra serve")

from made_server import MadePredictor, encoded
from made_sound import tone
from multimodal_ser.serve import Settings, create_app

COUNT = 500
SOUNDS = {kind: encoded(tone(0.4, hertz=300), kind) for kind in ("WAV", "FLAC", "OGG", "MP3")}
NAMES = ["../../etc/passwd", "/etc/passwd", "C:\\x.wav", "a\x00b.wav", "%2e%2e%2f", "x" * 9000,
         "-rf.wav", "\u202efdp.wav", "con", "file:///etc/passwd", "http://here/a.m3u8"]  # fmt: skip
TYPES = ["audio/wav", "audio/mpeg", "application/octet-stream", "audio/x-unknown", "audio/"]


def random_bytes(rng):
    riff, aiff = b"RIFF\x00\x10\x00\x00WAVE", b"FORM\0\0\1\0AIFF"
    head = rng.choice([b"", riff, b"fLaC", b"OggS\0", b"ID3\x04", b"\xff\xfb", aiff])
    return head + rng.randbytes(rng.randrange(3000))


def cut(rng):
    whole = rng.choice(list(SOUNDS.values()))
    return whole[: rng.randrange(len(whole))]


def flipped(rng):
    bad = bytearray(rng.choice(list(SOUNDS.values())))
    for _ in range(rng.choice([1, 4, 60])):
        bad[rng.randrange(min(len(bad), rng.choice([64, len(bad)])))] ^= 1 << rng.randrange(8)
    return bytes(bad)


def bomb(rng):
    """A header that claims hours, many channels, or an absurd rate, over next to nothing."""
    kind = rng.choice(["size", "channels", "rate", "flac", "ogg", "rf64"])
    wav = bytearray(SOUNDS["WAV"])
    if kind == "size":
        struct.pack_into("<I", wav, 4, 0x7FFFFFF0)
        struct.pack_into("<I", wav, 40, rng.choice([0x7FFFFFD0, 0xFFFFFFFF, 1 << 28, 0]))
    elif kind == "channels":
        struct.pack_into("<HIIH", wav, 22, rng.choice([0, 9, 1024, 65535]), 16000, 32000, 2)
    elif kind == "rate":
        struct.pack_into("<I", wav, 24, rng.choice([0, 1, 7, 999, 0x7FFFFFFF, 0xFFFFFFFF]))
    elif kind == "rf64":
        size = struct.pack("<QQQI", 1 << 60, 1 << 60, 1 << 59, 0)
        return b"RF64\xff\xff\xff\xffWAVEds64" + struct.pack("<I", 28) + size + bytes(wav[12:])
    elif kind == "flac":
        flac = bytearray(SOUNDS["FLAC"])
        flac[21] |= 0x0F
        flac[22:26] = b"\xff\xff\xff\xff"
        return bytes(flac)
    else:
        ogg = bytearray(SOUNDS["OGG"])
        last = ogg.rfind(b"OggS")
        ogg[last + 6 : last + 14] = struct.pack("<q", rng.choice([1 << 40, -1, 1 << 62]))
        return bytes(ogg)
    return bytes(wav)


def huge_json(rng):
    return json.dumps({"file": "A" * rng.randrange(10_000, 400_000), "n": [[1] * 50] * 50}).encode()


def broken_form(rng):
    """Forms with missing, wrong or endless parts."""
    edge = rng.choice(["b", "x" * 70, "ä", "b b"])
    name = rng.choice(['name="file"; filename="a"', 'name="file"', "name=", "", 'filename="a"'])
    body = f"--{edge}\r\nContent-Disposition: form-data; {name}\r\n\r\n".encode()
    body += rng.choice([b"", random_bytes(rng), SOUNDS["WAV"]])
    body += rng.choice([b"", f"\r\n--{edge}--\r\n".encode(), b"\r\n--"])
    given = rng.choice([f"; boundary={edge}", "", "; boundary=", "; boundary=other"])
    kind = f"multipart/form-data{given}".encode("latin-1")
    return {"content": body, "headers": {"Content-Type": kind}}


def many_parts(rng):
    parts = [("file", ("a.wav", SOUNDS["WAV"])), ("file", ("b.wav", b"x"))] * rng.randrange(1, 4)
    return {"files": parts, "data": {f"f{i}": "v" for i in range(rng.randrange(9))}}


MAKERS = [random_bytes, cut, flipped, flipped, bomb]


def request(rng):
    kind = rng.choice(["raw", "raw", "form", "form", "json", "broken", "many"])
    body = rng.choice(MAKERS)(rng)
    if kind == "raw":
        return {"content": body, "headers": {"Content-Type": rng.choice(TYPES)}}
    if kind == "form":
        data = (
            {"text": rng.choice(["", "ok", "\x00" * 9, "a" * 40_000])} if rng.random() < 0.3 else {}
        )
        return {"files": {"file": (rng.choice(NAMES), body, rng.choice(TYPES))}, "data": data}
    if kind == "json":
        types = ["application/json", "text/plain", "audio/wav", "application/x-www-form-urlencoded"]
        return {"content": huge_json(rng), "headers": {"Content-Type": rng.choice(types)}}
    return broken_form(rng) if kind == "broken" else many_parts(rng)


async def send_all(app, rng):
    transport = httpx.ASGITransport(app)  # raises what the application did not catch
    codes = {}
    async with httpx.AsyncClient(transport=transport, base_url="http://here", timeout=20) as http:
        for place in range(COUNT):
            how, address = request(rng), rng.choice(["/v1/predict", "/v1/analyze"])
            answer = await http.post(address, **how)
            codes[answer.status_code] = codes.get(answer.status_code, 0) + 1
            assert answer.status_code in (200, 408, 413, 415, 422), (place, answer.text)
            if answer.status_code != 200:
                assert set(answer.json()["error"]) == {"code", "message"}
                assert "/" + "tmp" not in answer.text
        good = {"content": SOUNDS["WAV"], "headers": {"Content-Type": "audio/wav"}}
        assert (await http.post("/v1/predict", **good)).json()["label"] == "disgust"
        assert (await http.get("/health")).json() == {
            "status": "ok", "version": app.version, "requests": 0,
        }  # fmt: skip
    return codes


def test_malformed_requests(tmp_path, monkeypatch, level_is_speech):
    for name in ("TMPDIR", "TEMP", "TMP"):
        monkeypatch.setenv(name, str(tmp_path))
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    monkeypatch.chdir(tmp_path)
    opened = set()
    sys.addaudithook(lambda event, given: writes(event, given, opened))
    codes = asyncio.run(send_all(create_app(MadePredictor(), Settings()), random.Random(7)))
    assert {413, 415, 422} <= set(codes), codes
    assert sum(codes.values()) == COUNT
    assert list(tmp_path.iterdir()) == []
    assert opened == set()


def writes(event, given, opened):
    """Notes every file that Python opens to write; caches of compiled modules aside."""
    if event != "open" or not isinstance(given[0], str) or not isinstance(given[1], str):
        return
    kept = "__pycache__" in given[0] or given[0] == "/dev/null"
    if set(given[1]) & set("wax+") and not kept:
        opened.add(Path(given[0]).name)


def test_a_large_upload_stays_in_memory(tmp_path, monkeypatch):
    """Multipart parsers put more than 1 MB into a temporary file; this one must not."""
    made = []
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    monkeypatch.setattr("tempfile.TemporaryFile", lambda *given, **how: made.append(given))
    body = encoded(tone(90.0, hertz=300))
    assert len(body) > 2_000_000

    async def send():
        transport = httpx.ASGITransport(create_app(MadePredictor(), Settings()))
        async with httpx.AsyncClient(transport=transport, base_url="http://here") as http:
            return await http.post("/v1/predict", files={"file": ("../../a.wav", body)})

    assert asyncio.run(send()).json()["duration"] == 90.0
    assert made == []
    assert list(tmp_path.iterdir()) == []
