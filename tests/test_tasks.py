"""Attributes and distributions, from a corpus's folder to the table; the losses; the ceiling."""

import csv
import json
import math
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn
from torch.nn import functional as F

from made_corpora import make_iemocap, varied
from made_features import made_folder, made_rows, write_features
from multimodal_ser.cli import main
from multimodal_ser.config.record import ClassNames
from multimodal_ser.corpora import iemocap
from multimodal_ser.corpora.labels import class_set
from multimodal_ser.corpora.utterance import Utterance, read_manifest, write_manifest
from multimodal_ser.dataset import tasks
from multimodal_ser.dataset.examples import Examples, Modality
from multimodal_ser.errors import LabelError, SerError
from multimodal_ser.evaluation import agreement, statistics
from multimodal_ser.report import Versus, csv_tables, report, summarise, text_table
from multimodal_ser.report.align import Sample, align
from multimodal_ser.report.groups import human_ceiling
from multimodal_ser.report.published import tables_for
from multimodal_ser.report.words import verdict
from multimodal_ser.runs.config_file import read_record
from multimodal_ser.runs.folder import _scores, read_runs
from multimodal_ser.runs.model_file import load_model
from multimodal_ser.runs.predictions import Predicted, read_predictions
from multimodal_ser.training import losses
from multimodal_ser.training.schedule import class_weights

sys.path.append(str(Path(__file__).parents[1] / "benchmarks"))
import panels

SMALL = [
    "--network.members", "1", "--network.hidden-dim", "8", "--network.num-heads", "2",
    "--schedule.epochs", "5", "--schedule.least-steps", "25", "--schedule.batch-size", "16",
    "--schedule.learning-rate", "0.03", "--jobs", "1",
]  # fmt: skip
NAMES = ("arousal", "valence", "dominance")
COMMON4 = class_set("common4").classes
BEST = "each network against the best baseline"


@pytest.fixture(scope="module")
def made_iemocap(tmp_path_factory):
    """IEMOCAP's tree, read by its reader; features show the attributes noisily."""
    root = tmp_path_factory.mktemp("iemocap")
    make_iemocap(root / "IEMOCAP", values=varied)
    rows = iemocap.read_iemocap(root / "IEMOCAP").utterances
    folder = root / "features" / "iemocap"
    write_manifest(rows, folder / "manifest.jsonl")
    draw = np.random.default_rng(0)
    shown = draw.normal(size=(3, 8))
    arrays = {}
    for number, row in enumerate(rows):
        value = np.array([row.attributes[name] for name in NAMES])
        tokens = value @ shown + 2.0 * draw.normal(size=(1 + number % 4, 8))
        arrays[row.id] = tokens.astype(np.float32)
    write_features(folder / "made-audio.safetensors", arrays, "audio")
    return folder


@pytest.fixture(scope="module")
def attributes(made_iemocap, tmp_path_factory):
    """The runs that `ser train --task attributes` makes of it."""
    out = tmp_path_factory.mktemp("runs") / "attributes"
    command = ["train", "--features", str(made_iemocap), "--labels", ",".join(NAMES)]
    command += ["--task", "attributes", "--split", "session", "--folds", "3", "--seeds", "2"]
    assert main([*command, "--out", str(out), *SMALL]) == 0
    return out


def test_attributes_of_iemocap_stand_in_a_table_with_ridge_svr_and_intervals(attributes):
    summary = summarise(attributes)
    rows = {row.name: row for row in summary.rows}
    assert set(rows) == {"ridge", "svr", "audio"}  # the network in place of `stacked`
    assert [row.seeds for row in rows.values() if row.baseline] == [(0,), (0,)]
    for row in rows.values():
        for name in ("CCC", *(f"CCC {one}" for one in NAMES), "r arousal", "RMSE dominance"):
            score = row.scores[name]
            assert score.low < score.mean < score.high, (row.name, name)
        assert row.scores["CCC"].mean > 0.5, row.name
    assert summary.headline == "CCC"
    table = text_table(summary)
    assert "CCC valence" in table
    assert "CCC points" in table
    assert "linear probe is missing" not in table
    assert "by Fisher's z; RMSE on a logarithmic scale" in table
    assert "McNemar" not in table


def test_attributes_are_scored_by_sex_and_in_a_group_of_all(attributes, made_iemocap):
    groups = summarise(attributes, manifests=[made_iemocap / "manifest.jsonl"]).groups
    assert {one.name for one in groups} == {"female", "male"}
    rows = read_manifest(made_iemocap / "manifest.jsonl")
    path = attributes.parent / "all.jsonl"
    write_manifest([replace(row, extra={"age": "30"}) for row in rows], path)
    groups = summarise(attributes, manifests=[path]).groups
    assert {(one.name, one.difference) for one in groups} == {("30 to 44", None)}


