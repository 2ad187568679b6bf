"""`ser predict`: which recordings it finds, what it writes, and its exit codes."""

import csv
import io
import json
import sys
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
from safetensors import safe_open
from safetensors.numpy import save_file

from made_models import CLASSES, made_run, made_tuned, noise
from made_sound import written
from multimodal_ser import load
from multimodal_ser.cli import main
from multimodal_ser.cli.predict import weights_of
from multimodal_ser.errors import SerError, to_install
from multimodal_ser.predict import resumable
from multimodal_ser.predict.sources import find_recordings
from multimodal_ser.timeline import Word

pytestmark = pytest.mark.usefixtures("all_is_speech")


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    return str(made_tuned(tmp_path_factory.mktemp("tuned") / "made.safetensors"))


@pytest.fixture
def sounds(tmp_path):
    """Three recordings, one of them in a folder inside, and two files that are none."""
    root = tmp_path / "sounds"
    (root / "inside").mkdir(parents=True)
    for n, name in enumerate(("a.wav", "b.flac", "inside/c.WAV")):
        written(root / name, noise(0.3 + 0.1 * n, n))
    (root / "notes.txt").write_text("no sound")
    (root / "._a.wav").write_text("left by a Mac")
    return root


def names(found, root):
    return [Path(name).relative_to(root).as_posix() for name in found]


def test_folders_and_wildcards(sounds):
    root = str(sounds)
    assert names(find_recordings([root]), root) == ["a.wav", "b.flac", "inside/c.WAV"]
    assert names(find_recordings([f"{root}/*"]), root) == ["a.wav", "b.flac"]
    assert names(find_recordings([f"{root}/*.txt"]), root) == ["notes.txt"]
    assert names(find_recordings([f"{root}/**/*.*"]), root) == ["a.wav", "b.flac", "inside/c.WAV"]
    assert names(find_recordings([f"{root}/b.flac", root]), root)[0] == "b.flac"
    assert len(find_recordings([root, f"{root}/a.wav"])) == 3
    assert find_recordings(["-", "none.wav"]) == ["-", "none.wav"]
    for wrong in ([f"{root}/*.mp3"], [], [f"{root}/a.wav", ""]):
        with pytest.raises(SerError, match=r"no sound files|no recordings|is empty; name"):
            find_recordings(wrong)


def test_linked_folders_are_searched_once_and_hidden_ones_not(sounds, tmp_path):
    root = str(sounds)
    for file in (tmp_path / "elsewhere" / "d.wav", sounds / ".trash" / "e.wav"):
        file.parent.mkdir()
        written(file, noise(0.3))
    for name, where in (
        ("linked", tmp_path / "elsewhere"), ("again", sounds / "inside"), ("up", tmp_path),
        ("broken.wav", tmp_path / "nowhere"),
    ):  # fmt: skip
        (sounds / name).symlink_to(where)
    found = names(find_recordings([root]), root)
    assert found == ["a.wav", "b.flac", "broken.wav", "inside/c.WAV", "linked/d.wav"]


def test_doubled_wildcards_find_each_recording_once_also_over_circular_links(sounds):
    root = str(sounds)
    for number in range(6):  # glob alone follows each of them forty times, in every order
        (sounds / f"circular{number}").symlink_to(sounds)
    (sounds / "self").symlink_to("self")
    every = ["a.wav", "b.flac", "inside/c.WAV"]
    for pattern, wanted in (
        ("**", every),
        ("**/*", every),
        ("**/*.[wW][aA][vV]", [every[0], every[2]]),
        ("**/inside/*", [every[2]]),
        ("in*/**/*.WAV", [every[2]]),
        ("**/**/b.*", [every[1]]),
        ("**/inside/**", [every[2]]),
    ):
        assert names(find_recordings([f"{root}/{pattern}"]), root) == wanted, pattern


def test_a_recording_given_by_two_names_is_predicted_once(sounds, monkeypatch):
    monkeypatch.chdir(sounds)
    given = ["./a.wav", "a.wav", f"{sounds}/a.wav", "inside/../a.wav", "-", "-", "*.flac", "."]
    assert find_recordings(given) == ["./a.wav", "-", "b.flac", "inside/c.WAV"]


