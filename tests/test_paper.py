"""Every command line of the original document, verbatim, on made-up corpora: paper/."""

import csv
import os
import re
import shlex
import shutil
import subprocess
import sys

import pytest

import made_paper as paper
from made_paper import Place, altered, ids_of, predicted, refused
from multimodal_ser.corpora import read_manifest

DOCUMENT = paper.REPOSITORY.parent / "shared" / "seed" / "README.md"


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    """After the document's first two steps."""
    made = Place(tmp_path_factory.mktemp("document"))
    for line in [*paper.METADATA, *paper.EXTRACTION]:
        assert made.run(line) == 0, line
    return made


@pytest.mark.skipif(not DOCUMENT.is_file(), reason="the original document is not here")
def test_the_lines_are_those_of_the_document():
    usage = DOCUMENT.read_text(encoding="utf-8").split("## Usage")[1].split("## Model")[0]
    blocks = "\n".join(re.findall(r"```bash\n(.*?)```", usage, re.S)).replace("\\\n", " ")
    lines = [shlex.split(line, comments=True) for line in blocks.splitlines()]
    written = [words for words in lines if words]
    assert written == [
        shlex.split(line) for line in [*paper.METADATA, *paper.EXTRACTION, *paper.TRAINING]
    ]


def test_metadata_lists_every_utterance_with_its_part(place):
    with (place.root / "metadata" / "IEMOCAP_4class.csv").open(encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    assert len(rows) == 50  # excitement counts as happiness
    assert {row["part"] for row in rows if row["session"] == "Ses04"} == {"val"}
    assert {row["part"] for row in rows if row["session"] == "Ses05"} == {"test"}
    assert all(paper.FOUR[int(row["label"])] == row["class"] for row in rows)
    assert {row["class"] for row in rows if row["emotion"] == "sad"} == {"sadness"}
    assert not any("[" in row["text"] for row in rows)  # no time stamps
    manifest = read_manifest(place.root / "metadata" / "IEMOCAP_4class.jsonl")
    assert [row.id for row in manifest] == [row["id"] for row in rows]
    assert len(read_manifest(place.root / "metadata" / "IEMOCAP_6class.jsonl")) == 60


def test_features_have_the_originals_keys_and_who_speaks(place):
    speakers = {}
    for part in ("train", "val", "test"):
        rows = place.features(f"CREMAD_emotion2vec_{part}.pkl")
        assert rows[0]["audio_embed"].shape == (1024,)
        assert rows[0]["text_embed"].shape == (16,)
        for row in rows:
            assert paper.FOUR[row["label"]][:3].upper() == row["emotion"]
        speakers[part] = {row["speaker"] for row in rows}
    assert {part: len(names) for part, names in speakers.items()} == {
        "train": 8, "val": 1, "test": 1,
    }  # fmt: skip
    assert len(set.union(*speakers.values())) == 10  # nobody on two sides
    meld = place.features("MELD_emotion2vec_test.pkl")
    assert {row["id"].split("/")[1] for row in meld} == {"test"}


def test_both_corpora_number_the_classes_alike(place):
    """The original's IEMOCAP script wrote sadness 2, its CREMA-D script 3."""
    numbers = {}
    for name in ("IEMOCAP_BERT", "CREMAD", "MELD"):
        for row in place.features(f"{name}_emotion2vec_train.pkl"):
            numbers.setdefault(row["label"], set()).add(row["emotion"])
    assert numbers == {
        0: {"ang", "ANG", "anger"},
        1: {"hap", "exc", "HAP", "joy"},
        2: {"neu", "NEU", "neutral"},
        3: {"sad", "SAD", "sadness"},
    }


def test_basic_training_follows_the_flags_and_reports_caveats(place, capsys):
    assert place.run(paper.BASIC, *paper.QUICK) == 0
    assert "wrote results.json" in capsys.readouterr().out
    found = place.results("results.json")
    config = found["config"]
    assert (config["hidden_dim"], config["num_layers"], config["dropout"]) == (384, 2, 0.3)
    assert found["num_runs"] == len(found["runs"]) == 5
    scores = [run["test"]["UA"] for run in found["runs"]]
    assert found["test"]["UA"]["mean"] == pytest.approx(sum(scores) / 5, abs=1e-3)
    assert found["test"]["UA"]["std"] is not None
    assert set(found["val"]) == set(found["test"]) == {"UA", "WA", "WF1", "macro-F1"}
    # session 5 has two speakers
    assert found["test"]["UA"]["interval_95"] == "cannot be known"
    assert {one["p_holm"] for one in found["comparisons"]} == {"cannot be known: two speakers only"}
    assert not any(one["better_by_more_than_chance"] for one in found["comparisons"])
    assert {"cross_attention", "linear", "svm"} <= set(found["systems"])
    assert found["protocol"]["classes"] == paper.FOUR
    assert found["protocol"]["split"] == "iemocap-original"
    assert found["leaks"] == []
    assert any("emotion2vec-plus-large saw it with emotion labels" in m for m in found["marks"])
    tested = ids_of(place.features("IEMOCAP_BERT_emotion2vec_test.pkl"))
    assert ids_of(predicted(place, found, "cross")["test"]) == tested
    models = list((place.root / found["protocol"]["runs"]).glob("*/model.safetensors"))
    assert len(models) == 5 + 2


def test_the_same_line_again_makes_nothing_anew(place):
    line = paper.SIX.replace("results_6class", "again")
    assert place.run(line, *paper.SMALL) == 0
    before = {p: p.stat().st_mtime_ns for p in place.root.rglob("again-*/*/model.safetensors")}
    assert place.run(line, *paper.SMALL) == 0
    after = {p: p.stat().st_mtime_ns for p in place.root.rglob("again-*/*/model.safetensors")}
    assert before
    assert before == after


def test_six_classes(place):
    assert place.run(paper.SIX, *paper.SMALL, "--num_runs", "3") == 0
    found = place.results("results_6class.json")
    assert len(found["protocol"]["classes"]) == 6
    assert found["num_runs"] == 3


def test_the_ablation_scores_a_part_that_picked_nothing(place):
    assert place.run(paper.ABLATION, *paper.SMALL) == 0
    found = place.results("results_ablation.json")
    assert set(found["systems"]) == {
        "Text-only (BERT)", "Audio-only (emotion2vec)", "Simple Fusion",
        "Full Model (Cross-Attention)", "stacked", "linear", "svm",
    }  # fmt: skip
    assert "test" not in found
    rows = predicted(place, found, "concat")
    scored = ids_of(place.features("IEMOCAP_BERT_emotion2vec_val.pkl"))
    train = ids_of(place.features("IEMOCAP_BERT_emotion2vec_train.pkl"))
    assert ids_of(rows["test"]) == scored
    assert ids_of(rows["validation"]) < train


@pytest.mark.parametrize("method", ["dann", "mmd", "coral"])
def test_domain_adaptation(place, method):
    assert place.run(paper.ADAPTATION.replace("dann", method), *paper.SMALL) == 0
    found = place.results(f"results_da_{method}.json")
    assert set(found["systems"]) == {
        "none", "standardize", method, "linear", "linear, standardize",
    }  # fmt: skip
    assert found["test"] == found["systems"][method]["test"]
    assert found["config"]["lambda_domain"] == 0.1
    assert (found["protocol"]["source"], found["protocol"]["corpora"]) == (["iemocap"], ["cremad"])


def test_lambda_changes_the_result(place):
    answers = set()
    for weight in ("0.1", "30"):
        line = paper.ADAPTATION.replace("0.1", weight).replace("results_da_dann", f"lambda{weight}")
        more = ["--epochs", "4", "--batch_size", "8"]
        assert place.run(line, *paper.SMALL, *more) == 0
        results = place.results(f"lambda{weight}.json")
        (shown,) = (
            path for path in (place.root / results["protocol"]["runs"]).glob("*/config.json")
            if '"method": "dann"' in path.read_text(encoding="utf-8")
        )  # fmt: skip
        answers.add((shown.parent / "predictions.csv").read_bytes())
    assert len(answers) == 2


def test_combined_training_scores_each_corpus(place):
    assert place.run(paper.COMBINED, *paper.SMALL) == 0
    found = place.results("results_combined.json")
    assert set(found["by_corpus"]) == {"iemocap", "cremad"}
    assert found["protocol"]["corpora"] == ["cremad", "iemocap"]
    assert found["val"]["UA"]["mean"] is not None


def test_fine_tuning_stands_beside_training_from_scratch(place):
    assert place.run(paper.FINETUNE, *paper.SMALL) == 0
    found = place.results("results_finetune.json")
    assert set(found["systems"]) == {
        "fine-tuned (all)", "fine-tuned (head)", "from scratch", "not fine-tuned", "linear",
    }  # fmt: skip
    assert found["test"] == found["systems"]["fine-tuned (all)"]["test"]
    assert found["val"]["UA"]["mean"] is not None


def test_few_shots_do_not_read_the_targets_validation_file(place):
    assert place.run(paper.FEWSHOT, *paper.SMALL, "--draws", "2", "--batch_size", "64") == 0
    found = place.results("results_fewshot.json")
    assert list(found["percentages"]) == ["10", "20", "50", "100"]
    assert found["percentages"]["10"]["test"]["UA"]["std"] is not None
    assert len(found["percentages"]["10"]["runs"]) == 2
    assert "from scratch, 10 %" in found["systems"]
    rows = predicted(place, found, "linear")
    train = ids_of(place.features("CREMAD_emotion2vec_train.pkl"))
    assert ids_of(rows["validation"]) <= train


def test_the_shuffled_split_is_said_in_every_result(place, tmp_path):
    shutil.copytree(place.root / "features" / "CREMAD_emotion2vec", tmp_path / "features" / "x")
    kept = place.root
    other = tmp_path / "paper"
    shutil.copytree(kept, other, ignore=shutil.ignore_patterns("saved_models", "encoders"))
    place.root = other
    try:
        assert place.run(paper.METADATA[2], "--split", "cremad-original") == 0
        assert place.run(paper.EXTRACTION[2]) == 0
        line = paper.BASIC.replace("IEMOCAP_BERT", "CREMAD")
        assert place.run(line, *paper.QUICK, *paper.SMALL) == 0
        assert any("speakers stand both" in leak for leak in place.results("results.json")["leaks"])
    finally:
        place.root = kept


def test_a_recording_that_fails_is_listed_and_no_zero_vector(place, capsys):
    """Also the script of the other encoder."""
    broken = next((place.root.parent / "iemocap" / "Session1").rglob("*.wav"))
    sound = broken.read_bytes()
    broken.write_bytes(b"RIFF, and then nothing")
    try:
        assert place.run("python feature_extract/IEMOCAP-BERT_wav2vec.py") == 1
    finally:
        broken.write_bytes(sound)
    assert f"failed: audio of iemocap/{broken.stem}" in capsys.readouterr().out
    rows = {row["id"]: row for row in place.features("IEMOCAP_BERT_wav2vec_train.pkl")}
    assert rows[f"iemocap/{broken.stem}"]["audio_embed"] is None
    assert sum(row["audio_embed"] is None for row in rows.values()) == 1
    line = paper.BASIC.replace("emotion2vec", "wav2vec").replace("1024", "16")
    assert place.run(line.replace("results", "lacking"), *paper.SMALL) == 0
    assert any(
        "1 of 50 utterances have no audio" in m for m in place.results("lacking.json")["marks"]
    )


@pytest.mark.parametrize(
    ("more", "says"),
    [
        (["--audio_dim", "768"], "width 1024, but --audio_dim is 768"),
        (["--num_classes", "6"], "iemocap_4 has 4"),
        (["--dropout", "2"], "dropout is a share from 0 to less than 1, not 2.0"),
        (["--emotion_config", "iemocap_6"], "choose --emotion_config"),
        (["--train", "features/nothing.pkl"], "no features at features/nothing.pkl"),
        (["--val", "features/IEMOCAP_BERT_emotion2vec_train.pkl"], "twice"),
        (["--test", "features/CREMAD_emotion2vec_test.pkl"], "several corpora"),
    ],
)  # fmt: skip
def test_what_cannot_be_is_refused(place, capsys, more, says):
    assert says in refused(place, capsys, paper.BASIC, *paper.SMALL, *more)


def test_swapped_labels_are_refused(place, capsys):
    swap = {0: 0, 1: 1, 2: 3, 3: 2}
    more = altered(place, "swapped.pkl", lambda row: {**row, "label": swap[row["label"]]})
    error = refused(place, capsys, paper.BASIC, *paper.SMALL, *more)
    assert re.search(r"label [23], which is '(sadness|neutral)'", error)


def test_files_without_ids_and_with_code_are_refused(place, capsys):
    kept = ("text_embed", "audio_embed", "label")
    more = altered(place, "theirs.pkl", lambda row: {key: row[key] for key in kept})
    assert "ser import-features" in refused(place, capsys, paper.BASIC, *paper.SMALL, *more)

    class Code:
        def __reduce__(self):
            return os.mkdir, ("ran",)

    more = altered(place, "code.pkl", lambda row: {**row, "more": Code()})
    assert "refused" in refused(place, capsys, paper.BASIC, *paper.SMALL, *more)
    assert not (place.root / "ran").exists()


def test_missing_roots_and_steps_say_what_to_do(place, capsys, monkeypatch, tmp_path):
    monkeypatch.setitem(place.variables, "CREMAD_ROOT", "")
    assert "export CREMAD_ROOT=" in refused(place, capsys, paper.METADATA[2])
    monkeypatch.setitem(place.variables, "CREMAD_ROOT", str(tmp_path / "nowhere"))
    assert "no folder" in refused(place, capsys, paper.METADATA[2])
    manifest = place.root / "metadata" / "MELD.jsonl"
    kept = manifest.rename(tmp_path / "MELD.jsonl")
    try:
        error = refused(place, capsys, paper.EXTRACTION[3])
    finally:
        kept.rename(manifest)
    assert "python metadata/create_meld_metadata.py" in error


def test_the_lines_run_in_a_shell(place):
    environment = {**os.environ, **place.variables}
    lines = [
        "python metadata/create_cremad_metadata.py",
        "python -c 'import domain_adaptation as d; print(d.GRL, d.DANN, d.MMD, d.CORAL)'",
    ]
    for line in lines:
        words = [sys.executable, *shlex.split(line)[1:]]
        done = subprocess.run(
            words, cwd=place.root, env=environment, capture_output=True, text=True, check=False
        )
        assert done.returncode == 0, done.stderr
        assert done.stdout
