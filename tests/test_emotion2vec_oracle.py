"""emotion2vec against FunASR's own network, live where it is installed, and by goldens."""

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors import safe_open
from safetensors.torch import save_file

import funasr_oracle
from make_emotion2vec_goldens import FILE, LENGTHS, made_wave
from multimodal_ser.audio import read_audio
from multimodal_ser.encoders import load_encoder

EMODB = Path(__file__).parents[2] / "shared" / "data" / "emodb" / "wav"
PLUS = "emotion2vec-plus-base"
needs_funasr = pytest.mark.skipif(
    not funasr_oracle.available(),
    reason="FunASR is not installed: pip install --no-deps funasr==1.4.16; pip install omegaconf",
)


def speech(count):
    if not EMODB.is_dir():
        return []
    return [read_audio(path) for path in sorted(EMODB.glob("*.flac"))[7::61][:count]]


def noise(seconds):
    samples = round(seconds * 16_000)
    return np.random.default_rng(samples).normal(0.02, 0.1, samples).astype(np.float32)


def relative(got, wanted):
    assert got.shape == wanted.shape
    return np.abs(got - wanted).max() / np.abs(wanted).max()


def cosine(a, b):
    return a @ b / np.linalg.norm(a) / np.linalg.norm(b)


def pair(folder, sizes, **options):
    """FunASR's network, and our encoder of its weights."""
    theirs = funasr_oracle.network(**sizes)
    torch.save({"model": theirs.state_dict()}, folder / "model.pt")
    return theirs, load_encoder(PLUS, folder, **options)


@pytest.fixture(scope="module")
def goldens(tmp_path_factory):
    folder = tmp_path_factory.mktemp("goldens")
    with safe_open(FILE, "pt") as tensors:
        content = {key: tensors.get_tensor(key) for key in tensors.keys()}  # noqa: SIM118
        labels = json.loads(tensors.metadata()["labels"])
    state = {k.removeprefix("weights/"): v for k, v in content.items() if k[:7] == "weights"}
    save_file(state, folder / "model.safetensors")
    (folder / "tokens.txt").write_text("\n".join(labels))
    return load_encoder(PLUS, folder), content


@pytest.mark.parametrize("samples", LENGTHS)
def test_goldens(goldens, samples):
    encoder, content = goldens
    wave = made_wave(samples).numpy()
    assert relative(encoder([wave])[0], content[f"frames/{samples}"].numpy()) < 1e-5
    wanted = [p for p in content[f"scores/{samples}"].tolist() if p]
    assert list(encoder.classify([wave])[0].values()) == pytest.approx(wanted, abs=1e-6)


def test_goldens_in_one_batch(goldens):
    encoder, content = goldens
    frames = encoder([made_wave(samples).numpy() for samples in LENGTHS])
    for got, samples in zip(frames, LENGTHS, strict=True):
        assert relative(got, content[f"frames/{samples}"].numpy()) < 1e-5


NARROW = {"dim": 96, "heads": 12, "channels": 64, "classes": 9}
LAYOUTS = {
    "base": {**NARROW, "first": 4, "later": 8},
    "large": {**NARROW, "heads": 16, "first": 4, "later": 8},
}
LONGEST = {"base": 30.0, "large": 10.0}  # seconds


@needs_funasr
@pytest.mark.parametrize("layout", LAYOUTS)
def test_frames_agree(layout, tmp_path):
    theirs, ours = pair(tmp_path, LAYOUTS[layout])
    waves = [noise(0.025), noise(0.1), noise(1.0), noise(3.3), noise(LONGEST[layout]), *speech(4)]
    for wave, frames in zip(waves, ours(waves), strict=True):
        wanted = funasr_oracle.frames(theirs, torch.from_numpy(wave)).numpy()
        assert relative(frames, wanted) < 1e-4
        assert relative(ours([wave])[0], wanted) < 1e-4


@needs_funasr
@pytest.mark.parametrize("layout", LAYOUTS)
def test_bfloat16(layout, tmp_path):
    theirs, ours = pair(tmp_path, LAYOUTS[layout], dtype="bfloat16")
    waves = [noise(0.1), noise(2.0), *speech(2)]
    for wave, mean in zip(waves, ours.means(waves), strict=True):
        wanted = funasr_oracle.frames(theirs, torch.from_numpy(wave)).mean(0).numpy()
        assert cosine(mean, wanted) >= 0.9999


@needs_funasr
@pytest.mark.slow
@pytest.mark.parametrize(("size", "weights"), [("BASE", 89e6), ("LARGE", 150e6)])
def test_true_size(size, weights, tmp_path):
    theirs, ours = pair(tmp_path, {**getattr(funasr_oracle, size), "classes": 9})
    assert sum(p.numel() for p in theirs.parameters()) > weights
    half = load_encoder(PLUS, tmp_path, dtype="bfloat16")
    waves = [noise(0.1), *speech(2), noise(LONGEST[size.lower()])]
    for wave, frames in zip(waves, ours(waves), strict=True):
        wanted = funasr_oracle.frames(theirs, torch.from_numpy(wave))
        assert relative(frames, wanted.numpy()) < 1e-4
        if len(wave) < 2 * 16_000:  # processors without bfloat16 take 3 s for a second of sound
            scores = theirs.proj(wanted.mean(0)).softmax(-1).tolist()
            assert list(ours.classify([wave])[0].values()) == pytest.approx(scores, abs=1e-5)
            assert cosine(half.means([wave])[0], wanted.numpy().mean(0)) >= 0.9999
