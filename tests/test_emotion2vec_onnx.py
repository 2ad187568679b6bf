"""emotion2vec in onnxruntime against torch."""

import sys

import numpy as np
import pytest

import made_emotion2vec as made
from multimodal_ser.encoders import load_encoder
from multimodal_ser.encoders.emotion2vec_onnx import export_onnx
from multimodal_ser.errors import EncoderError

PLUS = "emotion2vec-plus-base"
TOKENS = ["生气/angry", "unuse_0", "开心/happy", "中立/neutral", "<unk>"]


def session(file):
    for module in ("onnx", "onnxscript"):
        pytest.importorskip(module, reason="the extra 'onnx' is not installed")
    runtime = pytest.importorskip("onnxruntime", reason="the extra 'onnx' is not installed")
    return lambda encoder: runtime.InferenceSession(str(export_onnx(encoder, file)))


@pytest.mark.slow
def test_any_batch_and_length(tmp_path):
    encoder = load_encoder(PLUS, made.folder(tmp_path, tokens=TOKENS))
    exported = session(tmp_path / "model.onnx")(encoder)
    about = exported.get_modelmeta().custom_metadata_map
    assert about["labels"] == "angry,happy,neutral,unknown"
    assert about["weights"] == encoder.info.weights
    for batch, samples in ((1, 400), (1, 719), (3, 16_000), (2, 50_001)):
        noise = np.random.default_rng(samples)
        waves = noise.normal(0.02, 0.1, (batch, samples)).astype(np.float32)
        frames, scores = exported.run(None, {"waves": waves})
        wanted = np.stack(encoder(list(waves)))
        assert frames.shape == wanted.shape
        assert np.abs(frames - wanted).max() < 1e-3 * np.abs(wanted).max()
        classes = [list(row.values()) for row in encoder.classify(list(waves))]
        np.testing.assert_allclose(scores, classes, atol=1e-3)


@pytest.mark.slow
def test_without_a_head(tmp_path):
    encoder = load_encoder("emotion2vec-base", made.folder(tmp_path, "emotion2vec-base"))
    outputs = session(tmp_path / "model.onnx")(encoder).get_outputs()
    assert [output.name for output in outputs] == ["frames"]


def test_refusals(tmp_path, monkeypatch):
    folder = made.folder(tmp_path)
    monkeypatch.setitem(sys.modules, "onnx", None)
    with pytest.raises(EncoderError, match=r"pip install .*\[onnx\]"):
        export_onnx(load_encoder(PLUS, folder), tmp_path / "model.onnx")
    monkeypatch.undo()
    session(tmp_path)
    for dtype in ("bfloat16", "int8"):
        with pytest.raises(EncoderError, match="float32 on the CPU"):
            export_onnx(load_encoder(PLUS, folder, dtype=dtype), tmp_path / "model.onnx")
