"""The corpus check finds each kind of fault, and nothing else."""

from pathlib import Path

import numpy as np
import pytest
import scipy.signal
import soundfile
import soxr

from made_corpora import LFS_POINTER, MAKERS, make_cremad, write_sound
from multimodal_ser.audio import read_audio
from multimodal_ser.audio.check import PROBLEMS, Finding, check
from multimodal_ser.audio.fingerprints import _halved, copies, fingerprint
from multimodal_ser.corpora import CORPORA, Utterance
from multimodal_ser.errors import SerError

DATA = Path(__file__).parents[2] / "shared" / "data"


def row(path: Path, **fields: object) -> Utterance:
    return Utterance(f"t/{path.stem}", "t", "anger", str(path), **fields)  # type: ignore[arg-type]


def problems(findings: list[Finding]) -> list[tuple[str, str]]:
    return [(finding.id.removeprefix("t/"), finding.problem) for finding in findings]


def write(path: Path, samples: np.ndarray, rate: int = 16_000) -> Utterance:
    soundfile.write(path, samples, rate)
    return row(path)


def test_good_recordings_give_nothing(tmp_path: Path) -> None:
    make_cremad(tmp_path, sound=True)
    utterances = CORPORA["cremad"].read(tmp_path).utterances
    assert check([*utterances, Utterance("cremad/words", "cremad", "ANG", text="no sound")]) == []


def faulty(folder: Path) -> list[Utterance]:
    """Three good recordings, and one of each fault among them."""
    tone = np.round(0.4 * 2**15 * np.sin(np.arange(16_000) / 9)) / 2**15  # exact in 16 bits
    (folder / "empty.wav").write_bytes(b"")
    (folder / "pointer.wav").write_text(LFS_POINTER)
    (folder / "text.wav").write_text("This is no recording. " * 99)
    whole = write_sound(folder / "whole.wav", "whole").read_bytes()
    (folder / "header.wav").write_bytes(whole[:44])
    (folder / "cut.wav").write_bytes(whole[:-100])
    (folder / "good.flac").touch()
    return [
        row(folder / "gone.wav"),
        row(folder / "empty.wav"),
        row(folder / "pointer.wav"),
        row(folder / "text.wav"),
        row(folder / "whole.wav"),
        write(folder / "nothing.wav", np.zeros(0)),
        write(folder / "short.wav", tone[:1000]),
        write(folder / "silent.wav", np.zeros(16_000)),
        write(folder / "quiet.wav", tone / 1000),
        write(folder / "silent_too.wav", np.zeros(16_000)),
        write(folder / "clipped.wav", np.clip(4 * tone, -1, 1)),
        write(folder / "good.flac", tone),
        write(folder / "again.wav", tone),
        write(folder / "rate.wav", 0.2 * np.sin(np.arange(48_000) / 20), 48_000),
        row(folder / "cut.wav"),
    ]


def test_every_fault_is_found_and_none_ends_the_check(tmp_path: Path) -> None:
    findings = check(faulty(tmp_path))
    assert problems(findings) == [
        ("gone", "missing"),
        ("empty", "empty"),
        ("pointer", "unreadable"),
        ("text", "unreadable"),
        ("nothing", "empty"),
        ("short", "too short"),
        ("silent", "silent"),
        ("quiet", "silent"),
        ("silent_too", "silent"),
        ("clipped", "clipped"),
        ("cut", "length"),
        ("again", "duplicate"),
        ("rate", "rate"),
    ]
    own_tests = {"duration", "copy"}
    assert {finding.problem for finding in findings} == set(PROBLEMS) - own_tests
    details = {finding.id: finding.detail for finding in findings}
    assert "git lfs pull" in details["t/pointer"]
    assert details["t/again"] == "the same samples as t/good"
    assert details["t/rate"].startswith("48000 Hz, where ")
    assert details["t/short"] == "0.062 s, less than 0.1 s"


def test_the_result_does_not_depend_on_workers(tmp_path: Path) -> None:
    utterances = faulty(tmp_path)
    assert check(utterances, workers=1) == check(utterances, workers=4)


def test_limits_are_the_callers(tmp_path: Path) -> None:
    utterances = faulty(tmp_path)
    kinds = {kind for _, kind in problems(check(utterances, shortest=0, silence=-80, clipped=1))}
    assert kinds == {"missing", "empty", "unreadable", "length", "silent", "duplicate", "rate"}
    with pytest.raises(SerError, match="clipped=2"):
        check(utterances, clipped=2)


