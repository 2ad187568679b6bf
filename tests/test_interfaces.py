"""Recordings and features of other libraries, and the results in their form."""

import io
import json
import runpy
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from sklearn.exceptions import NotFittedError
from sklearn.model_selection import GroupKFold, cross_val_score
from sklearn.utils.estimator_checks import parametrize_with_checks

import multimodal_ser
from made_features import made_folder, made_rows
from made_sound import tone, written
from multimodal_ser import FusionClassifier, load, pipeline
from multimodal_ser.cli import main
from multimodal_ser.config.settings import ModelConfig, TrainConfig
from multimodal_ser.errors import SerError
from multimodal_ser.predict import Predictions
from multimodal_ser.timeline import Segment, Timeline

RATE = 16_000


@pytest.fixture(scope="module")
def predictor():
    made = load()
    made.vad = "none"
    return made


@pytest.mark.parametrize(
    ("source", "words"),
    [
        ((tone(0.5), None), ["no rate", "a number"]),
        ((tone(0.5), "16000"), ["no rate", "a number"]),
        ({"array": tone(0.5)}, ["sampling_rate in Hz"]),
        ({"array": tone(0.5), "sampling_rate": None}, ["sampling_rate=None", "rate in Hz"]),
        ({"array": None, "sampling_rate": RATE}, ["no array", "the samples"]),
        ("", ["empty", "path"]),
        ("https://example.com/call.wav", ["is an address", "path or bytes"]),
        ("file:///call.wav", ["is an address", "path or bytes"]),
        (io.BytesIO(), ["0 bytes", "seek(0)"]),
    ],
)
def test_what_is_no_recording_is_named_with_what_is_allowed(predictor, source, words):
    with pytest.raises(SerError) as caught:
        predictor(source)
    assert [word for word in words if word not in str(caught.value)] == []


def test_wrong_numbers_are_named_with_what_is_allowed(predictor):
    sound = (tone(0.5), RATE)
    for size in (0, -1, 2.0, "3"):
        with pytest.raises(SerError, match=f"batch_size={size!r}; allowed: whole numbers from 1"):
            predictor([sound], batch_size=size)
    for share in ("0.5", None, float("nan"), 2):
        with pytest.raises(SerError, match="allowed: a confidence from 0 to 1"):
            predictor.threshold = share
    for most in (0, -1, "all"):
        with pytest.raises(SerError, match="whole numbers from 1, or None for all classes"):
            pipeline("audio-classification", top_k=most)(sound)


def test_tensors_of_all_floats_are_one_recording(predictor):
    torch = pytest.importorskip("torch")
    wave = torch.tensor(tone(1.0))
    wanted = predictor((wave.numpy(), RATE)).probabilities
    for kind in (torch.float64, torch.float16, torch.bfloat16):
        found = predictor((wave.to(kind)[None], RATE)).probabilities
        np.testing.assert_allclose(found, wanted, atol=0.02)


class Column:
    """As `datasets` 4 gives a column: rows are decoded when they are asked for."""

    def __init__(self, rows):
        self.rows, self.asked = rows, 0

    def __len__(self):
        return len(self.rows)

    def __getitem__(self, place):
        self.asked += 1
        return self.rows[place]


class Decoder:
    """As torchcodec's AudioDecoder, which `datasets` 4 gives for a recording."""

    def __init__(self, wave, rate):
        self.data, self.sample_rate = wave[None], rate

    def get_all_samples(self):
        return self


def test_recordings_of_datasets_and_transformers_are_accepted(predictor, tmp_path):
    wave = tone(1.0, 44_100)
    file = written(tmp_path / "a.wav", wave, 44_100)
    wanted = predictor((wave, 44_100)).probabilities
    for given in (
        {"path": "a.wav", "array": wave, "sampling_rate": 44_100},
        {"raw": wave, "sampling_rate": 44_100},
        {"array": wave.tolist(), "sampling_rate": 44_100},
        Decoder(wave, 44_100),
    ):
        np.testing.assert_allclose(predictor(given).probabilities, wanted, atol=1e-5)
    stored = predictor(file).probabilities
    for given in (
        {"bytes": file.read_bytes(), "path": "a.wav"},
        {"bytes": None, "path": str(file)},
        {"path": str(file), "label": 3},
        {"bytes": file.read_bytes()},
    ):
        np.testing.assert_allclose(predictor(given).probabilities, stored, atol=1e-5)
    with pytest.raises(SerError, match=r"is a table.*dataset\['audio'\]"):
        predictor({"audio": [file]})