def predicted(capsys, *args):
    code = main(["predict", *map(str, args)])
    out, err = capsys.readouterr()
    return code, out, err


def rounded(value):
    """The same with every number compared to 1e-5: batches of other sizes round differently."""
    if isinstance(value, dict):
        return {key: rounded(item) for key, item in value.items()}
    return pytest.approx(value, abs=1e-5) if isinstance(value, float) else value


def test_formats_agree(capsys, sounds, model, tmp_path):
    wanted = load(model)(sorted(sounds.glob("*.*[v,c]"))[1:])
    code, out, _ = predicted(capsys, sounds, "--model", model, "--format", "json")
    found = json.loads(out)
    assert code == 0
    assert [Path(row["file"]).name for row in found] == ["a.wav", "b.flac", "c.WAV"]
    for row, item in zip(found, wanted, strict=False):
        assert rounded({key: row[key] for key in row if key != "file"}) == item.as_dict()
    _, out, _ = predicted(capsys, sounds, "--model", model, "--format", "jsonl")
    assert [rounded(json.loads(line)) for line in out.splitlines()] == found
    file = tmp_path / "out.csv"
    code, out, _ = predicted(capsys, sounds, "--model", model, "--format", "csv", "--out", file)
    assert (code, out) == (0, "")
    rows = list(csv.DictReader(io.StringIO(file.read_text())))
    for row, record in zip(rows, found, strict=True):
        assert (row["file"], row["label"], row["text"]) == (record["file"], record["label"], "")
        shares = {name: float(row[f"p_{name}"]) for name in CLASSES}
        assert rounded(shares) == record["probabilities"]
    for ending in ("csv", "JSONL", "json", "txt"):  # without --format, the ending decides
        predicted(capsys, sounds, "--model", model, "--out", tmp_path / f"by.{ending}")
    assert (tmp_path / "by.csv").read_bytes() == file.read_bytes()
    assert len((tmp_path / "by.JSONL").read_text().splitlines()) == 3
    assert json.loads((tmp_path / "by.json").read_text()) == found
    assert (tmp_path / "by.txt").read_text().startswith(found[0]["file"])
    _, out, _ = predicted(capsys, sounds, "--model", model)
    for line, record in zip(out.splitlines(), found, strict=True):
        assert line.startswith(record["file"])
        assert f"  {record['label']} " in line


def test_failures_are_listed_and_the_rest_is_kept(capsys, sounds, model):
    args = (sounds / "notes.txt", sounds / "a.wav", sounds / "none.wav", "--model", model)
    code, out, err = predicted(capsys, *args, "--format", "jsonl")
    assert code == 1
    rows = [json.loads(line) for line in out.splitlines()]
    assert [Path(row["file"]).name for row in rows] == ["notes.txt", "a.wav", "none.wav"]
    assert [row["label"] == "failed" for row in rows] == [True, False, True]
    assert rows[0]["reason"].startswith("is text, not audio")
    assert f"failed: {sounds / 'notes.txt'}: is text, not audio" in err
    assert "2 of 3 recordings failed" in err
    _, out, _ = predicted(capsys, *args, "--format", "csv")
    table = list(csv.DictReader(io.StringIO(out)))
    assert [row["label"] for row in table] == [row["label"] for row in rows]
    assert [row["reason"] for row in table] == [row["reason"] or "" for row in rows]
    assert float(table[1]["confidence"]) == rows[1]["confidence"]
    assert {row["confidence"] for row in table[::2]} == {""}
    _, out, _ = predicted(capsys, *args)
    assert [line.split()[1] == "failed" for line in out.splitlines()] == [True, False, True]
    many = [sounds / f"none{number}.wav" for number in range(30)]
    for shown in (True, False):  # a terminal has the first of them, a file has all
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(sys.stderr, "isatty", lambda shown=shown: shown, raising=False)
            _, _, err = predicted(capsys, *many, sounds / "a.wav", "--model", model)
        assert err.count("failed: ") == (20 if shown else 30)
        assert ("… and 10 more; with 2> failed.txt all" in err) == shown


