"""A recording → its emotions over time, whole and piece by piece."""

import io
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from made_sound import written
from made_timeline import LABELS, RATE, Pitch, Reader, recording, silence, syllables
from multimodal_ser.audio import read_audio
from multimodal_ser.audio.speech import CONTEXT, SpeechFinder, make_gate
from multimodal_ser.audio.speech.gates import EnergyGate
from multimodal_ser.errors import AudioError, SerError
from multimodal_ser.timeline import Point, Segment, Stream, Word, analyze
from multimodal_ser.timeline.stretch import SpokenStretch, smooth

EMODB = Path(__file__).parents[2] / "shared" / "data" / "emodb" / "wav"


def timeline(sound, **how):
    return analyze((sound, RATE), Pitch(), **{"vad": "energy", **how})


def stretches(sound, vad="energy", size=None):
    finder = SpeechFinder(make_gate(vad))
    size = size or len(sound)
    found = []
    for at in range(0, len(sound), size):
        found += finder.push(sound[at : at + size])
    return [(start / RATE, end / RATE) for start, end, _ in [*found, *finder.finish()]]


def test_the_energy_gate_finds_what_is_loud():
    found = stretches(recording(2.0, (1.5, "anger"), 1.0, (5.0, "neutral"), 0.3, (1.0, "anger"), 2))
    assert len(found) == 2  # 0.3 s is no pause
    assert np.allclose(found, [(2.0, 3.5), (4.5, 10.8)], atol=0.2)


@pytest.mark.parametrize("level", [0.0002, 0.002, 0.02])
def test_the_energy_gate_follows_the_noise(level):
    (start, end), *more = stretches(recording(3.0, (2.0, "anger"), 3.0, level=level))
    assert not more
    assert (start, end) == pytest.approx((3.0, 5.0), abs=0.25)


@pytest.mark.parametrize(
    "sound",
    [silence(5), silence(20, level=0.02), np.zeros(RATE, "f4"), silence(5) + 0.3, silence(0.01)],
    ids=["noise", "loud noise", "zeros", "offset", "short"],
)
def test_silence_has_an_empty_timeline(sound):
    found = timeline(sound)
    assert (found.segments, found.track, found.speech, found.overall) == ((), (), (), {})
    assert found.duration == pytest.approx(len(sound) / RATE)
    assert found.labels == LABELS


def test_clicks_are_no_speech():
    sound = silence(6)
    for at in range(RATE, 5 * RATE, RATE):
        sound[at : at + 800] += 0.5 * (-1) ** np.arange(800)
    assert stretches(sound) == []


def test_speech_without_a_pause_before_or_after():
    (start, end), *more = stretches(syllables(4.0))
    assert not more
    assert (start, end) == pytest.approx((0.0, 4.0), abs=0.15)


def test_the_noise_floor_is_the_least_mean_of_five_frames():
    power = 10 ** np.random.default_rng(0).uniform(-7, -3, 700)
    power[100:110] = 0
    frames = np.sqrt(power)[:, None] * np.tile([1.0, -1.0], 256)
    gate = EnergyGate()
    parts = np.split(frames, [3, 90, 91, 400, 650])
    got = np.concatenate([*(gate.push(part) for part in parts), gate.finish()])
    heard = np.where(power > 1e-8, power, np.nan)
    means = [heard[k - 2 : k + 3].mean() if 2 <= k < 698 else np.nan for k in range(700)]
    for place in (0, 1, 50, 105, 333, 411, 650, 699):
        floor = 10 * np.log10(np.nanmin(means[max(0, place - 312) : place + 32]))
        level = 10 * np.log10(power[place]) if power[place] else -np.inf
        wanted = level - np.clip(floor, -75, -35) if level >= -65 else -np.inf
        assert got[place] == pytest.approx(wanted, abs=1e-6)


