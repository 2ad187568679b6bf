"""Arousal, valence and dominance over time: files, folders, and the server."""

import csv
import io
import json
from contextlib import nullcontext
from dataclasses import replace

import numpy as np
import pytest

from made_sound import written
from made_timeline import FELT, Felt, recording
from multimodal_ser.cli.analyze import _show
from multimodal_ser.predict import Predictions
from multimodal_ser.predict.pipelines import Pipeline
from multimodal_ser.timeline import analyze
from multimodal_ser.timeline.folder import AnalysisRecipe, Folder
from multimodal_ser.timeline.places import places
from multimodal_ser.timeline.writers import WRITERS, rendered

SOUND = recording(1.0, (4.0, "anger"), 1.0, (4.0, "sadness"), 1.0, (2.0, "neutral"), 0.5)
WHERE = ["active negative", "passive negative", "passive positive"]


@pytest.fixture(scope="module")
def told(tmp_path_factory):
    path = written(tmp_path_factory.mktemp("felt") / "a.wav", SOUND)
    return path, analyze(path, Felt(), vad="energy", smoothing=0)


def test_segments_say_where_attributes_lie_and_numbers_are_on_their_scale(told, capsys):
    path, timeline = told
    assert [s.label for s in timeline.segments] == WHERE
    found = json.loads(dict(rendered(timeline, path, ["json"]))[".json"])
    assert (found["scale"], len(found["regions"])) == ([1.0, 5.0], 4)
    for segment, (arousal, valence) in zip(found["segments"], FELT.values(), strict=True):
        assert segment["attributes"]["arousal"] == pytest.approx(1 + 4 * arousal, abs=0.05)
        assert segment["attributes"]["valence"] == pytest.approx(1 + 4 * valence, abs=0.05)
        assert not {"confidence", "probabilities"} & segment.keys()
    times = np.array([s["end"] - s["start"] for s in found["segments"]])
    mean = np.average([s["attributes"]["valence"] for s in found["segments"]], weights=times)
    assert found["overall"]["valence"] == pytest.approx(mean, abs=1e-3)
    assert all(1 <= value <= 5 for p in found["track"] for value in p["attributes"].values())
    _show("a.wav", timeline)
    said = capsys.readouterr().out
    assert "active negative (arousal 4.6, valence 1.4)" in said
    assert "(of 1 to 5)" in said
    assert "%" not in said


def test_every_format_has_the_attributes(told):
    path, timeline = told
    rows = list(
        csv.DictReader(io.StringIO(dict(rendered(timeline, path, ["csv"]))[".csv"].decode()))
    )
    assert list(rows[0]) == ["start", "end", "speaker", "label", "arousal", "valence", "text"]
    assert float(rows[0]["arousal"]) == pytest.approx(4.6, abs=0.05)
    for kind in ("vtt", "srt", "audacity", "textgrid", "eaf"):
        ((_, content),) = rendered(timeline, path, [kind])
        assert b"active negative (arousal 4.6, valence 1.4)" in content, kind
    for kind in WRITERS:  # a picture, a page and turns too
        ((_, content),) = rendered(timeline, path, [kind])
        assert len(content) > 50
        assert b"NaN" not in content


def test_a_folder_has_columns_of_attributes_and_a_page_of_regions(tmp_path):
    (tmp_path / "in").mkdir()
    for name in ("a", "b", "c"):
        written(tmp_path / "in" / f"{name}.wav", SOUND)
    recipe = AnalysisRecipe(Felt(), {"vad": "energy"}, ["json"])
    folder = Folder(tmp_path / "out", recipe, places([str(tmp_path / "in")]))
    assert [done.reason for done in folder.run("local", lambda _: nullcontext())] == [""] * 3
    index, segments, page = folder.finish()
    (row, *_) = csv.DictReader(io.StringIO(index.read_text("utf-8")))
    assert 1 < float(row["valence"]) < 5
    assert row["mostly"] in WHERE
    if segments.suffix == ".csv":
        assert "arousal" in segments.read_text("utf-8").splitlines()[0].split(",")
    else:
        import pyarrow.parquet as pq

        assert {"arousal", "valence"} < set(pq.read_schema(segments).names)
    said = page.read_text("utf-8")
    assert "<bdi>active negative</bdi> (arousal 4.6, valence 1.4)" in said
    assert "uncertain" not in said.lower()


def test_the_server_returns_the_attributes():
    pytest.importorskip("fastapi", reason="needs the extra serve")
    from fastapi.testclient import TestClient

    from made_server import encoded
    from multimodal_ser.serve import create_app

    with TestClient(create_app(Felt())) as client:
        about = client.get("/v1/models").json()["models"][0]
        assert about["scale"] == [1.0, 5.0]
        assert set(WHERE) < set(about["colours"])
        one = client.post("/v1/predict", files={"file": ("a.wav", encoded(SOUND[16_000:64_000]))})
        assert one.json()["attributes"]["arousal"] == pytest.approx(4.6, abs=0.05)
        found = client.post("/v1/analyze", files={"file": ("a.wav", encoded(SOUND))}).json()
        assert found["scale"] == [1.0, 5.0]
        assert set(WHERE) >= {s["label"] for s in found["segments"]}


def test_no_value_lies_beyond_an_end_of_the_scale():
    (one,) = Felt().waves([SOUND[16_000:64_000]])
    beyond = replace(one, probabilities=np.float32([1.2, -0.1]))
    assert beyond.as_dict()["attributes"] == {"arousal": 5.0, "valence": 1.0}


def test_tables_of_predictions_have_a_column_an_attribute():
    found = Predictions(Felt().waves([SOUND[16_000:64_000]]))
    assert found.to_frame().loc[0, "arousal"] == pytest.approx(4.6, abs=0.05)
    assert "confidence" not in found._repr_html_()
    model = Felt()
    model.stream = lambda sources, batch_size: iter(found)
    assert [one["label"] for one in Pipeline(model)("a.wav")] == ["arousal", "valence"]
