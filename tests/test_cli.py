"""The command `ser`, end to end on a made-up corpus, and its messages about mistakes."""

import json
import os
import subprocess
import sys
from dataclasses import replace
from importlib import metadata
from pathlib import Path

import numpy as np
import pytest

import multimodal_ser
from made_corpora import make_cremad, make_emodb, write_sound
from made_features import made_folder, made_rows
from multimodal_ser import encoders
from multimodal_ser.__main__ import main as start
from multimodal_ser.cli import main
from multimodal_ser.corpora.labels import CLASS_SETS
from multimodal_ser.encoders import ENCODERS
from multimodal_ser.encoders.base import EncoderInfo, Exposure
from multimodal_ser.models.fusion import MODELS
from multimodal_ser.splits import SCHEMES

SMALL = [
    "--network.members", "1", "--network.hidden-dim", "8", "--network.num-heads", "2",
    "--schedule.epochs", "2", "--schedule.least-steps", "1", "--jobs", "1",
]  # fmt: skip


class TinyEncoder:
    """Loudness and a coarse spectrum, 100 frames a second."""

    info = EncoderInfo(
        "tiny", "audio", 8, 100.0, "ab12", "1", {"emodb": Exposure("no", "it was never trained")}
    )

    def __call__(self, items):
        return [self.encode(item) for item in items]

    def encode(self, wave):
        frames = np.asarray(wave)[: len(wave) // 160 * 160].reshape(-1, 160)
        spectrum = np.abs(np.fft.rfft(frames))[:, :80].reshape(len(frames), 8, 10).mean(2)
        return np.log(spectrum + 1e-3).astype(np.float32)


@pytest.fixture
def tiny(monkeypatch):
    spec = replace(ENCODERS["egemaps"], load=lambda *given, **how: TinyEncoder())
    monkeypatch.setitem(encoders.ENCODERS, "tiny", spec)


@pytest.fixture
def features(tmp_path):
    return made_folder(tmp_path / "features", made_rows(48, speakers=4), ("audio",))


@pytest.fixture
def emodb(tmp_path):
    """EmoDB's folder with 70 different sounds, and its manifest."""
    root, manifest = tmp_path / "emodb", tmp_path / "emodb.jsonl"
    make_emodb(root)
    for number, path in enumerate(sorted((root / "wav").iterdir())):
        write_sound(path, chr(200 + number))
    assert main(["manifest", "emodb", "--root", str(root), "--out", str(manifest)]) == 0
    return root, manifest


def ser(capsys, *words):
    """Exit code, standard output, standard error."""
    capsys.readouterr()
    code = main([str(word) for word in words])
    printed = capsys.readouterr()
    return code, printed.out, printed.err


def refused(capsys, *words):
    code, _, err = ser(capsys, *words)
    assert code == 1
    assert err.startswith("error: ")
    assert "Traceback" not in err
    return err


def train(features, out, *more):
    return ["train", "--features", features, "--labels", "common4", "--split", "speaker", "--out",
            out, "--seeds", "1", *SMALL, *more]  # fmt: skip


def test_from_recordings_to_a_report(tmp_path, capsys, tiny, emodb):
    (root, manifest), runs = emodb, tmp_path / "runs"
    code, out, _ = ser(capsys, "manifest", "emodb", "--root", root, "--out", manifest)
    assert code == 0
    assert "CC0" in out
    assert len(manifest.read_text().splitlines()) == 70
    code, out, _ = ser(capsys, "check", manifest)
    assert (code, out) == (0, "70 utterances checked, 0 findings\n")
    code, out, _ = ser(
        capsys, "split", manifest, "--labels", "emodb7", "--scheme", "speaker", "--folds", "3",
        "--out", tmp_path / "split.json",
    )  # fmt: skip
    assert code == 0
    assert json.loads((tmp_path / "split.json").read_text())["hash"] in out
    code, out, _ = ser(
        capsys, "extract", "--manifest", manifest, "--audio", "tiny", "--out", tmp_path / "features"
    )
    assert code == 0
    assert "70 utterances, 0 failed" in out
    command = [
        "train", "--features", tmp_path / "features", "--labels", "emodb7", "--split",
        tmp_path / "split.json", "--model", "audio", "--seeds", "2", "--out", runs, *SMALL,
    ]  # fmt: skip
    code, table, _ = ser(capsys, *command)
    assert code == 0
    assert all(name in table for name in ("audio", "linear", "svm", "UA", "WF1"))
    folders = [path for path in runs.iterdir() if path.is_dir()]
    assert len(folders) == 3 * 2 + 3 + 3
    before = {path: path.stat().st_mtime_ns for path in runs.rglob("model.safetensors")}
    assert ser(capsys, *command)[:2] == (0, table)
    assert before == {path: path.stat().st_mtime_ns for path in runs.rglob("model.safetensors")}
    code, out, _ = ser(capsys, "report", runs)
    assert code == 0
    assert out.startswith(table)
    assert (runs / "report" / "report.html").is_file()


def test_a_check_that_finds_something_exits_with_one(capsys, emodb):
    root, manifest = emodb
    (root / "wav" / "03a01Wa.wav").write_text("no sound")
    code, out, _ = ser(capsys, "check", manifest)
    assert code == 1
    assert "emodb/03a01Wa" in out
    assert "70 utterances checked, 1 finding\n" in out


def test_an_extraction_with_failures_exits_with_one_and_keeps_the_rest(
    tmp_path, capsys, tiny, emodb
):
    root, manifest = emodb
    (root / "wav" / "03a01Wa.wav").write_text("no sound")
    code, out, _ = ser(
        capsys, "extract", "--manifest", manifest, "--audio", "tiny", "--out", tmp_path / "f"
    )
    assert code == 1
    assert "69 utterances, 1 failed" in out
    assert "emodb/03a01Wa" in out


def test_leaks_are_reported_with_the_numbers(tmp_path, capsys, features):
    command = train(features, tmp_path / "runs", "--model", "audio")
    command[command.index("speaker")] = "cremad-original"
    code, table, _ = ser(capsys, *command)
    assert code == 0
    assert "4 speakers stand both" in table
    assert "may have seen it" in table


def test_list_shows_every_name(capsys):
    code, out, _ = ser(capsys, "list")
    assert code == 0
    for name in (*CLASS_SETS, *SCHEMES, *ENCODERS, *MODELS, "linear", "svm", "iemocap", "table"):
        assert name in out
    sets = [line for line in out.splitlines() if line.startswith("  iemocap4")]
    assert len({line.split(maxsplit=1)[1] for line in sets}) == len(sets) == 2  # told apart


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["manifest", "emo", "--root", ".", "--out", "m"], ["corpus 'emo'", "cremad", "table"]),
        (
            ["manifest", "emodb", "--root", ".", "--out", "m", "--votes", "voice"],
            ["--votes is not an option of emodb"],
        ),
        (["manifest", "emodb", "--root", "nowhere", "--out", "m"], ["nowhere"]),
        (["check", "nowhere.jsonl"], ["no manifest at nowhere.jsonl", "ser manifest"]),
        (["report", "nowhere"], ["nowhere", "ser train"]),
    ],
)
def test_what_is_not_there_is_named_with_the_remedy(tmp_path, capsys, monkeypatch, words, said):
    monkeypatch.chdir(tmp_path)
    message = refused(capsys, *words)
    assert all(part in message for part in said), message
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    ("old", "new", "said"),
    [
        ("common4", "emodb8", ["class set 'emodb8'", "common4", "comma list"]),
        ("common4", "joy,anger", ["['joy', 'anger']", "'mine'", "--labels"]),
        ("speaker", "moon", ["split 'moon'", "cremad-original", "file or folder"]),
        ("audio", "gpt", ["model 'gpt'", "cross_attention", "svm"]),
        ("audio", "cross_attention", ["needs text features", "ser extract --text", "concat"]),
        ("mine", "yours", ["yours", "ser extract"]),
    ],
)
def test_a_mistake_in_training_names_what_is_allowed(tmp_path, capsys, features, old, new, said):
    command = train(features, tmp_path / "runs", "--model", "audio")
    place = len(command) - 1 - command[::-1].index(features if old == "mine" else old)
    command[place] = features.parent / new if old == "mine" else new
    message = refused(capsys, *command)
    assert all(part in message for part in said), message
    assert not list(tmp_path.glob("runs/*/"))


