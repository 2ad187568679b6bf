"""Where weights come from: folders, the hub, offline packages; and what is refused."""

import json
import shutil
from pathlib import Path

import pytest

from made_encoders import VOCABULARY, tiny
from multimodal_ser.encoders import load_encoder
from multimodal_ser.encoders.exposure import published
from multimodal_ser.encoders.weight_sources import WEIGHT_SOURCES
from multimodal_ser.errors import EncoderError, to_install


@pytest.fixture(scope="module")
def root(tmp_path_factory):
    return tmp_path_factory.mktemp("weights")


@pytest.mark.parametrize("name", WEIGHT_SOURCES)
def test_without_network_or_package_the_error_names_the_ways(name, monkeypatch, tmp_path):
    import huggingface_hub

    def offline(*args, **options):
        raise ConnectionError("no network")

    monkeypatch.setattr(huggingface_hub, "snapshot_download", offline)
    monkeypatch.setattr("multimodal_ser.encoders.weights.package_folder", lambda package: None)
    home = WEIGHT_SOURCES[name]
    for source in (None, home.hub, "no/such/folder", Path("nowhere"), tmp_path):
        with pytest.raises(EncoderError) as caught:
            load_encoder(name, source)
        message = str(caught.value)
        assert "a local folder with model.safetensors" in message
        assert repr(home.hub) in message
        extra = home.offline.extra if home.offline else "offline"
        assert (to_install(extra) in message) == (home.offline is not None)
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
    with pytest.raises(EncoderError, match=r"has no model\.safetensors or"):
        load_encoder("wav2vec2", "facebook/wav2vec2-base")
    pinned, safe, pickled = WEIGHT_SOURCES["wav2vec2"].revision, *asked[1:]
    assert safe[:2] == pickled[:2] == ("facebook/wav2vec2-base", pinned)
    assert "pytorch_model.bin" not in safe[2]  # asked for only where there is nothing safer
    assert "pytorch_model.bin" in pickled[2]


def test_weights_of_torch_alone_are_read_and_code_is_not(root, tmp_path):
    import torch
    from safetensors.torch import load_file

    source = tiny("bert", root)
    for file in source.iterdir():
        if file.suffix != ".safetensors":
            shutil.copy(file, tmp_path)
    weights = tmp_path / "pytorch_model.bin"
    torch.save(load_file(source / "model.safetensors"), weights)
    [got], [wanted] = (load_encoder("bert", folder)(["so what"]) for folder in (tmp_path, source))
    assert (got == wanted).all()
    torch.save({"bert.code": Code(tmp_path / "ran")}, weights)
    with pytest.raises(EncoderError, match="holds pickled code, which is never executed"):
        load_encoder("bert", tmp_path)
    assert not (tmp_path / "ran").exists()
    weights.write_bytes(b"PK")
    with pytest.raises(EncoderError, match="is no checkpoint"):
        load_encoder("bert", tmp_path)


class Code:
    """What an attacker would put beside the tensors."""

    def __init__(self, file):
        self.file = file

    def __reduce__(self):
        return Path.touch, (self.file,)


@pytest.mark.parametrize("name", WEIGHT_SOURCES)
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
    weights.write_bytes(b"version https://git-lfs.github.com/spec/v1\noid sha256:0\nsize 9\n")
    with pytest.raises(EncoderError, match=r"model.safetensors is a Git LFS pointer.*git lfs pull"):
        load_encoder(name, tmp_path)
    weights.write_bytes((source / "model.safetensors").read_bytes())
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


def test_marks_follow_the_weights_not_the_name(root, monkeypatch):
    import huggingface_hub

    folder = tiny("wav2vec2", root)
    monkeypatch.setattr(huggingface_hub, "snapshot_download", lambda *a, **k: str(folder))
    theirs = load_encoder("wav2vec2", WEIGHT_SOURCES["wav2vec2"].hub, revision="0b5b8e8")
    assert theirs.info.exposure == published("wav2vec2").corpora
    assert theirs.info.exposure["iemocap"].saw == "no"
    for source, how in (
        (folder, {}),
        ("someone/wav2vec2-emotion", {}),
        (WEIGHT_SOURCES["wav2vec2"].hub, {"revision": "refs/pr/7"}),
    ):
        info = load_encoder("wav2vec2", source, **how).info
        assert {what.saw for what in info.exposure.values()} == {"unknown"}
        assert info.weights[:12] in info.exposure["iemocap"].source
    plus = tiny("emotion2vec-plus-large", root)
    saw = load_encoder("emotion2vec-plus-large", plus).info.exposure["iemocap"]
    assert saw.saw == "labels"  # never cleaner than the name
    base = tiny("emotion2vec-base", root)
    saw = load_encoder("emotion2vec-base", base).info.exposure["iemocap"]
    assert saw.saw == "unknown"
    assert "the published emotion2vec-base: saw it without labels" in saw.source


def test_a_network_fine_tuned_on_emotions_is_not_called_clean(tmp_path):
    import transformers

    config = transformers.Wav2Vec2Config(
        hidden_size=16, num_hidden_layers=2, num_attention_heads=2, intermediate_size=32,
        conv_dim=(8,) * 7, num_conv_pos_embeddings=16, num_conv_pos_embedding_groups=2,
        num_labels=4,
    )  # fmt: skip
    transformers.Wav2Vec2ForSequenceClassification(config).save_pretrained(tmp_path)
    exposure = load_encoder("wav2vec2", tmp_path).info.exposure
    assert {what.saw for what in exposure.values()} == {"unknown"}


def test_weights_of_another_network_are_refused(tmp_path, root):
    import transformers

    config = transformers.WavLMConfig(
        hidden_size=16, num_hidden_layers=2, num_attention_heads=2, intermediate_size=32,
        conv_dim=(8,) * 7, num_conv_pos_embeddings=16, num_conv_pos_embedding_groups=2,
    )  # fmt: skip
    transformers.WavLMModel(config).save_pretrained(tmp_path)
    with pytest.raises(EncoderError, match="model_type 'wavlm'; allowed: 'wav2vec2'"):
        load_encoder("wav2vec2", tmp_path)
    file = tmp_path / "config.json"
    said = json.loads(file.read_text())
    file.write_text(json.dumps({**said, "model_type": "wav2vec2"}))
    with pytest.raises(EncoderError, match=r"parameters that the network lacks.*another"):
        load_encoder("wav2vec2", tmp_path)
    for text, message in (("{}", "model_type None"), ("[1]", "cannot be read"), ("", "cannot")):
        file.write_text(text)
        with pytest.raises(EncoderError, match=message):
            load_encoder("wav2vec2", tmp_path)
    whisper = tmp_path / "whisper"
    shutil.copytree(tiny("whisper-tiny", root), whisper)
    file = whisper / "config.json"
    file.write_text(json.dumps({**json.loads(file.read_text()), "model_type": "bart"}))
    with pytest.raises(EncoderError, match="model_type 'bart'"):
        load_encoder("whisper-tiny", whisper)
