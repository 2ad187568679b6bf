"""Channels: what they hold, a timeline of each on one clock, and what leaks between them."""

import json

import numpy as np
import pytest
import soundfile

from made_timeline import RATE, Pitch, recording, silence
from multimodal_ser.audio import read_blocks
from multimodal_ser.audio.channels import compare_channels
from multimodal_ser.cli import main
from multimodal_ser.errors import SerError
from multimodal_ser.timeline import Word, analyze
from multimodal_ser.timeline.writers import WRITERS

AGENT = recording(1.0, (4.0, "anger"), 6.0, (3.0, "anger"), 1.0)
CUSTOMER = recording(6.0, (4.0, "sadness"), 5.0, level=0.0006)
CALL = np.stack([AGENT, CUSTOMER], 1)
ONE = recording(1.0, (4.0, "anger"), 1.0, (3.0, "sadness"), 1.0)


def kind(sound, rate=RATE):
    return compare_channels(read_blocks(sound, sample_rate=rate, mixed=False)).kind


def room(seed):
    """What a second microphone of one room hears: the same, later, with its own noise."""
    return np.roll(ONE, 12) * 0.7 + silence(len(ONE) / RATE, 0.001, seed)


@pytest.mark.parametrize(
    ("sound", "wanted"),
    [
        (CALL, "speakers"),
        (CALL * [1.0, 0.1], "speakers"),  # a quiet caller
        (np.stack([AGENT + 0.05 * CUSTOMER, CUSTOMER + 0.05 * AGENT], 1), "speakers"),  # an echo
        (np.stack([AGENT, CUSTOMER, silence(15.0, 0.0)], 1), "speakers"),
        (np.stack([ONE, ONE], 1), "identical"),
        (np.stack([ONE, -0.9 * ONE], 1), "cancelling"),
        (np.stack([ONE, 0 * ONE], 1), "silent"),
        (np.stack([ONE, room(1)], 1), "scene"),
        (np.stack([ONE, 0.2 * ONE + silence(10.0, 0.001)], 1), "scene"),  # panned to one side
        (np.stack([AGENT + 0.5 * CUSTOMER, CUSTOMER + 0.5 * AGENT], 1), "scene"),  # a stereo room
        (np.stack([silence(9.0, 0.1, 1), silence(9.0, 0.1, 2)], 1), "scene"),  # noise alone
        (ONE, "one"),
    ],
)
def test_what_channels_hold(sound, wanted):
    assert kind(sound) == wanted
    if wanted != "one":
        assert kind(sound[:, ::-1]) == wanted
    assert kind(np.repeat(sound, 3, axis=0), 48_000) == wanted


