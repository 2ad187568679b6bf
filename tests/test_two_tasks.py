"""Classes and attributes at once: training, tables, predictions, ONNX; rows with one label."""

import csv
import io
import json
from contextlib import nullcontext
from dataclasses import replace

import numpy as np
import pytest
import torch
from safetensors.torch import save

from made_encoders import tiny
from made_features import FOUR, made_folder, made_rows
from made_models import CLASSES, made_run, noise
from made_sound import written
from made_timeline import Both, Felt, Pitch, recording
from multimodal_ser import Predictor, load
from multimodal_ser.cli import main
from multimodal_ser.config.record import ClassNames, as_json
from multimodal_ser.config.settings import ModelConfig
from multimodal_ser.corpora.labels import class_set
from multimodal_ser.corpora.utterance import Utterance, read_manifest, write_manifest
from multimodal_ser.dataset import tasks
from multimodal_ser.dataset.examples import with_label
from multimodal_ser.dataset.views import check_both_labelled, part_of
from multimodal_ser.errors import LabelError, SerError
from multimodal_ser.experiments.loading import load_domain
from multimodal_ser.models.fusion import MODELS, Dims, Ensemble
from multimodal_ser.predict import Predictions
from multimodal_ser.predict.pipelines import Pipeline
from multimodal_ser.predict.resumable import _as_json, _from_json
from multimodal_ser.predict.writing import FORMATS
from multimodal_ser.report import report, summarise, text_table
from multimodal_ser.runs.folder import read_runs, tasks_of
from multimodal_ser.runs.model_file import load_model
from multimodal_ser.splits.folds import Fold, Split
from multimodal_ser.timeline import analyze
from multimodal_ser.timeline.folder import AnalysisRecipe, Folder
from multimodal_ser.timeline.places import places
from multimodal_ser.timeline.writers import WRITERS, rendered
from multimodal_ser.training import losses

SMALL = [
    "--network.members", "1", "--network.hidden-dim", "8", "--network.num-heads", "2",
    "--schedule.epochs", "5", "--schedule.least-steps", "25", "--schedule.batch-size", "16",
    "--schedule.learning-rate", "0.03", "--jobs", "1",
]  # fmt: skip
NAMES = ("arousal", "valence")
LABELS = "common4+arousal,valence"
BOTH = "classes+attributes"
FELT = {"anger": (4.2, 1.8), "happiness": (3.8, 4.2), "neutral": (2.6, 3.0), "sadness": (1.8, 2.0)}


def rated(count=144):
    """Utterances with a class and attributes; some lack one of them, and one both."""
    draw = np.random.default_rng(3)
    found = []
    for number, row in enumerate(made_rows(count, speakers=6)):
        values = np.clip(np.array(FELT[row.emotion]) + 0.4 * draw.normal(size=2), 1, 5)
        votes = {row.emotion: 3, FOUR[(FOUR.index(row.emotion) + 1) % 4]: 1}
        told = replace(row, attributes=dict(zip(NAMES, values.tolist(), strict=True)), votes=votes)
        if number % 13 == 1:
            told = replace(told, emotion="no agreement", votes={})
        if number % 11 == 5 or number == 1:
            told = replace(told, attributes={"dominance": 3.0})
        found.append(told)
    return found


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    rows, plain = rated(), made_rows(144, speakers=6)
    folder = made_folder(tmp_path_factory.mktemp("two"), plain, ("audio",), skill=1.0)
    write_manifest(rows, folder / "manifest.jsonl")
    return folder


def trained(folder, out, *more, task=BOTH):
    command = ["train", "--features", str(folder), "--labels", LABELS, "--task", task]
    command += ["--scale", "1", "5", "--split", "speaker", "--folds", "2", "--seeds", "2"]
    return main([*command, "--out", str(out), *SMALL, *more])


@pytest.fixture(scope="module")
def runs(folder, tmp_path_factory):
    out = tmp_path_factory.mktemp("runs") / "both"
    assert trained(folder, out) == 0
    return out


def test_each_task_has_a_table_of_its_own_rows_with_its_own_baselines(runs, folder):
    assert tasks_of(runs) == ("classes", "attributes")
    classes, values = (summarise(runs, task=task) for task in ("classes", "attributes"))
    assert {row.name for row in classes.rows} == {"audio", "linear", "svm"}
    assert {row.name for row in values.rows} == {"audio", "ridge", "svr"}
    rows = read_manifest(folder / "manifest.jsonl")
    assert classes.utterances == sum(row.emotion in FOUR for row in rows)
    assert values.utterances == sum("valence" in row.attributes for row in rows)
    assert classes.rows[0].scores["UA"].mean > 0.6
    for row in values.rows:
        score = row.scores["CCC valence"]
        assert score.low < score.mean < score.high
        assert row.scores["CCC"].mean > 0.5, row.name
    for summary, other in ((classes, "attributes"), (values, "classes")):
        table = text_table(summary)
        assert f"trained on {other} at the same time" in table
        assert "utterances have no common4, and are learnt from and tested for" in table
    assert summarise(runs).task == "classes"