class KilledError(BaseException):
    pass


def test_an_interrupted_command_is_resumed_to_the_same_bytes(capsys, tmp_path, model, monkeypatch):
    (tmp_path / "in").mkdir()
    for n in range(7):
        written(tmp_path / f"in/{n}.wav", noise(0.3 + 0.05 * n, n))
    monkeypatch.setattr("multimodal_ser.predict.resumable.CHUNK", 2)
    real, asked = resumable.predict_chunk, []

    def predict_chunk(given, chunk):
        asked.append(chunk.number)
        if len(asked) == stops:
            raise KilledError
        return real(given, chunk)

    monkeypatch.setattr(resumable, "predict_chunk", predict_chunk)

    def run(name):
        asked.clear()
        args = (tmp_path / "in", "--model", model, "--format", "csv", "--out", tmp_path / name)
        return predicted(capsys, *args)[0], list(asked)

    stops = None
    assert run("whole.csv") == (0, [0, 1, 2, 3])
    whole = (tmp_path / "whole.csv").read_bytes()
    assert len(whole.splitlines()) == 8
    stops = 3
    with pytest.raises(KilledError):
        run("cut.csv")
    assert not (tmp_path / "cut.csv").exists()
    journal = tmp_path / ".cut.csv.answered.jsonl"
    journal.write_bytes(journal.read_bytes() + b'{"key": "a')  # killed while it wrote
    stops = None
    assert run("cut.csv") == (0, [2, 3])
    assert (tmp_path / "cut.csv").read_bytes() == whole
    assert not journal.exists()
    (tmp_path / "in/3.wav").write_text("no sound")
    assert run("cut.csv") == (1, [0, 1, 2, 3])
    assert run("cut.csv") == (1, [1])  # what failed is tried again
    size = journal.stat().st_size
    assert run("cut.csv") == (1, [1])
    assert journal.stat().st_size == size  # and its line does not stand there once more
    written(tmp_path / "in/3.wav", noise(0.45, 3))
    assert run("cut.csv") == (0, [1])
    assert (tmp_path / "cut.csv").read_bytes() == whole


def test_long_recordings_are_stored_one_by_one(tmp_path, monkeypatch):
    monkeypatch.setattr(resumable, "CHUNK", 4)
    monkeypatch.setattr(resumable, "_LARGE", 1000)
    sizes = [600, 600, 5000, 1, 1, 1, 1, 1, 2000]
    names = [str(tmp_path / f"{number}.wav") for number in range(len(sizes))]

    def cut():
        return [list(chunk.names) for chunk in resumable.recording_chunks(names, (), {})]

    for name, size in zip(names, sizes, strict=True):
        Path(name).write_bytes(bytes(size))
    assert cut() == [names[:2], names[2:3], names[3:4], names[4:8], names[8:]]
    Path(names[2]).write_bytes(b"mended")  # changes no chunk after the first four recordings
    assert cut() == [names[:2], names[2:4], names[4:8], names[8:]]
    Path(names[2]).unlink()
    assert cut() == [names[:2], names[2:4], names[4:8], names[8:]]


def test_a_model_with_other_weights_of_the_same_name_does_not_resume(model, tmp_path):
    places = [tmp_path / name / "model.safetensors" for name in ("a/x", "b/x", "c/x")]
    with safe_open(model, "numpy") as file:
        tensors, about = {key: file.get_tensor(key) for key in file.keys()}, file.metadata()  # noqa: SIM118 - it is no mapping
    for number, place in enumerate(places):
        place.parent.mkdir(parents=True)
        changed = max(tensors, key=lambda key: tensors[key].size)
        kept = {**tensors, changed: tensors[changed] + np.float32(number == 2)}
        save_file(kept, place, about)
    first, same, other = map(load, places)
    assert (first.name, first.card) == (other.name, other.card)
    assert resumable.identity(first) == resumable.identity(same)
    assert resumable.identity(first) != resumable.identity(other)