@pytest.mark.skipif(not EMODB.is_dir(), reason="EmoDB is not there")
@pytest.mark.parametrize("vad", ["silero", "energy"])
def test_real_speech_is_found(vad):
    clips = [read_audio(path) for path in sorted(EMODB.iterdir())[:40:10]]
    sound = np.concatenate([part for clip in clips for part in (silence(1.5, 0.001), clip)])
    at, total = 0, 0.0
    found = stretches(sound, vad)
    for clip in clips:
        at += 1.5 + len(clip) / RATE
        begin = at - len(clip) / RATE
        total += sum(max(0, min(at, end) - max(begin, start)) for start, end in found)
    speech = sum(map(len, clips)) / RATE
    assert total > 0.85 * speech
    assert sum(end - start for start, end in found) < 1.15 * speech + 0.2 * len(clips)


def test_segments_follow_the_emotions():
    found = timeline(recording(1.0, (6.0, "anger"), (6.0, "sadness"), 1.5, (1.2, "neutral"), 1.0))
    assert [segment.label for segment in found.segments if segment.label != "uncertain"] == [
        "anger",
        "sadness",
        "neutral",
    ]
    first, *_, last = found.segments
    assert first.end == pytest.approx(7.0, abs=1.5)
    assert (last.start, last.end) == pytest.approx((14.5, 15.7), abs=0.2)
    assert last.probabilities == pytest.approx(found.track[-1].probabilities)  # short: whole
    assert len(found.speech) == 2
    weights = [segment.end - segment.start for segment in found.segments]
    for name in LABELS:
        shares = [segment.probabilities[name] for segment in found.segments]
        assert found.overall[name] == pytest.approx(np.average(shares, weights=weights))


def test_segments_cover_speech_and_nothing_else():
    found = timeline(recording(1, (7.3, "anger"), 1, (3.2, "sadness"), 1, (0.5, "anger"), 1))
    for start, end in found.speech:
        inside = [s for s in found.segments if s.start >= start and s.end <= end]
        assert inside[0].start == start
        assert inside[-1].end == end
        assert all(a.end == b.start and a.label != b.label for a, b in pairwise(inside))
    assert sum(s.end - s.start for s in found.segments) == pytest.approx(
        sum(end - start for start, end in found.speech)
    )
    for item in (*found.segments, *found.track):
        assert sum(item.probabilities.values()) == pytest.approx(1)


@pytest.mark.parametrize(
    ("seconds", "windows"),
    [
        (0.8, [(0, 0.8)]),
        (3.0, [(0, 3)]),
        (3.4, [(0, 3)]),
        (3.5, [(0, 3), (0.5, 3.5)]),
        (5.7, [(0, 3), (1, 4), (2, 5), (2.7, 5.7)]),
    ],
)
def test_windows(seconds, windows):
    track = timeline(syllables(seconds), vad="none").track
    np.testing.assert_allclose([(p.start, p.end) for p in track], windows)


def test_below_the_threshold_it_is_uncertain():
    both = 0.5 * (syllables(3.0, "anger") + syllables(3.0, "sadness"))
    (segment,) = timeline(both, vad="none").segments
    assert segment.label == "uncertain"
    assert segment.confidence == max(segment.probabilities.values()) < 0.6


def test_smoothing_is_the_two_sided_kernel():
    rng = np.random.default_rng(0)
    rows, centres = rng.dirichlet(np.ones(3), 9), np.sort(rng.uniform(0, 9, 9))
    weights = np.exp(-np.abs(centres[:, None] - centres) / 1.7)
    wanted = weights @ rows / weights.sum(1, keepdims=True)
    np.testing.assert_allclose(smooth(rows, centres, 1.7), wanted)
    np.testing.assert_array_equal(smooth(rows, centres, 0), rows)


def test_a_blip_is_smoothed_away():
    rows = np.array([[0.9, 0.1]] * 3 + [[0.4, 0.6]] + [[0.9, 0.1]] * 3)
    stretch = SpokenStretch(0.0, 9.0, [(k, k + 3.0) for k in range(7)], rows)
    labels = [
        [s.label for s in stretch.segments("ab", stretch.smoothed(constant), 0.0)]
        for constant in (0, 1)
    ]
    assert labels == [["a", "b", "a"], ["a"]]