def test_a_run_of_two_tasks_predicts_as_its_file_says(runs, folder):
    run = next(run for run in read_runs(runs) if run.config.model == "audio")
    with (run.folder / "predictions.csv").open(newline="") as file:
        rows = {row["id"]: row for row in csv.DictReader(file) if row["part"] == "test"}
    material, _ = load_domain(folder, LABELS, "speaker", folds=2, task=BOTH, scale=(1, 5))
    examples = material.examples
    chosen = examples.take([examples.places[key] for key in rows])
    with torch.inference_mode():
        model = load_model(run.folder / "model.safetensors")
        said = model(*next(chosen.batches(200))[:4]).logits
    assert said.shape[1] == 6
    for place, row in enumerate(rows.values()):
        shares = [float(row[f"p_{name}"]) for name in material.labels.classes]
        assert shares[:4] == pytest.approx(said[place, :4].softmax(0).tolist(), abs=1e-5)
        assert shares[4:] == pytest.approx(said[place, 4:].tolist(), abs=1e-5)
        assert (row["t_valence"] == "") == ("valence" not in _row(material, row["id"]).attributes)
    assert {row["label"] for row in rows.values()} == {*FOUR, ""}


def _row(material, key):
    return material.utterances[material.examples.places[key]]


def test_the_report_and_the_command_line_show_both(runs, tmp_path, capsys):
    assert main(["report", str(runs), "--task", "attributes", "--out", str(tmp_path / "page")]) == 0
    assert "CCC valence" in capsys.readouterr().out
    assert "CCC of each model" in (tmp_path / "page" / "report.html").read_text()
    assert "Confusion" in report(runs, tmp_path / "first").read_text()
    assert main(["report", str(runs), "--task", "distributions"]) == 1
    assert "choose one of: classes, attributes" in capsys.readouterr().err
    page = tmp_path / "results.md"
    assert main(["results", "--runs", str(runs), "--out", str(page)]) == 0
    first = page.read_text()
    assert first.count("## ") == 1
    assert all(name in first for name in ("macro-F1", "CCC valence", "ridge"))
    listed = tmp_path / "list.json"
    table = {"title": runs.name, "experiment": runs.name}
    listed.write_text(json.dumps({"title": "Results", "tables": [table]}))
    # from the numbers that were kept
    assert main(["results", "--tables", str(listed), "--out", str(page)]) == 0
    assert page.read_text() == first
    scores = json.loads(next(runs.glob("audio-*/metrics.json")).read_text())["test"]
    assert {"UA", "CCC arousal", "CCC valence"} < set(scores)


def test_a_factor_of_zero_leaves_the_attributes_unlearnt_and_is_compared(runs, folder, capsys):
    again = ["--model", "audio", "--schedule.loss", "cross-entropy+0*ccc", "--baselines"]
    assert trained(folder, runs, *again) == 0
    out = capsys.readouterr().out
    assert "UA" in out
    assert "CCC arousal" in out
    summary = summarise(runs, task="attributes")
    usual, alone = (f"audio (loss cross-entropy+{name})" for name in ("ccc", "0*ccc"))
    scores = {row.name: row.scores["CCC"].mean for row in summary.rows}
    assert scores[usual] > scores[alone] + 0.3
    assert (alone, usual) in {(one.name, one.against) for one in summary.versus}
    history = next(runs.glob("audio-*/history.jsonl")).read_text().splitlines()[-1]
    assert {"validation_ua", "validation_ccc"} < set(json.loads(history))


def test_votes_and_attributes(folder, tmp_path):
    more = ["--seeds", "1", "--model", "audio", "--baselines", "linear"]
    assert trained(folder, tmp_path / "runs", *more, task="distributions+attributes") == 0
    votes, values = (summarise(tmp_path / "runs", task=n) for n in ("distributions", "attributes"))
    assert {row.name for row in votes.rows} == {"audio", "linear"}
    assert {row.name for row in values.rows} == {"audio", "ridge"}
    assert 0 < votes.rows[0].scores["JS"].mean < 0.6
    assert "Human ceiling" in text_table(votes)
    (run, *_) = read_runs(tmp_path / "runs", task="distributions")
    assert set(run.targets.sum(1)) == {4.0}  # votes, not shares


