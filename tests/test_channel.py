"""Recordings without speech have no emotion; the channel of recordings is removed."""

import io
import json
from functools import partial
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest

from made_models import made_run, made_tuned, noise
from made_sound import written
from made_timeline import LABELS, Pitch, syllables
from multimodal_ser import load
from multimodal_ser.audio import read_audio
from multimodal_ser.audio.speech.canonical import SILENT, WORDLESS
from multimodal_ser.cli import main
from multimodal_ser.errors import NoSpeechError, SerError
from multimodal_ser.export import export
from multimodal_ser.predict import Channel, Prediction
from multimodal_ser.predict.channel import space_of
from multimodal_ser.predict.prediction import discounted
from multimodal_ser.predict.writing import write_table
from multimodal_ser.timeline import analyze
from multimodal_ser.timeline.adapting import adapted_to, channel_of
from multimodal_ser.timeline.writers import headline

EMODB = Path(__file__).parents[2] / "shared" / "data" / "emodb" / "wav"
needs_emodb = pytest.mark.skipif(not EMODB.is_dir(), reason="EmoDB is not there")
SILENCE = np.zeros(16_000, "f4")


@pytest.fixture(scope="module")
def file(tmp_path_factory):
    return made_tuned(tmp_path_factory.mktemp("tuned") / "model.safetensors")


@pytest.fixture
def model(file):
    return load(file)


def sounds(count, seconds=0.5):
    return [(noise(seconds, seed), 16_000) for seed in range(count)]


def test_no_speech_is_a_label_with_its_reason(model):
    quiet, hiss = model([(SILENCE, 16_000), (noise(1.0), 16_000)])
    assert (quiet.label, hiss.label) == ("no speech", "no speech")
    assert (quiet.reason, hiss.reason) == (SILENT, WORDLESS)
    told = json.loads(json.dumps(hiss.as_dict()))
    assert (told["label"], told["reason"], told["confidence"]) == (
        "no speech", WORDLESS, pytest.approx(1 / 3),
    )  # fmt: skip
    model.vad = "none"
    assert model((noise(1.0), 16_000)).reason is None


@needs_emodb
def test_added_silence_does_not_change_the_prediction(file):
    clip = read_audio(sorted(EMODB.iterdir())[3])
    model = load(file)
    model.backend.canonical = True
    alone = model((clip, 16_000))
    assert alone.reason is None
    around = np.concatenate([np.zeros(30_000, "f4"), clip, np.zeros(21_111, "f4")])
    for other in (around, 0.01 * clip):
        again = model((other, 16_000))
        np.testing.assert_allclose(again.probabilities, alone.probabilities, atol=0.03)
    mixed = model.waves([SILENCE, clip, SILENCE])
    assert [item.label == "no speech" for item in mixed] == [True, False, True]
    np.testing.assert_allclose(mixed[1].probabilities, alone.probabilities, atol=1e-5)


def test_the_distance_from_the_training_data_is_shown():
    class Far(Pitch):
        def waves(self, waves, texts=None, *, speech=False):
            found = super().waves(waves, texts, speech=speech)
            return [SimpleNamespace(**vars(one) | {"distance": 2.5}) for one in found]

    found = analyze((syllables(5.0), 16_000), Far(), vad="none")
    assert (found.distance, found.as_dict()["distance"]) == (2.5, 2.5)
    assert found.as_dict()["threshold"] == Far.threshold
    assert "distance 2.5" in headline(found)
    shares = np.full(3, 1 / 3, "f4")
    rows = [
        (f"{far}.wav", Prediction(LABELS, shares, shares, 0.0, 1.0, 0.4, distance=far))
        for far in (1.0, 2.5)
    ]
    table = io.StringIO()
    write_table(rows, LABELS, table)
    near, other = table.getvalue().splitlines()
    assert "unlike" not in near
    assert "unlike the training data of the model (2.5)" in other


@pytest.mark.usefixtures("all_is_speech")
def test_a_channel_is_that_of_several_recordings(file):
    model = load(file)
    given = sounds(3)
    assert model.adapted(one for one in given).channel.count == 3
    for wrong, said in ((None, "NoneType"), (3, "int"), (given[0], "tuple")):
        with pytest.raises(SerError, match=rf"a channel of {said}; allowed: several recordings"):
            model.adapted(wrong)