def test_an_overlap_is_refused_until_it_is_allowed(tmp_path, capsys, features):
    command = train(features, tmp_path / "runs", "--model", "audio")
    command[command.index("speaker")] = "dialogue"
    assert "--allow speaker" in refused(capsys, *command)
    code, table, _ = ser(capsys, *command, "--allow", "speaker", "session", "--folds", "3")
    assert code == 0
    assert "4 speakers stand both" in table
    assert "4 sessions stand both" in table


@pytest.mark.parametrize(
    ("words", "said"),
    [
        ([], ["nothing to extract", "--audio", "--text"]),
        (["--audio", "ear"], ["encoder 'ear'", "whisper-tiny"]),
        (["--audio", "minilm"], ["audio encoder 'minilm'", "whisper-tiny"]),
        (["--text", "whisper-tiny"], ["text encoder 'whisper-tiny'", "minilm"]),
    ],
)
def test_what_cannot_be_extracted_is_refused(tmp_path, capsys, features, words, said):
    out = tmp_path / "out"
    manifest = features / "manifest.jsonl"
    message = refused(capsys, "extract", "--manifest", manifest, "--out", out, *words)
    assert all(part in message for part in said), message
    assert not out.exists()


def test_a_split_needs_the_class_set_of_its_corpus(tmp_path, capsys):
    make_cremad(tmp_path / "cremad")
    manifest = tmp_path / "m.jsonl"
    ser(capsys, "manifest", "cremad", "--root", tmp_path / "cremad", "--out", manifest)
    command = ["split", manifest, "--scheme", "speaker", "--out", tmp_path / "s.json", "--labels"]
    assert "cremad4, cremad6, common4" in refused(capsys, *command, "emodb7")
    assert "2 to 6" in refused(capsys, *command, "cremad6", "--folds", "9")
    assert not (tmp_path / "s.json").exists()


