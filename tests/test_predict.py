"""The Predictor: every kind of source, every kind of model, and what goes wrong."""

import io
import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import soundfile
import torch
from safetensors.numpy import save_file

import made_emotion2vec
from made_encoders import tiny
from made_models import CLASSES, WORDS, made_run, made_tuned, noise
from made_sound import tone, written
from multimodal_ser import Prediction, load
from multimodal_ser.config.record import ClassNames
from multimodal_ser.corpora import Utterance
from multimodal_ser.encoders import load_encoder
from multimodal_ser.encoders.base import computed_in, windows
from multimodal_ser.errors import EncoderError, SerError
from multimodal_ser.features import extract
from multimodal_ser.features.store import FeatureStore
from multimodal_ser.predict import hub
from multimodal_ser.predict.pipelines import Pipeline
from multimodal_ser.predict.resumable import identity
from multimodal_ser.predict.writing import FORMATS
from multimodal_ser.runs.model_file import load_model

PLUS = "emotion2vec-plus-base"
TOKENS = ["angry", "unuse_0", "开心/happy", "sad"]

pytestmark = pytest.mark.usefixtures("all_is_speech")


@pytest.fixture(scope="module")
def tuned(tmp_path_factory):
    return load(made_tuned(tmp_path_factory.mktemp("tuned") / "model.safetensors"))


@pytest.fixture(scope="module")
def weights(tmp_path_factory):
    root = tmp_path_factory.mktemp("encoders")
    return {name: tiny(name, root) for name in ("whisper-tiny", "bert")} | {"root": root}


@pytest.fixture(scope="module")
def both(tmp_path_factory, weights):
    """A run that reads sound and words."""
    folder = tmp_path_factory.mktemp("run") / "both"
    made_run(folder, weights["root"], ("text", "audio"), "cross_attention")
    return load(folder, weights=weights)


def same(one: Prediction, other: Prediction, off=1e-5):
    assert one.labels == other.labels
    np.testing.assert_allclose(one.probabilities, other.probabilities, atol=off)
    np.testing.assert_allclose(one.embedding, other.embedding, atol=10 * off)
    assert (one.start, one.end, one.text) == (other.start, other.end, other.text)


def test_what_a_prediction_says():
    shares = np.array([0.2, 0.5, 0.3], np.float32)
    sure = Prediction(CLASSES, shares, np.zeros(2, np.float32), 1.0, 2.5, 0.4, "hi")
    unsure = Prediction(CLASSES, shares, np.zeros(2, np.float32), 1.0, 2.5, 0.6)
    assert (sure.best, sure.label, unsure.best, unsure.label) == (*["joy"] * 3, "uncertain")
    assert json.loads(json.dumps(sure.as_dict())) == {
        "label": "joy", "confidence": 0.5, "start": 1.0, "end": 2.5, "text": "hi",
        "probabilities": {"anger": 0.2, "joy": 0.5, "neutral": 0.3},
        "threshold": 0.4, "reason": None, "adapted": None, "distance": None,
        "language": None, "warnings": [],
    }  # fmt: skip


@pytest.mark.parametrize("kind", ["tuned", "both", "emotion2vec"])
def test_a_list_equals_its_singles(kind, request, tmp_path):
    if kind == "emotion2vec":
        model = load(PLUS, weights=made_emotion2vec.folder(tmp_path))
    else:
        model = request.getfixturevalue(kind)
    waves = [noise(s, n) for n, s in enumerate((1.7, 0.03, 0.9, 31.0, 1.2))]
    texts = [WORDS, None, "so", " ", "what !"]
    together = model.waves(waves, texts, batch_size=3)
    assert len({item.probabilities.tobytes() for item in together}) == len(waves)
    for wave, text, item in zip(waves, texts, together, strict=True):
        same(item, model.waves([wave], [text])[0])
        assert item.probabilities.dtype == item.embedding.dtype == np.float32
        assert item.probabilities.sum() == pytest.approx(1, abs=1e-5)
        assert item.end == pytest.approx(len(wave) / 16_000)


