"""Speech detection, and the canonical waveform that models get."""

import sys
from pathlib import Path

import numpy as np
import pytest

sys.path.append(str(Path(__file__).parents[1] / "benchmarks"))

from without_speech import ASIDE, KINDS, sounds

from made_timeline import RATE, recording, silence, syllables
from multimodal_ser.audio import read_audio
from multimodal_ser.audio.speech import (
    FRAME,
    SpeechFinder,
    Stretch,
    canonical,
    find_speech,
    make_gate,
    network,
)
from multimodal_ser.audio.speech.canonical import LEVEL, SILENT, WORDLESS
from multimodal_ser.audio.speech.network import VadNetwork
from multimodal_ser.errors import SerError

EMODB = Path(__file__).parents[2] / "shared" / "data" / "emodb" / "wav"
needs_emodb = pytest.mark.skipif(not EMODB.is_dir(), reason="EmoDB is not there")


@pytest.fixture(scope="module")
def clips():
    return [read_audio(path) for path in sorted(EMODB.iterdir())[:60:10]]


def rms(wave):
    return float(np.sqrt((wave.astype("f8") ** 2).mean()))


def likeness(a, b):
    """The greatest correlation of two waveforms over shifts: 1 where one holds the other."""
    size = len(a) + len(b)
    spectrum = np.fft.rfft(a, size) * np.conj(np.fft.rfft(b, size))
    return float(np.fft.irfft(spectrum, size).max() / np.sqrt((a**2).sum() * (b**2).sum()))


def test_network_equals_the_one_of_its_package(monkeypatch):
    """The package's ONNX file has other weights than its tensors; with those, both say the same."""
    onnx = pytest.importorskip("onnx")
    runtime = pytest.importorskip("onnxruntime")
    file = network.weights_file().with_name("silero_vad_16k_op15.onnx")
    given = {one.name: onnx.numpy_helper.to_array(one) for one in onnx.load(file).graph.initializer}
    weights = {"stft_conv.weight": given["model.stft.forward_basis_buffer"]}
    for part in ("weight", "bias"):
        for number in range(4):
            tensor = given[f"model.encoder.{number}.reparam_conv.{part}"]
            weights[f"conv{number + 1}.{part}"] = tensor
        weights[f"final_conv.{part}"] = given[f"model.decoder.decoder.2.{part}"]
        for side in ("ih", "hh"):
            weights[f"lstm_cell.{part}_{side}"] = given[f"model.decoder.rnn.{part}_{side}"]
    monkeypatch.setattr(network, "load_file", lambda file: weights)
    network._weights.cache_clear()
    sound = recording(0.5, (1.0, "anger"), 0.5)[: 60 * FRAME].reshape(1, 60, FRAME)
    session = runtime.InferenceSession(str(file))
    state, tail, theirs = np.zeros((2, 1, 128), "f4"), np.zeros((1, 64), "f4"), []
    for place in range(60):
        piece = np.concatenate([tail, sound[:, place]], 1)
        given = {"input": piece, "state": state, "sr": np.array(RATE, np.int64)}
        (said, state), tail = session.run(None, given), sound[:, place, -64:]
        theirs.append(said[0, 0])
    ours = VadNetwork()
    pieces = [ours(sound[:, first : first + 7]) for first in range(0, 60, 7)]
    network._weights.cache_clear()
    np.testing.assert_allclose(np.concatenate(pieces, 1)[0], theirs, atol=1e-5)


def test_several_recordings_at_once_are_heard_as_each_alone():
    sounds = np.random.default_rng(0).standard_normal((3, 20, FRAME)).astype("f4")
    for row, sound in zip(VadNetwork(3)(sounds), sounds, strict=True):
        np.testing.assert_allclose(VadNetwork()(sound[None])[0], row, atol=1e-5)


