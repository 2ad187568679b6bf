"""Folders of recordings: trees kept, nothing lost, resumed to the same bytes; what stands above."""

import csv
import io
import json
import os
import sys
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest

from made_sound import written
from made_timeline import Pitch, recording
from multimodal_ser.cli import main
from multimodal_ser.errors import AudioError
from multimodal_ser.timeline import Point, Segment, Speaker, Timeline, analyze, folder, tables
from multimodal_ser.timeline.folder import JOURNAL, AnalysisRecipe, Folder
from multimodal_ser.timeline.places import places

SOUND = recording(0.5, (2.0, "anger"), 1.0, (2.0, "sadness"), 0.5)


@pytest.fixture
def model(monkeypatch):
    made = Pitch()
    made.modalities, made.batches = ("audio",), []
    monkeypatch.setattr("multimodal_ser.predict.load", lambda *given, **how: made)
    return made


def made_timeline(place):
    """What stands for an analysis: other for every name."""
    shares = dict(zip(Pitch.labels, (0.7, 0.2, 0.1), strict=True))
    label = Pitch.labels[len(str(place)) % 3]
    spoken = Segment(0.5, 2.0, label, 0.7, shares, "yes, <b>so</b>", "agent")
    return Timeline(
        3.0, Pitch.labels, (spoken,), (Point(0.5, 2.0, shares),), ((0.5, 2.0),), shares, "pitch",
        speakers=(Speaker("agent", 0, 1.5, shares),),
    )  # fmt: skip


def content(out):
    return {str(f.relative_to(out)): f.read_bytes() for f in sorted(out.rglob("*")) if f.is_file()}


def test_names_keep_their_tree_and_never_collide(tmp_path, monkeypatch):
    files = ["a/call.wav", "a/call.mp3", "a/call.wav.flac", "b/call.wav", "b/CALL.mp3", "index.wav",
             "c/x/summary.wav", "é .wav"]  # fmt: skip
    for name in files:
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).touch()
    found = {place.source: place.name for place in places([str(tmp_path)])}
    assert found == {
        "a/call.mp3": "a/call.mp3", "a/call.wav": "a/call.wav", "a/call.wav.flac":
        "a/call.wav.flac", "b/CALL.mp3": "b/CALL.mp3", "b/call.wav": "b/call.wav",
        "c/x/summary.wav": "c/x/summary", "index.wav": "index.wav", "é .wav": "é ",
    }  # fmt: skip
    monkeypatch.chdir(tmp_path / "b")
    for given in (["../a", "."], ["../a/*.*", "call.wav", "CALL.mp3"]):
        some = {place.source for place in places(given)}
        assert some == {source for source in found if source[:2] in ("a/", "b/")}, given
    assert [place.source for place in places(["../c/x/summary.wav"])] == ["summary.wav"]
    assert [place.source for place in places(["../*/call.wav"])] == ["a/call.wav", "b/call.wav"]


class Killed(BaseException):
    pass