def test_while_the_channel_is_heard_others_have_a_turn_and_the_work_can_be_stopped(model):
    told = []
    how = {"vad": "none", "adapt": True}
    analyze((noise(65.0), 16_000), model, on_progress=lambda done, whole: told.append(done), **how)
    assert told == [0, 0, 0, 30, 60, 65]

    def stop(done, whole):
        raise KeyboardInterrupt

    model.channel_of = None  # is not reached
    with pytest.raises(KeyboardInterrupt):
        analyze((noise(65.0), 16_000), model, on_progress=stop, **how)


def test_doubtful_speech_gives_no_class_a_high_probability():
    shares = np.array([0.9, 0.06, 0.04], "f4")
    assert discounted(shares, 0.0).tolist() == pytest.approx([1 / 3] * 3)
    assert discounted(shares, 0.4).max() < 0.6
    np.testing.assert_array_equal(discounted(shares, 1.0), shares)


@pytest.mark.usefixtures("all_is_speech")
def test_a_channel_is_removed_saved_and_read(model, file, tmp_path):
    given = sounds(12)
    adapted = model.adapted(given)
    assert (model.channel, adapted.channel.count) == (None, 12)
    plain, other = model(given[0]), adapted(given[0])
    assert (plain.adapted, other.adapted) == (None, 12)
    assert np.abs(plain.probabilities - other.probabilities).max() > 1e-4
    assert "shift" not in repr(adapted.channel)  # hundreds of numbers
    saved = adapted.channel.save(tmp_path / "new" / "channel.json")
    again = load(file).adapted(Channel.read(saved))
    np.testing.assert_array_equal(again(given[0]).probabilities, other.probabilities)
    for write in (adapted.save, partial(export, adapted)):  # the file of a model has no channel
        with pytest.raises(SerError, match=r"adapted to a channel, .* predictor.channel.save"):
            write(tmp_path / "kept")
    assert not (tmp_path / "kept").exists()
    # by hand: the head on vectors less the shift
    answer = model.backend([given[0][0]], [None])
    import torch

    with torch.inference_mode():
        logits = model.backend.model.predict_from(
            torch.from_numpy(answer.vectors - adapted.channel.shift)
        ).logits
    np.testing.assert_allclose(logits.softmax(1)[0], other.probabilities, atol=1e-5)


@pytest.mark.usefixtures("all_is_speech")
def test_channels_of_other_models_and_other_files_are_refused(model, tmp_path, tmp_path_factory):
    other = Channel(model.adapted(sounds(3)).channel.shift, 3, "0" * 16, "another")
    with pytest.raises(SerError, match="was estimated with another"):
        model.adapted(other)
    for text in ("", "{}", '{"kind": "channel", "shift": "AA=="}', '["x"]'):
        (tmp_path / "x.json").write_text(text)
        with pytest.raises(SerError, match=r"x.json: not a channel .*ser adapt"):
            Channel.read(tmp_path / "x.json")
    from made_encoders import tiny

    root = tmp_path_factory.mktemp("encoders")
    run = load(made_run(tmp_path / "run", root), weights=tiny("whisper-tiny", root))
    with pytest.raises(SerError, match="run cannot be adapted"):
        run.adapted(sounds(3))
    assert adapted_to(sounds(12), run) is run


def test_silent_recordings_have_no_channel(model):
    with pytest.raises(NoSpeechError, match="no speech in 11 recordings"):
        model.adapted([(SILENCE, 16_000)] * 11)
    with pytest.raises(NoSpeechError, match="no speech in 1 recording,"):
        channel_of([(SILENCE, 16_000)], model)
    assert adapted_to([(SILENCE, 16_000)], model) is model


@pytest.mark.usefixtures("all_is_speech")
def test_a_long_recording_shows_its_own_channel(model):
    long = (noise(40.0), 16_000)
    adapted = adapted_to([long], model)
    assert adapted.channel.count == 13  # pieces of 3 s, and less than half of one
    assert adapted_to([(noise(20.0), 16_000)], model).channel is None  # too few
    timeline = analyze(long, adapted)
    assert (timeline.adapted, timeline.as_dict()["adapted"]) == (13, 13)
    assert analyze(long, model).adapted is None


