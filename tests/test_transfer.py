"""Adaptation: which data of source and target reach a model, and which never do."""

import json
from dataclasses import replace

import numpy as np
import pytest
import torch

from made_features import FOUR, made_folder, made_rows
from made_transfer import (
    COMMON,
    MODEL,
    SWAPPED,
    by,
    config_of,
    corpus_folder,
    domain,
    make,
    rows_of,
    same_models,
    shares_of,
    state_of,
    turned,
    without_labels,
)
from multimodal_ser.cli import main
from multimodal_ser.dataset.examples import Modality
from multimodal_ser.dataset.material import pooled
from multimodal_ser.errors import FeatureError, LabelError, SerError, SplitError
from multimodal_ser.experiments import protocols, transfer
from multimodal_ser.experiments.loading import load_domain
from multimodal_ser.experiments.pairs import check_comparable
from multimodal_ser.models.adapters import ADAPTERS
from multimodal_ser.runs.model_file import load_model
from multimodal_ser.training import loop as train
from multimodal_ser.training.loop import predict


@pytest.fixture(scope="module")
def adapted(pair, tmp_path_factory):
    return make(transfer.Adaptation(**MODEL).plan(*pair), tmp_path_factory.mktemp("adapted"))


def test_adaptation_makes_every_method_on_every_fold(pair, adapted):
    made = [
        (c["model"], c["train"]["adaptation"]["method"], c["fold"]) for c in map(config_of, adapted)
    ]
    systems = [("cross_attention", name) for name in ADAPTERS]
    systems += [("linear", "none"), ("linear", "standardize")]
    assert made == [(*system, fold) for system in systems for fold in ("0", "1")]
    out = adapted[0].parent
    assert sorted(path for path in out.iterdir() if path.is_dir()) == sorted(adapted)
    described = json.loads((out / "experiment.json").read_text())
    assert described["protocol"] == "adaptation"
    assert described["arguments"]["source"]["corpora"] == ["first"]
    assert (out / "split.json").is_file()
    assert (out / "source-split.json").is_file()


def test_a_transferred_run_records_both_corpora(pair):
    leak, other = "3 speakers stand both", "2 speakers stand both"
    source, first, target, second = pair
    source = replace(source, marks=("first: seen",))
    target = replace(target, marks=("second: seen",))
    first, second = replace(first, leaks=(leak,)), replace(second, leaks=(other,))
    for made in (
        transfer.Adaptation(**MODEL).plan(source, first, target, second),
        transfer.Finetune(**MODEL).plan(source, first, target, second),
        transfer.Fewshot(**MODEL, percentages=(50,)).plan(source, first, target, second),
    ):
        config = made.plans[-1].config
        assert config.marks[:3] == ("second: seen", "first: seen", f"source first: {leak}")
        assert "tested speakers have the name of one that another corpus" in config.marks[3]
        assert config.split.leaks == (other,)
        assert config.source.split.leaks == (leak,)
        assert config.source.corpora == ("first",)
        assert config.corpora == ("second",)


def test_no_target_label_reaches_an_adapted_model(pair, adapted, tmp_path):
    """Neither those of its training part, nor of its validation part, nor of its test part."""
    source, first, target, second = pair
    other = turned(target, target.examples.ids)
    made = make(transfer.Adaptation(**MODEL).plan(source, first, other, second), tmp_path)
    for before, after in zip(adapted, made, strict=True):
        assert same_models(before, after)
        assert without_labels(before) == without_labels(after)
        assert (before / "history.jsonl").read_text() == (after / "history.jsonl").read_text()
    scored = [json.loads((run / "metrics.json").read_text()) for run in (*adapted, *made)]
    pairs = zip(scored[: len(made)], scored[len(made) :], strict=True)
    assert any(one["test"] != other["test"] for one, other in pairs)


def test_the_sources_labels_are_seen(pair, adapted, tmp_path):
    """The test above could not fail if labels had no effect at all."""
    source, first, target, second = pair
    other = turned(source, first.folds[0].train)
    made = make(transfer.Adaptation(**MODEL).plan(other, first, target, second), tmp_path)
    assert not any(same_models(*runs) for runs in zip(adapted, made, strict=True))