@pytest.mark.slow
def test_two_thousand_of_one_name_are_resumed_to_the_same_bytes(tmp_path, monkeypatch):
    names = [f"{k // 100:02d}/{k % 100:02d}/call.wav" for k in range(2_000)]
    for name in names:
        (tmp_path / "in" / name).parent.mkdir(parents=True)
        (tmp_path / "in" / name).touch()
    asked: list[str] = []

    def analysed(place, predictor, *, on_progress=None, warn=None):
        asked.append(place)
        if len(asked) == stops:
            raise Killed
        if place.endswith("07/11/call.wav"):
            raise AudioError("call.wav: is text, not audio")
        return made_timeline(place)

    monkeypatch.setattr(folder, "analyze", analysed)
    recipe = AnalysisRecipe(Pitch(), {}, ("rttm",))

    def run(out):
        made = Folder(out, recipe, places([str(tmp_path / "in")]))
        count = sum(1 for _ in made.run("local", lambda place: _nothing()))
        made.finish()
        return count

    stops = None
    assert run(tmp_path / "whole") == 2_000
    whole = content(tmp_path / "whole")
    assert len(whole) == 1_999 + 4
    asked.clear()
    stops = 701
    with pytest.raises(Killed):
        run(tmp_path / "cut")
    with (tmp_path / "cut" / JOURNAL).open("ab") as journal:
        journal.write(b'{"source": "07/01/ca')  # killed while it wrote
    (tmp_path / "cut/00/03/call.rttm").unlink()  # and a file was deleted
    (tmp_path / "cut/07/00").mkdir(parents=True, exist_ok=True)
    (tmp_path / "cut/07/00/.call.rttm.partial").write_text("half")
    asked.clear()
    stops = None
    assert run(tmp_path / "cut") == 1_301
    assert content(tmp_path / "cut") == whole
    rows = list(csv.DictReader(io.StringIO(whole["index.csv"].decode())))
    assert [row["source"] for row in rows] == names
    assert [row["source"] for row in rows if row["status"] == "failed"] == ["07/11/call.wav"]
    assert len({row["name"] for row in rows}) == 2_000
    asked.clear()
    assert run(tmp_path / "cut") == 1  # what failed is tried again
    other = Folder(tmp_path / "cut", AnalysisRecipe(Pitch(), {}, ("rttm",), "hop"), [])
    assert other.recipe.name != recipe.name


def _nothing():
    from contextlib import nullcontext

    return nullcontext()


@pytest.mark.parametrize("parquet", [True, False])
def test_all_segments_stand_in_one_table(tmp_path, monkeypatch, parquet):
    if parquet:
        pq = pytest.importorskip("pyarrow.parquet", reason="needs the extra 'parquet'")
    monkeypatch.setattr(tables, "_PARQUET", parquet)
    rows = [{"source": "a/x.wav", "name": "a/x", "reason": "",
             "timeline": made_timeline("x").as_dict()}]  # fmt: skip
    with tables.writer_of(tmp_path / "x", Pitch.labels) as add:
        add(tables.segment_rows(rows[0], Pitch.labels))
        add(tables.segment_rows({"source": "b", "name": "b", "reason": "broken"}, Pitch.labels))
    if parquet:
        (told,) = pq.read_table(tmp_path / "x").to_pylist()
    else:
        (told,) = csv.DictReader(io.StringIO((tmp_path / "x").read_text()))
    assert (told["source"], told["speaker"], told["text"]) == ("a/x.wav", "agent", "yes, <b>so</b>")
    assert float(told["p_anger"]) == 0.7


def test_the_command_mirrors_resumes_and_sums_up(tmp_path, model, capsys):
    for name in ("one/call.wav", "two/call.wav"):
        (tmp_path / "in" / name).parent.mkdir(parents=True)
        written(tmp_path / "in" / name, SOUND)
    (tmp_path / "in/two/bad.wav").write_text("nothing")
    given = ["analyze", str(tmp_path / "in"), "--vad", "energy", "--formats", "json,html", "--out"]
    assert main([*given, str(tmp_path / "out")]) == 1
    assert "failed" in capsys.readouterr().err
    told = json.loads((tmp_path / "out/two/call.json").read_text())
    assert told["source"] == "two/call.wav"
    page = (tmp_path / "out/summary.html").read_text()
    assert 'href="one/call.html"' in page
    assert "two/bad.wav" in page
    assert "is text, not audio" in page
    before, batches = content(tmp_path / "out"), len(model.batches)
    assert main([*given, str(tmp_path / "out")]) == 1
    assert "2 of 3 recordings are done already" in capsys.readouterr().err
    assert len(model.batches) == batches
    assert content(tmp_path / "out") == before
    assert main([*given, str(tmp_path / "out"), "--hop", "0.5"]) == 1
    assert len(model.batches) > batches