def told(folder):
    material, _ = load_domain(folder, LABELS, "speaker", folds=2, task=BOTH, scale=(1, 5))
    return material


def test_a_part_of_the_material_is_what_would_have_been_read_for_that_task(folder):
    material = told(folder)
    for place, (task, labels) in enumerate(zip(BOTH.split("+"), LABELS.split("+"), strict=True)):
        scale = (1, 5) if place else None
        alone, _ = load_domain(folder, labels, "speaker", folds=2, task=task, scale=scale)
        part = part_of(material, place)
        assert (part.utterances, part.task, part.labels) == (alone.utterances, task, alone.labels)
        assert torch.equal(part.examples.truth, alone.examples.truth)
        assert torch.equal(part.examples.label, alone.examples.label)
        assert torch.equal(part.examples.audio.tokens, alone.examples.audio.tokens)
    (reason,) = (why for why in material.dropped if "no arousal" in why)
    assert material.dropped[reason] == 2


def test_the_loss_is_the_sum_over_the_utterances_that_have_each_label():
    torch.manual_seed(0)
    outputs = torch.randn(2, 5, 5, requires_grad=True)  # [members, utterances, 3 classes + 2]
    truth = torch.rand(5, 5)
    truth[:, :3] = torch.eye(3)[[0, 1, 2, 0, 1]]
    truth[1, :3] = truth[3, 3:] = torch.nan
    loss, weights = losses.loss_named("cross-entropy+0.5*mse"), torch.ones(3)
    own, felt = [0, 2, 3, 4], [0, 1, 2, 4]
    classes = losses.cross_entropy(outputs[:, own, :3], truth[own, :3], weights, 0.1)
    values = losses.mse(outputs[:, felt, 3:], truth[felt, 3:], weights, 0.1)
    found = loss.of(outputs, truth, weights, 0.1)
    assert found.item() == pytest.approx((classes + 0.5 * values).item())
    found.backward()
    assert outputs.grad.isfinite().all()
    assert not outputs.grad[:, 1, :3].any()
    assert not outputs.grad[:, 3, 3:].any()
    none = torch.full((5, 5), torch.nan)
    assert loss.of(outputs, none, weights, 0.1).item() == 0
    assert len(with_label(outputs, none, slice(0, 3))[1]) == 0


@pytest.mark.parametrize(
    ("more", "said"),
    [
        (["--labels", "common4"], "takes a class set and attributes with a + between them"),
        (["--labels", "common4+joy"], "'joy'"),
        (["--schedule.loss", "ccc"], "takes the losses of both, such as cross-entropy+ccc"),
        (["--schedule.loss", "ccc+cross-entropy"], "cross-entropy, focal"),
        (["--schedule.loss", "focal+x*ccc"], "the factor is a number, 0 or more"),
        (["--schedule.loss", "focal+-1*ccc"], "the factor is a number, 0 or more"),
        (["--model", "linear"], "linear, svm learn one task each"),
        (["--tune-encoder"], "leave --task out"),
    ],
)
def test_mistakes_with_two_tasks_are_said(folder, tmp_path, capsys, more, said):
    assert trained(folder, tmp_path / "out", *more) == 1
    assert said in capsys.readouterr().err
    assert not (tmp_path / "out").exists()


def test_a_fold_needs_two_labels_of_each_task_in_every_part(folder):
    material = told(folder)
    ids = material.examples.ids
    (alone, *_) = (row.id for row in material.utterances if row.emotion not in FOUR)
    rest = [key for key in ids if key != alone]
    few = Split("few", (Fold("one", tuple(rest[:40]), (alone, rest[40]), tuple(rest[41:])),))
    with pytest.raises(LabelError, match="validation part of fold one has 1 utterances with"):
        check_both_labelled([part_of(material, place) for place in (0, 1)], few)


def test_losses_that_leave_utterances_out_are_for_votes_alone():
    with pytest.raises(SerError, match="leaves utterances out"):
        losses.loss_for("distributions+attributes", "majority+ccc")
    with pytest.raises(LabelError, match="classes\\+attributes"):
        tasks.outputs_of("attributes+classes", LABELS, [])


def test_a_run_of_two_tasks_is_not_explained(runs, folder, capsys):
    run = next(runs.glob("audio-*"))
    assert main(["explain", str(run), "--features", str(folder)]) == 1
    assert "predicts attributes, but a class is explained" in capsys.readouterr().err


@pytest.fixture(scope="module")
def encoder(tmp_path_factory):
    root = tmp_path_factory.mktemp("encoder")
    return {"whisper-tiny": tiny("whisper-tiny", root), "root": root}


