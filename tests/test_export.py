"""Exported ONNX files against torch, and the Predictor that reads them back."""

import os
import pickle
import shutil
import subprocess
import sys

import numpy as np
import pytest
import torch

import made_emotion2vec
from made_encoders import tiny
from made_models import CLASSES, WORDS, made_run, made_tuned, noise
from multimodal_ser import load
from multimodal_ser.cli import main
from multimodal_ser.config.record import ClassNames
from multimodal_ser.errors import SerError
from multimodal_ser.training.baselines import BASELINES

for needed in ("onnx", "onnxscript", "onnxruntime"):
    pytest.importorskip(needed, reason="the extra 'onnx' is not installed")

from multimodal_ser.export import export, onnx_file  # noqa: E402
from multimodal_ser.export.graphs import LogMel, token_shares  # noqa: E402
from multimodal_ser.features.pool import pool_frames  # noqa: E402
from multimodal_ser.predict.onnx_backend import open_session  # noqa: E402
from multimodal_ser.training.tune.tuned import log_mels  # noqa: E402

WAVES = [noise(0.025), noise(0.9, 1), 0.001 * noise(2.2, 2), np.zeros(8_000, np.float32)]

pytestmark = pytest.mark.usefixtures("all_is_speech")


@pytest.fixture(scope="module")
def tuned(tmp_path_factory):
    return load(made_tuned(tmp_path_factory.mktemp("tuned") / "made.safetensors", 0.25))


@pytest.fixture(scope="module")
def weights(tmp_path_factory):
    root = tmp_path_factory.mktemp("encoders")
    return {name: tiny(name, root) for name in ("whisper-tiny", "bert")} | {"root": root}


@pytest.fixture(scope="module")
def exported(tuned, tmp_path_factory):
    return export(tuned, tmp_path_factory.mktemp("exported") / "deep" / "made.onnx")


@pytest.fixture
def ready(exported, monkeypatch):
    """Writing takes seconds: what was written already serves again."""

    def copied(predictor, file, part):
        shutil.copyfile(exported.file, file)

    monkeypatch.setattr(onnx_file, "_write", copied)


def agree(model, again, texts=None, off=1e-4):
    for a, b in zip(model.waves(WAVES, texts), again.waves(WAVES, texts), strict=True):
        np.testing.assert_allclose(b.probabilities, a.probabilities, atol=off)
        assert a.embedding.shape == b.embedding.shape
        assert b.probabilities.dtype == np.float32


ASK = """
import sys, numpy
from multimodal_ser import load
model = load(sys.argv[1])
model.vad = "none"
model.waves([numpy.zeros(16000, "f4")])
print([name for name in ("torch", "transformers", "scipy", "rich") if name in sys.modules])
"""
ASK_WORDS = ASK.replace('f4")])', 'f4")], [sys.argv[2]])')
FIND = "from multimodal_ser.audio.speech import make_gate; make_gate('silero')"


