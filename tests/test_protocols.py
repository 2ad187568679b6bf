"""Ablation, combined training, and `ser experiment`: what they list, make and say."""

import json
from collections import Counter
from dataclasses import replace

import numpy as np
import pytest
import torch

from made_features import made_folder, made_rows
from made_transfer import (
    MODEL,
    SETTINGS,
    config_of,
    corpus_folder,
    domain,
    make,
    rows_of,
    shares_of,
)
from multimodal_ser.cli import main
from multimodal_ser.corpora.labels import class_set
from multimodal_ser.dataset.material import load_material, pooled
from multimodal_ser.errors import SerError
from multimodal_ser.experiments import fitting, plans, protocols
from multimodal_ser.experiments.merging import merged_material, merged_split
from multimodal_ser.experiments.plans import known_models
from multimodal_ser.splits import make_split

TINY = (
    "--seeds 1 --network.members 1 --network.hidden-dim 8 --network.num-heads 2 --jobs 1 "
    "--schedule.epochs 1 --schedule.least-steps 1 --labels anger,happiness,neutral,sadness"
)


@pytest.fixture(scope="module")
def folders(tmp_path_factory):
    root = tmp_path_factory.mktemp("features")
    return corpus_folder(root, "first"), corpus_folder(root, "second", gain=3.0, count=80)


@pytest.fixture(scope="module")
def two(folders):
    return [domain(folder) for folder in folders]


def kinds(experiment):
    return Counter(
        (item.config.model, item.config.features["audio"].tokens) for item in experiment.plans
    )


def test_an_ablation_is_all_models_with_tokens_and_pooled(two):
    made = protocols.Ablation(**SETTINGS).plan(*two[0])
    left_out = ("linear", "svm", "dialogue", "dialogue_text", "dialogue_audio")
    networks = [name for name in known_models() if name not in left_out]
    wanted = {(name, tokens): 2 for name in networks for tokens in (4, 1)}
    assert kinds(made) == wanted | {("linear", 4): 2, ("svm", 4): 2}
    assert len(set(made.names)) == len(made.names)
    assert {item.config.protocol for item in made.plans} == {"ablation"}
    same = [item.config.train for item in made.plans if item.config.model in networks]
    assert all(train == same[0] for train in same)


def test_runs_of_a_stack_of_other_experts_have_other_names(two, monkeypatch):
    asked, names = protocols.InDomain(models=("stacked", "linear"), seeds=1), []
    for generation in (plans.GENERATION, "support-vector-machines"):
        monkeypatch.setattr(plans, "GENERATION", generation)
        names.append({item.config.folder for item in asked.plan(*two[0]).plans})
    assert {name.split("-")[0] for name in names[0] & names[1]} == {"linear"}
    assert {name.split("-")[0] for name in names[0] ^ names[1]} == {"stacked"}


def test_features_of_one_token_are_ablated_once(two):
    material, split = two[0]
    made = protocols.Ablation(**SETTINGS).plan(pooled(material), split)
    assert set(kinds(made).values()) == {2}
    assert {tokens for _, tokens in kinds(made)} == {1}


def test_models_without_their_modality_are_left_out(tmp_path):
    rows = made_rows(48, speakers=4)
    one = load_material(made_folder(tmp_path, rows, ("audio",)), class_set("common4"))
    made = protocols.Ablation(**SETTINGS).plan(one, make_split(rows, "speaker"))
    assert {name for name, _ in kinds(made)} == {"audio", "stacked", "linear", "svm"}


def test_an_ablation_runs_on_tokens_and_on_means(two, tmp_path):
    material, split = two[0]
    one = replace(split, folds=split.folds[:1])
    found = {}
    for folder in make(protocols.Ablation(**SETTINGS).plan(material, one), tmp_path):
        config = config_of(folder)
        if config["model"] == "cross_attention":
            found[config["features"]["audio"]["tokens"]] = shares_of(folder)
    assert found[1].shape == found[4].shape
    assert not np.allclose(found[1], found[4])


def test_unknown_tokens_are_refused(two):
    for tokens in (("frames",), ()):
        with pytest.raises(SerError, match=r"unknown kind of tokens.*tokens, pooled"):
            protocols.Ablation(**SETTINGS, tokens=tokens).plan(*two[0])


def test_combined_trains_and_tests_on_all(two, tmp_path):
    folders = make(protocols.Combined(**MODEL).plan(two), tmp_path)
    assert [config_of(f)["model"] for f in folders] == ["cross_attention"] * 2 + ["linear"] * 2
    for folder in folders:
        config = config_of(folder)
        assert (config["protocol"], config["corpora"]) == ("combined", ["first", "second"])
        fold = int(config["fold"])
        for part in ("validation", "test"):
            ids = {row["id"] for row in rows_of(folder) if row["part"] == part}
            assert ids == {key for _, split in two for key in getattr(split.folds[fold], part)}


def test_the_order_of_combined_corpora_changes_nothing(two):
    one, other = (protocols.Combined(**MODEL).plan(given) for given in (two, two[::-1]))
    assert one.names == other.names
    assert one.stages[0].material.examples.ids == other.stages[0].material.examples.ids