def test_the_targets_test_and_validation_features_do_not_reach_an_adapted_model(
    pair, adapted, tmp_path
):
    source, first, target, second = pair
    fold = second.folds[0]
    held = np.isin(target.examples.ids, [*fold.validation, *fold.test])
    sides = {}
    for name in ("text", "audio"):
        side = getattr(target.examples, name)
        tokens = side.tokens.clone()
        tokens[held] = 50 * torch.randn_like(tokens[held]) * side.mask[held][..., None]
        sides[name] = Modality(tokens, side.mask)
    other = replace(target, examples=replace(target.examples, **sides))
    one = replace(second, folds=(fold,))
    made = make(transfer.Adaptation(**MODEL).plan(source, first, other, one), tmp_path)
    assert all(same_models(*runs) for runs in zip(adapted[::2], made, strict=True))


def test_only_the_sources_validation_part_is_used_for_selection(pair, tmp_path, monkeypatch):
    source, first, *target = pair
    asked = []

    def watched(model, examples):
        asked.append(examples.ids)
        return predict(model, examples)

    monkeypatch.setattr(train, "predict", watched)
    make(transfer.Adaptation(**MODEL).plan(source, first, *target), tmp_path)
    assert set(asked) == {first.folds[0].validation}


def test_predictions_are_the_targets(pair, adapted):
    second = pair[3]
    for folder in adapted:
        fold = second.folds[int(config_of(folder)["fold"])]
        for part in ("validation", "test"):
            ids = {row["id"] for row in rows_of(folder) if row["part"] == part}
            assert ids == set(getattr(fold, part))


def test_a_saved_model_predicts_the_target_by_itself(pair, adapted):
    target = pair[2]
    place = {key: row for row, key in enumerate(target.examples.ids)}
    classes = target.labels.classes
    for folder in adapted:
        rows = rows_of(folder)
        model = load_model(folder / "model.safetensors")
        shares = predict(model, target.examples.take([place[row["id"]] for row in rows])).softmax(1)
        stated = [[float(row[f"p_{name}"]) for name in classes] for row in rows]
        np.testing.assert_allclose(shares.numpy(), stated, atol=1e-6)


@pytest.mark.parametrize("model", ["cross_attention", "linear"])
def test_standardising_changes_only_the_predictions(pair, adapted, model):
    runs = by(adapted, "train", "adaptation", "method")
    plain, own = (state_of(runs[model, method]) for method in ("none", "standardize"))
    statistics = {key for key in plain if "standardize" in key or key.startswith("pooled.")}
    assert all(plain[key].equal(own[key]) for key in plain.keys() - statistics)
    assert not all(plain[key].equal(own[key]) for key in statistics)


def test_the_weight_and_the_order_of_standardising_change_a_run(pair, tmp_path):
    one = replace(pair[3], folds=pair[3].folds[:1])
    methods = ("dann", "mmd", "coral")
    made = [
        make(transfer.Adaptation(methods=methods, **MODEL, **how).plan(*pair[:3], one), tmp_path)
        for how in ({"weight": 0.5}, {"weight": 50.0}, {"weight": 0.5, "standardize": False})
    ]
    for runs in zip(*made, strict=True):
        answers = [json.dumps(without_labels(folder)) for folder in runs]
        assert len(set(answers)) == 3


def test_the_published_swap_is_caught_by_name(pair, tmp_path):
    """Its IEMOCAP script had sadness=2, neutral=3; its model and other scripts the other way."""
    first = domain(corpus_folder(tmp_path, "first"), SWAPPED, folds=4)
    second = pair[2:]
    for planned in (transfer.Adaptation, transfer.Finetune, transfer.Fewshot):
        with pytest.raises(LabelError) as caught:
            planned(**MODEL).plan(*first, *second)
        assert str(list(SWAPPED.classes)) in str(caught.value)
        assert str(list(COMMON.classes)) in str(caught.value)
    with pytest.raises(LabelError, match="disagree"):
        protocols.Combined(**MODEL).plan([first, second])