def test_attributes_are_told_on_their_own_scale(weights, tmp_path):
    names = ClassNames("arousal,valence", ("arousal", "valence"), "", "attributes", (1.0, 5.0))
    folder = made_run(tmp_path / "run", weights["root"], labels=names)
    (found,) = load(folder, weights=weights).waves([noise(1.0)])
    arousal, valence = found.probabilities.clip(0, 1)  # the untrained head is off the scale
    assert found.attributes == {
        "arousal": pytest.approx(1 + 4 * arousal), "valence": pytest.approx(1 + 4 * valence)
    }  # fmt: skip
    told = found.as_dict()
    assert told["attributes"]["valence"] == pytest.approx(1 + 4 * valence, abs=1e-4)
    assert told["scale"] == [1.0, 5.0]
    assert not {"label", "confidence", "probabilities"} & told.keys()
    lines = {}
    for name, write in FORMATS.items():
        write([("a.wav", found)], found.labels, file := io.StringIO())
        lines[name] = file.getvalue()
    assert "(of 1 to 5)" in lines["table"]
    assert lines["csv"].startswith("file,start,end,text,language,reason,adapted,distance,arousal,")
    assert json.loads(lines["jsonl"])["attributes"] == told["attributes"]


def test_path_bytes_file_and_array_are_the_same_recording(tuned, tmp_path):
    wave = noise(0.5)
    path = written(tmp_path / "a.wav", wave, subtype="FLOAT")
    wanted = tuned(path)
    with path.open("rb") as file:
        raw = path.read_bytes()
        for source in (str(path), raw, bytearray(raw), memoryview(raw), io.BytesIO(raw), file):
            same(tuned(source), wanted)
    same(tuned((wave, 16_000)), wanted)
    for item in (*tuned([path, (wave, 16_000)]), *tuned((path, (wave, 16_000)))):
        same(item, wanted)
    assert tuned([]) == []


def test_stereo_and_other_rates(tuned, tmp_path):
    wave = tone(1.0, 8_000)
    two = np.stack([wave, wave], 1)
    stereo = written(tmp_path / "two.wav", two, 8_000, subtype="FLOAT")
    same(tuned(stereo), tuned((wave, 8_000)))
    same(tuned((two, 8_000)), tuned((wave, 8_000)))


def test_failures_are_kept_apart(tuned, tmp_path):
    good = written(tmp_path / "good.wav", noise(0.5))
    short = written(tmp_path / "short.wav", noise(0.01))
    (text := tmp_path / "notes.wav").write_text("no sound")
    found = list(tuned.stream([text, good, short, tmp_path / "none.wav", good]))
    assert [isinstance(item, SerError) for item in found] == [True, False, True, True, False]
    assert "notes.wav" in str(found[0])
    assert "at least 400" in str(found[2])
    same(found[1], tuned(good))
    kept, failed = tuned([good, text])
    same(kept, found[1])
    assert isinstance(failed, SerError)
    with pytest.raises(SerError, match=r"notes\.wav"):
        tuned(text)


def test_what_people_give_for_recordings_is_understood_or_refused(tuned, tmp_path):
    wave = noise(0.5)
    path = written(tmp_path / "a.wav", wave, subtype="FLOAT")
    wanted = tuned((wave, 16_000))
    tensor = torch.from_numpy(wave).requires_grad_()[None]
    for given, how in (
        (wave, {"sample_rate": 16_000}),
        ((16_000, wave), {}),
        ((np.int64(16_000), wave), {}),
        ((wave, torch.tensor(16_000)), {}),
        ((wave.tolist(), np.array(16_000)), {}),
        ((tensor, 16_000), {}),
        (tensor, {"sample_rate": 16_000}),
        (str(path), {}),
    ):
        same(tuned(given, **how), wanted)
    column = np.array([str(path), str(path)], object)
    for several in (column, column.astype(str), iter([path, path]), (path, path), [path, path]):
        assert [item.label for item in tuned(several)] == [wanted.label] * 2
    for wrong in ({"path": [path]}, None, 3.5, wave, (wave, "16000")):
        try:
            found = tuned(wrong)
        except SerError:
            continue
        assert isinstance(found, list)
        assert all(isinstance(item, SerError) for item in found)
    for share in (80, -1, float("nan")):
        with pytest.raises(SerError, match="from 0 to 1"):
            tuned.threshold = share