def test_parts_of_one_recording_are_judged_by_themselves(tmp_path: Path) -> None:
    tone = 0.4 * np.sin(np.arange(32_000) / 9 + np.arange(32_000) ** 2 / 1e7)
    tone[16_000:] = 0
    write(tmp_path / "long.wav", tone)
    parts = [
        Utterance("t/sound", "t", "anger", str(tmp_path / "long.wav"), start=0.0, end=1.0),
        Utterance("t/silence", "t", "anger", str(tmp_path / "long.wav"), start=1.0, end=2.0),
        Utterance("t/beyond", "t", "anger", str(tmp_path / "long.wav"), start=5.0, end=6.0),
    ]
    assert problems(check(parts)) == [("silence", "silent"), ("beyond", "unreadable")]


def test_a_corpus_recorded_at_a_low_rate_is_said_once(tmp_path: Path) -> None:
    for key in ("a", "b"):
        write_sound(tmp_path / f"{key}.wav", key, rate=8_000)
    findings = check([row(tmp_path / "a.wav"), row(tmp_path / "b.wav")])
    assert findings == [Finding("t", "rate", "recorded at 8000 Hz: nothing above 4000 Hz is in it")]


@pytest.mark.parametrize("name", MAKERS)
def test_pointer_files_are_reported_one_by_one(name: str, tmp_path: Path) -> None:
    built = MAKERS[name](tmp_path)
    findings = check(CORPORA[name].read(built.root).utterances)
    assert {finding.problem for finding in findings} == {"unreadable"}
    assert sorted(finding.id for finding in findings) == sorted(built.emotions)


@pytest.mark.skipif(
    not (DATA / "cremad").exists(), reason="the development data is not beside this checkout"
)
def test_genuine_recordings_are_sound() -> None:
    assert check(CORPORA["cremad"].read(DATA / "cremad").utterances) == []


def speech(seed: int, seconds: float = 3.0) -> np.ndarray:
    """Noise in bands that come and go, as syllables do; every seed says something else."""
    draw = np.random.default_rng(seed)
    wave = np.zeros(round(seconds * 16_000))
    for start in range(0, len(wave) - 3200, 1600):
        tone = draw.uniform(150, 3000, 6)
        time = np.arange(3200) / 16_000
        burst = np.sin(2 * np.pi * np.outer(time, tone) + draw.uniform(0, 6, 6)).sum(1)
        wave[start : start + 3200] += draw.uniform(0.1, 1.0) * np.hanning(3200) * burst
    return (0.5 * wave / np.abs(wave).max()).astype(np.float32)


CHANGES = {
    "quieter": lambda wave: (0.2 * wave, 16_000, {}),
    "trimmed": lambda wave: (wave[5333:-3001], 16_000, {}),
    "telephone": lambda wave: (soxr.resample(wave, 16_000, 8_000), 8_000, {}),
    "44100 Hz": lambda wave: (soxr.resample(wave, 16_000, 44_100), 44_100, {}),
    "vorbis": lambda wave: (wave, 16_000, {"format": "OGG", "subtype": "VORBIS"}),
    "mp3": lambda wave: (wave, 16_000, {"format": "MP3"}),
    "noisy": lambda wave: (wave + 0.01 * speech(9, len(wave) / 16_000), 16_000, {}),
}  # fmt: skip


@pytest.mark.parametrize("change", CHANGES)
def test_a_changed_copy_is_found_among_others(tmp_path: Path, change: str) -> None:
    rows = [write(tmp_path / f"{number}.wav", speech(number)) for number in range(8)]
    samples, rate, options = CHANGES[change](speech(5))
    soundfile.write(tmp_path / "copy.bin", samples, rate, **{"format": "WAV"} | options)
    findings = check([*rows, row(tmp_path / "copy.bin")])
    assert [f for f in findings if f.problem == "copy"] == [
        Finding("t/copy", "copy", "a copy of t/5")
    ]


def test_takes_of_the_same_sentence_are_not_copies() -> None:
    folder = DATA / "emodb" / "wav"
    if not folder.is_dir():
        pytest.skip("needs the development data emodb, which is not beside this checkout")
    prints = {p.stem: fingerprint(read_audio(p)) for p in sorted(folder.glob("*a0[12]*.flac"))}
    assert len(prints) > 90
    assert all(prints.values())
    assert copies(prints) == []


def test_a_clip_that_lasts_longer_than_its_table_says(tmp_path: Path) -> None:
    paths = [write_sound(tmp_path / f"{n}.wav", str(n), seconds=s) for n, s in ((0, 9.0), (1, 3.4))]
    (finding,) = check([row(path, extra={"duration": 3.5}) for path in paths])
    assert (finding.id, finding.problem) == ("t/0", "duration")
    assert finding.detail == "9.0 s, where the table says 3.5 s"


def test_the_rate_is_halved_as_scipy_does_it() -> None:
    noise = np.random.default_rng(0).normal(0, 0.1, 12_345).astype("f4")
    for samples in (noise, noise[:7], noise[:1]):
        theirs = scipy.signal.resample_poly(samples, 1, 2)
        np.testing.assert_allclose(_halved(samples), theirs, atol=1e-6)