def test_predictions_are_stored_exactly(sounds, model):
    given = [sounds / "a.wav", sounds / "none.wav"]
    asked = resumable.ChunkSettings(load(model))
    fresh = resumable.predict_chunk(
        asked, resumable.RecordingChunk(0, ["a", "b"], given, [None, None])
    ).outcomes
    journal = resumable.ResumablePredictions(sounds / "journal", asked)
    assert (
        len(
            list(
                journal.run(
                    resumable.recording_chunks([str(one) for one in given], (), {}), "local"
                )
            )
        )
        == 1
    )
    kept = list(journal.outcomes())
    assert [str(one) for one in kept] == [str(one) for one in fresh]
    assert kept[0].as_dict() == fresh[0].as_dict()
    assert (kept[0].probabilities == fresh[0].probabilities).all()


def test_standard_input(capsys, sounds, model, monkeypatch):
    sound = io.BytesIO((sounds / "a.wav").read_bytes())
    monkeypatch.setattr(sys, "stdin", SimpleNamespace(buffer=sound))
    monkeypatch.chdir(sounds)
    given = ("-", "--model", model, "--format", "json", "--out", "-")
    code, out, _ = predicted(capsys, *given)
    assert not Path("-").exists()
    (record,) = json.loads(out)
    assert (code, record["file"]) == (0, "-")
    assert record["label"] == load(model)(sounds / "a.wav").label
    code, out, err = predicted(capsys, *given)  # it is read to its end
    assert (code, json.loads(out)[0]["reason"][:8]) == (1, "is empty")
    assert err.startswith("failed: -: is empty (0 bytes)")


def test_standard_input_that_is_closed_is_empty(capsys, model, monkeypatch):
    monkeypatch.setattr(sys, "stdin", None)
    code, _, err = predicted(capsys, "-", "--model", model)
    sys.stdin.close()
    assert (code, err.splitlines()[0]) == (1, "failed: -: is empty (0 bytes); fetch it again")


