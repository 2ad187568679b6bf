"""Timeline → files that other programs read, and a page that a browser runs."""

import base64
import csv
import io
import json
import re
from dataclasses import replace

import numpy as np
import pytest
import soundfile

from made_sound import written
from made_timeline import LABELS, RATE, Pitch, recording, silence
from multimodal_ser.audio import read_audio
from multimodal_ser.common.palette import colour
from multimodal_ser.errors import SerError
from multimodal_ser.timeline import Speaker, Timeline, Word, analyze
from multimodal_ser.timeline.page import assets, page_data, peaks, timeline_page
from multimodal_ser.timeline.tables import index_row
from multimodal_ser.timeline.writers import WRITERS, table, write_files

SOUND = recording(1.0, (4.0, "anger"), 1.0, (2.0, "sadness"), 1.0)
EVIL = ["</script><script>alert(1)</script>", "--> 00:00 &amp; <b>", "a\tb\nc", "=1+1", '"q"']


def words(sound):
    return [Word(0.1 + k / 9, 0.2 + k / 9, text) for k, text in enumerate(EVIL)]


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    made = tmp_path_factory.mktemp("timeline")
    path = written(made / "a <b>&c.wav", SOUND)
    timeline = analyze(path, Pitch(), vad="energy", words=words)
    write_files(timeline, path, made / "out", list(WRITERS), name="t")
    return made / "out", timeline, path


def test_all_formats_are_written_and_no_part_is_left(folder):
    assert {file.name for file in folder[0].iterdir()} == {
        f"t{writer.ending}" for writer in WRITERS.values()
    }


def test_json(folder):
    told = json.loads((folder[0] / "t.json").read_text(encoding="utf-8"))
    assert told == {"source": "a <b>&c.wav", **folder[1].as_dict()}


def test_csv(folder):
    rows = list(csv.DictReader(io.StringIO((folder[0] / "t.csv").read_text(encoding="utf-8"))))
    assert [row["label"] for row in rows] == [s.label for s in folder[1].segments]
    assert rows[0]["text"] == folder[1].segments[0].text
    for row in rows:
        assert sum(float(row[name]) for name in LABELS) == pytest.approx(1, abs=1e-3)


def test_vtt(folder):
    text = (folder[0] / "t.vtt").read_text(encoding="utf-8")
    assert text.startswith("WEBVTT\n\n")
    assert f"::cue(.anger) {{ color: {colour('anger', dark=True)}; }}" in text
    blocks = [block for block in text.split("\n\n") if "-->" in block]
    assert len(blocks) == len(folder[1].segments)
    number, times, said, spoken = blocks[0].strip().split("\n")
    assert number == "1"
    assert re.fullmatch(r"00:00:00\.\d{3} --> 00:00:05\.\d{3}", times)
    assert re.fullmatch(r"<c\.anger>anger \d+ %</c>", said)
    assert "&lt;/script&gt;" in spoken
    assert "<" not in spoken
    assert ">" not in spoken


def test_the_page_and_the_index_say_what_else_is_to_be_known(folder):
    who = Speaker("agent", 0, 1.0, {}, 7)
    timeline = replace(
        folder[1], notes=("a note",), adapted=12, doubt="words of 40 % certainty", speakers=(who,)
    )
    told = ["a note", "adapted to 12 pieces", "agent: adapted to 7 pieces", timeline.doubt]
    assert " · ".join(told) in timeline_page(timeline, folder[2])
    row = {"source": "x.wav", "name": "x", "reason": "", "timeline": timeline.as_dict()}
    assert index_row(row, LABELS)[-1] == "; ".join(told)
    assert "adapted" not in index_row({**row, "timeline": folder[1].as_dict()}, LABELS)[-1]


def test_vtt_has_a_colour_for_labels_of_any_script(folder):
    names = ("生气", "中性", "0")
    renamed = dict(zip(LABELS, names, strict=True))
    segments = [
        replace(s, label=renamed.get(s.label, s.label), probabilities=dict.fromkeys(names, 0.3))
        for s in folder[1].segments
    ]
    timeline = replace(folder[1], labels=names, segments=tuple(segments))
    text = WRITERS["vtt"].make(timeline, folder[2])
    styles, wanted = re.findall(r"::cue\(\.([^)]+)\)", text), {s.label for s in segments}
    assert sorted(styles) == sorted(name.replace("0", "class-0") for name in wanted)


def test_srt(folder):
    blocks = (folder[0] / "t.srt").read_text(encoding="utf-8").strip().split("\n\n")
    assert len(blocks) == len(folder[1].segments)
    _, times, said, spoken = blocks[0].split("\n")
    assert re.fullmatch(r"00:00:00,\d{3} --> 00:00:05,\d{3}", times)
    assert said.startswith(f'<font color="{colour("anger", dark=True)}">anger ')
    assert "<" not in spoken
    assert "-->" not in spoken


def test_audacity(folder):
    lines = (folder[0] / "t.labels.txt").read_text(encoding="utf-8").splitlines()
    assert len(lines) == len(folder[1].segments)
    for line, segment in zip(lines, folder[1].segments, strict=True):
        start, end, said = line.split("\t")
        assert (float(start), float(end)) == pytest.approx((segment.start, segment.end), abs=1e-5)
        assert said.startswith(segment.label)