def test_what_the_swap_would_have_done(pair, tmp_path):
    """By place instead of by name, two classes of four change places: most of them are wrong."""
    swapped = domain(corpus_folder(tmp_path, "first"), SWAPPED, folds=4)
    how = {**MODEL, "methods": ("standardize",)}
    correct = make(transfer.Adaptation(**how).plan(*pair), tmp_path / "a")
    blind = replace(swapped[0], labels=COMMON)  # the numbers of one order, the names of the other
    wrong = make(transfer.Adaptation(**how).plan(blind, swapped[1], *pair[2:]), tmp_path / "b")
    for runs in zip(correct, wrong, strict=True):
        good, other = (shares_of(folder) for folder in runs)
        if config_of(runs[0])["model"] == "linear":
            np.testing.assert_allclose(other[:, [0, 1, 3, 2]], good, atol=1e-3)
            scores = [json.loads((f / "metrics.json").read_text())["test"]["UA"] for f in runs]
            assert scores[1] < scores[0] - 0.3


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"encoder": "other"}, "encoder 'made-audio'.*encoder 'other'"),
        ({"weights": "cd34"}, "weights 'ab12'.*weights 'cd34'"),
        ({"layers": "2"}, "layers '1'.*layers '2'"),
        ({"tokens": 1}, "tokens 4.*tokens 1.*--tokens pooled"),
        ({"dim": 9}, "dim 8.*dim 9"),
        (None, "first has audio features and second has none"),
    ],
)
def test_other_features_are_refused_with_both_shown(pair, change, said):
    source, first, target, second = pair
    audio = None if change is None else replace(target.features["audio"], **change)
    other = replace(target, features={**target.features, "audio": audio})
    for call in (
        lambda: transfer.Adaptation(**MODEL).plan(source, first, other, second),
        lambda: protocols.Combined(**MODEL).plan([(source, first), (other, second)]),
    ):
        with pytest.raises(FeatureError, match=f"(?s){said}"):
            call()


def test_a_corpus_is_no_source_for_itself(pair):
    source, first, target, second = pair
    others = [replace(row, id=f"{row.id}x") for row in source.utterances]
    for rows in (source.utterances, others):  # other recordings of the same people neither
        with pytest.raises(SplitError, match=r"4 speakers of one corpus, such as .* of 'first'"):
            transfer.Adaptation(**MODEL).plan(
                source, first, replace(source, utterances=rows), first
            )
    learnt, tested = first.folds[0].train[0], second.folds[0].test[0]
    alike = replace(source, hashes={learnt: "x"}), replace(target, hashes={tested: "x"})
    with pytest.raises(SplitError, match="1 recordings"):
        transfer.Adaptation(**MODEL).plan(alike[0], first, alike[1], second)


def test_pooled_features_make_corpora_with_other_tokens_comparable(pair):
    material = pair[0]
    mean = pooled(material)
    assert mean.examples.audio.tokens.shape == (48, 1, 8)
    np.testing.assert_allclose(mean.examples.audio.tokens[:, 0], material.examples.audio.pooled())
    assert mean.features["audio"].tokens == 1
    again = pooled(mean)
    assert again.features == mean.features
    assert again.examples.text.tokens.equal(mean.examples.text.tokens)


@pytest.mark.parametrize(
    ("own", "other", "said"),
    [
        ({"code": "1a"}, {"code": "2b"}, "code '1a'"),
        ({"context": 3}, {}, "context 3"),
        ({"tokens": 1, "pool": "first"}, {"tokens": 1, "pool": "mean"}, "token 'first'"),
        # of [CLS] and all other tokens, `--tokens pooled` makes the mean
        ({"tokens": 1, "pool": "first", "pooled_from": 9}, {"tokens": 1, "pool": "mean"}, ""),
        ({"pool": "first"}, {"pool": "mean"}, ""),
    ],
)
def test_features_that_were_made_otherwise_are_not_compared(pair, own, other, said):
    def made(material, how):
        spec = replace(material.features["text"], encoder="x", weights="5eed", **how)
        return replace(material, features={**material.features, "text": spec})

    def check():
        check_comparable(made(pair[0], own), made(pair[2], other))

    if not said:
        check()
        return
    with pytest.raises(FeatureError, match=f"text features differ: first has .*{said}"):
        check()


