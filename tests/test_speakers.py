"""Standardisation by speaker: it removes the voice, is reported, and has no predictions."""

from dataclasses import replace

import numpy as np
import pytest
import torch

from made_features import FOUR, made_arrays, made_folder, made_rows, write_features
from multimodal_ser.cli import main
from multimodal_ser.corpora.labels import class_set
from multimodal_ser.errors import SerError
from multimodal_ser.experiments.explain import explain
from multimodal_ser.experiments.loading import load_domain
from multimodal_ser.predict import load
from multimodal_ser.runs.folder import PREDICTIONS
from multimodal_ser.runs.predictions import read_predictions

LABELS = ",".join(FOUR)


def with_voices(root, rows):
    """A corpus in which a speaker's voice adds far more to the sound than emotions do."""
    folder = made_folder(root, rows, ("audio",))
    arrays = made_arrays(rows, "audio", skill=1.0)
    draw = np.random.default_rng(1)
    voices = {row.speaker: draw.normal(0, 30, 8).astype("f4") for row in rows}
    added = {row.id: arrays[row.id] * 3 + voices[row.speaker] for row in rows}
    write_features(folder / "made-audio.safetensors", added, "audio")
    return folder


def test_each_speaker_has_mean_0_and_deviation_1(tmp_path):
    rows = made_rows(40, speakers=4)
    # two spellings of one name are one speaker
    rows = [replace(row, speaker="S_0") if n == 0 else row for n, row in enumerate(rows)]
    folder = with_voices(tmp_path, rows[1:] + rows[:1])
    found, _ = load_domain(folder, LABELS, "speaker", allow=(), standardize_speakers=True)
    sound = found.examples.audio
    for name in ("s0", "s1", "s2", "s3"):
        spelt = [row.speaker.lower().replace("_", "") for row in found.utterances]
        mine = [place for place, one in enumerate(spelt) if one == name]
        tokens = sound.tokens[mine][sound.mask[mine]]
        torch.testing.assert_close(tokens.mean(0), torch.zeros(8), atol=1e-5, rtol=0)
        torch.testing.assert_close(tokens.std(0, correction=0), torch.ones(8), atol=1e-4, rtol=0)
    assert not sound.tokens[~sound.mask].any()
    assert found.features["audio"].by_speaker
    assert any("standardised by speaker, in the test set too" in mark for mark in found.marks)


def test_runs_are_better_explained_and_told_and_do_not_predict(tmp_path, capsys):
    folder = with_voices(tmp_path, made_rows(80, speakers=5))
    line = ["--features", str(folder), "--labels", LABELS, "--model", "linear", "--jobs", "1"]
    scores = {}
    for name, more in {"as-is": [], "own": ["--standardize-speakers"]}.items():
        assert main(["train", *line, "--out", str(tmp_path / name), *more]) == 0
        assert ("standardised by speaker" in capsys.readouterr().out) is bool(more)
        runs = [path.parent for path in (tmp_path / name).glob("**/config.json")]
        found = [read_predictions(run / PREDICTIONS, FOUR, "test") for run in runs]
        scores[name] = np.mean([(one.probabilities.argmax(1) == one.truth).mean() for one in found])
    assert scores["own"] > scores["as-is"] + 0.1
    run = runs[0]
    assert explain(run, folder, class_set(LABELS)).utterances == 16
    with pytest.raises(SerError, match=r"standardised by speaker.*without --standardize-speakers"):
        load(run)


def test_a_copy_under_another_speaker_is_found_before_it_is_standardised(tmp_path):
    rows = made_rows(40, speakers=4)
    folder = made_folder(tmp_path, rows, ("audio",))
    arrays = made_arrays(rows, "audio")
    arrays["mine/000"] = arrays["mine/004"]  # of s0 and of s1
    write_features(folder / "made-audio.safetensors", arrays, "audio")
    with pytest.raises(SerError, match=r"such as 'mine/000' and 'mine/004'; keep one"):
        load_domain(folder, LABELS, "speaker", standardize_speakers=True)


@pytest.mark.parametrize("speaker", ["s9", None])
def test_a_speaker_alone_or_unknown_is_refused(tmp_path, speaker):
    rows = made_rows(40, speakers=4)
    folder = with_voices(tmp_path, [replace(rows[0], speaker=speaker), *rows[1:]])
    with pytest.raises(SerError, match=f"mine/000 of {speaker or 'an unknown speaker'}"):
        load_domain(folder, LABELS, "random", allow=("speaker",), standardize_speakers=True)