def test_png(folder):
    assert (folder[0] / "t.png").read_bytes()[:8] == b"\x89PNG\r\n\x1a\n"


def test_the_page_is_whole_and_asks_for_nothing(folder):
    page = (folder[0] / "t.html").read_text(encoding="utf-8")
    assert "<title>a &lt;b&gt;&amp;c.wav" in page
    assert "alert(1)</script>" not in page
    for line in re.findall(r"(?:src|href|url)\s*[=(]\s*[\"']?([^\"')\s>]+)", page):
        assert not line.startswith(("http", "//")), line
    assert "default-src 'none'" in page
    (data,) = re.findall(r'<script type="application/json" id="data">(.*?)</script>', page, re.S)
    told = json.loads(data)
    assert told["segments"] == folder[1].as_dict()["segments"]
    assert set(told["colours"]) == {*LABELS, "uncertain"}
    (audio,) = re.findall(r'id="audio">data:audio/wav;base64,([A-Za-z0-9+/=]+)</script>', page)
    assert base64.b64decode(audio) == folder[2].read_bytes()


def test_a_recording_that_browsers_do_not_play_is_inside_as_flac(folder, tmp_path):
    path = written(tmp_path / "a.aiff", SOUND)
    page = timeline_page(folder[1], path)
    (audio,) = re.findall(r"data:audio/flac;base64,([A-Za-z0-9+/=]+)<", page)
    np.testing.assert_allclose(read_audio(base64.b64decode(audio)), read_audio(path), atol=1e-4)


def test_a_large_recording_stays_outside(folder, tmp_path, monkeypatch):
    monkeypatch.setattr("multimodal_ser.timeline.page.EMBEDDED", 1000)
    path = written(tmp_path / "a <b>.wav", SOUND)
    page = timeline_page(folder[1], path)
    assert 'id="audio">a%20%3Cb%3E.wav</script>' in page
    assert "base64" not in page
    assert "is not part of this page" in page
    (file,) = write_files(folder[1], path, tmp_path / "out" / "in", ["html"])
    assert 'id="audio">../../a%20%3Cb%3E.wav\na%20%3Cb%3E.wav</script>' in file.read_text()


def test_silence_can_be_written_too(tmp_path):
    path = written(tmp_path / "a.wav", silence(3))
    timeline = analyze(path, Pitch(), vad="energy")
    files = write_files(timeline, path, tmp_path / "out", list(WRITERS))
    assert files[0].name == "a.json"
    assert (tmp_path / "out" / "a.srt").read_text() == ""
    assert (tmp_path / "out" / "a.vtt").read_text() == "WEBVTT\n\n"
    assert table(timeline.segments) == ""


def test_an_unknown_format(folder):
    with pytest.raises(SerError, match="unknown format 'pdf'; choose one of: json, csv"):
        write_files(folder[1], folder[2], folder[0], ["json", "pdf"])


def test_peaks(tmp_path):
    sound = np.zeros(60 * RATE, "f4")
    sound[30 * RATE] = -0.5
    found = peaks(written(tmp_path / "a.wav", sound, subtype="FLOAT"))
    assert found.shape == (800,)
    assert found.argmax() in (399, 400, 401)
    assert found.max() == 0.5
    assert len(peaks(written(tmp_path / "b.wav", sound[:RATE]))) == 50


def test_the_page_for_others_to_use(folder):
    css, js = assets()
    assert "function serTimeline(root, data, audioSource)" in js
    assert "innerHTML" not in js
    assert css.count(".ser") > 50
    assert json.dumps(page_data(folder[1], peaks(folder[2])))


def test_a_page_plays_what_was_read(tmp_path):
    sound = 0.1 * np.sin(np.arange(32_000, dtype="f4") / 9)
    nothing = Timeline(2.0, ("anger",), (), (), (), {}, "made")

    def coded(kind, subtype):
        file = io.BytesIO()
        soundfile.write(file, sound, 16_000, format=kind, subtype=subtype)
        return file.getvalue()

    plain, ogg, mp3 = coded("WAV", "PCM_16"), coded("OGG", "VORBIS"), coded("MP3", None)
    bare = mp3[mp3.index(mp3[:2], 4) :]  # without its first frame, which states the length
    for name, data, kind in (
        ("a.wav", plain, "audio/wav"),
        ("a.mp3", plain, "audio/wav"),  # the content decides
        ("a.mp3", mp3, "audio/mpeg"),
        ("a.ogg", ogg, "audio/ogg"),
        ("a.wav", coded("WAV", "DOUBLE"), "audio/flac"),
        ("a.wav", coded("AIFF", "PCM_16"), "audio/flac"),
        ("a.ogg", ogg + ogg, "audio/flac"),  # browsers play the first one
        ("a.mp3", bare, "audio/flac"),  # browsers guess where its seconds are
    ):
        file = tmp_path / name
        file.write_bytes(data)
        found = re.search(r'id="audio">data:([^;]+);base64,([^<]+)<', timeline_page(nothing, file))
        assert (name, found[1]) == (name, kind)
        assert kind == "audio/flac" or base64.b64decode(found[2]) == data
        if data == ogg + ogg:
            assert len(soundfile.read(io.BytesIO(base64.b64decode(found[2])))[0]) > 60_000