def test_a_folder_holds_one_protocol_on_the_same_corpora(pair, tmp_path):
    make(transfer.Adaptation(**MODEL, methods=("none",)).plan(*pair), tmp_path)
    with pytest.raises(SerError, match=r"holds the runs of 'adaptation'.*'finetune'.*--out"):
        make(transfer.Finetune(**MODEL).plan(*pair), tmp_path)
    made = sorted(tmp_path.iterdir())
    back = transfer.Adaptation(**MODEL, methods=("none",)).plan(*pair[2:], *pair[:2])
    with pytest.raises(SerError, match=r"holds the runs of '\w+', which cannot be in one table"):
        make(back, tmp_path)
    assert sorted(tmp_path.iterdir()) == made


@pytest.mark.parametrize(
    ("protocol", "how", "said"),
    [
        ("Adaptation", {"methods": ("deep",)}, "unknown adaptation 'deep'.*coral"),
        ("Adaptation", {"model": "svm"}, "unknown network 'svm'.*concat"),
        ("Finetune", {"parts": ("tail",)}, "unknown part to tune 'tail'.*all, head"),
        ("Fewshot", {"shots": (99,)}, "99 shots of every class"),
    ],
)
def test_what_does_not_exist_names_what_does(pair, protocol, how, said):
    with pytest.raises(SerError, match=said):
        getattr(transfer, protocol)(**{**MODEL, **how}).plan(*pair)


def test_classes_that_a_model_has_not_learnt_are_told_with_its_results(tmp_path):
    rows = [row for row in made_rows(60) if row.emotion != "sadness" or row.speaker == "s0"]
    labels = ",".join(FOUR)
    source = load_domain(made_folder(tmp_path / "a", rows), labels, "speaker")
    assert source[1].notes == (
        "mine: no 'sadness' in the train part of 2 folds, such as 'speaker=s0'",
    )
    others = made_folder(tmp_path / "b", made_rows(60, corpus="yours"), shift=0.1)
    target = load_domain(others, labels, "speaker")
    planned = transfer.Adaptation(**MODEL, methods=("none",)).plan(*source, *target)
    told = "the source's training part has no 'sadness': a model of it cannot predict that"
    assert all(told in item.config.marks for item in planned.plans)


@pytest.mark.parametrize(
    ("protocol", "source", "target", "told"),
    [
        ("adaptation", "whole", "lacks", []),  # it reads no labels of the target
        ("adaptation", "lacks", "whole", ["mine: no 'sadness' in the train part of 1 folds"]),
        ("finetune", "whole", "lacks", ["mine: no 'sadness' in the train part of 2 folds"]),
        ("combined", "whole", "lacks", []),  # the other corpus has it
        ("combined", "lacks", "lacks", ["mine + yours: no 'sadness' in the train part of 2 folds"]),
    ],
)
def test_only_classes_that_a_model_should_have_learnt_are_missed(
    protocol, source, target, told, tmp_path, caplog
):
    folders = []
    for corpus, kind, shift in (("yours", source, 0.1), ("mine", target, 0.0)):
        corpus = {"lacks": "mine", "whole": "yours"}[kind] if source != target else corpus
        rows = made_rows(60, corpus=corpus)
        if kind == "lacks":  # a fold that tests s0 has no sadness to learn from
            rows = [row for row in rows if row.emotion != "sadness" or row.speaker == "s0"]
        folders.append(made_folder(tmp_path / f"{len(folders)}", rows, shift=shift))
    given = (
        ["--features", *map(str, folders), "--folds", "3"]
        if protocol == "combined"
        else ["--source", str(folders[0]), "--target", str(folders[1])]
    )
    words = ["experiment", protocol, *given, "--labels", ",".join(FOUR), "--seeds", "1"]
    assert main([*words, "--out", str(tmp_path / "runs"), "--dry-run"]) == 0
    said = [line for line in caplog.messages if "train part" in line]
    assert [line.partition(", such as")[0] for line in said] == told
    if (protocol, source) == ("adaptation", "lacks"):  # a source is not tested
        assert not any("test part" in line for line in caplog.messages)