def test_ccc_of_the_table_is_that_of_the_predictions_file(attributes):
    summary = summarise(attributes)
    ridge = next(row for row in summary.rows if row.name == "ridge")
    rows = []
    for path in attributes.glob("ridge-*/predictions.csv"):
        with path.open(newline="") as file:
            rows += [row for row in csv.DictReader(file) if row["part"] == "test"]
    for name in NAMES:
        t, p = (np.array([float(row[f"{kind}_{name}"]) for row in rows]) for kind in "tp")
        top = 2 * np.cov(t, p, ddof=0)[0, 1]
        expected = top / (t.var() + p.var() + (t.mean() - p.mean()) ** 2)
        assert ridge.scores[f"CCC {name}"].mean == pytest.approx(expected, abs=1e-6)


def test_the_scale_stands_in_the_record_and_maps_the_corpus_s_values(attributes):
    run = read_runs(attributes)[0]
    labels = run.config.labels
    assert (labels.task, labels.classes, labels.scale) == ("attributes", NAMES, (1.0, 5.0))
    valence, arousal, dominance = varied(run.ids[0].removeprefix("iemocap/"))
    mapped = [(value - 1) / 4 for value in (arousal, valence, dominance)]
    assert run.targets[0] == pytest.approx(mapped, abs=1e-4)  # the corpus writes four digits


@pytest.mark.parametrize("name", ["ridge", "svr", "audio"])
def test_a_saved_model_of_attributes_predicts_as_its_run(attributes, made_iemocap, name):
    run = next(run for run in read_runs(attributes) if run.config.model == name)
    from multimodal_ser.experiments.loading import load_domain

    material, _ = load_domain(made_iemocap, ",".join(NAMES), "session", folds=3, task="attributes")
    examples = material.examples
    chosen = examples.take([examples.places[key] for key in run.ids])
    batch = next(iter(chosen.batches(200)))
    with torch.inference_mode():
        said = load_model(run.folder / "model.safetensors")(*batch[:4]).logits
    assert said.numpy() == pytest.approx(run.probabilities, abs=1e-5)


def test_the_page_of_attributes_draws_no_confusion(attributes, tmp_path):
    page = report(attributes, tmp_path).read_text()
    assert "CCC of each model" in page
    assert "Confusion" not in page
    assert not (tmp_path / "confusion.png").exists()
    assert "CCC dominance_low" in (tmp_path / "table.csv").read_text()