def test_what_is_odd_in_standard_input_is_told_with_its_name(
    sounds, model, monkeypatch, capsys, caplog
):
    sound = (sounds / "a.wav").read_bytes()
    given = SimpleNamespace(buffer=io.BytesIO(sound[: len(sound) // 2 * 2 - 2000]))
    monkeypatch.setattr(sys, "stdin", given)
    assert predicted(capsys, "-", "--model", model)[0] == 0
    assert "-: its header claims" in caplog.text
    assert "<bytes>" not in caplog.text


def test_an_ending_of_no_format_is_refused(capsys, sounds, model, tmp_path):
    args = (sounds / "a.wav", "--model", model, "--out", tmp_path / "calls.xlsx")
    code, _, err = predicted(capsys, *args)
    assert (code, "nothing is written as .xlsx; allowed: .csv" in err) == (1, True)
    assert not (tmp_path / "calls.xlsx").exists()
    assert predicted(capsys, *args, "--format", "csv")[0] == 0
    assert predicted(capsys, *args[:-1], tmp_path / "calls")[0] == 0


def test_an_address_is_told_once(capsys, model):
    code, _, err = predicted(capsys, "https://example.com/call.wav", "--model", model)
    assert (code, err.count("example.com"), "standard input" in err) == (1, 1, True)


def test_the_threshold(capsys, sounds, model):
    args = (sounds / "a.wav", "--model", model, "--threshold", "0.9999", "--format", "json")
    _, out, _ = predicted(capsys, *args)
    assert json.loads(out)[0]["label"] == "uncertain"


def test_words(capsys, sounds, model, tmp_path, monkeypatch):
    args = (sounds / "a.wav", "--model", model)
    code, _, err = predicted(capsys, *args, "--text", "so what")
    assert (code, "uses audio only; leave --text out" in err) == (1, True)
    run, places = reading_run(tmp_path)
    args = (sounds / "a.wav", sounds / "b.flac", "--model", run, "--source", *places)
    code, out, _ = predicted(capsys, *args, "--text", "so what", "else", "--format", "json")
    assert (code, [row["text"] for row in json.loads(out)]) == (0, ["so what", "else"])
    code, _, err = predicted(capsys, *args, "--text", "so what")
    assert (code, "1 text for 2 recordings" in err) == (1, True)
    monkeypatch.setitem(sys.modules, "faster_whisper", None)
    code, _, err = predicted(capsys, *args, "--words")
    assert (code, to_install("asr") in err) == (1, True)
    monkeypatch.setattr("multimodal_ser.timeline.words.Recogniser", Recogniser)
    code, out, err = predicted(capsys, sounds / "none.wav", *args, "--words", "--format", "json")
    assert (code, [row["text"] for row in json.loads(out)]) == (1, [None, "so what", "so what"])
    assert "none.wav: no such file" in err
    code, out, _ = predicted(capsys, *args, "--language", "de", "--format", "json")
    assert (code, [row["language"] for row in json.loads(out)]) == (0, ["de"] * 2)
    _, out, _ = predicted(capsys, *args, "--language", "de")
    assert out.count("“so what” [de]") == 2
    # a rerun takes no words of another model that has replaced the first one in its folder
    monkeypatch.setattr(resumable, "CHUNK", 1)
    for said in ("what", "who"):
        monkeypatch.setattr(Recogniser, "said", said)
        monkeypatch.setattr(Recogniser, "content", f"hash of what says {said}")
        again = (sounds / "none.wav", *args, "--words", "--out", tmp_path / "words.jsonl")
        assert predicted(capsys, *again)[0] == 1
        assert (tmp_path / "words.jsonl").read_text().count(f"so {said}") == 2


class Recogniser:
    """Says the same of any sound, in the language that it is told."""

    multilingual, content, said = True, "", "what"

    def __init__(self, source=None, *, language=None, device="cpu"):
        self.language = language or "en"

    def __call__(self, wave):
        return [Word(0.0, 0.2, "so", self.language), Word(0.2, 0.4, self.said, self.language)]


def reading_run(tmp_path):
    from made_encoders import tiny

    run = made_run(tmp_path / "run", tmp_path, ("text", "audio"), "concat")
    return run, [f"{name}={tiny(name, tmp_path)}" for name in ("bert", "whisper-tiny")]


def test_a_model_of_both_says_that_it_was_given_no_words(capsys, sounds, tmp_path):
    run, sources = reading_run(tmp_path)
    given = (sounds / "a.wav", sounds / "b.flac", "--model", run, "--format", "csv")
    note = f"predicted from sound alone, although {run.name} also reads words; --text gives them"
    for said, wanted in (
        (("so", "what"), ""),
        (("so", " "), f"1 recording of 2 {note}"),
        ((), note),
    ):
        text = ("--text", *said) if said else ()
        code, _, err = predicted(capsys, *given, *text, "--source", *sources)
        assert code == 0
        assert wanted in err
        assert ("sound alone" in err) == bool(wanted)


@pytest.mark.parametrize("command", ["predict", "analyze", "adapt"])
@pytest.mark.parametrize("kind", ["starter", "tuned"])
def test_weights_for_a_model_that_has_its_encoder_inside_are_refused(
    capsys, sounds, model, tmp_path, command, kind
):
    out = ["--out", str(tmp_path / "out")]
    named = [str(sounds), "--model", {"tuned": model}.get(kind, kind), "--source", "/elsewhere"]
    assert main([command, *named, *out]) == 1
    assert "has its encoder inside and uses no other; leave --source" in capsys.readouterr().err
    assert not (tmp_path / "out").exists()


def test_a_model_that_is_not_there(capsys, sounds):
    code, out, err = predicted(capsys, sounds, "--model", "nobody")
    assert (code, out) == (1, "")
    assert "no model 'nobody'; allowed: starter" in err


def test_sources():
    assert weights_of([]) is None
    assert weights_of(["/models"]) == "/models"
    with pytest.raises(SerError, match="ENCODER=PLACE"):
        weights_of(["bert=/models", "/models"])


def test_a_folder_that_is_adapted_to_is_decoded_once(capsys, tmp_path, model, monkeypatch):
    from multimodal_ser.predict import inputs

    for n in range(11):
        written(tmp_path / f"{n:02d}.wav", noise(0.3, n))
    written(tmp_path / "long.wav", noise(40.0))
    (tmp_path / "broken.wav").write_text("no sound")
    written(tmp_path / "short.wav", noise(0.01))
    apart, out, err = predicted(capsys, tmp_path, "--model", model, "--format", "json")
    assert (apart, "adapted to the recordings' channel" in err) == (1, True)
    again = []
    read_audio = inputs.read_audio

    def counted(source, **settings):
        again.append(source)
        return read_audio(source, **settings)

    monkeypatch.setattr(inputs, "read_audio", counted)
    code, same, err = predicted(capsys, tmp_path, "--model", model, "--format", "json")
    assert (code, same) == (1, out)
    assert "broken.wav" in err
    assert "short.wav: " in err
    read = [Path(source).name for source in again if isinstance(source, str)]
    assert sorted(read) == ["broken.wav", "long.wav"]


@pytest.mark.parametrize("count", [2, 12])  # of twelve, the channel is estimated first
def test_what_is_odd_about_a_recording_is_in_its_row(capsys, tmp_path, model, monkeypatch, count):
    monkeypatch.chdir(tmp_path)
    for n in range(count):
        written(tmp_path / f"{n:02d}.wav", noise(0.4, n))
    cut = (tmp_path / "01.wav").read_bytes()[:-1000]
    (tmp_path / "01.wav").write_bytes(cut)
    (tmp_path / "broken.wav").write_text("no sound")
    for _ in range(2):  # the second time, from what was kept of the first
        predicted(capsys, ".", "--model", model, "--out", "out.csv")
        rows = list(csv.DictReader(io.StringIO(Path("out.csv").read_text())))
        told = {row["file"]: row["warnings"] for row in rows if row["warnings"]}
        assert [*told] == ["01.wav"]
        assert told["01.wav"].startswith("its header claims 12800 bytes, it holds 11800")
    _, out, _ = predicted(capsys, ".", "--model", model, "--format", "json")
    assert [row["warnings"] for row in json.loads(out)] == [
        [told["01.wav"]] if n == 1 else [] for n in range(count + 1)
    ]
    frame = pytest.importorskip("pandas") and load(model)(["01.wav", Path("broken.wav")]).to_frame()
    assert frame["file"].tolist() == ["01.wav", "broken.wav"]
    assert frame["warnings"][0] == told["01.wav"]
    assert frame.columns.tolist() == load(model)([]).to_frame().columns.tolist()


# the channel is estimated from pieces of few recordings, or from many whole ones
@pytest.mark.parametrize(("command", "count"), [("predict", 3), ("predict", 12), ("analyze", 1)])
def test_a_truncated_recording_has_one_warning(capsys, caplog, tmp_path, model, command, count):
    root = tmp_path / "sounds"
    root.mkdir()
    for n in range(count):
        written(root / f"{n:02d}.wav", noise(12.0, n))
        whole = (root / f"{n:02d}.wav").read_bytes()
        (root / f"{n:02d}.wav").write_bytes(whole[:-1000])
    out = ["--out", str(tmp_path / "out")] * (command == "analyze")
    assert main([command, str(root), "--model", model, *out]) == 0
    printed = capsys.readouterr()
    assert command == "analyze" or "adapted to the recordings' channel" in printed.err
    # ser analyze shows it among the timeline's notes, below the line of the recording
    lines = [*caplog.messages, *printed.out.splitlines(), *printed.err.splitlines()]
    told = sorted(line.partition(":")[0] for line in lines if "its header claims" in line)
    names = [f"{n:02d}.wav" for n in range(count)]
    assert told == names if command == "predict" else len(told) == count