def test_files_of_another_recording_are_not_replaced(tmp_path, model, capsys):
    for name in (
        "a/call.wav",
        "b/call.wav",
        "b/other.wav",
        "c/call.flac",
        "c/new.wav",
        "c/newer.wav",
    ):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        written(tmp_path / name, SOUND[: len(SOUND) - 100 * len(name) - ord(name[0])])
    out = tmp_path / "out"

    def run(*names, kind="json"):
        given = ["analyze", *(str(tmp_path / name) for name in names), "--out", str(out)]
        return main([*given, "--vad", "energy", "--formats", kind])

    assert run("a/call.wav") == 0
    before = content(out)
    assert run("none/call.wav") == 1  # is not there, and so fails as always
    assert "no such file" in capsys.readouterr().err
    for other in (["b/call.wav"], ["b"], ["b/call.wav", "b/other.wav"]):
        assert run(*other, kind="csv") == 1
        told = capsys.readouterr().err
        assert all(str(tmp_path / one) in told for one in ("a/call.wav", "b/call.wav")), told
        assert content(out) == before
    assert run("a/call.wav", kind="csv") == 0  # the same one again
    assert run("c") == 0
    assert "not in these tables: 1 of earlier commands" in capsys.readouterr().err
    assert (out / "call.flac.json").exists()  # another ending: by its whole name
    assert run("c/call.flac") == 0
    assert run("b/call.wav") == 1  # the folder's command still knows what was there before
    assert {path.name for path in out.glob("call*")} == {"call.json", "call.csv", "call.flac.json"}
    (tmp_path / "a/call.wav").unlink()
    assert run("b/call.wav") == 0  # what it was made from is gone


def test_files_of_the_users_own_are_not_replaced(tmp_path, model, capsys, monkeypatch):
    (tmp_path / "calls").mkdir()
    for name in ("a", "b"):
        written(tmp_path / "calls" / f"{name}.wav", SOUND)
    own, folder = tmp_path / "calls/b.srt", str(tmp_path / "calls")
    given = ["--vad", "energy", "--formats", "json,srt", "--out", folder]
    for name, files in (("b.srt", "b.wav"), ("b.srt", ""), ("index.csv", "")):
        own = tmp_path / "calls" / name
        own.write_text("my own work")
        assert main(["analyze", f"{folder}/{files}", *given]) == 1
        assert f"{own}: exists, and is not known" in capsys.readouterr().err
        assert own.read_text() == "my own work"
        assert not list((tmp_path / "calls").glob("*.json"))
        own.unlink()
    # a command that is killed between two files of a recording is resumed
    replace = Path.replace
    monkeypatch.setattr(
        Path, "replace", lambda a, b: _killed() if str(b).endswith("b.srt") else replace(a, b)
    )
    assert main(["analyze", folder, *given]) == 130
    assert "rerun the same command to resume" in capsys.readouterr().err
    assert (tmp_path / "calls/b.json").exists()
    monkeypatch.undo()
    monkeypatch.setattr("multimodal_ser.predict.load", lambda *given, **how: model)
    assert main(["analyze", folder, *given]) == 0
    assert main(["analyze", folder, *given]) == 0


@pytest.mark.parametrize("several", [False, True])
def test_what_was_analysed_is_written_if_the_recording_is_gone(
    tmp_path, model, capsys, monkeypatch, several
):
    (tmp_path / "in").mkdir()
    for name in ("a", "b")[: 1 + several]:
        written(tmp_path / "in" / f"{name}.wav", SOUND)

    def analysed(path, *given, **how):
        timeline = analyze(path, *given, **how)
        if Path(path).name == "a.wav":
            Path(path).unlink()
        return timeline

    monkeypatch.setattr("multimodal_ser.timeline.folder.analyze", analysed)
    given = ["analyze", str(tmp_path / "in"), "--vad", "energy", "--out", str(tmp_path / "out")]
    if not several:
        given[1] += "/a.wav"
    assert main([*given, "--formats", "json,srt,html,csv"]) == 1
    said = capsys.readouterr().err
    assert "a.wav: no such file" in said
    assert "; written: .json .srt\n" in said
    assert json.loads((tmp_path / "out/a.json").read_text())["segments"]
    assert {path.name for path in (tmp_path / "out").glob("a.*")} == {"a.json", "a.srt"}
    assert (tmp_path / "out/b.html").exists() == several
    monkeypatch.undo()
    monkeypatch.setattr("multimodal_ser.predict.load", lambda *given, **how: model)
    written(tmp_path / "in/a.wav", SOUND)
    assert main([*given, "--formats", "json,srt,html,csv"]) == 0  # its own files are replaced