def voted(count=96, raters=4):
    """Utterances whose raters mostly hear the emotion, and else the next one."""
    draw = np.random.default_rng(2)
    rows = made_rows(count, speakers=4)
    words = sorted({row.emotion for row in rows})
    found = []
    for number, row in enumerate(rows):
        heard = int(draw.binomial(raters, (0.9, 0.55)[number // 4 % 2]))
        other = words[(words.index(row.emotion) + 1) % 4]
        votes = {row.emotion: heard, other: raters - heard}
        agreed = row.emotion if number % 12 else "no agreement"
        found.append(Utterance(row.id, row.corpus, agreed, speaker=row.speaker, votes=votes))
    return rows, found


@pytest.fixture(scope="module")
def votes_folder(tmp_path_factory):
    plain, rows = voted()
    folder = made_folder(tmp_path_factory.mktemp("votes"), plain, ("audio",), skill=1.0)
    write_manifest(rows, folder / "manifest.jsonl")
    return folder


@pytest.fixture(scope="module")
def distributions(votes_folder, tmp_path_factory):
    out = tmp_path_factory.mktemp("runs") / "distributions"
    command = ["train", "--features", str(votes_folder), "--labels", "common4", "--task"]
    command += ["distributions", "--split", "speaker", "--folds", "2", "--seeds", "2"]
    command += ["--model", "audio", "--out", str(out), *SMALL]
    assert main(command) == 0
    assert main([*command, "--schedule.loss", "majority"]) == 0
    return out


def test_distributions_stand_beside_majority_training_with_their_distances(distributions):
    summary = summarise(distributions)
    rows = {row.name: row for row in summary.rows}
    soft, hard = (rows[f"audio (loss {name})"] for name in ("kl", "majority"))
    assert {"linear", "svm"} < set(rows)
    assert soft.scores["JS"].mean < hard.scores["JS"].mean
    for name in ("UA", "JS", "KL", "top-2", "multi-F1"):
        score = soft.scores[name]
        assert score.low < score.mean < score.high, name
    tested = {(one.name, one.against) for one in summary.versus if "each loss" in one.family}
    assert tested == {("audio (loss majority)", "audio (loss kl)")}
    table = text_table(summary)
    assert "JS and KL: lower is better" in table
    assert "on the logit scale; KL on a logarithmic one" in table
    assert "votes over common4" in table
    assert "Human ceiling, one rater at a time (96 utterances" in table


def test_distances_to_the_votes_are_tested_in_pairs_and_corrected(distributions):
    summary = summarise(distributions)
    aligned = align(read_runs(distributions))
    sample, systems = aligned.sample, {one.name: one for one in aligned.systems}
    shares = sample.targets / sample.targets.sum(1, keepdims=True)

    def distances(name):
        each = [agreement.js_distance(shares, said) for said in systems[name].probabilities]
        sums = [statistics.sums_of(one[:, None], sample.groups, sample.clusters) for one in each]
        return np.stack(sums, 1)

    mean = statistics.OfMeans(lambda means: means[..., 0], "share", "lower")
    of_votes = [one for one in summary.versus if one.family == f"{BEST}, by the votes"]
    tested = [one for one in of_votes if one.score == "JS"]
    found = [statistics.compare(distances(v.name), distances(v.against), mean) for v in tested]
    assert [v.difference for v in tested] == pytest.approx([one.difference for one in found])
    assert [v.low for v in tested] == pytest.approx([one.low for one in found])
    assert [v.p for v in tested] == pytest.approx(statistics.holm([one.p for one in found]))
    nearest = min((row for row in summary.rows if row.baseline), key=lambda r: r.scores["JS"].mean)
    assert {v.against for v in of_votes} == {nearest.name}
    assert {v.score for v in of_votes} == set(agreement.DISTRIBUTION_SCORES)
    assert len(list(csv.DictReader(csv_tables(summary)["comparisons.csv"].splitlines()))) == len(
        summary.versus
    )
    assert f"{BEST}, by the votes (JS): " in text_table(summary)


def test_a_run_of_votes_is_explained_and_one_of_attributes_is_refused(
    distributions, votes_folder, attributes, made_iemocap, capsys
):
    run = next(distributions.glob("linear-*"))
    assert main(["explain", str(run), "--features", str(votes_folder)]) == 0
    truth = read_predictions(run / "predictions.csv", COMMON4, "test", "distributions").truth
    told = f"{(truth >= 0).sum()} test utterances; what the true class loses"
    assert told in capsys.readouterr().out
    run = next(attributes.glob("ridge-*"))
    assert main(["explain", str(run), "--features", str(made_iemocap)]) == 1
    assert "predicts attributes, but a class is explained" in capsys.readouterr().err


def test_votes_for_one_class_alone_are_no_classes_to_learn(made_iemocap, tmp_path, capsys):
    command = ["train", "--features", str(made_iemocap), "--labels", "iemocap4", "--task"]
    command += ["distributions", "--split", "session", "--folds", "3", "--model", "linear"]
    assert main([*command, "--out", str(tmp_path), *SMALL]) == 1
    said = capsys.readouterr().err
    assert "of the classes ['neutral'] and selects by" in said
    assert "leave the baselines out and take --schedule.loss kl" in said


def test_a_lower_distance_is_better():
    nearer = Versus("", "soft", "hard", "", -0.04, -0.05, -0.03, 0.001, None, "", "JS", "lower")
    beside = Versus("", "soft", "hard", "", 0.01, 0.0, 0.02, 0.04, None, "", "top-2")
    assert (nearer.wins, nearer.loses) == (True, False)
    assert verdict(nearer, 1, beside=[beside]) == (
        "soft beats hard by 4.0 JS points [−5.0, −3.0] (p = 0.001; top-2 +1.0, p = 0.040)."
    )
    farther = replace(nearer, difference=0.04, low=0.03, high=0.05)
    assert (farther.wins, farther.loses) == (False, True)
    assert replace(farther, better="higher").wins


def test_utterances_without_agreement_count_for_the_distances_and_not_for_ua(distributions):
    run = read_runs(distributions)[0]
    summary = summarise(distributions)
    assert summary.utterances == 96
    four = replace(summary, corpora=("iemocap",), classes=COMMON4)  # of the original's task
    assert tables_for(replace(four, task="classes"))
    assert not tables_for(four)
    unknown = sum(
        (run.truth < 0).sum() for run in read_runs(distributions) if run.config.model == "svm"
    )
    assert unknown == 8
    assert summary.rows[0].confusion.sum() == pytest.approx(96 - 8)
    assert run.targets.sum(1) == pytest.approx(4)
    asked = {len(run.ids) for run in read_runs(distributions, "validation")}
    assert asked == {24}  # also where ties are not learnt from


def test_a_record_of_classes_has_no_task(distributions):
    record = json.loads(next(distributions.glob("linear-*/config.json")).read_text())
    assert record["labels"]["task"] == "distributions"
    assert record["train"]["loss"] == "majority"
    del record["labels"]["task"], record["train"]["loss"]
    path = distributions / "old.json"
    path.write_text(json.dumps(record))
    config = read_record(path).config
    assert (config.labels.task, config.train.schedule.loss) == ("classes", None)
    path.unlink()


@pytest.mark.parametrize(
    ("more", "said"),
    [
        (["--labels", "arousal,joy"], "'joy'"),
        (["--labels", "arousal", "--scale", "5", "1"], "least value first"),
        (["--labels", "arousal", "--schedule.loss", "kl"], "ccc"),
        (["--labels", "arousal", "--model", "stacked", "--tune-encoder"], "--task"),
    ],
)
def test_mistakes_with_attributes_are_said(made_iemocap, tmp_path, capsys, more, said):
    command = ["train", "--features", str(made_iemocap), "--task", "attributes", "--split"]
    assert main([*command, "session", "--out", str(tmp_path / "out"), *more]) == 1
    assert said in capsys.readouterr().err


def test_an_attribute_that_never_varies_is_refused():
    both = tasks.AttributeSet("arousal,valence", ("arousal", "valence"), (1.0, 5.0))
    assert tasks.scale_warnings([[0.5, 0.1], [math.nan, 1.2], [0.4, 0.2]], both) == [
        "1 utterances have values outside of the scale from 1 to 5"
    ]
    with pytest.raises(LabelError, match=r"valence has the same value in all utterances.*leave it"):
        tasks.scale_warnings([[0.1, 0.5], [0.2, math.nan], [0.3, 0.5]], both)


def test_a_score_that_is_not_defined_is_left_out_of_the_run_s_metrics():
    labels = ClassNames("arousal", ("arousal",), "", "attributes", (1.0, 5.0))
    same = np.full((2, 1), 0.5)
    for truth, said in ((same, {}), (np.array([[0.1], [0.9]]), {"CCC arousal": 0})):
        told = Predicted("test", ["a/1", "a/2"], ["", ""], ["", ""], same.astype("f4"), truth)
        assert _scores(labels, [told]) == {"test": said}


def test_a_corpus_without_a_known_scale_asks_for_one():
    rows = [Utterance("mine/1", "mine", "joy", attributes={"arousal": 3})]
    with pytest.raises(LabelError, match="--scale 1 5"):
        tasks.outputs_of("attributes", "arousal", rows)
    made = tasks.outputs_of("attributes", "arousal", rows, (1, 5))
    assert made.mapped(rows[0]) == [0.5]


def examples_of(target, label):
    side = Modality(torch.zeros(len(label), 1, 2), torch.ones(len(label), 1, dtype=torch.bool))
    ids = tuple(f"mine/{n}" for n in range(len(label)))
    return Examples(ids, side, side, torch.tensor(label), torch.tensor(target))


def test_hard_labels_of_votes_leave_out_ties_and_utterances_without_a_class():
    examples = examples_of([[0.8, 0.2], [0.5, 0.5], [0.4, 0.6]], [1, 0, -1])
    most = losses.learnt_as(examples, "majority")
    assert (most.ids, most.truth.tolist()) == (("mine/0", "mine/2"), [0, 1])
    own = losses.learnt_as(examples, "label")
    assert (own.ids, own.truth.tolist()) == (("mine/0", "mine/1"), [1, 0])
    assert losses.learnt_as(examples, "kl") is examples


def test_losses_equal_their_formulas():
    torch.manual_seed(0)
    logits, weights = torch.randn(2, 6, 3), torch.tensor([0.5, 1.0, 1.5])
    label = torch.tensor([0, 1, 2, 0, 1, 1])
    shares = torch.rand(6, 3)
    shares = shares / shares.sum(1, keepdim=True)
    hard = F.one_hot(label, 3).float()
    for name in ("cross-entropy", "focal", "balanced-softmax"):
        of = losses.LOSSES[name].of  # shares that name one class are that class
        assert of(logits, hard, weights, 0.0) == pytest.approx(
            of(logits, label, weights, 0.0).item(), rel=1e-5
        )
    p = logits.softmax(2)
    entropy = (shares * (shares / p).log()).sum(2).mean(1).sum()
    assert losses.kl(logits, shares, weights, 0.1) == pytest.approx(entropy.item(), rel=1e-5)
    own = p.gather(2, label.expand(2, 6)[..., None])[..., 0]
    w = weights[label]
    focal = (-w * (1 - own) ** 2 * own.log()).sum() / w.sum()
    assert losses.focal(logits, label, weights, 0.0) == pytest.approx(focal.item(), rel=1e-5)
    frequencies = 1 / weights
    posterior = (p * frequencies) / (p * frequencies).sum(2, keepdim=True)
    balanced = -posterior.gather(2, label.expand(2, 6)[..., None]).log().mean(1).sum()
    assert losses.balanced_softmax(logits, label, weights, 0.0) == pytest.approx(
        balanced.item(), rel=1e-5
    )
    values, truth = torch.rand(2, 6, 3), torch.rand(6, 3)
    expected = sum(1 - agreement.ccc(truth, one).mean() for one in values.double())
    found = losses.one_minus_ccc(values, truth, weights, 0.0)
    assert found == pytest.approx(expected, abs=1e-5)


@pytest.mark.parametrize(
    "name", [name for name, one in losses.LOSSES.items() if "distributions" in one.tasks]
)
def test_no_loss_raises_a_class_that_the_training_part_lacks(name):
    logits = torch.randn(2, 6, 3, requires_grad=True)
    shares = F.one_hot(torch.tensor([0, 1, 1, 0, 1, 1]), 3).float()
    losses.LOSSES[name].of(logits, shares, class_weights(shares, 3, True), 0.1).backward()
    assert (logits.grad[..., 2] >= 0).all()  # a step against the gradient lowers it


@pytest.mark.parametrize("name", sorted(losses.LOSSES))
def test_every_loss_has_a_gradient_and_an_optimum_at_the_truth(name):
    torch.manual_seed(0)
    loss = losses.LOSSES[name]
    attributes = "attributes" in loss.tasks
    truth = torch.rand(16, 3)
    truth = truth if attributes else (5 * truth).softmax(1)
    said = nn.Parameter(torch.randn(1, 16, 3) * 0.1)
    optimizer = torch.optim.Adam([said], 0.05)
    first = math.nan
    for step in range(300):
        value = loss.of(said, truth, torch.ones(3), 0.0)
        first = value.item() if step == 0 else first
        optimizer.zero_grad()
        value.backward()
        optimizer.step()
    assert value < first
    if name not in ("focal",):  # which holds back what is known well
        found = said[0] if attributes else said[0].softmax(1)
        assert (found - truth).abs().mean() < 0.05


def test_the_ceiling_is_how_well_one_rater_predicts_the_others():
    votes = np.array([[3.0, 0.0], [2.0, 1.0], [0.0, 3.0], [0.0, 2.0]])
    sample = Sample(
        keys=tuple(("0", f"a/{n}") for n in range(4)),
        truth=np.array([0, 0, 1, -1]),
        groups=np.array([0, 1, 2, 2]),
        clusters=3,
        by="speaker",
        names=("anger", "joy"),
        task="distributions",
        targets=votes,
    )
    (said,) = human_ceiling(sample)
    # of [2, 1] the two who say anger find a tie, and the one who says joy is against both: anger is
    # true in 1 + 1/3 + 1/3, of which 1 + 1/3 are right; joy in 2 + 1/3, of which 2 are
    assert "UA 82.9" in said
    assert "WA 83.3" in said
    only = human_ceiling(Sample(**{**vars(sample), "targets": votes / votes.sum(1, keepdims=True)}))
    assert "cannot be known" in only[0]


def test_votes_for_other_words_do_not_count():
    row = Utterance("mine/1", "mine", "joy", votes={"xxx": 3})
    assert tasks.task_label("distributions", row, class_set("anger,joy")) == (
        "no votes for a class of anger,joy"
    )
    with pytest.raises(SerError, match="task"):
        tasks.outputs_of("feelings", "common4", [row])


def test_three_panels_of_listeners_are_three_raters(tmp_path):
    said = {"voice_vote": "A:D", "face_vote": "A", "multimodal_vote": "N"}
    write_manifest(
        [Utterance("cremad/1", "cremad", "ANG", audio="1.wav", extra=said)], tmp_path / "a.jsonl"
    )
    panels.main(["--manifest", str(tmp_path / "a.jsonl"), "--out", str(tmp_path / "b.jsonl")])
    (row,) = read_manifest(tmp_path / "b.jsonl")
    assert row.votes == {"ANG": 1.5, "DIS": 0.5, "NEU": 1}