SOUND = recording(1.2, (4.4, "anger"), (2.0, "sadness"), 1.1, (0.7, "neutral"), 0.8, (3.3, "anger"))


def streamed(sound, sizes, **how):
    stream, items, at = Stream(Pitch(), **how), [], 0
    for size in sizes:
        items += stream.push(sound[at : at + size])
        at += size
    items += stream.push(sound[at:])
    return stream.finish(), items


@pytest.mark.parametrize("vad", ["energy", "none", "silero"])
@settings(max_examples=15, deadline=None)
@given(sizes=st.lists(st.integers(0, 3 * RATE), max_size=12))
def test_streaming_equals_the_whole(vad, sizes):
    whole = timeline(SOUND, vad=vad)
    pieces, _ = streamed(SOUND, sizes, vad=vad)
    assert pieces == whole  # every time, label and probability, to the last bit


def test_streaming_in_tiny_pieces_equals_the_whole():
    assert streamed(SOUND, [160] * 900, vad="energy")[0] == timeline(SOUND)


def test_estimates_come_while_the_sound_comes():
    stream = Stream(Pitch(), vad="energy")
    seen = []
    for at in range(0, len(SOUND), 1600):
        now = (at + 1600) / RATE
        seen += [(now, item) for item in stream.push(SOUND[at : at + 1600])]
    points = [(now, item) for now, item in seen if isinstance(item, Point)]
    assert all(
        item.end <= now < item.end + 1.5 for now, item in points if item.end - item.start == 3
    )
    assert points[0][0] < 6
    assert max(points[0][1].probabilities, key=points[0][1].probabilities.get) == "anger"
    final = stream.finish()
    early = [item for _, item in seen if isinstance(item, Segment)]
    assert early == list(final.segments[: len(early)])
    assert early
    assert [(p.start, p.end) for _, p in points] == [
        (p.start, p.end) for p in final.track[: len(points)]
    ]


def test_memory_holds_what_is_not_predicted_yet():
    stream = Stream(Pitch(), vad="energy")
    for _ in range(6):
        stream.push(np.concatenate([syllables(20), silence(5)]))
        assert len(stream._sound) < 5 * RATE
    assert stream.finish().duration == 150


def test_a_model_gets_the_pauses_around_a_stretch_but_no_other_speech():
    """Speech that is cut tightly is another sound than the recordings that a model learnt from."""
    heard = []

    class Listening(Pitch):
        def waves(self, waves, texts=None, *, speech=False):
            heard.extend(len(wave) for wave in waves)
            return super().waves(waves)

    sound = recording(0.15, (2.0, "anger"), 2.0, (4.6, "sadness"), 1.0)
    found = analyze((sound, RATE), Listening(), vad="energy")
    (one, *rest), (first, second) = found.track, found.speech
    assert (one.start, one.end) == first
    before = min(round(first[0] * RATE), CONTEXT)  # the recording begins so early
    assert heard[0] == round((first[1] - first[0]) * RATE) + before + CONTEXT
    assert before < CONTEXT
    full = round(3.0 * RATE)
    assert heard[1:] == [full + CONTEXT, *[full] * (len(rest) - 2), full + CONTEXT]
    assert (rest[0].start, rest[-1].end) == second


def test_windows_go_in_batches():
    model = Pitch()
    analyze((syllables(40), RATE), model, vad="none")
    assert len(model.batches) <= 4
    assert sum(model.batches) == 38


def test_any_source(tmp_path):
    path = written(tmp_path / "a.wav", SOUND, subtype="FLOAT")
    wanted = timeline(SOUND)
    done = []
    dressed = {"array": SOUND, "sampling_rate": RATE}
    for source in (path, str(path), path.read_bytes(), io.BytesIO(path.read_bytes()), dressed):
        done.clear()
        found = analyze(
            source, Pitch(), vad="energy", on_progress=lambda at, of: done.append((at, of))
        )
        assert found == wanted
        assert done[-1] == (pytest.approx(len(SOUND) / RATE),) * 2
    with pytest.raises(SerError, match=r"\(array, rate in Hz\)"):
        analyze(SOUND, Pitch())


