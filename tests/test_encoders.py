"""Every encoder by its contract: small random networks, and the installed real ones."""

import hashlib
import os
import subprocess
import sys
from dataclasses import replace
from importlib.util import find_spec
from pathlib import Path

import numpy as np
import pytest
import torch

from made_emotion2vec import close
from made_encoders import tiny
from multimodal_ser.audio import read_audio
from multimodal_ser.encoders import ENCODERS, load_encoder
from multimodal_ser.encoders.base import chosen_layers, windows
from multimodal_ser.encoders.exposure import DECLARED_CORPORA, published
from multimodal_ser.encoders.weight_sources import WEIGHT_SOURCES, Offline, assembled
from multimodal_ser.errors import EncoderError, SerError

DATA = Path(__file__).parents[2] / "shared" / "data"
SENTENCES = ["so what", "", "what else !", "so so so so whatr zebra", "else " * 40]
LENGTHS = [400, 16_000, 401, 5_123, 16_000, 9_999, 33_000]


def waves(lengths=LENGTHS):
    noise = np.random.default_rng(0)
    return [noise.normal(0, 0.1, length).astype(np.float32) for length in lengths]


@pytest.fixture(scope="session")
def root(tmp_path_factory):
    return tmp_path_factory.mktemp("encoders")


def loaded(name, root, **options):
    return load_encoder(name, tiny(name, root), **options)


@pytest.mark.parametrize("name", ENCODERS)
def test_contract(name, root):
    encoder = loaded(name, root)
    info = encoder.info
    assert (info.name, info.modality) == (name, ENCODERS[name].modality)
    # No training is known of a folder's weights, whatever name they are loaded under.
    assert info.exposure.keys() == published(name).corpora.keys()
    if name != "egemaps":
        worst = "labels" if name.startswith("emotion2vec-plus") else "unknown"
        assert {info.exposure[corpus].saw for corpus in DECLARED_CORPORA} == {worst}
        assert all("unknown: from a local" in what.source for what in info.exposure.values())
    items = waves() if info.modality == "audio" else SENTENCES
    if name == "egemaps":
        items = items[1:2] + items[3:]
    before = [np.copy(item) for item in items]
    batch = encoder(items)
    assert encoder([]) == []
    for item, frames in zip(items, batch, strict=True):
        assert frames.dtype == np.float32
        assert frames.shape[1] == info.dim
        assert len(frames) >= 1
        assert np.isfinite(frames).all()
        close(frames, encoder([item])[0])
        close(frames, encoder([items[-1], item, items[0]])[1])
    for item, copy in zip(items, before, strict=True):
        np.testing.assert_array_equal(item, copy)
    for again, frames in zip(encoder(items), batch, strict=True):
        np.testing.assert_array_equal(again, frames)


@pytest.mark.parametrize("name", ENCODERS)
def test_weights_hash(name, root):
    info = loaded(name, root).info
    assert len(info.weights) == 64
    if name in WEIGHT_SOURCES:
        file = tiny(name, root) / "model.safetensors"
        assert info.weights == hashlib.sha256(file.read_bytes()).hexdigest()


@pytest.mark.parametrize("name", ENCODERS)
def test_what_it_was_trained_on_is_declared(name):
    spec = ENCODERS[name]
    assert {"*", *DECLARED_CORPORA} <= set(published(name).corpora)
    for exposure in published(name).corpora.values():
        assert exposure.saw in ("labels", "unlabelled", "no", "unknown")
        assert len(exposure.source) > 30
    assert spec.about
    assert "\n" not in spec.about


@pytest.mark.parametrize("name", [n for n, spec in ENCODERS.items() if spec.modality == "audio"])
def test_wrong_waveforms(name, root):
    encoder = loaded(name, root)
    good = waves([16_000])[0]
    with pytest.raises(EncoderError, match=r"item 1 has 399 samples; it needs at least \d+"):
        encoder([good, good[:399]])
    for bad in (good[None], (good * 999).astype(np.int16), np.full(16_000, np.nan)):
        with pytest.raises(EncoderError, match="item 0"):
            encoder([bad])


@pytest.mark.parametrize("name", ["bert", "minilm"])
def test_tokens(name, root):
    encoder = loaded(name, root)
    assert encoder.info.pool == {"bert": "first", "minilm": "mean"}[name]
    batch = encoder([*SENTENCES, "so " * 600])
    assert [len(frames) for frames in batch] == [4, 2, 5, 9, 42, 512]
    with pytest.raises(EncoderError, match="item 1 is NoneType"):
        encoder(["so", None])


@pytest.mark.parametrize("name", ["whisper-tiny", "whisper-base", "wav2vec2"])
def test_layers(name, root):
    whole = loaded(name, root, layers=(1, 2, 3)).info
    assert (whole.layers, whole.dim) == ("1,2,3", 48)
    item = waves([8_000])
    both, last = (loaded(name, root, layers=chosen)(item)[0] for chosen in ((1, 3), (3,)))
    np.testing.assert_array_equal(both[:, 16:], last)
    default = {"wav2vec2": "3"}.get(name, "2,3,4")
    assert loaded(name, root).info.layers == default
    first = {"wav2vec2": 0}.get(name, 1)  # transformers gives what enters the first block too
    for wrong in ((), (first - 1,), (5,), (2, 2)):
        with pytest.raises(EncoderError, match=f"allowed: all, or one or more of {first} to"):
            loaded(name, root, layers=wrong)