@pytest.mark.usefixtures("all_is_speech")
def test_a_given_channel_is_kept_where_each_recording_is_adapted_to_its_own(model):
    """As on a server with --adapt FILE, whose jobs adapt by default."""
    long, given = (noise(40.0), 16_000), model.adapted(sounds(12))
    found = analyze(long, given, adapt=True)
    assert found == analyze(long, given)
    assert found.adapted == 12
    assert analyze(long, model, adapt=True).adapted == 13


def test_a_server_has_turns_for_others_while_it_adapts(model):
    pytest.importorskip("fastapi")
    from multimodal_ser.serve.scheduling import Yielding

    paused = []
    mine = Yielding(model, lambda: paused.append(1))
    channel = mine.channel_of([noise(0.5, n) for n in range(40)], speech=True)
    assert len(paused) == 2  # between three batches
    adapted = mine.adapted(channel)
    assert adapted.channel is channel
    adapted.waves([noise(30.0)] * 3, speech=True)
    assert len(paused) == 3  # after a minute


@pytest.mark.slow
@pytest.mark.usefixtures("all_is_speech")
def test_onnx_takes_the_same_channel(model, tmp_path):
    pytest.importorskip("onnxruntime")
    from multimodal_ser.export import export

    model.backend.canonical = True
    exported = load(export(model, tmp_path / "model.onnx").file)
    assert exported.backend.canonical
    given = sounds(12, 0.4)
    channel = model.adapted(given).channel
    theirs = exported.adapted(given).channel
    np.testing.assert_allclose(theirs.shift, channel.shift, atol=2e-3)
    for mine, other in zip(
        model.adapted(channel)(given[:2]), exported.adapted(channel)(given[:2]), strict=True
    ):
        np.testing.assert_allclose(other.probabilities, mine.probabilities, atol=1e-4)
    for mine, other in zip(model(given[:2]), exported(given[:2]), strict=True):
        np.testing.assert_allclose(other.probabilities, mine.probabilities, atol=1e-4)


@pytest.mark.usefixtures("all_is_speech")
def test_commands(file, tmp_path, capsys):
    (tmp_path / "calls").mkdir()
    for number, (wave, rate) in enumerate(sounds(11)):
        written(tmp_path / "calls" / f"{number:02}.wav", wave, rate)
    calls, channel = str(tmp_path / "calls"), str(tmp_path / "channel.json")
    by_folder = load(file).adapted(calls).channel
    assert main(["adapt", calls, "--out", channel, "--model", str(file)]) == 0
    assert "the channel of 11 recordings" in capsys.readouterr().out
    np.testing.assert_allclose(Channel.read(channel).shift, by_folder.shift, atol=1e-4)

    def predicted(*more):
        assert main(["predict", calls, "--model", str(file), "--format", "json", *more]) == 0
        told = capsys.readouterr()
        return json.loads(told.out), told.err

    plain, said = predicted("--adapt", "off")
    assert {row["adapted"] for row in plain} == {None}
    assert "adapted" not in said
    auto, said = predicted()
    assert {row["adapted"] for row in auto} == {11}
    assert "adapted to the recordings' channel, known from 11 recordings" in said
    of_file, said = predicted("--adapt", channel)
    assert of_file == auto
    assert channel in said
    assert auto[0]["probabilities"] != plain[0]["probabilities"]
    one, share = by_folder.mostly
    labels = [max(row["probabilities"], key=row["probabilities"].get) for row in plain]
    assert share == labels.count(one) / 11 == max(map(labels.count, labels)) / 11
    wave, rate = sounds(1)[0]
    paths = sorted((tmp_path / "calls").iterdir())
    for path in paths:  # eleven times the same recording
        written(path, wave, rate)
    assert "adapted" not in predicted()[1]  # is one, of which no channel is estimated
    for number, path in enumerate(paths):  # eleven that are alike
        written(path, (1 - 0.01 * number) * wave, rate)
    _, said = predicted()
    assert f"without it 100% of them would be {labels[0]}" in said
    assert f"if most of them really are {labels[0]}, use --adapt off" in said
    assert main(["predict", calls, "--model", str(file), "--adapt", "none.json"]) == 1
    assert "none.json: not a channel" in capsys.readouterr().err
    few = ["analyze", f"{calls}/00.wav", "--model", str(file), "--formats", "none"]
    assert main([*few, "--adapt", channel]) == 0
    assert "adapted to 11 pieces" in capsys.readouterr().out
    assert main(few) == 0
    assert "adapted" not in capsys.readouterr().out