def test_who_says_little_in_a_long_recording_is_heard():
    rest = silence(300.0, 0.0)  # as of a line on which nobody speaks
    both = np.stack([np.concatenate([AGENT, rest]), np.concatenate([CUSTOMER, rest])], 1)
    assert kind(both) == "speakers"  # 4 of 315 s are the customer's
    busy = both.copy()
    busy[15 * RATE :, 0] = np.tile(AGENT, 20)
    assert compare_channels([busy.astype(np.float32)]).audible == (0, 1)
    click = np.zeros_like(both[:, 0])
    click[RATE : RATE + RATE // 10] = 0.5
    assert kind(np.stack([busy[:, 0], click], 1)) == "silent"


def test_each_channel_has_its_timeline_on_one_clock():
    found = analyze((CALL, RATE), Pitch(), vad="energy", names=["agent", "customer"])
    told = [(s.speaker, s.label, round(s.start), round(s.end)) for s in found.segments]
    assert told == [
        ("agent", "anger", 1, 5), ("customer", "sadness", 6, 10), ("agent", "anger", 11, 14)
    ]  # fmt: skip
    assert [(one.name, one.channel, round(one.seconds)) for one in found.speakers] == [
        ("agent", 0, 7), ("customer", 1, 4)
    ]  # fmt: skip
    assert found.speakers[0].overall["anger"] > 0.9 < found.speakers[1].overall["sadness"]
    assert found.notes == ("its channels 0, 1 have different speakers",)
    assert {point.speaker for point in found.track} == {"agent", "customer"}
    # a channel's timeline is that of the channel alone
    alone = analyze((CUSTOMER, RATE), Pitch(), vad="energy")
    mine = [s for s in found.segments if s.speaker == "customer"]
    assert [(s.start, s.end, s.probabilities) for s in mine] == [
        (s.start, s.end, s.probabilities) for s in alone.segments
    ]


def test_simultaneous_speakers_on_channels_are_separated():
    both = np.stack([recording(1.0, (6.0, "anger"), 1.0), recording(3.0, (3.0, "sadness"), 2.0)], 1)
    found = analyze((both, RATE), Pitch(), vad="energy", channels="each")
    assert [(s.speaker, s.label) for s in found.segments] == [
        ("channel 0", "anger"), ("channel 1", "sadness")
    ]  # fmt: skip
    assert len(found.speech) == 1  # the time in which anybody speaks


def test_crosstalk_is_ignored():
    echo = np.stack([AGENT + 0.05 * CUSTOMER, CUSTOMER + 0.05 * AGENT], 1)
    found = analyze((echo, RATE), Pitch(), vad="energy")
    told = [(s.speaker, s.label) for s in found.segments]
    assert told == [("channel 0", "anger"), ("channel 1", "sadness"), ("channel 0", "anger")]


def test_channels_are_chosen_by_option():
    mix = analyze((CALL, RATE), Pitch(), vad="energy", channels="mix")
    assert (mix.speakers, mix.notes) == ((), ())
    second = analyze((CALL, RATE), Pitch(), vad="energy", channels="1")
    assert [s.label for s in second.segments] == ["sadness"]
    turned = analyze((CALL, RATE), Pitch(), vad="energy", channels="1,0", names=["customer"])
    assert [one.name for one in turned.speakers] == ["customer", "channel 0"]
    same = analyze((np.stack([ONE, ONE], 1), RATE), Pitch(), vad="energy")
    assert (same.speakers, same.notes) == ((), ("its 2 channels are identical",))
    silent = analyze((np.stack([0 * ONE, ONE], 1), RATE), Pitch(), vad="energy")
    assert [s.label for s in silent.segments] == ["anger", "sadness"]
    assert silent.notes == ("of 2 channels, only channel 1 has sound",)
    for wrong, words in (("2", "the recording has 2"), ("left", "mix, each, auto"), ("", "auto")):
        with pytest.raises(SerError, match=words):
            analyze((CALL, RATE), Pitch(), channels=wrong)


def test_names_that_nobody_has_are_told():
    ask = {"vad": "energy", "names": ["agent", "customer", "clerk"]}
    told = analyze((CALL, RATE), Pitch(), **ask).notes
    assert told[-1] == "without a channel or speaker of that name: clerk"
    told = analyze((ONE, RATE), Pitch(), **ask).notes
    assert told == ("without a channel or speaker of that name: agent, customer, clerk",)
    with pytest.raises(SerError, match="names=agent,customer,clerk for channels=0,1; give one"):
        analyze((CALL, RATE), Pitch(), channels=(0, 1), **ask)


def test_words_belong_to_their_speakers():
    def words(sound):
        return [Word(0.5, 1.0, "yes")] if len(sound) < 5.5 * RATE else [Word(0.5, 1.0, "no")]

    found = analyze((CALL, RATE), Pitch(), vad="energy", words=words)
    assert {word.speaker for word in found.words} == {"channel 0", "channel 1"}
    assert all(s.text is not None for s in found.segments)


def test_files_and_every_format_say_who_speaks(tmp_path, monkeypatch, capsys):
    pytest.importorskip("praatio", reason="needs the extra 'annotations'")
    made = Pitch()
    made.modalities = ("audio",)
    monkeypatch.setattr("multimodal_ser.predict.load", lambda *given, **how: made)
    soundfile.write(tmp_path / "call.flac", CALL, RATE)
    given = ["analyze", str(tmp_path / "call.flac"), "--names", "agent,<b>customer", "--out"]
    given += [str(tmp_path / "out"), "--vad", "energy", "--formats", ",".join(WRITERS)]
    assert main(given) == 0
    out = capsys.readouterr().out
    assert "its channels 0, 1 have different speakers" in out
    assert "agent: speech 0:07; anger" in out
    for name, writer in WRITERS.items():
        file = tmp_path / "out" / f"call{writer.ending}"
        if name not in ("png", "html"):
            assert "agent" in file.read_text("utf-8"), name
    assert "<v &lt;b&gt;customer>" in (tmp_path / "out/call.vtt").read_text()
    told = json.loads((tmp_path / "out/call.json").read_text())
    assert [one["speaker"] for one in told["segments"]] == ["agent", "<b>customer", "agent"]
    assert told["speakers"][1]["channel"] == 1


def test_blocks_of_channels_are_those_of_each_alone(tmp_path):
    long = np.tile(CALL, (5, 1))
    for rate in (RATE, 44_100):
        soundfile.write(tmp_path / "x.wav", long, rate)
        whole = np.concatenate(list(read_blocks(tmp_path / "x.wav", mixed=False)))
        soundfile.write(tmp_path / "y.wav", long[:, 1], rate)
        np.testing.assert_array_equal(
            whole[:, 1], np.concatenate(list(read_blocks(tmp_path / "y.wav")))
        )


def test_channels_of_a_video_stay_apart(tmp_path):
    av = pytest.importorskip("av", reason="the extra 'video' is not installed")
    with av.open(str(tmp_path / "x.mkv"), "w") as file:
        stream = file.add_stream("pcm_s16le", rate=RATE, layout="stereo")
        for at in range(0, len(CALL), 1600):
            block = np.ascontiguousarray(32767 * CALL[at : at + 1600]).astype("i2").reshape(1, -1)
            frame = av.AudioFrame.from_ndarray(block, "s16", "stereo")
            frame.sample_rate, frame.pts = RATE, at
            file.mux(stream.encode(frame))
        file.mux(stream.encode(None))
    whole = np.concatenate(list(read_blocks(tmp_path / "x.mkv", mixed=False)))
    np.testing.assert_allclose(whole, CALL, atol=1e-4)
    assert kind(tmp_path / "x.mkv", None) == "speakers"