def test_missing_or_other_weights_are_named(monkeypatch, tmp_path):
    with monkeypatch.context() as patch:
        patch.setattr("importlib.util.find_spec", lambda name: None)
        with pytest.raises(SerError, match=r"pip install --no-deps 'silero-vad>=6.2.3'.*--vad"):
            network.weights_file()
    file = tmp_path / "silero_vad_16k.safetensors"
    file.write_bytes(b"no tensors")
    monkeypatch.setattr(network, "weights_file", lambda: file)
    network._weights.cache_clear()
    with pytest.raises(SerError, match=r"silero_vad_16k.safetensors: not the weights"):
        find_speech(syllables(1.0))
    network._weights.cache_clear()
    with pytest.raises(SerError, match="choose one of: auto, silero, energy, none"):
        make_gate("loud")


@pytest.mark.parametrize("level", [0.3, 0.003, 2e-5])
def test_silence_and_noise_say_why_there_is_no_speech(level):
    for sound in (silence(2.0, level), np.full(RATE, level, "f4")):
        found = find_speech(sound)
        assert found.stretches == ()
        flat = rms(sound - sound.mean()) < 10 ** (-90 / 20)
        assert found.reason == (SILENT if flat else WORDLESS)


def test_what_nobody_says_is_no_speech_or_doubtful():
    quiet = np.zeros(RATE, "f4")
    for kinds in (KINDS, ASIDE):
        made = [wave[: 4 * RATE] for _, wave in sounds(kinds, 2)]
        found = [find_speech(np.concatenate([edge, wave, edge])) for wave in made
                 for edge in (quiet[:0], quiet)]  # fmt: skip
        none = [one for one in found if one.reason is not None]
        assert len(none) >= 0.85 * len(found)
        assert len([one for one in found if one.sure > 0.5 and one not in none]) <= 0.05 * len(
            found
        )


@needs_emodb
def test_level_does_not_decide_what_is_speech(clips):
    for clip in clips:
        loud = find_speech(clip).stretches
        assert loud
        for level in (0.3, 0.03, 0.003):
            assert find_speech(level * clip).stretches == loud
        heard = canonical(clip)
        np.testing.assert_allclose(canonical(0.003 * clip), heard, atol=1e-4)
        assert rms(heard) == pytest.approx(LEVEL, rel=0.4)


@needs_emodb
@pytest.mark.parametrize("kind", [silence, lambda seconds: np.zeros(round(seconds * RATE), "f4")])
def test_silence_around_and_inside_changes_next_to_nothing(clips, kind):
    for clip in clips:
        around = np.concatenate([kind(2.0), clip, kind(1.7)])
        assert likeness(canonical(around), canonical(clip)) > 0.98
        assert len(canonical(around)) < len(clip) + 0.4 * RATE
    heard = canonical(np.concatenate([clips[0], kind(3.0), clips[1]]))
    assert len(heard) < len(clips[0]) + len(clips[1]) + 0.4 * RATE
    for clip in clips[:2]:
        assert likeness(heard, canonical(clip)) > 0.5  # each is there, as loud as half of it


def test_if_everything_is_speech_only_the_level_is_set():
    sound = syllables(1.0, level=0.01)
    heard = canonical(sound, ())
    assert len(sound) - 2 * RATE // 100 <= len(heard) <= len(sound)
    assert likeness(heard, sound) > 0.999
    around = canonical(np.pad(sound, (RATE // 10, RATE // 5)), ())
    np.testing.assert_allclose(around, heard, atol=1e-3)
    np.testing.assert_array_equal(canonical(np.zeros(800, "f4"), ()), np.zeros(800, "f4"))


def test_stretches_are_joined_without_a_click():
    time = np.arange(4 * RATE) / RATE
    sound = (0.1 * np.sin(2 * np.pi * 100 * time)).astype("f4")
    heard = canonical(sound, [Stretch(RATE, 2 * RATE), Stretch(3 * RATE - 40, 4 * RATE)])
    steps = np.abs(np.diff(heard))
    assert steps.max() < 1.2 * np.quantile(steps, 0.9)


@needs_emodb
def test_pieces_of_any_size_give_the_same_stretches(clips):
    sound = np.concatenate([silence(0.7), *clips[:3], silence(1.3)])
    whole = find_speech(sound).stretches
    for size in (100, 1600, 33_333):
        finder = SpeechFinder(make_gate())
        found = []
        for at in range(0, len(sound), size):
            found += finder.push(sound[at : at + size])
        assert (*found, *finder.finish()) == whole