@pytest.mark.parametrize("program", [ASK, FIND], ids=["model", "speech"])
def test_onnxruntime_sends_no_telemetry_and_needs_no_torch(program, exported, tmp_path):
    """Its telemetry writes a database and a file .ses before anything is sent."""
    telling = {"ORT_DISABLE_TELEMETRY", "XDG_CACHE_HOME"}
    ours = {name: value for name, value in os.environ.items() if name not in telling}
    told = subprocess.run(
        [sys.executable, "-B", "-c", program, str(exported.file)],
        env={**ours, "HOME": str(tmp_path), "TMPDIR": str(tmp_path)},
        cwd=tmp_path, capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert told.returncode == 0, told.stderr
    assert told.stdout.strip() in ("[]", "")
    assert [path for path in tmp_path.rglob("*") if path.is_file()] == []


def test_log_mel_as_products():
    import torch

    mel, lengths = log_mels(WAVES)
    samples = [len(wave) for wave in WAVES]
    padded = torch.ones(len(WAVES), max(samples))  # what stands in the padding does not matter
    for row, wave in zip(padded, WAVES, strict=True):
        row[: len(wave)] = torch.from_numpy(wave)
    given, frames = LogMel(80, 1.3)(padded, torch.tensor(samples))
    assert frames.tolist() == lengths.tolist()
    np.testing.assert_allclose(given, mel, atol=1e-3)


def test_tokens_as_a_product():
    import torch

    frames = np.random.default_rng(0).normal(size=(9, 5)).astype(np.float32)
    for tokens in (1, 4, 16):
        share = token_shares(9, torch.tensor([9, 6]), tokens)
        for row, real in zip(share, (9, 6), strict=True):
            wanted = pool_frames(frames[:real], tokens)
            np.testing.assert_allclose(
                (row @ torch.from_numpy(frames))[: len(wanted)], wanted, atol=1e-6
            )
            assert row.any(1).sum() == len(wanted)


def test_a_fine_tuned_model_in_one_file(tuned, exported, tmp_path):
    made = exported
    assert (made.part, made.int8_difference) == ("whole", None)
    assert made.difference <= 1e-5
    assert [path.name for path in made.file.parent.iterdir()] == ["made.onnx"]
    again = load(made.file)
    assert (again.name, again.labels, again.modalities) == ("made", CLASSES, ("audio",))
    assert again.threshold == pytest.approx(0.25, abs=1e-3)
    assert again.card == tuned.card
    agree(tuned, again)
    long = noise(40)
    np.testing.assert_allclose(
        again.waves([long])[0].probabilities, tuned.waves([long])[0].probabilities, atol=1e-4
    )
    about = open_session(made.file).get_modelmeta().custom_metadata_map
    assert (about["labels"], about["sample_rate"]) == (",".join(CLASSES), "16000")
    with pytest.raises(SerError, match="copy it"):
        again.save(tmp_path / "saved")
    with pytest.raises(SerError, match="cannot be exported"):
        export(again, tmp_path / "again.onnx")
    with pytest.raises(SerError, match="is one piece"):
        export(tuned, tmp_path / "head.onnx", part="head")


def test_a_file_is_sent_to_processes_that_lack_it(exported, tmp_path):
    file = shutil.copyfile(exported.file, tmp_path / "made.onnx")
    model = load(file)
    sent = pickle.dumps(model)
    file.unlink()
    agree(model, pickle.loads(sent))


@pytest.mark.slow
def test_a_run_on_audio_in_one_file(weights, tmp_path):
    model = load(made_run(tmp_path / "run", weights["root"]), weights=weights)
    made = export(model, tmp_path / "run.onnx", compare=[*WAVES, noise(40)])
    assert (made.part, made.compared) == ("whole", len(WAVES) + 1)
    agree(model, load(made.file))  # float16 tokens may round to a neighbour


@pytest.mark.slow
def test_an_encoder_in_bfloat16_stays_outside_of_the_file(tmp_path):
    folder = made_run(tmp_path / "run", tmp_path, sound="emotion2vec-base", dtype="bfloat16")
    weights = {"emotion2vec-base": tiny("emotion2vec-base", tmp_path)}
    model = load(folder, weights=weights)
    with pytest.raises(SerError, match="computed in float32"):
        export(model, tmp_path / "whole.onnx", part="whole")
    again = load(export(model, tmp_path / "head.onnx").file, weights=weights)
    assert again.backend.features["audio"].encoder.dtype == torch.bfloat16
    agree(model, again)


@pytest.mark.slow
@pytest.mark.parametrize("sound", ["wav2vec2", "emotion2vec-base"])
def test_a_fine_tuned_encoder_that_is_not_whisper_in_one_file(sound, tmp_path):
    root = tmp_path / "weights"
    weights = {sound: tiny(sound, root)}
    model = load(made_run(tmp_path / "tuned", root, sound=sound, tuned=True), weights=weights)
    plain = load(made_run(tmp_path / "plain", root, sound=sound), weights=weights)
    assert model.backend.tuned
    made = export(model, tmp_path / "run.onnx")
    assert (made.part, made.difference < 1e-4) == ("whole", True)
    again = load(made.file)  # without the weights of the encoder
    agree(model, again)
    off = [
        a.probabilities - b.probabilities
        for a, b in zip(*(one.waves(WAVES) for one in (plain, again)), strict=True)
    ]
    assert np.abs(off).max() > 1e-3  # the tuned encoder it is
    with pytest.raises(SerError, match="used with features of the pretrained one"):
        export(model, tmp_path / "head.onnx", part="head")


@pytest.mark.slow
def test_a_model_of_attributes(weights, tmp_path):
    names = ClassNames("arousal,valence", ("arousal", "valence"), "", "attributes", (1.0, 5.0))
    both = ("text", "audio")
    folder = made_run(tmp_path / "run", weights["root"], both, "concat", labels=names)
    model = load(folder, weights=weights)
    again = load(export(model, tmp_path / "run.onnx").file)
    agree(model, again, [WORDS, None, "so", None])
    (found,) = again.waves(WAVES[:1])
    assert (found.scale, [*found.attributes]) == ((1.0, 5.0), ["arousal", "valence"])


@pytest.mark.slow
@pytest.mark.parametrize(("kind", "tokens"), [("cross_attention", 4), ("text", 1)])
def test_a_run_that_reads_words_in_one_file(kind, tokens, weights, tmp_path):
    modalities = ("text",) if kind == "text" else ("text", "audio")
    run = made_run(tmp_path / "run", weights["root"], modalities, kind, tokens)
    made = export(load(run, weights=weights), tmp_path / "run.onnx")
    assert made.part == "whole"
    texts = [WORDS, None, "so", None]
    if kind == "text":
        texts = [WORDS, "so", "hm", 200 * "what else ! "]  # the last is cut
    model, again = load(run, weights=weights), load(made.file)
    agree(model, again, texts)
    assert [again.backend.cuts(text) for text in (WORDS, 200 * "what else ! ")] == [False, True]
    said = [model.waves(WAVES, words) for words in (texts, texts[::-1])]
    assert not np.allclose(said[0][0].probabilities, said[1][0].probabilities, atol=1e-3)
    asked = [sys.executable, "-c", ASK_WORDS, str(made.file), WORDS]
    told = subprocess.run(asked, capture_output=True, text=True, check=True)
    assert told.stdout.split() == ["[]"]


@pytest.mark.parametrize(
    "kind", [pytest.param("cross_attention", marks=pytest.mark.slow), "text", *BASELINES]
)
def test_a_head_on_features(kind, weights, tmp_path):
    modalities = ("text",) if kind == "text" else ("text", "audio")
    model = load(made_run(tmp_path / "run", weights["root"], modalities, kind), weights=weights)
    made = export(model, tmp_path / "head.onnx", part="head")
    assert made.part == "head"
    again = load(made.file, weights=weights)
    assert again.modalities == modalities
    texts = [WORDS, "so", "what", "else !"] if kind == "text" else [WORDS, None, "so", None]
    agree(model, again, texts)


@pytest.mark.slow
def test_emotion2vec(tmp_path):
    model = load("emotion2vec-plus-base", weights=made_emotion2vec.folder(tmp_path))
    again = load(export(model, tmp_path / "model.onnx").file)
    assert (again.name, again.labels) == (model.name, model.labels)
    assert "EmoBox" in again.card
    agree(model, again, off=1e-3)


def test_a_name_by_which_the_file_could_not_be_loaded_is_refused(tuned, tmp_path):
    with pytest.raises(SerError, match=r"ends in \.onnx; give .*small\.onnx"):
        export(tuned, tmp_path / "small")
    assert not list(tmp_path.iterdir())


def test_8_bits_on_the_command_line(tuned, ready, tmp_path, capsys):
    model, out = str(tuned.backend.file), tmp_path / "small.onnx"
    assert main(["export", model, "--out", str(out), "--int8"]) == 0
    said = capsys.readouterr().out
    assert "in 8 bits by" in said
    assert out.name in said
    small = load(out)
    assert (small.labels, small.card) == (CLASSES, tuned.card)
    largest = max(
        np.abs(a.probabilities - b.probabilities).max()
        for a, b in zip(tuned.waves(WAVES), small.waves(WAVES), strict=True)
    )
    assert 0 < largest < 0.2
    assert main(["predict", "none.wav", "--model", str(out)]) == 1
    import onnx

    graph = onnx.load(str(out)).graph
    kinds = {one.name: one.data_type for one in graph.initializer}
    products = [node for node in graph.node if node.op_type == "MatMulInteger"]
    # signed ones overflow on processors without VNNI
    assert {kinds[node.input[1]] for node in products} == {onnx.TensorProto.UINT8}


@pytest.mark.parametrize(
    ("limit", "int8", "said"),
    [
        ("_CHANGED", True, "in 8 bits the most probable class changed for .* not kept"),
        ("_ALLOWED", False, "differ from torch's by .* so it was not kept"),
    ],
)
def test_a_file_that_differs_is_not_kept(tuned, ready, tmp_path, monkeypatch, limit, int8, said):
    monkeypatch.setattr(onnx_file, limit, -1.0)
    with pytest.raises(SerError, match=said):
        export(tuned, tmp_path / "made.onnx", int8=int8)
    assert list(tmp_path.iterdir()) == []


def test_without_the_extra(tuned, tmp_path, monkeypatch):
    monkeypatch.setattr(onnx_file, "find_spec", lambda name: None)
    with pytest.raises(SerError, match=r"pip install .*\[onnx\]"):
        export(tuned, tmp_path / "made.onnx")


def test_files_of_others(tmp_path):
    import onnx

    (tmp_path / "x.onnx").write_bytes(b"nothing")
    with pytest.raises(SerError, match="not an ONNX file"):
        load(tmp_path / "x.onnx")
    one = onnx.helper.make_tensor_value_info("x", onnx.TensorProto.FLOAT, [1])
    two = onnx.helper.make_tensor_value_info("y", onnx.TensorProto.FLOAT, [1])
    node = onnx.helper.make_node("Identity", ["x"], ["y"])
    model = onnx.helper.make_model(
        onnx.helper.make_graph([node], "g", [one], [two]),
        opset_imports=[onnx.helper.make_opsetid("", 18)],
        ir_version=10,
    )
    onnx.save(model, tmp_path / "y.onnx")
    with pytest.raises(SerError, match="no labels"):
        load(tmp_path / "y.onnx")
