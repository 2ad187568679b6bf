"""Embeddings before and after adaptation, drawn from run folders and features."""

import numpy as np
import pytest

from made_features import made_folder, made_rows
from made_runs import write_experiment
from multimodal_ser.config.settings import ModelConfig, TrainConfig
from multimodal_ser.corpora.labels import class_set
from multimodal_ser.dataset.material import load_material
from multimodal_ser.errors import SerError
from multimodal_ser.experiments import transfer
from multimodal_ser.experiments.projection import clouds_of, plane, told_apart
from multimodal_ser.experiments.running import make_experiment
from multimodal_ser.report import report, summarise, write_report
from multimodal_ser.splits import make_split

LABELS = class_set("anger,happiness,neutral,sadness")


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    """A source, a target whose features are shifted, and runs with and without adaptation."""
    root = tmp_path_factory.mktemp("pair")
    folders = [
        made_folder(root / "features", made_rows(24, 3, corpus=name), ("audio",), shift=shift)
        for name, shift in (("mine", 0), ("yours", 3))
    ]
    materials = [load_material(folder, LABELS) for folder in folders]
    splits = [make_split(one.utterances, "speaker") for one in materials]
    planned = transfer.Adaptation(
        methods=("none", "coral"),
        model="audio",
        seeds=1,
        network=ModelConfig(members=1, hidden_dim=8, num_heads=2),
        schedule=TrainConfig(epochs=20, batch_size=12, least_steps=1),
    ).plan(materials[0], splits[0], materials[1], splits[1])
    make_experiment(planned, root / "runs", jobs=1)
    return root / "runs", tuple(folders)


def test_both_corpora_are_embedded_by_both_networks(made):
    runs, features = made
    before, after = clouds_of(runs, summarise(runs), features)
    assert (before.name, after.name) == ("none", "coral")
    for cloud in (before, after):
        assert cloud.points.shape == (48, 2)
        assert cloud.target.sum() == 24
        assert set(cloud.labels) == set(LABELS.classes)
        assert np.isfinite(cloud.points).all()
    assert not np.allclose(before.points, after.points)
    assert after.told_apart < before.told_apart  # each corpus by its own statistics


def test_the_picture_stands_in_page_and_file(made, tmp_path):
    runs, features = made
    summary = summarise(runs)
    page = write_report(summary, tmp_path, clouds_of(runs, summary, features))
    assert "Embeddings before and after adaptation" in page.read_text(encoding="utf-8")
    assert (tmp_path / "projection.png").stat().st_size > 5000
    assert summary.best.scores["UA"].mean >= 0


def test_without_features_there_is_no_such_picture(made, tmp_path):
    page = report(made[0], tmp_path)
    assert "Embeddings before" not in page.read_text(encoding="utf-8")
    assert not (tmp_path / "projection.png").exists()


def test_an_experiment_without_adaptation_is_refused(made, tmp_path):
    runs = write_experiment(tmp_path, {"audio": (2.0, 1)}, folds=2)
    with pytest.raises(SerError, match="with the method none among its methods"):
        clouds_of(runs, summarise(runs), made[1])


def test_source_and_target_are_not_exchanged(made):
    runs, features = made
    with pytest.raises(SerError, match="give the features of the source first"):
        clouds_of(runs, summarise(runs), features[::-1])


def test_separated_corpora_are_recognised():
    rows = np.random.default_rng(0).normal(size=(60, 5))
    target = np.arange(60) % 2 == 0
    assert told_apart(rows + 5 * target[:, None], target) > 0.95
    assert 0.2 < told_apart(rows, target) < 0.8


def test_the_projection_is_deterministic():
    rows = np.random.default_rng(0).normal(size=(40, 6))
    assert np.array_equal(plane(rows), plane(rows))
    assert plane(rows[:8]).shape == (8, 2)