def test_file_objects_without_bytes_are_refused_as_in_predictions(tmp_path):
    path = written(tmp_path / "a.wav", SOUND, subtype="FLOAT")
    with path.open("rb") as closed:
        pass
    with path.open("rb") as ended, path.open(encoding="latin-1") as text, path.open("ab") as kept:
        ended.read()
        for source, said in (
            (closed, "a.wav: cannot be read .*closed file.*; give a file object opened in binary"),
            (kept, "a.wav: cannot be read .*; give a file object opened in binary mode"),
            (ended, r"a.wav: is empty .0 bytes.; was it read before\? then seek\(0\)"),
            (text, "a.wav: gives str; allowed: a path, bytes, a file object opened in binary mode"),
        ):
            for read in (read_audio, lambda one: analyze(one, Pitch())):
                with pytest.raises(AudioError, match=said):
                    read(source)


@pytest.mark.parametrize(
    ("how", "words"),
    [
        ({"window": 0.2}, "window=0.2 s; allowed: 0.5 to 30 s"),
        ({"hop": 4.0}, "hop=4 s; allowed: 0.1 to 3 s"),
        ({"window": "3"}, "window='3' s; allowed: 0.5 to 30 s"),
        ({"smoothing": -1.0}, "smoothing=-1 s"),
        ({"smoothing": float("nan")}, "smoothing=nan s"),
    ],
)
def test_settings_out_of_range(how, words):
    with pytest.raises(SerError, match=words):
        Stream(Pitch(), **how)


@pytest.mark.parametrize(
    ("how", "words"),
    [
        ({"channels": 2}, "channels=2, and the recording has 2"),
        ({"channels": (0, 5)}, "channels=0,5, and the recording has 2"),
        ({"channels": None}, "channels='None'; allowed"),
        ({"adapt": "off"}, "adapt='off'; allowed: True, False"),
        ({"names": "a,a"}, "names has 'a' twice"),
    ],
)
def test_settings_of_a_recording_that_are_wrong(how, words):
    pair = np.stack([SOUND, SOUND[::-1]], 1)
    with pytest.raises(SerError, match=words):
        analyze((pair, RATE), Pitch(), vad="energy", **how)


def test_channels_by_number_and_names_as_text():
    pair = np.stack([SOUND, SOUND[::-1]], 1)
    wanted = analyze((pair, RATE), Pitch(), vad="energy", channels="0,1", names=["a", "b"])
    found = analyze((pair, RATE), Pitch(), vad="energy", channels=(0, 1), names="a,b")
    assert [speaker.name for speaker in found.speakers] == ["a", "b"]
    assert found == wanted
    one = analyze((pair, RATE), Pitch(), vad="energy", channels=1)
    assert one == analyze((pair, RATE), Pitch(), vad="energy", channels="1")


def test_chunks_that_are_no_sound():
    stream = Stream(Pitch(), vad="energy")
    for chunk in (np.zeros((2, 2), "f4"), np.zeros(5, "i2"), np.array([np.nan], "f4")):
        with pytest.raises(SerError, match="chunk"):
            stream.push(chunk)
    stream.finish()
    with pytest.raises(SerError, match="finished"):
        stream.push(silence(1))


def test_words_fall_into_their_segments():
    heard = []

    def words(sound):
        heard.append(len(sound) / RATE)
        count = int(len(sound) / RATE)
        return [Word(k + 0.2, k + 0.6, f"w{len(heard)}.{k}") for k in range(count)]

    sound = recording(1.0, (70.0, "anger"), 1.0, (2.0, "sadness"), 1.0)
    found = timeline(sound, words=words)
    assert len(heard) in (4, 5)  # the last stretch by itself
    assert max(heard) <= 30
    assert sum(heard) == pytest.approx(sum(end - start for start, end in found.speech))
    told = " ".join(segment.text for segment in found.segments)
    assert told.split() == [word.text for word in found.words]
    assert [word.start for word in found.words] == sorted(word.start for word in found.words)
    pieces = Stream(Pitch(), vad="energy", words=words)
    heard.clear()
    for at in range(0, len(sound), 4567):
        pieces.push(sound[at : at + 4567])
    assert pieces.finish() == found
    assert timeline(SOUND).segments[0].text is None