@pytest.mark.parametrize(
    ("kind", "module"), [("textgrid", "praatio.textgrid"), ("eaf", "pympi.Elan")]
)
def test_an_extra_that_is_missing_is_told_before_the_work(
    tmp_path, capsys, monkeypatch, kind, module
):
    monkeypatch.setitem(sys.modules, module, None)
    monkeypatch.setattr("multimodal_ser.timeline.folder.analyze", lambda *given: _killed())
    sound = str(written(tmp_path / "a.wav", SOUND))
    assert main(["analyze", sound, "--formats", f"json,{kind}", "--out", str(tmp_path)]) == 1
    assert "choose other --formats, or install" in capsys.readouterr().err


def _killed():
    raise KeyboardInterrupt


def test_a_recording_whose_files_cannot_have_its_name_fails_alone(tmp_path, model, capsys):
    (tmp_path / "in").mkdir()
    for name in ("a" * 250, "b"):
        written(tmp_path / "in" / f"{name}.wav", SOUND)
    given = ["analyze", str(tmp_path / "in"), "--vad", "energy", "--formats", "json,labelstudio"]
    assert main([*given, "--out", str(tmp_path / "out")]) == 1
    assert "1 of 2 recordings failed" in capsys.readouterr().err
    index = list(csv.DictReader(io.StringIO((tmp_path / "out/index.csv").read_text())))
    assert [row["status"] for row in index] == ["failed", "done"]
    assert "File name too long" in index[0]["reason"]
    assert main([*given, "--out", str(tmp_path / "out")]) == 1
    assert "1 of 2 recordings failed" in capsys.readouterr().err


def test_a_name_that_is_no_utf_8_is_spelt_out(tmp_path, model, capsysbinary):
    (tmp_path / "in").mkdir()
    for name in (b"caf\xe9.wav", b"tea.wav"):
        written(tmp_path / "x.wav", SOUND).rename(tmp_path / "in" / os.fsdecode(name))
    given = ["analyze", str(tmp_path / "in"), "--vad", "energy", "--formats", "json,html,eaf"]
    pytest.importorskip("pympi", reason="needs the extra 'annotations'")
    assert main([*given, "--out", str(tmp_path / "out")]) == 0
    index = list(csv.DictReader(io.StringIO((tmp_path / "out/index.csv").read_text("utf-8"))))
    assert [row["source"] for row in index] == [r"caf\xe9.wav", "tea.wav"]
    assert (tmp_path / r"out/caf\xe9.json").is_file()
    # Read here, since pytest-xdist cannot send such a name from its worker.
    assert b"caf\xe9.wav: 0:06" in capsysbinary.readouterr().out


def test_what_is_odd_about_a_recording_stays_with_its_timeline(tmp_path, model, capsys):
    whole = written(tmp_path / "whole.wav", SOUND).read_bytes()
    cut = tmp_path / "a: cut.wav"
    cut.write_bytes(whole[:-9000])
    given = ["analyze", *map(str, (tmp_path / "whole.wav", cut)), "--formats", "json", "--vad"]
    assert main([*given, "energy", "--out", str(tmp_path / "out")]) == 0
    told = capsys.readouterr()
    assert told.out.count("it may be truncated") == 1
    assert "truncated" not in told.err
    line = json.loads((tmp_path / "out/a: cut.json").read_text())["notes"][0]
    assert line.startswith("its header claims")
    index = csv.DictReader(io.StringIO((tmp_path / "out/index.csv").read_text()))
    assert [row["notes"] for row in index] == ["", line]


