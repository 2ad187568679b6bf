"""Networks over dialogues: which utterances they see, and which they never see."""

from dataclasses import replace

import numpy as np
import pytest
import torch

from multimodal_ser.config.record import FeatureSpec
from multimodal_ser.config.settings import ModelConfig, TrainConfig
from multimodal_ser.corpora.labels import class_set
from multimodal_ser.corpora.utterance import Utterance
from multimodal_ser.dataset.examples import Examples, Modality
from multimodal_ser.dataset.material import Material
from multimodal_ser.dataset.views import with_dialogue
from multimodal_ser.errors import SerError
from multimodal_ser.experiments.plans import models_for, plan_runs
from multimodal_ser.experiments.running import run_all
from multimodal_ser.models.fusion import MODELS, Dims, Ensemble
from multimodal_ser.report import text_table
from multimodal_ser.report.results import summarise
from multimodal_ser.splits import make_split
from multimodal_ser.training.loop import fit, predict, ua_of

TURNS, WIDTH = 12, 4
SMALL = ModelConfig(members=1, hidden_dim=16, num_heads=2, dropout=0.0)


def talk(dialogues, tokens=1, seed=0):
    """Two people in turns; what somebody feels is what the other one has just shown."""
    draw = np.random.default_rng(seed)
    shown = draw.integers(2, size=(dialogues, TURNS))
    rows, label = [], []
    for d in range(dialogues):
        for n in range(TURNS):
            before = shown[d, n - 1] if n else 0
            key = f"mine/d{d}_utt{n}"
            who = f"{'ab'[n % 2]}{d % 8}"
            rows.append(
                Utterance(key, "mine", ("anger", "joy")[before], text="x", speaker=who,
                          session=str(d % 4), dialogue=str(d))
            )  # fmt: skip
            label.append(before)
    x = torch.from_numpy(draw.normal(size=(len(rows), tokens, WIDTH)).astype("f4"))
    x[..., 0] += 3.0 * torch.from_numpy(2 * shown.reshape(-1, 1) - 1)
    text = Modality(x, torch.ones(x.shape[:2], dtype=torch.bool))
    ids = tuple(row.id for row in rows)
    examples = Examples(ids, text, Modality.absent(len(ids)), torch.tensor(label))
    described = FeatureSpec("made", "0" * 64, "1", tokens, dim=WIDTH)
    features = {"text": described, "audio": None}
    return Material(rows, examples, class_set("anger,joy"), features, {}, (), {})


def changed(material, key):
    """The same, with other features of one utterance."""
    examples = material.examples
    tokens = examples.text.tokens.clone()
    tokens[examples.places[key]] += 5.0
    text = Modality(tokens, examples.text.mask)
    return replace(material, examples=replace(examples, text=text))


def said(material, **around):
    config = replace(SMALL, **around)
    torch.manual_seed(0)
    model = Ensemble(MODELS["dialogue_text"], Dims(WIDTH, 0, 2), config)
    model.fit_inputs(talk(3).examples)
    return predict(model, with_dialogue(material, config.before, config.after).examples)


def test_a_later_utterance_changes_nothing_unless_it_is_asked_for():
    material = talk(2)
    other = changed(material, "mine/d1_utt5")
    place = material.examples.places["mine/d1_utt5"]
    before, after = said(material, before=3), said(other, before=3)
    differs = (before != after).any(1).nonzero().flatten().tolist()
    assert differs == [place, place + 1, place + 2, place + 3]
    asked = said(material, before=0, after=2), said(other, before=0, after=2)
    differs = (asked[0] != asked[1]).any(1).nonzero().flatten().tolist()
    assert differs == [place - 2, place - 1, place]


def test_positions_encode_distance_and_speaker():
    material = talk(1)
    material.examples.text.tokens[:, 0, 1] = torch.arange(TURNS)  # its number
    shuffled = material.utterances[::-1]
    found = with_dialogue(replace(material, utterances=shuffled), 3).examples.text
    own, one_other, one_same, two_other, two_same, *_ = found.tokens[7, :, 1].tolist()
    assert (own, one_other, two_same) == (7, 6, 5)
    assert found.mask[7].tolist() == [True, True, False, False, True, True, False]
    assert (one_same, two_other) == (0, 0)
    assert found.mask[0].tolist() == [True] + 6 * [False]
    spelt = [replace(row, speaker=str(row.speaker).upper()) if n % 3 else row
             for n, row in enumerate(material.utterances)]  # fmt: skip
    again = with_dialogue(replace(material, utterances=spelt), 3).examples.text
    assert torch.equal(again.mask, found.mask)