def test_short_stretches_are_heard_together():
    heard = []

    def words(sound):
        heard.append(len(sound) / RATE)
        return [Word(k + 0.2, k + 0.6, f"w{len(heard)}.{k}") for k in range(int(heard[-1]))]

    sound = recording(*[part for _ in range(20) for part in (1.0, (2.0, "anger"))], 1.0)
    found = timeline(sound, words=words)
    assert len(found.speech) == 20
    assert len(heard) == 2
    assert max(heard) <= 30
    told = [word.text for word in found.words]
    assert len(told) == len(set(told)) == sum(int(seconds) for seconds in heard)
    assert " ".join(segment.text for segment in found.segments).split() == told
    inside = [any(a <= w.start < w.end <= b for a, b in found.speech) for w in found.words]
    assert all(inside)
    assert streamed(sound, [3333] * 300, vad="energy", words=words)[0].speech == found.speech
    assert heard[2:] == heard[:2]


@pytest.mark.parametrize("hop", [0.4, 1.0])
def test_a_model_that_reads_words_is_given_those_of_each_window(hop):
    """In short stretches that share a recogniser's half minute, and in one that is longer."""

    def words(sound):  # one word a second, except in the first piece
        count = int(len(sound) / RATE) if called else 0
        called.append(len(sound))
        return [Word(k + 0.3, k + 0.6, f"w{k}") for k in range(count)]

    short = [part for _ in range(9) for part in ((4.5, "anger"), 1.0)]
    sound = recording(1.0, *short, (70.0, "anger"), 1.0, (2.0, "anger"), 1.0)
    called, model = [], Reader()
    found = analyze((sound, RATE), model, vad="energy", words=words, hop=hop, smoothing=0)
    assert len(model.given) == len(found.track)
    assert [one for one in found.track if one.probabilities["sadness"] == 1]
    for text, point in zip(model.given, found.track, strict=True):
        inside = [w.text for w in found.words if point.start <= (w.start + w.end) / 2 < point.end]
        assert (text or "").split() == inside
        assert (point.probabilities["sadness"] == 1) == bool(inside)
    assert {text is None for text in model.given} == {True, False}
    assert found.notes == ()
    called.clear()
    pieces = Stream(Reader(), vad="energy", words=words, hop=hop, smoothing=0)
    points = []
    for at in range(0, len(sound), 4567):
        points += [one for one in pieces.push(sound[at : at + 4567]) if isinstance(one, Point)]
    assert pieces.finish() == found
    assert tuple(points) == found.track[: len(points)]
    assert len(points) > len(found.track) / 2


def test_a_model_that_reads_words_says_that_it_was_given_none():
    talk = recording(1.0, (3.0, "anger"), 1.0), recording(5.0)
    found = analyze((talk[0], RATE), Reader(), vad="energy")
    assert "predicted from sound alone, although reader also reads words; --words" in found.notes[0]
    assert {point.probabilities["sadness"] < 0.5 for point in found.track} == {True}
    lanes = np.stack(talk[::-1], 1), RATE  # the first channel is silent
    assert analyze(lanes, Reader(), vad="energy", channels="each").notes == found.notes
    assert analyze((talk[1], RATE), Reader(), vad="energy").notes == ()
    assert analyze((talk[0], RATE), Pitch(), vad="energy").notes == ()


def test_as_dict_is_plain():
    found = timeline(SOUND).as_dict()
    assert set(found) >= {"duration", "labels", "segments", "track", "speech", "overall", "model"}
    assert found["model"] == "pitch"
    assert set(found["segments"][0]) == {
        "start", "end", "speaker", "label", "confidence", "probabilities", "text",
    }  # fmt: skip
    assert set(found["track"][0]) == {"start", "end", "probabilities", "speaker"}