def test_invalid_arguments_are_refused(tuned):
    wave = noise(0.1)
    for call, message in (
        (lambda: tuned(wave), r"give \(array, rate"),
        (lambda: tuned(wave.tolist(), sample_rate=16_000), "a list of numbers is no recording"),
        (lambda: tuned([wave, 16_000]), "a list of numbers is no recording"),
        (lambda: tuned([(wave, 16_000)], "one"), "one text for 1 recording;"),
        (lambda: tuned.waves([wave], ["a", "b"]), "2 texts for 1 recording;"),
        (lambda: tuned.waves([wave], [3]), "a text is int"),
        (lambda: tuned((wave, 16_000), ["a"]), "text is list"),
        (lambda: tuned.waves([wave.astype(int)]), "item 0 is int"),
    ):
        with pytest.raises(SerError, match=message):
            call()


def test_uncertain_below_the_threshold(tmp_path):
    model = load(made_tuned(tmp_path / "careful.safetensors", threshold=0.999))
    assert model.name == "careful"
    item = model((noise(0.5), 16_000))
    assert item.label == "uncertain"
    model.threshold = 0.0
    assert model((noise(0.5), 16_000)).label == item.best


def test_a_long_recording_is_answered_with_a_hint(tuned, caplog):
    wave = noise(65)
    item = tuned((wave, 16_000))
    assert "ser analyze" in caplog.text
    cuts = windows(len(wave), 480_000, 320)
    parts = tuned.waves([wave[cut] for cut in cuts])
    share = [(cut.stop - cut.start) / len(wave) for cut in cuts]
    mean = np.average([part.probabilities for part in parts], axis=0, weights=share)
    np.testing.assert_allclose(item.probabilities, mean, atol=1e-5)
    assert (len(parts), item.end) == (3, 65.0)


@pytest.mark.parametrize(
    ("sound", "computed"),
    [
        ("whisper-tiny", {}),
        ("emotion2vec-base", {"dtype": "bfloat16"}),
        ("emotion2vec-base", {"dtype": "int8"}),
    ],
)
def test_a_run_predicts_as_it_did_on_its_features(sound, computed, tmp_path, weights):
    """Recording → Predictor equals recording → extract → feature file → model."""
    folder = made_run(tmp_path / "run", weights["root"], sound=sound, **computed)
    place = tiny(sound, weights["root"])
    paths = [written(tmp_path / f"{n}.wav", noise(s, n)) for n, s in enumerate((0.4, 1.1))]
    rows = [Utterance(f"mine/{p.stem}", "mine", "anger", audio=str(p)) for p in paths]
    encoder = load_encoder(sound, place, **computed)
    # one by one, since sums in bfloat16 may depend on the size of a batch
    made = extract(rows, encoder, tmp_path / "features", tokens=4, chunk=1, progress=False)
    store, model = FeatureStore.open(made.path), load_model(folder / "model.safetensors")
    predictor = load(folder, weights=place)
    assert computed_in(predictor.backend.features["audio"].encoder) == store.header.compute_dtype
    assert predictor.modalities == ("audio",)
    for row, path in zip(rows, paths, strict=True):
        tokens = torch.from_numpy(store[row.id].astype(np.float32))[None]
        none = torch.zeros(1, 1, 0), torch.zeros(1, 1, dtype=torch.bool)
        wanted = model(*none, tokens, torch.ones(tokens.shape[:2], dtype=torch.bool))
        given = predictor(path)
        np.testing.assert_allclose(
            given.probabilities, wanted.logits.softmax(1)[0].detach(), atol=1e-5
        )


def test_words_are_used_by_models_of_text(both, tuned):
    wave = noise(0.5)
    with_words, without = both.waves([wave, wave], [WORDS, None])
    assert not np.allclose(with_words.probabilities, without.probabilities, atol=1e-3)
    assert (with_words.text, without.text) == (WORDS, None)
    deaf = tuned.waves([wave, wave], [WORDS, None])
    np.testing.assert_array_equal(deaf[0].probabilities, deaf[1].probabilities)


