"""emotion2vec's checkpoints: every kind is read, converted, or refused with its reason."""

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors import safe_open

import made_emotion2vec as made
from made_emotion2vec import close, noise
from multimodal_ser.encoders import load_encoder
from multimodal_ser.encoders.emotion2vec import convert_weights
from multimodal_ser.encoders.weight_sources import WEIGHT_SOURCES
from multimodal_ser.errors import EncoderError

PLUS = "emotion2vec-plus-base"


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return made.folder(tmp_path_factory.mktemp("emotion2vec"))


@pytest.fixture(scope="module")
def encoder(folder):
    return load_encoder(PLUS, folder)


def extras(state):
    """What published checkpoints hold beside the network."""
    audio = made.AUDIO
    return {
        **state,
        f"{audio}decoder.blocks.0.0.weight": torch.zeros(3),
        f"{audio}decoder.proj.weight": torch.zeros(3),
        "_ema": {"blocks.0.norm1.weight": torch.zeros(3)},
        "ema.blocks.0.norm1.weight": torch.zeros(3),
        "recon_proj.weight": torch.zeros(3),
    }


@pytest.mark.parametrize("wrap", ["model", "bare", "module", "legacy", "half"])
def test_checkpoints_of_every_kind(wrap, folder, encoder, tmp_path):
    state = extras(made.checkpoint())
    if wrap == "module":
        state = {f"module.{key}": value for key, value in state.items()}
    if wrap == "half":
        state = {k: v if isinstance(v, dict) else v.half() for k, v in state.items()}
    content = {"model": state, "epoch": 3} if wrap in ("model", "module") else state
    torch.save(content, tmp_path / "model.pt", _use_new_zipfile_serialization=wrap != "legacy")
    loaded = load_encoder(PLUS, tmp_path)
    wave = noise(9_000)
    close(loaded([wave])[0], encoder([wave])[0], 2e-2 if wrap == "half" else 1e-6)
    assert loaded.labels == encoder.labels


def test_conversion(tmp_path):
    tokens = [*made.NINE[:4], "unuse_0"]
    source = tmp_path / "source"
    source.mkdir()
    torch.save({"model": extras(made.checkpoint(classes=5))}, source / "model.pt")
    (source / "tokens.txt").write_text("\n".join(tokens), encoding="utf-8")
    file = convert_weights(source, tmp_path / "out")
    assert [path.name for path in file.parent.iterdir()] == ["model.safetensors"]
    before, after = (load_encoder(PLUS, path) for path in (source, file.parent))
    wave = noise(9_000)
    np.testing.assert_array_equal(before([wave])[0], after([wave])[0])
    assert before.classify([wave]) == after.classify([wave])
    with safe_open(file, "pt") as tensors:
        assert tensors.metadata()["source_sha256"] == before.info.weights
        assert json.loads(tensors.metadata()["labels"])[-1] == "unuse_0"
        assert not [key for key in tensors.keys() if "decoder" in key or "ema" in key]  # noqa: SIM118


class Bomb:
    def __init__(self, path):
        self.path = path

    def __reduce__(self):
        return (Path.touch, (self.path,))


@pytest.mark.parametrize("zipped", [True, False])
@pytest.mark.parametrize("place", ["beside", "within"])
def test_pickled_code_is_refused_and_does_not_run(zipped, place, tmp_path):
    fired = tmp_path / "fired"
    state = made.checkpoint()
    content = {"model": state, "cfg": Bomb(fired)}
    if place == "within":
        content = {**state, "blocks.0.norm1.weight": Bomb(fired)}
    torch.save(content, tmp_path / "model.pt", _use_new_zipfile_serialization=zipped)
    for use in (lambda: load_encoder(PLUS, tmp_path), lambda: convert_weights(tmp_path, tmp_path)):
        with pytest.raises(EncoderError, match="pickled code, which is never executed"):
            use()
    assert not fired.exists()
    assert not (tmp_path / "model.safetensors").exists()
    torch.load(tmp_path / "model.pt", weights_only=False)
    assert fired.exists()  # so it would have


def saved(state, path):
    torch.save({"model": state}, path / "model.pt")
    return path


def test_missing_and_odd_keys_are_named(tmp_path):
    state = made.checkpoint()
    cases = {
        "blocks.1.norm1.weight": "lacks 1 tensors: blocks.2.norm1.weight",
        f"{made.AUDIO}alibi_scale": "alibi_scale",
        f"{made.AUDIO}project_features.2.bias": "lacks 1 tensors: feature_proj.bias",
    }
    for key, message in cases.items():
        fewer = {name: value for name, value in state.items() if name != key}
        with pytest.raises(EncoderError, match=f"does not hold a whole emotion2vec.*{message}"):
            load_encoder(PLUS, saved(fewer, tmp_path))
    for odd in ("norm.weight", "blocks.0.attn.gate", f"{made.AUDIO}alibi_bias"):
        with pytest.raises(EncoderError, match=rf"does not have \({odd}\)|{odd.split('.')[-1]}"):
            load_encoder(PLUS, saved({**state, odd: torch.ones(3)}, tmp_path))
    wrong = {**state, "blocks.0.norm1.bias": torch.zeros(7)}
    with pytest.raises(EncoderError, match="does not hold a whole emotion2vec"):
        load_encoder(PLUS, saved(wrong, tmp_path))
    kernel = f"{made.AUDIO}local_encoder.conv_layers.3.0.weight"
    with pytest.raises(EncoderError, match="kernels"):
        load_encoder(PLUS, saved({**state, kernel: torch.zeros(16, 16, 5)}, tmp_path))


@pytest.mark.parametrize("content", [b"", b"PK", b"no checkpoint", b"\x80\x04N."])
def test_damaged_checkpoints(content, tmp_path):
    (tmp_path / "model.pt").write_bytes(content)
    with pytest.raises(EncoderError, match=PLUS):
        load_encoder(PLUS, tmp_path)
    torch.save([1, 2], tmp_path / "model.pt")
    with pytest.raises(EncoderError, match="holds a list; allowed: a state dict"):
        load_encoder(PLUS, tmp_path)


def test_the_hub_is_asked_for_the_weights_and_labels(folder, monkeypatch):
    import huggingface_hub

    asked = []

    def download(hub_id, revision, allow_patterns):
        asked.append((hub_id, revision, allow_patterns))
        return str(folder)

    monkeypatch.setattr(huggingface_hub, "snapshot_download", download)
    hub = WEIGHT_SOURCES["emotion2vec-plus-large"].hub
    assert hub == "emotion2vec/emotion2vec_plus_large"
    encoder = load_encoder("emotion2vec-plus-large", hub, revision="abc")
    assert encoder.info.exposure["iemocap"].saw == "labels"
    safe = (hub, "abc", ["model.safetensors", "tokens.txt"])
    assert asked == [safe]  # a pickle is asked for only where there is nothing safer
    (folder / "model.safetensors").rename(folder / "model.pt")
    with pytest.raises(EncoderError, match=r"pickled code|cannot be read"):
        load_encoder("emotion2vec-plus-large", hub, revision="abc")
    assert asked[1:] == [safe, (hub, "abc", ["model.pt", "emotion2vec_base.pt", "tokens.txt"])]