def test_standard_input_is_a_recording(tmp_path, model, capsys, monkeypatch):
    sound = written(tmp_path / "x.wav", SOUND).read_bytes()
    monkeypatch.setattr("sys.stdin", SimpleNamespace(buffer=io.BytesIO(sound)))
    given = ["analyze", "-", "--vad", "energy", "--out", str(tmp_path / "out")]
    assert main(given) == 0
    assert capsys.readouterr().out.startswith("stdin: 0:")
    assert json.loads((tmp_path / "out/stdin.json").read_text())["source"] == "stdin"
    assert not (tmp_path / "out/index.csv").exists()
    assert (tmp_path / "out/stdin.html").stat().st_size > len(sound) / 2


def test_the_summary_shows_text_as_text(tmp_path, monkeypatch):
    name = "<script>alert(1)<"
    monkeypatch.setattr(folder, "analyze", lambda place, predictor, **how: made_timeline(place))
    (tmp_path / f"{name}.wav").touch()
    (tmp_path / "b.wav").touch()
    made = Folder(tmp_path / "out", AnalysisRecipe(Pitch(), {}, ()), places([str(tmp_path)]))
    assert len(list(made.run("local", lambda place: _nothing()))) == 2
    page = Path(made.finish()[-1]).read_text()
    assert "<script" not in page
    assert "&lt;script" in page
    assert "2 recordings" in page
    assert np.char.count(page, "<b>so</b>") == 0


def test_a_speaker_is_mostly_what_their_recordings_are():
    said = {"confidence": 0.9, "text": None, "speaker": "agent"}
    segments = [
        {**said, "start": 0.0, "end": 3.0, "label": "joy"},
        {**said, "start": 3.0, "end": 8.0, "label": "uncertain"},
    ]
    who = [{"name": "agent"}]
    timeline = {"duration": 8.0, "speech": [[0.0, 8.0]], "segments": segments, "speakers": who}
    overview = tables.Overview(("fear", "joy"))
    overview.add({"reason": "", "source": "call", "name": "call", "timeline": timeline})
    page = tables.summary_page(overview, pages=True)
    rows = page.split("<h2>Speakers</h2>")[1].split("</table>")[0]
    assert "<td>joy</td></tr>" in rows
    assert overview.rows[0]["mostly"] == "joy"


def test_shares_of_emotions_add_up_where_speakers_overlap():
    said = {"start": 0.0, "end": 8.0, "confidence": 0.9, "text": None}
    segments = [
        {**said, "speaker": who, "label": what} for who, what in (("a", "joy"), ("b", "fear"))
    ]
    timeline = {"duration": 8.0, "speech": [[0.0, 8.0]], "segments": segments, "speakers": []}
    overview = tables.Overview(("fear", "joy"))
    overview.add({"reason": "", "source": "call", "name": "call", "timeline": timeline})
    assert overview.rows[0]["shares"] == [0.5, 0.5, 0]
    assert overview.outliers()[0][0] == 0  # it is all there is


def test_the_page_of_very_many_recordings_says_which_its_tables_are_of(monkeypatch):
    monkeypatch.setattr(tables, "_MOST", 3)
    timeline = {"duration": 8.0, "speech": [[0.0, 8.0]], "segments": [], "speakers": []}
    overview = tables.Overview(("fear", "joy"))
    for name in "abcd":
        assert "index.csv" not in tables.summary_page(overview, pages=False)
        overview.add({"reason": "", "source": name, "name": name, "timeline": timeline})
    page = tables.summary_page(overview, pages=False)
    assert "Of the first 3 of 4 recordings." in page
    assert "The first 3 of 4; index.csv has all." in page