def test_wav2vec2_with_layer_norm_pads(root):
    import transformers as hf

    torch.manual_seed(0)
    config = hf.Wav2Vec2Config(
        hidden_size=16, num_hidden_layers=2, num_attention_heads=2, intermediate_size=32,
        conv_dim=(8,) * 7, num_conv_pos_embeddings=16, num_conv_pos_embedding_groups=2,
        feat_extract_norm="layer", do_stable_layer_norm=True, conv_bias=True,
    )  # fmt: skip
    hf.Wav2Vec2Model(config).save_pretrained(root / "layer")
    encoder = load_encoder("wav2vec2", root / "layer")
    assert encoder.network.pads
    for frames, item in zip(encoder(waves()), waves(), strict=True):
        close(frames, encoder([item])[0])


def test_long_recordings_are_cut_into_equal_windows(root):
    for samples in (1, 480_000, 480_001, 959_999, 10_000_019):
        cuts = windows(samples, 480_000, 320)
        sizes = [cut.stop - cut.start for cut in cuts]
        assert sum(sizes) == samples
        assert max(sizes) <= 480_000
        assert max(sizes) - min(sizes) <= 2 * 320 * len(sizes)
        assert all(cut.start % 320 == 0 for cut in cuts)
    for name in ("whisper-tiny", "wav2vec2"):
        long, short = waves([16_000 * 65, 16_000])
        frames = loaded(name, root)([long, short])
        assert abs(len(frames[0]) - 65 * 50) <= 3
        close(frames[1], loaded(name, root)([short])[0])
    assert chosen_layers("x", [2, 1], 2) == (2, 1)


def test_unknown_names_and_options():
    with pytest.raises(
        EncoderError, match=r"one of: whisper-tiny, whisper-base.*give a folder or hub id"
    ):
        load_encoder("whisper")
    with pytest.raises(EncoderError, match="unknown option 'layer'; it takes: layers, revision"):
        load_encoder("whisper-tiny", layer=3)
    with pytest.raises(EncoderError, match="it has no weights"):
        load_encoder("egemaps", "folder")


def test_listing_encoders_imports_no_torch():
    code = "import sys, multimodal_ser.encoders as e; e.ENCODERS; print(*sys.modules)"
    env = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, check=True, env=env)
    assert not {"torch", "transformers", "huggingface_hub"} & set(done.stdout.decode().split())


def installed(name):
    offline = WEIGHT_SOURCES[name].offline
    packages = {offline.package, *(part.split("/")[0] for part in offline.parts)}
    return all(find_spec(package) for package in packages)


@pytest.mark.parametrize("name", [n for n, home in WEIGHT_SOURCES.items() if home.offline])
def test_offline_package(name, monkeypatch):
    if not installed(name):
        pytest.skip(f"the extra {WEIGHT_SOURCES[name].offline.extra!r} is not installed")
    encoder = load_encoder(name)
    assert encoder.info.weights == WEIGHT_SOURCES[name].offline.sha256
    assert encoder.info.dim == {"whisper-tiny": 1152, "whisper-base": 1536, "minilm": 384}[name]
    items = waves() if encoder.info.modality == "audio" else ["", "It's eleven o'clock.", "Go!"]
    for frames, item in zip(encoder(items), items, strict=True):
        close(frames, encoder([item])[0], 1e-4)  # white noise magnifies float32's rounding
    monkeypatch.setattr("multimodal_ser.encoders.weights._sha256", lambda name, file: "0" * 64)
    with pytest.raises(EncoderError, match=r"was altered.*--force-reinstall"):
        load_encoder(name)


def test_weights_that_are_cut_over_packages_are_put_together_once(tmp_path, monkeypatch):
    for package, files in {
        "made_a": {"x.1": b"one"},
        "made_b": {"x.2": b"two", "c.json": b"{}"},
    }.items():
        (tmp_path / package).mkdir()
        for name, content in files.items():
            (tmp_path / package / name).write_bytes(content)
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    offline = Offline("made_b", "made", "", "0" * 64, parts=("made_a/x.1", "made_b/x.2"))
    folder = assembled("made", offline, tmp_path / "made_b")
    assert (folder / "model.bin").read_bytes() == b"onetwo"
    assert sorted(file.name for file in folder.iterdir()) == ["c.json", "model.bin"]
    assert [one.name for one in folder.parent.iterdir()] == ["made-000000000000"]
    (tmp_path / "made_a" / "x.1").unlink()
    assert assembled("made", offline, tmp_path / "made_b") == folder
    (tmp_path / "file").touch()
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "file"))
    (tmp_path / "made_a" / "x.1").touch()
    with pytest.raises(EncoderError, match="set XDG_CACHE_HOME"):
        assembled("made", offline, tmp_path / "made_b")


def test_a_missing_half_is_said(monkeypatch):
    parts = ("not_there_at_all/data/a", "multimodal_ser/b")
    home = replace(
        WEIGHT_SOURCES["whisper-base"],
        offline=replace(WEIGHT_SOURCES["whisper-base"].offline, parts=parts),
    )
    monkeypatch.setitem(WEIGHT_SOURCES, "whisper-base", home)
    with pytest.raises(EncoderError, match=r"not_there_at_all.*pip install .*\[offline-base\]"):
        load_encoder("whisper-base")


def test_egemaps_needs_the_extra(monkeypatch):
    monkeypatch.setitem(sys.modules, "opensmile", None)
    with pytest.raises(SerError, match=r"pip install .*\[egemaps\]'"):
        load_encoder("egemaps")


@pytest.mark.skipif(not (DATA / "emodb").is_dir(), reason="shared/data is not here")
def test_real_speech_in_one_batch():
    if not installed("whisper-tiny"):
        pytest.skip("the extra 'offline' is not installed")
    encoder = load_encoder("whisper-tiny")
    items = [read_audio(path) for path in sorted((DATA / "emodb" / "wav").glob("*.flac"))[:6]]
    for frames, item in zip(encoder(items), items, strict=True):
        assert len(frames) == (len(item) // 160 + 1) // 2
        close(frames, encoder([item])[0])