@pytest.mark.parametrize(
    ("setting", "said"),
    [
        ("--network.dropout 2", "dropout is a share from 0 to less than 1, not 2.0"),
        ("--schedule.epochs 0", "epochs is a whole number, 1 or more, not 0"),
        ("--schedule.learning-rate nan", "learning_rate is a finite number, 0 or more, not nan"),
    ],
)
def test_settings_without_sense_are_refused(setting, said, features, tmp_path, capsys):
    assert said in refused(capsys, *train(features, tmp_path / "runs"), *setting.split())
    assert not (tmp_path / "runs").exists()


@pytest.mark.parametrize("words", [["dance"], ["train"], ["manifest", "emodb"]])
def test_a_malformed_command_exits_with_two(words, capsys):
    with pytest.raises(SystemExit) as caught:
        main(words)
    assert caught.value.code == 2
    assert capsys.readouterr().err


def test_an_interrupted_command_says_that_it_can_be_resumed(
    tmp_path, capsys, features, monkeypatch
):
    def interrupt(*given, **how):
        raise KeyboardInterrupt

    monkeypatch.setattr("multimodal_ser.experiments.failures.make_run", interrupt)
    code, _, err = ser(capsys, *train(features, tmp_path / "runs", "--model", "audio"))
    assert code == 130
    assert "rerun the same command to resume" in err


def test_what_is_not_resumed_does_not_say_so(capsys, monkeypatch, tmp_path):
    def interrupt(*given, **how):
        raise KeyboardInterrupt

    monkeypatch.setattr("multimodal_ser.predict.load", interrupt)
    sound = write_sound(tmp_path / "a.wav")
    assert ser(capsys, "predict", sound)[::2] == (130, "stopped\n")
    assert ser(capsys, "export", sound, "--out", "m.onnx")[::2] == (130, "stopped\n")
    code, _, err = ser(capsys, "predict", sound, "--out", tmp_path / "a.csv")
    assert (code, "to resume" in err) == (130, True)


def test_the_first_half_second_is_stopped_without_a_traceback(capsys, monkeypatch):
    class Imported:
        def __getattr__(self, name):
            raise KeyboardInterrupt

    monkeypatch.setitem(sys.modules, "multimodal_ser.cli", Imported())
    assert start() == 130
    assert capsys.readouterr().err == "stopped\n"
    project = (Path(__file__).parents[1] / "pyproject.toml").read_text()
    assert f'ser = "{start.__module__}:{start.__name__}"' in project


HELP = """
import re, sys
from contextlib import redirect_stdout
from io import StringIO
from multimodal_ser.cli import main

def page(*command):
    with redirect_stdout(StringIO()) as shown:
        try:
            code = main([*command, "--help"])
        except SystemExit as stop:
            code = stop.code
    assert not code, command
    return shown.getvalue()

def commands(*above):
    found = re.match(r"usage: [\\w -]+\\[-h\\]\\s+\\{([\\w,\\s-]+)\\}", page(*above))
    for name in map(str.strip, found[1].split(",") if found else ()):
        print(*above, name)
        commands(*above, name)

commands()
heavy = {"torch", "transformers", "sklearn", "scipy", "matplotlib", "soundfile"} & set(sys.modules)
print("HEAVY", sorted(heavy))
"""


def test_help_of_every_command_imports_nothing_heavy():
    source = Path(__file__).parents[1] / "src"
    done = subprocess.run(
        [sys.executable, "-W", "error", "-c", HELP],
        env={**os.environ, "PYTHONPATH": str(source)},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert "HEAVY []" in done.stdout
    for name in ("manifest", "check", "split", "extract", "train", "report", "demo", "list"):
        assert f"\n{name}\n" in f"\n{done.stdout}"
    assert "\nexperiment fewshot\n" in done.stdout


def test_threads_of_torch_do_not_spin_for_long_on_busy_cores(monkeypatch):
    monkeypatch.delenv("GOMP_SPINCOUNT", raising=False)
    main(["--version"])
    assert os.environ.pop("GOMP_SPINCOUNT") == "10000"
    monkeypatch.setenv("GOMP_SPINCOUNT", "1")  # what the user has set is kept
    main(["--version"])
    assert os.environ["GOMP_SPINCOUNT"] == "1"


def test_the_version_is_the_packages_own(capsys):
    version = metadata.version("multimodal-ser")
    assert main(["--version"]) == 0
    assert capsys.readouterr().out == f"multimodal-ser {version}\n"
    assert multimodal_ser.__version__ == version
    done = subprocess.run(
        [sys.executable, "-m", "multimodal_ser", "--version"],
        capture_output=True,
        text=True,
        check=True,
    )
    assert version in done.stdout
    citation = (Path(__file__).parents[1] / "CITATION.cff").read_text()
    assert f"version: {version}\n" in citation
