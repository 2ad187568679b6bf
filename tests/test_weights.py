"""Where weights come from: folders, the hub, offline packages; and what is refused."""

from __future__ import annotations

from pathlib import Path

import pytest

from made_encoders import VOCABULARY, tiny
from multimodal_ser.encoders import load_encoder
from multimodal_ser.encoders.weights import HOMES
from multimodal_ser.errors import EncoderError


@pytest.fixture(scope="module")
def root(tmp_path_factory):
    return tmp_path_factory.mktemp("weights")


@pytest.mark.parametrize("name", HOMES)
def test_without_network_or_package_the_error_names_the_ways(name, monkeypatch, tmp_path):
    import huggingface_hub

    def offline(*args, **options):
        raise ConnectionError("no network")

    monkeypatch.setattr(huggingface_hub, "snapshot_download", offline)
    monkeypatch.setattr("multimodal_ser.encoders.weights.find_spec", lambda package: None)
    home = HOMES[name]
    for source in (None, home.hub, "no/such/folder", Path("nowhere"), tmp_path):
        with pytest.raises(EncoderError) as caught:
            load_encoder(name, source)
        message = str(caught.value)
        assert "a local folder with model.safetensors" in message
        assert repr(home.hub) in message
        assert ("multimodal-ser[offline]" in message) == (home.offline is not None)
        assert isinstance(caught.value.__cause__, ConnectionError) == (source == home.hub)


def test_the_hub_is_asked_for_safetensors_alone(root, monkeypatch, tmp_path):
    import huggingface_hub

    asked = []

    def download(hub_id, revision, allow_patterns):
        asked.append((hub_id, revision, allow_patterns))
        return str(tiny("bert", root) if revision == "v1" else tmp_path)

    monkeypatch.setattr(huggingface_hub, "snapshot_download", download)
    load_encoder("bert", "google-bert/bert-base-uncased", revision="v1")
    assert asked[0][:2] == ("google-bert/bert-base-uncased", "v1")
    assert not [pattern for pattern in asked[0][2] if "*" in pattern or "bin" in pattern]
    with pytest.raises(EncoderError, match=r"has no model\.safetensors, and pickles are never"):
        load_encoder("wav2vec2", "facebook/wav2vec2-base")


def test_pickles_are_not_read(tmp_path):
    (tmp_path / "pytorch_model.bin").write_bytes(b"PK")
    with pytest.raises(EncoderError, match="its pickle is never executed"):
        load_encoder("bert", tmp_path)


@pytest.mark.parametrize("name", HOMES)
def test_damaged_folders(name, root, tmp_path):
    from safetensors.torch import load_file, save_file

    source = tiny(name, root)
    for file in source.iterdir():
        (tmp_path / file.name).write_bytes(file.read_bytes())
    weights = tmp_path / "model.safetensors"
    state = load_file(weights)
    kept = {key: value for key, value in state.items() if "layers.1." not in key}
    kept = {key: value for key, value in kept.items() if "layer.1." not in key}
    save_file(kept, weights, metadata={"format": "pt"})
    with pytest.raises(EncoderError, match=name):
        load_encoder(name, tmp_path)
    weights.write_bytes((source / "model.safetensors").read_bytes()[:500])
    with pytest.raises(EncoderError, match=name):
        load_encoder(name, tmp_path)
    if not (tmp_path / "config.json").exists():  # emotion2vec's sizes stand in its tensors
        return
    (tmp_path / "config.json").unlink()
    with pytest.raises(EncoderError, match=r"config\.json"):
        load_encoder(name, tmp_path)


def test_a_tokenizer_must_be_there_and_fit(root, tmp_path):
    for file in ("config.json", "model.safetensors"):
        (tmp_path / file).write_bytes((tiny("bert", root) / file).read_bytes())
    with pytest.raises(EncoderError, match=r"no tokenizer\.json or vocab\.txt"):
        load_encoder("bert", tmp_path)
    (tmp_path / "vocab.txt").write_text("\n".join([*VOCABULARY, "more"]))
    with pytest.raises(EncoderError, match="do not belong together"):
        load_encoder("bert", tmp_path)
