"""The original document's command lines, and a place with made-up corpora to run them in."""

import csv
import json
import pickle
import runpy
import shlex
import shutil
import sys
from pathlib import Path

import pytest

import made_emotion2vec
from made_corpora import iemocap_rows, make_cremad, make_iemocap, make_meld, write_sound
from made_encoders import tiny
from multimodal_ser.features.pickle_reader import read_pickle

REPOSITORY = Path(__file__).parents[1]
FOUR = ["anger", "happiness", "neutral", "sadness"]

METADATA = [
    "python metadata/create_iemocap_metadata.py",
    "python metadata/create_iemocap_6class.py",
    "python metadata/create_cremad_metadata.py",
    "python metadata/create_meld_metadata.py",
]
EXTRACTION = [
    "python feature_extract/IEMOCAP-BERT_emotion2vec.py",
    "python feature_extract/IEMOCAP_6class_emotion2vec.py",
    "python feature_extract/extract_cross_dataset.py --dataset cremad",
    "python feature_extract/extract_cross_dataset.py --dataset meld",
]
BASIC = (
    "python main_icassp2026.py --train features/IEMOCAP_BERT_emotion2vec_train.pkl "
    "--val features/IEMOCAP_BERT_emotion2vec_val.pkl "
    "--test features/IEMOCAP_BERT_emotion2vec_test.pkl --audio_dim 1024 --dropout 0.3 "
    "--weight_decay 0.01 --num_layers 2 --hidden_dim 384 --num_runs 5 --output results.json"
)
SIX = (
    "python main_icassp2026.py --train features/IEMOCAP_6class_emotion2vec_train.pkl "
    "--val features/IEMOCAP_6class_emotion2vec_val.pkl "
    "--test features/IEMOCAP_6class_emotion2vec_test.pkl --audio_dim 1024 --num_classes 6 "
    "--emotion_config iemocap_6 --num_runs 3 --output results_6class.json"
)
ABLATION = (
    "python main_icassp2026.py --train features/IEMOCAP_BERT_emotion2vec_train.pkl "
    "--val features/IEMOCAP_BERT_emotion2vec_val.pkl --ablation --output results_ablation.json"
)
SOURCE = (
    "--source_train features/IEMOCAP_BERT_emotion2vec_train.pkl "
    "--source_val features/IEMOCAP_BERT_emotion2vec_val.pkl "
    "--target_train features/CREMAD_emotion2vec_train.pkl "
)
ADAPTATION = (
    f"python train_domain_adaptation.py {SOURCE}"
    "--target_test features/CREMAD_emotion2vec_test.pkl "
    "--method dann --lambda_domain 0.1 --output results_da_dann.json"
)
COMBINED = (
    "python train_combined.py --iemocap_train features/IEMOCAP_BERT_emotion2vec_train.pkl "
    "--iemocap_val features/IEMOCAP_BERT_emotion2vec_val.pkl "
    "--iemocap_test features/IEMOCAP_BERT_emotion2vec_test.pkl "
    "--cremad_train features/CREMAD_emotion2vec_train.pkl "
    "--cremad_val features/CREMAD_emotion2vec_val.pkl "
    "--cremad_test features/CREMAD_emotion2vec_test.pkl --output results_combined.json"
)
TARGET = (
    "--target_val features/CREMAD_emotion2vec_val.pkl "
    "--target_test features/CREMAD_emotion2vec_test.pkl "
)
FINETUNE = f"python train_finetune.py {SOURCE}{TARGET}--output results_finetune.json"
FEWSHOT = (
    f'python train_fewshot.py {SOURCE}{TARGET}--percentages "10,20,50,100" '
    "--output results_fewshot.json"
)
TRAINING = [BASIC, SIX, ABLATION, ADAPTATION, COMBINED, FINETUNE, FEWSHOT]
QUICK = ["--epochs", "1", "--least_steps", "1", "--members", "1", "--jobs", "1"]
SMALL = [*QUICK, "--hidden_dim", "8", "--num_heads", "2", "--num_runs", "1"]


class Place:
    """A copy of paper/ with made-up corpora, where the original's lines are run."""

    def __init__(self, root):
        self.root = root / "paper"
        ignored = shutil.ignore_patterns("__pycache__", "features", "saved_models", "*.csv")
        shutil.copytree(REPOSITORY / "paper", self.root, ignore=ignored)
        encoders = root / "encoders"
        emotion2vec = made_emotion2vec.folder(
            encoders / "e2v", "emotion2vec-plus-large", dim=1024, heads=16, first=1, later=0
        )
        self.variables = {
            "IEMOCAP_ROOT": str(root / "iemocap"),
            "CREMAD_ROOT": str(root / "cremad"),
            "MELD_ROOT": str(root / "meld"),
            "EMOTION2VEC_SOURCE": str(emotion2vec),
            "BERT_SOURCE": str(tiny("bert", encoders)),
            "WAV2VEC2_SOURCE": str(tiny("wav2vec2", encoders)),
        }
        labels = dict.fromkeys(("ang", "hap", "exc", "neu", "sad", "fru", "xxx"), 10)
        make_iemocap(root / "iemocap", iemocap_rows(labels))
        names = [
            f"{actor}_{sentence}_{emotion}_XX"
            for actor in range(1001, 1011)
            for sentence in ("DFA", "IEO", "TIE")
            for emotion in ("ANG", "HAP", "NEU", "SAD", "FEA")
        ]
        make_cremad(root / "cremad", names)
        make_meld(root / "meld", dialogues=2)
        for number, path in enumerate(sorted([*root.rglob("*.wav"), *root.rglob("*.mp4")])):
            write_sound(path, chr(200 + number), seconds=0.1)  # no two alike

    def run(self, line, *more):
        """Runs a line in this process, as `cd paper; python …` would; its exit code."""
        _, *words = shlex.split(line)
        with pytest.MonkeyPatch.context() as patch:
            patch.chdir(self.root)
            for name, value in self.variables.items():
                patch.setenv(name, value)
            patch.setattr(sys, "argv", [*words, *more])
            patch.setattr(sys, "path", [str(self.root / words[0]).rsplit("/", 1)[0], *sys.path])
            with pytest.raises(SystemExit) as stopped:
                runpy.run_path(words[0], run_name="__main__")
        return stopped.value.code

    def results(self, name):
        return json.loads((self.root / name).read_text(encoding="utf-8"))

    def features(self, name):
        return read_pickle(self.root / "features" / name)


def ids_of(rows):
    return {row["id"] for row in rows}


def predicted(place, results, name):
    """Part → rows of predictions.csv, over all runs whose folder's name begins so."""
    rows = {}
    for path in sorted((place.root / results["protocol"]["runs"]).glob(f"{name}*/predictions.csv")):
        with path.open(encoding="utf-8") as file:
            for row in csv.DictReader(file):
                rows.setdefault(row["part"], []).append(row)
    return rows


def refused(place, capsys, line, *more):
    capsys.readouterr()
    assert place.run(line, *more) == 1
    error = capsys.readouterr().err
    assert error.startswith("error: ")
    return error


def altered(place, name, change):
    rows = [dict(row) for row in place.features("IEMOCAP_BERT_emotion2vec_train.pkl")]
    path = place.root / "features" / name
    path.write_bytes(pickle.dumps([change(row) for row in rows]))
    return ["--train", f"features/{name}"]