def test_a_model_of_both_says_that_it_was_given_no_words(both, tuned, caplog):
    sound = noise(0.5), 16_000
    both([sound, sound], ["so what", "so what"])
    tuned(sound)
    list(both.stream([sound], ["so what"]))
    Pipeline(tuned)(sound)
    assert not caplog.messages
    both(sound)
    both([sound, sound, sound], ["so what", None, " "])
    one, several = caplog.messages
    assert one.startswith(f"predicted from sound alone, although {both.name} also reads words;")
    assert several == f"2 recordings of 3 {one}"
    caplog.clear()
    list(both.stream([sound, sound]))
    Pipeline(both)(sound)
    Pipeline(both)([sound, sound])
    begun = both.stream([sound, sound], batch_size=1)
    next(begun)
    begun.close()  # the caller stops early
    assert caplog.messages == [one] * 4


def test_words_that_a_model_does_not_read_are_told(both, tuned, caplog, weights, tmp_path):
    sound = noise(0.5), 16_000
    both(sound, "so what")  # four word pieces with the marks of the ends, which the run reads
    tuned(sound, WORDS)
    assert not caplog.messages
    both([sound] * 3, [WORDS, "so what", f"{WORDS} {WORDS}"])
    pooled = load(
        made_run(tmp_path / "pooled", weights["root"], ("text",), "text", tokens=1), weights=weights
    )
    pooled([sound] * 2, [WORDS, "so " * 700])
    several, one = caplog.messages
    assert several.startswith(f"the last words of 2 recordings were not read: {both.name} reads")
    assert one.startswith("the last words of 1 recording were not read: pooled reads")
    # the means of a run on pooled tokens are of those that the feature file keeps
    features = both.backend.features["text"]
    spec = features.described
    means = replace(features, described=replace(spec, tokens=1, pooled_from=spec.tokens))
    assert [means.cuts(text) for text in (WORDS, "so what")] == [True, False]


def test_a_run_on_text_needs_words(tmp_path, weights):
    model = load(made_run(tmp_path / "run", weights["root"], ("text",), "text"), weights=weights)
    assert model.modalities == ("text",)
    assert model((noise(0.1), 16_000), WORDS).text == WORDS
    with pytest.raises(SerError, match="reads only text"):
        model((noise(0.1), 16_000))


def test_a_run_refuses_other_weights(tmp_path, weights):
    folder = made_run(tmp_path / "run", weights["root"])
    with pytest.raises(
        EncoderError, match=r"unknown encoder 'audio'; choose one of: whisper-tiny$"
    ):
        load(folder, weights={"audio": weights["root"]})
    config = json.loads((folder / "config.json").read_text())
    config["features"]["audio"]["weights"] = "0" * 64
    (folder / "config.json").write_text(json.dumps(config))
    with pytest.raises(EncoderError, match=r"weights 0000.*--source"):
        load(folder, weights=weights)
    for changed, message in (
        ({"encoder": "microsoft--wavlm-base"}, "made by 'microsoft--wavlm-base'; say where"),
        ({"encoder": "my-features", "weights": ""}, "imported from a file"),
    ):
        config["features"]["audio"] |= changed
        (folder / "config.json").write_text(json.dumps(config))
        with pytest.raises(EncoderError, match=message):
            load(folder)


def test_an_experiment_names_its_runs(tmp_path, weights):
    for name in ("audio-a", "audio-b"):
        made_run(tmp_path / "experiment" / name, weights["root"])
    with pytest.raises(SerError, match="choose one: audio-a, audio-b"):
        load(tmp_path / "experiment")


@pytest.mark.parametrize("name", [PLUS, "emotion2vec_plus_base", "iic/emotion2vec_plus_base"])
def test_emotion2vec_by_name(name, tmp_path):
    folder = made_emotion2vec.folder(tmp_path, tokens=TOKENS)
    model = load(name, weights=folder)
    assert (model.name, model.labels) == (PLUS, ("angry", "happy", "sad"))
    encoder = load_encoder(PLUS, folder)
    waves = [noise(0.3), noise(1.0, 1)]
    for item, wanted, mean in zip(
        model.waves(waves), encoder.classify(waves), encoder.means(waves), strict=True
    ):
        np.testing.assert_allclose(item.probabilities, list(wanted.values()), atol=1e-5)
        np.testing.assert_allclose(item.embedding, mean, atol=1e-5)
    assert "EmoBox" in model.card
    with pytest.raises(SerError, match="published by its authors"):
        model.save(tmp_path / "again")
    assert load(made_emotion2vec.folder(tmp_path / "emotion2vec_plus_base")).name == PLUS
    same, other = (
        load(name, weights=made_emotion2vec.folder(tmp_path / f"{seed}", tokens=TOKENS, seed=seed))
        for seed in (0, 1)
    )
    assert identity(model) == identity(same)  # which a rerun resumes
    assert identity(model) != identity(other)


