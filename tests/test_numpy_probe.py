"""The starter model in numpy: the same predictions as torch, and no torch installed."""

import itertools
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch

from made_sound import tone, written
from multimodal_ser import load
from multimodal_ser.common.devices import numpy_threads
from multimodal_ser.encoders import whisper
from multimodal_ser.encoders.mel import log_mel, mel_filters
from multimodal_ser.errors import SerError, to_install
from multimodal_ser.predict.numpy_backend import NumpyBackend
from multimodal_ser.predict.tuned_backend import TunedBackend
from multimodal_ser.training.tune.numpy_probe import NumpyProbe, gelu


@pytest.fixture(scope="module")
def both():
    plain = load().backend
    assert isinstance(plain, NumpyBackend)
    return plain, TunedBackend(plain.file, "torch's")


def noise(samples, seed=0):
    return np.random.default_rng(seed).normal(0, 0.1, samples).astype("f4")


def test_numpy_gives_torchs_predictions(both):
    plain, torchs = both
    waves = [
        noise(8_000),
        noise(33_333, 1),
        tone(2.0),
        noise(31 * 16_000, 2),
    ]  # the last in windows
    shift = np.linspace(-1, 1, plain.references.shape[1]).astype("f4")
    for taken in (None, shift):
        ours, theirs = (one(waves, [None] * 4, taken) for one in (plain, torchs))
        np.testing.assert_allclose(ours.probabilities, theirs.probabilities, atol=1e-5)
        np.testing.assert_allclose(ours.embeddings, theirs.embeddings, atol=1e-3)
        np.testing.assert_allclose(ours.vectors, theirs.vectors, atol=1e-3)
    for name in ("labels", "threshold", "card", "canonical", "most"):
        assert getattr(plain, name) == getattr(torchs, name)
    np.testing.assert_array_equal(plain.references, torchs.references)
    np.testing.assert_array_equal(plain.shares, torchs.shares)


def test_a_long_recording_is_read_in_pieces_as_long_as_those_it_learnt_from(both):
    once = noise(4 * 16_000)
    for one in both:
        alone, long = one([once], [None]), one([np.tile(once, 4)], [None])
        np.testing.assert_allclose(long.probabilities, alone.probabilities, atol=1e-5)
        np.testing.assert_allclose(long.vectors, alone.vectors, atol=1e-4)


@pytest.mark.parametrize("cores", [1, 2, 3])
def test_any_number_of_cores_gives_the_same(both, monkeypatch, cores):
    several, one = [noise(30_000), noise(16_000, 1), tone(1.0)], [noise(40_000, 2)]
    expected = [NumpyProbe(both[0].file).pooled(wave) for wave in (*several[:1], *one)]
    library, _ = numpy_threads()
    monkeypatch.setattr(
        "multimodal_ser.predict.numpy_backend.numpy_threads", lambda: (library, cores)
    )
    plain = NumpyBackend(both[0].file, "starter")
    # in windows that are sorted by length, and a single one whose steps are divided
    found = plain(several, [None] * 3).vectors[0], plain(one, [None]).vectors[0]
    np.testing.assert_allclose(found, expected, atol=1e-4)


def test_what_was_read_for_a_channel_is_not_read_again(both, monkeypatch):
    plain = NumpyBackend(both[0].file, "starter")
    waves = [noise(30_000), tone(2.0)]
    first, shift = plain(waves, [None] * 2), np.ones(len(plain.references[0]), "f4")
    read, pooled = [], plain.model.pooled
    monkeypatch.setattr(plain.model, "pooled", lambda *given: read.append(1) or pooled(*given))
    np.testing.assert_array_equal(plain(waves, [None] * 2, shift).vectors, first.vectors)
    assert not read
    more = plain([noise(28_000, 3), *waves], [None] * 3, shift)
    np.testing.assert_array_equal(more.vectors[1:], first.vectors)
    assert len(read) == 1
    plain(waves[:1], [None])  # nobody who measures or asks again is given what was kept
    assert len(read) == 2


def test_its_parts_are_those_of_torch():
    wave = noise(5_000)
    filters = mel_filters(80)
    window = torch.hann_window(400)
    theirs = whisper.log_mel_tensor(
        torch.from_numpy(wave), torch.from_numpy(filters).float(), window
    )
    np.testing.assert_allclose(log_mel(wave, filters.astype("f4")).T, theirs.numpy(), atol=1e-5)
    x = np.linspace(-6, 6, 1001).astype("f4")
    np.testing.assert_allclose(
        gelu(x), torch.nn.functional.gelu(torch.from_numpy(x)).numpy(), atol=2e-6
    )


def test_what_is_no_probe_is_refused(tmp_path):
    (tmp_path / "model.safetensors").write_bytes(b"no tensors")
    with pytest.raises(SerError, match=r"model\.safetensors: not a linear probe"):
        NumpyProbe(tmp_path / "model.safetensors")


WITHOUT = """
import sys
class Refuse:
    def find_spec(self, name, path=None, target=None):
        if name.split(".")[0] in ("torch", "transformers", "scipy", "sklearn"):
            raise ModuleNotFoundError(f"No module named {name!r}", name=name)
sys.meta_path.insert(0, Refuse())
from multimodal_ser.cli import main
codes = [main(words.split()) for words in sys.argv[1:]]
print("CODES", *codes)
"""


def without_torch(folder, commands):
    return subprocess.run(
        [sys.executable, "-c", WITHOUT, *commands],
        cwd=folder, capture_output=True, text=True, check=False,
        env={**os.environ, "PYTHONPATH": str(Path(__file__).parents[1] / "src")},
    )  # fmt: skip


def test_recordings_are_predicted_without_torch(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)  # what is to be installed is named as seen from there
    written(tmp_path / "a.wav", noise(16_000))
    commands = [
        "predict a.wav --vad none", "analyze a.wav --vad none --out timelines",
        "adapt a.wav --vad none --out channel.json", "train --features f --labels emodb7 --out r",
        "predict a.wav --device cuda",
    ]  # fmt: skip
    done = without_torch(tmp_path, commands)
    assert "CODES 0 0 0 1 1" in done.stdout, done.stderr
    assert (
        done.stderr.count(f"this needs torch, which is not installed: {to_install('train')}\n") == 2
    )
    assert (tmp_path / "timelines" / "a.html").is_file()


def test_corpora_are_listed_read_checked_and_split_where_torch_is_not_installed(
    tmp_path, monkeypatch
):
    monkeypatch.chdir(tmp_path)
    for speaker, emotion in itertools.product("abcd", ("anger", "fear", "sadness")):
        folder = tmp_path / "mine" / emotion
        folder.mkdir(parents=True, exist_ok=True)
        written(folder / f"{speaker}.wav", noise(16_000, ord(speaker) + ord(emotion[0])))
    commands = [
        "list", "list emodb", r"manifest folders --root mine --speaker (\w).wav --out m.jsonl",
        "check m.jsonl", "split m.jsonl --labels anger,fear,sadness --scheme speaker --out s.json",
    ]  # fmt: skip
    done = without_torch(tmp_path, commands)
    assert "CODES 0 0 0 0 0" in done.stdout, done.stderr
    assert f"this needs torch, which is not installed: {to_install('train')}" in done.stdout
    assert "12 utterances checked, 0 findings" in done.stdout