@pytest.fixture(scope="module")
def model(encoder, tmp_path_factory):
    outputs = (*CLASSES, "arousal", "valence")
    labels = ClassNames("made3+arousal,valence", outputs, "", BOTH, (1.0, 5.0))
    folder = made_run(tmp_path_factory.mktemp("model"), encoder["root"], labels=labels)
    return load(folder, weights=encoder)


@pytest.mark.usefixtures("all_is_speech")
def test_a_prediction_has_a_class_and_attributes(model):
    (found,) = model.waves([noise(1.0)])
    assert (found.labels, found.scale) == (CLASSES, None)
    assert found.probabilities.sum() == pytest.approx(1, abs=1e-6)
    shown = found.as_dict()
    assert shown["label"] == found.label
    assert shown["scale"] == [1.0, 5.0]
    assert shown["attributes"].keys() == {"arousal", "valence"}
    output = model.backend([noise(1.0)], [None]).probabilities
    assert output[0, 3:] == pytest.approx(found.also.probabilities)
    lines = {}
    for name, write in FORMATS.items():
        write([("a.wav", found)], found.labels, file := io.StringIO())
        lines[name] = file.getvalue()
    assert "(of 1 to 5)" in lines["table"]
    (row,) = csv.DictReader(io.StringIO(lines["csv"]))
    assert float(row["arousal"]) == shown["attributes"]["arousal"]
    assert float(row[f"p_{found.best}"]) == pytest.approx(found.confidence, abs=1e-6)
    frame = Predictions([found]).to_frame()
    assert frame.loc[0, "valence"] == shown["attributes"]["valence"]
    assert Predictions([found])._repr_html_().count("<th") == 4 + 3 + 2 - 1
    again = _from_json(json.loads(json.dumps(_as_json(found))), CLASSES)
    assert again.as_dict() == shown
    assert np.array_equal(again.also.probabilities, found.also.probabilities)


def test_a_model_of_attributes_from_before_there_were_two_tasks_is_read(tmp_path):
    config = ModelConfig(members=1, hidden_dim=8, num_heads=2)
    dims = Dims(0, 8, 2)
    model = Ensemble(MODELS["audio"], dims, config, values=2).eval()
    header = {"model": "audio", "dims": dims._asdict(), "network": as_json(config), "values": True}
    path = tmp_path / "model.safetensors"
    path.write_bytes(save(model.state_dict(), {"run": json.dumps(header)}))
    given = torch.zeros(3, 0, 0), torch.zeros(3, 0, dtype=bool), torch.randn(3, 4, 8)
    batch = *given, torch.ones(3, 4, dtype=bool)
    assert torch.equal(load_model(path)(*batch).logits, model(*batch).logits)


@pytest.mark.usefixtures("all_is_speech")
def test_an_onnx_file_and_a_saved_model_predict_both(model, encoder, tmp_path):
    pytest.importorskip("onnxscript", reason="needs the extra onnx")
    from multimodal_ser.export import export

    file = export(model, tmp_path / "run.onnx", part="head").file
    again = load(file, weights=encoder)
    assert isinstance(again, Predictor)
    waves = [noise(0.9, 1), noise(2.2, 2)]
    saved = load(model.save(tmp_path / "saved"), weights=encoder).waves(waves)
    assert [one.as_dict() for one in saved] == [one.as_dict() for one in model.waves(waves)]
    for a, b in zip(model.waves(waves), again.waves(waves), strict=True):
        assert b.probabilities == pytest.approx(a.probabilities, abs=1e-4)
        assert b.attributes == pytest.approx(a.attributes, abs=1e-3)
        assert (b.labels, b.also.labels, b.also.scale) == (CLASSES, ("arousal", "valence"), (1, 5))


SOUND = recording(1.0, (4.0, "anger"), 1.0, (4.0, "sadness"), 1.0, (2.0, "neutral"), 0.5)


def test_a_timeline_has_the_classes_of_one_model_and_the_attributes_of_the_other(tmp_path):
    path = written(tmp_path / "a.wav", SOUND)
    both, classes, felt = (analyze(path, m, vad="energy") for m in (Both(), Pitch(), Felt()))
    found, alone, beside = (one.as_dict() for one in (both, classes, felt))
    for key in ("labels", "overall", "track"):
        assert found[key] == alone[key]
    for key in ("labels", "scale", "regions", "overall", "track"):
        assert found["attributes"][key] == beside[key]
    assert found["attributes"]["segments"] == beside["segments"]
    for mine, theirs in zip(found["segments"], alone["segments"], strict=True):
        values = mine.pop("attributes")
        assert mine == theirs
        inside = [p["attributes"]["arousal"] for p in beside["track"]
                  if mine["start"] <= (p["start"] + p["end"]) / 2 <= mine["end"]]  # fmt: skip
        assert min(inside) <= values["arousal"] <= max(inside)
    rows = list(csv.DictReader(io.StringIO(dict(rendered(both, path, ["csv"]))[".csv"].decode())))
    assert float(rows[0]["arousal"]) == pytest.approx(4.6, abs=0.2)
    for kind in WRITERS:
        ((_, content),) = rendered(both, path, [kind])
        assert b"NaN" not in content