def test_saved_and_loaded(tmp_path, tuned, both, weights):
    for model, places in ((tuned, None), (both, weights)):
        before, model.threshold = model.threshold, 0.35
        folder = model.save(tmp_path / model.modalities[0])
        model.threshold = before
        assert sorted(path.name for path in folder.iterdir()) == sorted(hub.HUB_FILES)
        again = load(folder, weights=places)
        assert (again.name, again.labels, again.threshold) == (model.name, model.labels, 0.35)
        assert again.card.startswith("---\nlibrary_name: multimodal-ser\n")
        assert model.card in again.card
        same(again.waves([noise(0.5)])[0], model.waves([noise(0.5)])[0])


class Hub:
    """What is asked of huggingface_hub.HfApi."""

    asked: dict = {}  # noqa: RUF012

    def create_repo(self, repo_id, **how):
        if repo_id == "no/entry":
            raise ValueError("not allowed\nand more")
        self.asked["create"] = repo_id, how
        return f"https://hub/{repo_id}"

    def upload_folder(self, *, repo_id, folder_path):
        self.asked["files"] = sorted(path.name for path in Path(folder_path).iterdir())


def test_pushed_and_fetched(tuned, tmp_path, monkeypatch):
    monkeypatch.setattr("huggingface_hub.HfApi", Hub)
    assert tuned.push("me/model", private=True) == "https://hub/me/model"
    assert Hub.asked["create"] == ("me/model", {"private": True, "exist_ok": True})
    assert Hub.asked["files"] == sorted(hub.HUB_FILES)
    with pytest.raises(SerError, match="no/entry: the upload to the hub failed: ValueError: not"):
        tuned.push("no/entry")
    folder = tuned.save(tmp_path / "saved")

    def snapshot(repo_id, revision, allow_patterns):
        assert (repo_id, revision) == ("me/model", "v1")
        return str(folder)

    monkeypatch.setattr("huggingface_hub.snapshot_download", snapshot)
    same(load("hub:me/model@v1").waves([noise(0.2)])[0], tuned.waves([noise(0.2)])[0])
    with pytest.raises(SerError, match="no hub id"):
        load("hub:model")


def test_what_is_no_model(tmp_path, monkeypatch):
    (tmp_path / "x.safetensors").write_bytes(b"nothing")
    for name, kind in (("features", "ids"), ("run", "run"), ("other", "tuned")):
        save_file({"x": np.zeros(2)}, tmp_path / f"{name}.safetensors", {kind: "{}"})
    (tmp_path / "empty").mkdir()
    for source, message in (
        ("nobody", "no model 'nobody'; allowed: starter"),
        (tmp_path / "x.safetensors", "not a safetensors file .*; allowed: starter"),
        (tmp_path / "features.safetensors", "holds no model, but other tensors, such as features"),
        (tmp_path / "run.safetensors", r"give the folder, with config\.json and model\.safeten"),
        (tmp_path / "other.safetensors", "not a fine-tuned model"),
        (tmp_path / "empty", "is not a model folder"),
        (tmp_path / "none.onnx", "there is no such file"),
    ):
        with pytest.raises(SerError, match=message):
            load(source)
    monkeypatch.setattr("multimodal_ser.predict.loading.files", lambda _: tmp_path)
    with pytest.raises(SerError, match="starter model is not in this installation"):
        load()


def test_real_recordings(tuned):
    folder = Path(__file__).parents[2] / "shared" / "data" / "cremad" / "AudioWAV"
    paths = sorted(folder.glob("*.wav"))[:4]
    if not paths:
        pytest.skip("CREMA-D's genuine recordings are not here")
    for path, item in zip(paths, tuned(paths), strict=True):
        assert item.end == pytest.approx(soundfile.info(path).duration, abs=1e-3)
        same(item, tuned(path))