def test_combined_draws_from_each_corpus_equally_often(two, tmp_path, monkeypatch):
    asked = []
    fit = fitting.fit

    def watched(model, train, validation, *given, groups, **more):
        asked.append(((*train.ids, *validation.ids), groups))
        return fit(model, train, validation, *given, groups=groups, **more)

    monkeypatch.setattr(fitting, "fit", watched)
    make(protocols.Combined(**MODEL).plan(two), tmp_path)
    assert len(asked) == 2
    for ids, groups in asked:
        names = [key.split("/")[0] for key in ids]
        assert [("first", "second")[group] for group in groups] == names
    make(protocols.InDomain(models=("concat",), **SETTINGS).plan(*two[0]), tmp_path / "one")
    assert asked[-1][1] is None


def test_merged_corpora_keep_their_tokens(two):
    materials = [pooled(two[0][0]), two[1][0]]
    made = merged_material(materials)
    assert made.examples.audio.tokens.shape == (128, 4, 8)
    assert made.examples.audio.mask[:48].sum(1).tolist() == [1] * 48
    assert made.examples.label.equal(torch.cat([one.examples.label for one in materials]))
    for start, one in ((0, materials[0]), (48, materials[1])):
        np.testing.assert_allclose(
            made.examples.take(range(start, start + len(one.examples))).text.pooled(),
            one.examples.text.pooled(),
            atol=1e-6,
        )


def test_combined_needs_corpora_that_fit_together(two):
    (first, one), (second, _) = two
    more = make_split(second.utterances, "speaker")
    with pytest.raises(SerError, match=r"\[2, 4\] folds.*same number"):
        protocols.Combined(**MODEL).plan([(first, one), (second, more)])
    with pytest.raises(SerError, match="two corpora or more"):
        protocols.Combined(**MODEL).plan([(first, one)])
    with pytest.raises(SerError, match="take two different corpora"):
        protocols.Combined(**MODEL).plan([(second, one), (first, one), (first, one)])


def test_merged_splits_carry_every_leak(two):
    splits = [replace(split, leaks=(f"leak {n}",)) for n, (_, split) in enumerate(two)]
    made = merged_split(splits)
    assert made.leaks == ("leak 0", "leak 1")
    assert [fold.name for fold in made.folds] == ["0", "1"]
    assert made.hash != merged_split(splits[::-1]).hash


def run(capsys, line):
    """Exit code, lines of the answer, and what went to standard error."""
    code = main(line.split())
    out, err = capsys.readouterr()
    return code, out.splitlines(), err


@pytest.mark.parametrize("name", ["adaptation", "finetune", "fewshot"])
def test_a_dry_run_lists_the_names_that_are_then_made(folders, tmp_path, capsys, name):
    out = tmp_path / "out"
    line = f"experiment {name} --features {folders[0]} {folders[1]} --out {out} {TINY}"
    line += " --source-folds 4 --target-folds 2"
    line += " --percentages 50 --draws 1" * (name == "fewshot")
    code, listed, _ = run(capsys, f"{line} --dry-run")
    assert code == 0
    assert not out.exists()
    assert {path.split("/")[-2] for path in listed} == {"first-to-second", "second-to-first"}
    code, answer, err = run(capsys, line)
    assert code == 0, err
    made = [str(path.parent) for path in sorted(out.glob("*/*/config.json"))]
    assert made == sorted(listed)
    described = json.loads((out / "first-to-second" / "experiment.json").read_text())
    assert described["protocol"] == name
    assert described["command"] == f"ser {line}"
    assert "linear" in "\n".join(answer)


def test_experiments_within_corpora_have_commands_too(folders, tmp_path, capsys):
    for name, given in (
        ("in-domain", f"--features {folders[0]} --folds 2 --models concat linear"),
        ("ablation", f"--features {folders[0]} --folds 2 --tokens pooled"),
        ("combined", f"--features {folders[0]} {folders[1]} --folds 2 --tokens pooled"),
    ):
        out = tmp_path / name
        line = f"experiment {name} {given} --out {out} {TINY}"
        _, listed, _ = run(capsys, f"{line} --dry-run")
        code, _, err = run(capsys, line)
        assert code == 0, err
        assert sorted(listed) == sorted(str(path.parent) for path in out.glob("*/config.json"))
        assert json.loads((out / "experiment.json").read_text())["protocol"] == name


@pytest.mark.parametrize(
    ("given", "said"),
    [
        ("adaptation --source {0}", "give --source and --target together, or two corpora"),
        ("adaptation", "give --source and --target together, or two corpora"),
        ("adaptation --features {0} {0}", "two corpora or more, in folders of different names"),
        ("finetune --features {0}", "or two corpora or more"),
        ("fewshot --source {0} --target {1} --features {0} {1}", "or two corpora or more"),
        ("combined --features {0} {1} --split speaker official speaker", "2 corpora and 3 splits"),
        (
            "combined --features {0} {1} --network.input-dropout 1",
            "input_dropout is a share from 0 to less than 1, not 1.0",
        ),
    ],
)
def test_wrong_options_are_reported(folders, tmp_path, capsys, given, said):
    line = f"experiment {given.format(*folders)} --out {tmp_path / 'out'}"
    code, _, err = run(capsys, f"{line} {TINY}")
    assert code == 1
    assert said in err