def test_generators_and_columns_are_read_lazily(predictor):
    rows = [{"array": tone(0.5, hertz=200 + n), "sampling_rate": RATE} for n in range(5)]
    wanted = [predictor(row).probabilities for row in rows]
    column = Column(rows)
    for given in ((row for row in rows), column, iter(rows)):
        found = predictor(given)
        assert isinstance(found, Predictions)
        for one, want in zip(found, wanted, strict=True):
            np.testing.assert_allclose(one.probabilities, want, atol=1e-5)
    assert column.asked == 5
    endless = ({"array": tone(0.1), "sampling_rate": RATE} for _ in iter(int, 1))
    assert next(predictor.stream(endless, batch_size=2)).labels == predictor.labels


def test_results_have_a_short_repr(predictor):
    found = predictor([(tone(0.5), RATE), io.BytesIO(b"no sound")] + [(tone(0.5), RATE)] * 5)
    assert repr(found[0]) == f"<{found[0].label} {found[0].confidence:.2f}, 0.0–0.5 s>"
    assert repr(found).endswith(", … 2 more]")
    assert len(repr(found)) < 500
    html = found._repr_html_()
    assert html.count("<tr>") == 8
    assert "not" in html
    assert "<script" not in Predictions([SerError("<script>")])._repr_html_()
    frame = pytest.importorskip("pandas") and found.to_frame()
    assert len(frame) == 7
    assert frame["p_anger"][0] == pytest.approx(found[0].probabilities[0], abs=1e-5)
    assert frame["label"][1] == "failed"
    assert frame["reason"][1] == str(found[1])
    assert frame["reason"].isna().sum() == 6
    assert found[1:3].to_frame()["label"].tolist() == ["failed", found[2].label]
    assert repr(predictor) == f"<Predictor {predictor.name}: {', '.join(predictor.labels)}>"


def test_a_timeline_has_a_short_repr_and_tables_of_its_segments():
    shares = {"anger": 0.75, "joy": 0.25}
    made = [Segment(k, k + 0.5, "anger", 0.75, shares, f"<b>{k}</b>") for k in range(900)]
    spoken = [(one.start, one.end) for one in made]
    found = Timeline(900.0, ("anger", "joy"), tuple(made), (), tuple(spoken), shares, "one")
    assert repr(found) == "<Timeline 15:00, speech 7:30, 900 segments>"
    html = found._repr_html_()
    assert html.count("<tr>") == 901
    assert "speaker" not in html  # of whom nothing is known
    assert "<b>" not in html
    frame = pytest.importorskip("pandas") and found.to_frame()
    assert frame.columns[:3].tolist() == ["source", "start", "end"]
    assert frame[["start", "label", "p_joy", "text"]].values[-1].tolist() == [
        899.0, "anger", 0.25, "<b>899</b>"
    ]  # fmt: skip
    silent = replace(found, segments=())
    assert silent.to_frame().columns.tolist() == frame.columns.tolist()
    assert "p_" not in silent._repr_html_()


def test_a_pipeline_returns_what_transformers_does(predictor):
    pipe = pipeline("audio-classification", top_k=2)
    pipe.predictor.vad = "none"
    one = pipe({"raw": tone(1.0), "sampling_rate": RATE})
    said = predictor((tone(1.0), RATE))
    assert [sorted(entry) for entry in one] == [["label", "score"]] * 2
    assert (one[0]["label"], one[0]["score"]) == (said.best, pytest.approx(said.confidence))
    json.dumps(one)
    several = pipe([(tone(1.0), RATE)] * 2, top_k=6)
    assert [len(row) for row in several] == [6, 6]
    assert sum(entry["score"] for entry in several[0]) == pytest.approx(1)
    pipe.predictor.vad = "auto"
    assert pipe((np.zeros(RATE, "f4"), RATE)) == [{"label": "no speech", "score": 1.0}]
    with pytest.raises(SerError, match="choose one of: audio-classification"):
        pipeline("text-classification")
    with pytest.raises(SerError, match="no such file"):
        pipe(["nowhere.wav"])