def test_speakers_have_both(tmp_path):
    path = written(tmp_path / "two.wav", np.stack([SOUND, np.roll(SOUND, 16_000)], 1))
    found = analyze(path, Both(), vad="energy", channels="each").as_dict()
    assert [one["name"] for one in found["speakers"]] == ["channel 0", "channel 1"]
    for one in found["attributes"]["speakers"]:
        assert 1 < one["overall"]["valence"] < 5
    assert len(found["track"]) == len(found["attributes"]["track"])
    for p, q in zip(found["track"], found["attributes"]["track"], strict=True):
        assert [p[key] for key in ("start", "end", "speaker")] == [
            q[key] for key in ("start", "end", "speaker")
        ]


def test_a_folder_has_columns_of_both(tmp_path):
    (tmp_path / "in").mkdir()
    written(tmp_path / "in" / "a.wav", SOUND)
    recipe = AnalysisRecipe(Both(), {"vad": "energy"}, ["json"])
    folder = Folder(tmp_path / "out", recipe, places([str(tmp_path / "in")]))
    assert [done.reason for done in folder.run("local", lambda _: nullcontext())] == [""]
    index, segments, _ = folder.finish()
    (row,) = csv.DictReader(io.StringIO(index.read_text("utf-8")))
    assert 0 < float(row["p_anger"]) < 1 < float(row["valence"])
    if segments.suffix == ".csv":
        assert "p_anger,p_neutral,p_sadness,arousal,valence" in segments.read_text("utf-8")


def test_the_server_returns_both():
    pytest.importorskip("fastapi", reason="needs the extra serve")
    from fastapi.testclient import TestClient

    from made_server import encoded
    from multimodal_ser.serve import create_app

    with TestClient(create_app(Both())) as client:
        about = client.get("/v1/models").json()["models"][0]
        assert about["attributes"] == {"labels": ["arousal", "valence"], "scale": [1.0, 5.0]}
        assert {"anger", "arousal", "active negative", "uncertain"} < set(about["colours"])
        sound = encoded(SOUND[16_000:64_000])
        one = client.post("/v1/predict", files={"file": ("a.wav", sound)}).json()
        assert one["label"] == "anger"
        assert one["attributes"]["arousal"] == pytest.approx(4.6, abs=0.05)
        found = client.post("/v1/analyze", files={"file": ("a.wav", encoded(SOUND))}).json()
        assert found["attributes"]["scale"] == [1.0, 5.0]


def test_a_pipeline_scores_the_classes():
    predictor = Both()
    predictor.stream = lambda sources, batch_size: iter(predictor.waves([SOUND[16_000:64_000]]))
    assert {one["label"] for one in Pipeline(predictor)("a.wav")} == set(Pitch.labels)


def test_utterances_without_either_label_are_left_out_with_both_reasons():
    outputs = tasks.Both((class_set("common4"), tasks.attribute_set("arousal", (1, 5))))
    row = Utterance("mine/1", "mine", "boredom")
    assert "boredom" in tasks.task_label(BOTH, row, outputs)
    assert "no arousal" in tasks.task_label(BOTH, row, outputs)
    told = tasks.task_label(BOTH, replace(row, attributes={"arousal": 3}), outputs)
    assert told.label == tasks.NO_CLASS
    assert told.target[-1] == 0.5
    assert np.isnan(told.target[:4]).all()


@pytest.mark.parametrize("names", [("common4", "arousal,valence"), ("arousal,valence",)])
def test_a_manifest_without_attributes_is_told_how_to_have_them(names):
    rows = [Utterance(f"mine/{n}", "mine", "anger", extra={"arousal": 3}) for n in range(9)]
    task = "attributes" if len(names) == 1 else BOTH
    outputs = tasks.outputs_of(task, "+".join(names), rows, (1.0, 5.0))
    with pytest.raises(LabelError, match=r'0 of 9 .* as "attributes": \{"arousal": 5.0, "val'):
        tasks.check_attributes(rows, outputs)