def test_dialogues_of_one_number_in_two_corpora_stay_apart():
    material = talk(1)
    half = [
        replace(row, corpus="other") if place >= TURNS // 2 else row
        for place, row in enumerate(material.utterances)
    ]
    mask = with_dialogue(replace(material, utterances=half), 4).examples.text.mask
    assert mask[TURNS // 2].sum() == 1


def test_a_class_that_depends_on_the_previous_utterance_is_learned():
    examples = with_dialogue(talk(24), 2).examples
    parts = [examples.take(range(*ends)) for ends in ((0, 168), (168, 204), (204, 288))]
    config = replace(SMALL, before=2, input_dropout=0.0)
    schedule = TrainConfig(least_steps=120, learning_rate=0.01, refit=False)
    scores = {}
    for name, before in (("dialogue_text", parts), ("text", [alone(part) for part in parts])):
        torch.manual_seed(0)
        model = Ensemble(MODELS[name], Dims(WIDTH, 0, 2), config)
        fit(model, *before[:2], schedule, 0)
        scores[name] = ua_of(predict(model, before[2]), before[2])
    assert scores["dialogue_text"] > 0.95
    assert scores["text"] < 0.7


def alone(examples):
    text = Modality(examples.text.tokens[:, :1], examples.text.mask[:, :1])
    return replace(examples, text=text)


def test_reports_compare_it_with_single_utterances_and_say_what_it_reads(tmp_path):
    material = talk(8)
    split = make_split(material.utterances, "session", folds=2, allow=("speaker",))
    schedule = TrainConfig(epochs=1, least_steps=1, refit=False)
    plans = plan_runs(
        material, split, ("text", "dialogue_text"), 1, replace(SMALL, before=2), schedule
    )
    run_all(plans, material, tmp_path, jobs=1)
    summary = summarise(tmp_path)
    pairs = {(one.name, one.against) for one in summary.versus if "context" in one.family}
    assert pairs == {("dialogue_text", "text")}
    assert "the features of up to 2 utterances before are read too" in text_table(summary)


def test_what_does_not_fit_is_refused():
    several, alone = talk(4, tokens=3), talk(4)
    split = make_split(alone.utterances, "dialogue", folds=2, allow=("speaker",))
    with pytest.raises(SerError, match="--tokens pooled"):
        plan_runs(several, split, ("dialogue_text",), 1, SMALL, TrainConfig())
    rows = [replace(row, dialogue=None) for row in alone.utterances]
    with pytest.raises(SerError, match="no utterance has a dialogue"):
        with_dialogue(replace(alone, utterances=rows), 3)
    with pytest.raises(SerError, match="needs audio features"):
        plan_runs(alone, split, ("dialogue",), 1, SMALL, TrainConfig())
    assert models_for(alone) == ["text", "linear", "svm"] or "dialogue_text" not in models_for(
        alone
    )


def test_runs_of_other_models_are_the_same_whatever_dialogues_are():
    material = talk(4)
    split = make_split(material.utterances, "dialogue", folds=2, allow=("speaker",))
    names = [
        plan_runs(material, split, ("text",), 1, network, TrainConfig())[0].config.folder
        for network in (SMALL, replace(SMALL, before=2, after=1))
    ]
    assert names[0] == names[1]


def test_runs_of_corrected_dialogues_are_other_runs():
    material = talk(4)
    split = make_split(material.utterances, "session", folds=2, allow=("speaker",))
    rows = [replace(row, dialogue=f"{row.dialogue}{n % 2}")
            for n, row in enumerate(material.utterances)]  # fmt: skip
    for model, same in (("text", True), ("dialogue_text", False)):
        names = [
            plan_runs(one, split, (model,), 1, SMALL, TrainConfig())[0].config.folder
            for one in (material, replace(material, utterances=rows))
        ]
        assert (names[0] == names[1]) is same