QUICK = TrainConfig(epochs=5, least_steps=60, refit=False)
NETWORK = FusionClassifier(
    "cross_attention", network=ModelConfig(members=1, hidden_dim=8, num_heads=2), schedule=QUICK
)


@parametrize_with_checks([FusionClassifier("linear")])
@pytest.mark.filterwarnings("ignore")
def test_it_passes_scikit_learns_estimator_checks(estimator, check):
    check(estimator)


def blobs(rows=60, columns=6):
    draw = np.random.default_rng(0)
    y = np.array(["anger", "joy", "neutral"])[np.arange(rows) % 3]
    means = draw.normal(0, 3, (3, columns))
    return means[np.arange(rows) % 3] + draw.normal(size=(rows, columns)), y


@pytest.mark.parametrize("model", ["cross_attention", "svm", "stacked"])
def test_every_kind_of_model_is_fitted_and_predicts(model):
    X, y = blobs()
    made = FusionClassifier(model, text_columns=2, network=NETWORK.network, schedule=QUICK)
    made.fit(X, y, groups=np.arange(60) // 6)
    shares = made.predict_proba(X)
    assert shares.shape == (60, 3)
    np.testing.assert_allclose(shares.sum(1), 1, atol=1e-5)
    assert list(made.classes_) == ["anger", "joy", "neutral"]
    assert made.score(X, y) > 0.9


def test_it_works_in_a_cross_validation_by_speaker():
    X, y = blobs()
    scores = cross_val_score(
        FusionClassifier("linear"), X, y, groups=np.arange(60) // 12, cv=GroupKFold(5)
    )
    assert scores.mean() > 0.9


def test_what_cannot_be_fitted_is_refused():
    X, y = blobs()
    with pytest.raises(ValueError, match="allowed: text, audio"):
        FusionClassifier("gpt").fit(X, y)
    with pytest.raises(ValueError, match="text_columns=9; X has 6 columns"):
        FusionClassifier(text_columns=9).fit(X, y)
    with pytest.raises(NotFittedError):
        FusionClassifier().predict(X)


def test_public_names_are_loaded_when_they_are_used():
    for name in ("FusionClassifier", "Predictions", "pipeline"):
        assert name in multimodal_ser.__all__


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("kind", ["tensorboard", "mlflow"])
def test_runs_are_logged_to_tensorboard_and_mlflow(tmp_path, capsys, monkeypatch, kind):
    library = pytest.importorskip(kind)
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    made_folder(tmp_path / "features", made_rows(48, speakers=4), ("audio",))
    command = [
        "train", "--features", "features/mine", "--labels", "common4", "--folds", "2",
        "--seeds", "1", "--model", "audio", "--network.members", "1", "--jobs", "1",
        "--schedule.epochs", "2",
        "--schedule.least-steps", "1", "--out", "runs", "--log", kind,
    ]  # fmt: skip
    assert main(command) == 0
    assert f"to see the runs: {kind}" in capsys.readouterr().out
    folder = next(Path("runs").glob("audio-0-*"))
    written_down = json.loads((folder / "metrics.json").read_text())["test"]["UA"]
    if kind == "tensorboard":
        from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

        events = EventAccumulator(str(Path("runs/tensorboard") / folder.name)).Reload()
        assert events.Scalars("test/UA")[0].value == pytest.approx(written_down)
        assert len(events.Scalars("train_loss")) == 2
        return
    runs = library.search_runs(search_all_experiments=True, output_format="list")
    found = {run.info.run_name: run for run in runs}[folder.name]
    assert found.data.metrics["test/UA"] == pytest.approx(written_down)
    assert found.data.params["model"] == "audio"
    assert main(command) == 0  # nothing twice
    again = library.search_runs(search_all_experiments=True, output_format="list")
    assert len(again) == len(runs)


def test_the_gradio_example_predicts():
    answer = runpy.run_path(str(Path(__file__).parents[1] / "examples" / "gradio_demo.py"))[
        "answer"
    ]
    assert answer(None) == {}
    assert answer((RATE, np.zeros(RATE, np.int16))) == {"no speech": 1.0}
