"""The benchmark of training: the original's network, its data and its output."""

import sys
from dataclasses import replace
from functools import partial
from importlib.metadata import version
from pathlib import Path

import numpy as np
import pytest
import torch

sys.path.append(str(Path(__file__).parents[1] / "benchmarks"))

import original_list
import original_network as original
import training
from made_up import CREMAD, IEMOCAP, LABELS, domains, make_material
from torch.utils.data import TensorDataset
from yardstick import train_on_folds

from made_transfer import SETTINGS
from multimodal_ser.config.settings import TrainConfig
from multimodal_ser.errors import SerError

SMALL = original.Settings(
    epochs=8, hidden_dim=32, num_layers=1, num_heads=2, learning_rate=3e-3, batch_size=64
)


@pytest.fixture(scope="module")
def small():
    """A twentieth of both corpora."""
    return domains(share=1 / 20)


def settings():
    return {key: SETTINGS[key] for key in ("network", "schedule")}


def test_yardstick_has_the_size_that_is_known_of_the_original():
    network = original.OriginalNetwork(768, 1024, 4, original.Settings())
    assert round(sum(p.numel() for p in network.parameters()) / 1e6, 1) == 11.5
    attention = [m for m in network.modules() if isinstance(m, torch.nn.MultiheadAttention)]
    queries_and_keys = sum(
        part[: 2 * 384].numel() for m in attention for part in (m.in_proj_weight, m.in_proj_bias)
    )
    assert round(queries_and_keys / 1e6, 2) == 1.77
    blocks = [m for m in network.modules() if isinstance(m, original.Block)]
    assert len(blocks) == len(network.own) + 2 * 2  # both ways, two layers
    logits = network(torch.zeros(3, 1, 768), torch.zeros(3, 1, 1024))
    assert logits.shape == (3, 4)


def test_both_modalities_affect_the_original_networks_prediction():
    network = original.OriginalNetwork(6, 8, 4, SMALL).eval()
    text, audio = torch.randn(2, 1, 6), torch.randn(2, 1, 8)
    plain = network(text, audio)
    assert not torch.allclose(plain, network(text + 1, audio))
    assert not torch.allclose(plain, network(text, audio + 1))


def test_yardstick_learns(small):
    source, _ = small
    yardstick = train_on_folds(source, source.split.folds, SMALL, seed=0)
    (run,) = yardstick.runs
    assert len(run.losses) == len(run.validation) == SMALL.epochs
    assert run.losses[-1] < 0.8 * run.losses[0]
    (fold,) = source.split.folds
    assert yardstick.scores()[0] > 0.4  # chance is 0.25
    assert yardstick.run == pytest.approx(run.seconds * original.EPOCHS / SMALL.epochs)
    assert set(yardstick.answers) == {(fold.name, key) for key in fold.test}


def test_the_validation_part_picks_the_yardsticks_epoch():
    torch.manual_seed(0)
    label = torch.arange(64) % 4
    train, held = (
        TensorDataset(torch.randn(64, 1, 6), torch.randn(64, 1, 8), label) for _ in range(2)
    )
    run = original.train_original(train, held, 4, SMALL, seed=0)
    assert run.validation[-1] < max(run.validation)  # chance alone; else nothing is tested here
    assert original.ua(original.ask(run.model, held), held, 4) == max(run.validation)


def test_yardsticks_training_is_seeded(small):
    source, _ = small
    few = original.Settings(epochs=1, hidden_dim=8, num_layers=1, num_heads=2)
    first, again, other = (
        train_on_folds(source, source.split.folds, few, seed).runs[0].losses for seed in (0, 0, 1)
    )
    assert first == again != other


def test_made_up_corpora_have_the_sizes_and_classes_of_the_real():
    assert (sum(IEMOCAP.words.values()), sum(CREMAD.words.values())) == (5531, 4900)
    source, target = (make_material(replace(recipe, latent=4)) for recipe in (IEMOCAP, CREMAD))
    assert LABELS.classes == ("anger", "happiness", "neutral", "sadness")
    for material, counts in (
        (source, [1103, 1636, 1708, 1084]),
        (target, [1271, 1271, 1087, 1271]),
    ):
        assert np.bincount(material.examples.label).tolist() == counts
        assert (material.examples.audio.dim, material.examples.text.dim) == (1024, 768)
        assert material.examples.audio.mask.shape == (sum(counts), 1)
    assert len({row.speaker for row in source.utterances}) == 10
    assert len({row.speaker for row in target.utterances}) == 91
    learnt = [row for row in source.utterances if row.session in ("Ses01", "Ses02", "Ses03")]
    assert len(learnt) == 3259


def test_made_up_features_are_seeded_and_no_two_corpora_alike(small):
    source, target = small
    again, _ = domains(share=1 / 20)
    other, _ = domains(seed=1, share=1 / 20)
    tokens = source.material.examples.audio.tokens
    assert tokens.equal(again.material.examples.audio.tokens)
    assert not tokens.equal(other.material.examples.audio.tokens)
    moved = target.material.examples.audio.tokens
    assert (moved.mean((0, 1)) - tokens.mean((0, 1))).abs().mean() > 0.5


def test_the_list_has_the_originals_runs_and_no_run_twice(small):
    listed = {name: plan(*small, settings()) for name, plan in original_list.LIST.items()}
    runs = {name: one.runs for name, one in listed.items()}
    assert runs == {
        "in-domain": 5, "ablation": 12, "adaptation": 9, "combined": 3, "finetune": 3,
        "fewshot": 12,
    }  # fmt: skip
    for name, one in listed.items():
        assert one.experiment.protocol == name
        assert len(set(one.experiment.names)) == len(one.experiment.plans) >= one.runs


def test_without_controls_the_originals_runs_and_their_source_models_are_left(small):
    for plan in original_list.LIST.values():
        left = plan(*small, settings()).without_controls()
        sources = {one.config.folder for one in left.experiment.plans if one.start is None}
        starts = {one.start for one in left.experiment.plans} - {None}
        assert starts <= sources
        assert len(left.experiment.plans) - len(starts) == left.runs
        assert all(one.config.model in original_list.NETWORKS for one in left.experiment.plans)


def test_the_command_prints_the_yardsticks_rows_and_ours(small, monkeypatch, capsys):
    line = "training.py one --share 0.05 --our-epochs 1 --members 1 --jobs 1 --batch-size 64"
    monkeypatch.setattr(sys, "argv", line.split())
    monkeypatch.setitem(training.ALL, "cross-validation", original_list.one_run)  # for its time
    monkeypatch.setattr(training, "TrainConfig", partial(TrainConfig, least_steps=1))
    training.main()
    printed = capsys.readouterr().out
    assert f"torch {version('torch')}" in printed
    rows = [len(one.material.examples) for one in small]
    assert "{} source and {} target rows".format(*rows) in printed
    table = [line.split(" | ") for line in printed.splitlines() if line.startswith("| ours")]
    named = [(name, runs) for name, runs, *_ in table]
    assert named == [("| ours, one run", "1"), ("| ours, cross-validation", "1")]
    assert all(float(row[2]) > 0 for row in table)


def test_runs_that_are_there_already_are_not_timed(small, tmp_path):
    one = original_list.one_run(*small, settings()).experiment
    assert training.timed(one, tmp_path, 1) > 0
    with pytest.raises(SerError, match="already"):
        training.timed(one, tmp_path, 1)