@pytest.mark.usefixtures("all_is_speech")
@pytest.mark.parametrize("count", [2, 11])
def test_recordings_that_show_no_channel_since_they_cannot_be_read_are_named(
    file, tmp_path, capsys, count
):
    for number, (wave, rate) in enumerate(sounds(count)):
        written(tmp_path / f"{number:02}.wav", wave, rate)
    (tmp_path / "bad.wav").write_text("nothing")
    given = ["adapt", str(tmp_path), str(tmp_path / "none.wav"), "--model", str(file)]
    assert main([*given, "--out", str(tmp_path / "channel.json")]) == 1
    told = capsys.readouterr()
    assert f"the channel of {count} recordings" in told.out
    assert f"failed: {tmp_path / 'bad.wav'}: is text, not audio" in told.err
    assert f"failed: {tmp_path / 'none.wav'}: no such file" in told.err
    assert f"2 of {count + 2} recordings failed" in told.err
    assert Channel.read(tmp_path / "channel.json").count == count
    for name in tmp_path.glob("[0-9]*.wav"):
        name.write_bytes(b"")
    assert main([*given, "--out", str(tmp_path / "channel.json")]) == 1
    told = capsys.readouterr().err
    assert told.count("is empty (0 bytes)") == count
    assert f"{count + 2} of {count + 2} recordings failed" in told
    assert "error: no recording can be read" in told


@pytest.mark.parametrize("command", ["predict", "adapt"])
def test_an_output_file_is_not_one_of_the_recordings(file, tmp_path, capsys, command):
    sound = written(tmp_path / "a.wav", *sounds(1)[0])
    (tmp_path / "link").symlink_to(sound)
    before = sound.read_bytes()
    for out in (sound, tmp_path / "link"):
        assert main([command, str(tmp_path), "--model", str(file), "--out", str(out)]) == 1
        assert f"--out {out}: is the recording {sound}" in capsys.readouterr().err
        assert sound.read_bytes() == before


@needs_emodb
def test_recordings_like_those_of_the_training_keep_their_one_emotion(tmp_path, capsys):
    for path in sorted(EMODB.glob("*W*.flac"))[:12]:  # W: Wut, anger
        (tmp_path / path.name).symlink_to(path)
    assert main(["predict", str(tmp_path), "--format", "json"]) == 0
    told = capsys.readouterr()
    assert "no channel is removed: 12 recordings or pieces of 3 s are as near" in told.err
    rows = json.loads(told.out)
    assert [row["label"] for row in rows].count("anger") >= 10
    assert {row["adapted"] for row in rows} == {None}


def test_a_channel_that_changes_nothing_is_not_said_to_be_removed(model):
    references = model.backend.references
    nothing = Channel(np.zeros(references.shape[1], "f4"), 12, space_of(references), model.name)
    adapted, sound = model.adapted(nothing), sounds(1)[0]
    adapted.vad = "none"
    assert adapted(sound).adapted is None
    timeline = analyze(sound, adapted, vad="none")
    assert timeline.segments
    assert timeline.adapted is None
    assert "adapted" not in headline(timeline)


@pytest.mark.usefixtures("all_is_speech")
def test_every_command_says_that_a_channel_changes_nothing(file, tmp_path, capsys, monkeypatch):
    model, sound = load(file), str(written(tmp_path / "a.wav", *sounds(1)[0]))
    references = model.backend.references
    shift = np.zeros(references.shape[1], "f4")
    nothing = Channel(shift, 1, space_of(references), model.name)
    monkeypatch.setattr("multimodal_ser.timeline.adapting.channel_of", lambda *_, **__: nothing)
    monkeypatch.setattr("multimodal_ser.serve.run", lambda *_: None)
    channel, by = str(tmp_path / "channel.json"), ["--model", str(file)]
    for command in (
        ["adapt", sound, *by, "--out", channel],
        ["predict", sound, *by, "--adapt", channel],
        ["analyze", sound, *by, "--adapt", channel, "--formats", "none"],
        ["serve", *by, "--adapt", channel],
    ):
        assert main(command) in (0, None)
        told = capsys.readouterr().err
        assert "no channel is removed: 1 recording or piece of 3 s is as near" in told, command
