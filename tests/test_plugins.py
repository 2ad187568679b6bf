"""One plug-in of each kind: a corpus, an encoder, a model, an adaptation, a score.

`PLUGIN` is what another package would hold; an installation's entry points name that module.
"""

import importlib
import re
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from made_corpora import write_sound
from made_features import made_folder, made_rows
from made_runs import write_experiment
from multimodal_ser.cli import main
from multimodal_ser.common import plugins
from multimodal_ser.corpora import CORPORA, Corpus, Utterance
from multimodal_ser.corpora.labels import class_set
from multimodal_ser.dataset.material import load_material
from multimodal_ser.encoders import ENCODERS
from multimodal_ser.errors import SerError
from multimodal_ser.evaluation.metrics import METRICS
from multimodal_ser.experiments.protocols import InDomain
from multimodal_ser.experiments.running import make_experiment
from multimodal_ser.features.store import FeatureStore
from multimodal_ser.models.adapters import ADAPTERS
from multimodal_ser.models.fusion import MODELS
from multimodal_ser.report import report
from multimodal_ser.splits import make_split

PLUGIN = '''
import numpy as np
from torch import nn

from multimodal_ser.models.adapters import ADAPTERS, Adapter
from multimodal_ser.corpora import CORPORA, Corpus, CorpusInfo, Utterance
from multimodal_ser.encoders import ENCODERS, EncoderInfo, EncoderSpec, Exposure
from multimodal_ser.models.layers import Output, masked_mean
from multimodal_ser.evaluation.metrics import METRICS
from multimodal_ser.models.fusion import MODELS


def read(root):
    found = []
    for path in sorted(root.glob("*.wav")):
        speaker, emotion, number = path.stem.split("_")
        found.append(Utterance(f"mine/{path.stem}", "mine", emotion, str(path), speaker=speaker))
    return Corpus(found, {})


CORPORA["mine"] = CorpusInfo("mine", "my own recordings", read, "mine alone", "", "", None)


class Loudness:
    info = EncoderInfo(
        "loudness", "audio", 2, 100.0, "0" * 64, "0", {"mine": Exposure("no", "it learns nothing")}
    )

    def __call__(self, items):
        return [self.frames(wave) for wave in items]

    def frames(self, wave):
        cut = wave[: len(wave) // 160 * 160].reshape(-1, 160)
        return np.stack([np.abs(cut).mean(1), cut.std(1)], 1).astype(np.float32)


ENCODERS["loudness"] = EncoderSpec(
    "audio", lambda source=None, device="cpu": Loudness(), about="how loud it is"
)


class Mean(nn.Module):
    """The mean of the sound, and a linear layer."""

    modalities = ("audio",)

    def __init__(self, dims, config):
        super().__init__()
        self.classify = nn.Linear(dims.audio, dims.classes)

    def forward(self, text, text_mask, audio, audio_mask):
        embedding = masked_mean(audio, audio_mask)
        return Output(self.classify(embedding), embedding)


MODELS["mean"] = Mean

class Means(Adapter):
    """Draws the means of the two corpora together."""

    aligns = True
    weight = 1.0

    def forward(self, source, target, progress):
        return (source.mean(0) - target.mean(0)).square().sum()


ADAPTERS["means"] = Means

def least(matrix):
    """The recall of the class that is recognised worst."""
    matrix = np.asarray(matrix, float)
    return (np.diagonal(matrix, axis1=-2, axis2=-1) / matrix.sum(-1)).min(-1)


METRICS["least recall"] = least
'''
ADDED = {
    "mine": CORPORA, "loudness": ENCODERS, "mean": MODELS, "means": ADAPTERS,
    "least recall": METRICS,
}  # fmt: skip
SHORT = ["--seeds", "1", "--jobs", "1", "--schedule.epochs", "1", "--schedule.least-steps", "1"]
SHORT += ["--schedule.batch-size", "8", "--network.members", "1"]


@pytest.fixture
def added():
    """What the module adds, for one test."""
    exec(PLUGIN, {})
    yield
    for name, registry in ADDED.items():
        del registry[name]


def folder_of_sounds(root, speakers):
    for speaker in speakers:
        for emotion in ("anger", "sadness"):
            for number in range(4):
                key = f"{speaker}_{emotion}_{number}"
                write_sound(root / f"{key}.wav", key, 0.2 + 0.05 * number)
    return root


def ser(*arguments):
    assert main([str(one) for one in arguments]) == 0


def test_one_of_each_works_through_the_command_line(added, tmp_path, capsys):
    for name, speakers in (("mine", "abcd"), ("other", "efgh")):
        sounds = folder_of_sounds(tmp_path / name, speakers)
        manifest = tmp_path / f"{name}.jsonl"
        ser("manifest", "mine", "--root", sounds, "--out", manifest)
        # other recordings of a kind are another corpus: a source and a target must differ
        manifest.write_text(manifest.read_text("utf-8").replace('"mine', f'"{name}'), "utf-8")
        ser("extract", "--manifest", manifest, "--out", tmp_path / f"{name}-features",
            "--audio", "loudness")  # fmt: skip
    first, second = (tmp_path / f"{name}-features" / name for name in ("mine", "other"))
    ser("train", "--features", first, "--labels", "anger,sadness", "--split", "speaker",
        "--out", tmp_path / "runs", "--model", "mean", "--baselines", "linear", *SHORT)  # fmt: skip
    capsys.readouterr()
    ser("report", tmp_path / "runs")
    table = capsys.readouterr().out
    head = table.splitlines()[2]
    assert "macro-F1  least recall" in head
    assert table.splitlines()[4].split()[0] in ("mean", "linear")
    assert "mean" in table
    assert "may have seen it" not in table
    assert "least recall" in (tmp_path / "runs" / "report" / "report.html").read_text("utf-8")
    ser("experiment", "adaptation", "--source", first, "--target", second, "--labels",
        "anger,sadness", "--out", tmp_path / "adapted", "--model", "mean",
        "--methods", "none", "means", *SHORT)  # fmt: skip
    assert "\nmeans " in capsys.readouterr().out
    weights = sorted(path.name for path in (tmp_path / "adapted").glob("mean-means-*"))
    assert len(weights) == 4


def test_features_of_an_encoder_with_changed_code_are_not_kept(
    added, tmp_path, monkeypatch, capsys, caplog
):
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.setattr(sys, "dont_write_bytecode", True)
    sounds, manifest = folder_of_sounds(tmp_path / "sounds", "abc"), tmp_path / "m.jsonl"
    ser("manifest", "mine", "--root", sounds, "--out", manifest)
    line = ["extract", "--manifest", str(manifest), "--out", str(tmp_path / "f")]
    line += ["--audio", "loudness"]
    codes = []
    for step in ("160", "160", "320"):
        (tmp_path / "my_loud.py").write_text(PLUGIN.replace("160", step))
        importlib.reload(importlib.import_module("my_loud"))
        codes.append(main(line))
    assert codes == [0, 0, 1]
    assert re.search(r"code is '\w+', asked for '\w+'.*--overwrite", capsys.readouterr().err)
    # nor does a run on the features of then predict with other code without a word
    runs, features = tmp_path / "runs", tmp_path / "f" / "mine"
    train = ["train", "--features", features, "--labels", "anger,sadness", "--folds", "3"]
    train += ["--model", "mean", "--baselines", "linear", "--out", runs]
    for step, said in (("160", 0), ("320", 2)):
        (tmp_path / "my_loud.py").write_text(PLUGIN.replace("160", step))
        importlib.reload(importlib.import_module("my_loud"))
        if not said:
            ser(*train, *SHORT)
        run = min(runs.glob("mean-*"))
        capsys.readouterr(), caplog.clear()
        ser("predict", sounds / "a_anger_0.wav", "--model", run, "--vad", "none")
        told = [one for one in caplog.messages if "made with other code of" in one]
        assert len(told) == said
    ser(*line, "--overwrite")


def test_small_and_large_values_of_an_encoder_of_ones_own_are_kept(
    added, tmp_path, monkeypatch, capsys
):
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.setattr(sys, "dont_write_bytecode", True)
    sounds, manifest = folder_of_sounds(tmp_path / "sounds", "ab"), tmp_path / "m.jsonl"
    ser("manifest", "mine", "--root", sounds, "--out", manifest)
    line = ["extract", "--manifest", str(manifest), "--out", str(tmp_path / "f"), "--overwrite"]
    line += ["--audio", "loudness"]
    source = PLUGIN.replace("np.abs(cut).mean(1), ", "np.square(cut).mean(1) * FACTOR, ")
    kept = {}
    for name, factor in {"small": 1e-5, "large": 1e7}.items():
        (tmp_path / f"my_{name}.py").write_text(source.replace("FACTOR", str(factor)))
        importlib.import_module(f"my_{name}")
        ser(*line)
        store = FeatureStore.open(tmp_path / "f" / "mine" / "loudness.safetensors")
        kept[name] = np.array([store[key].mean(0)[0] for key in store.ids])
    np.testing.assert_allclose(kept["small"] * 1e12, kept["large"], rtol=1e-5)
    # what no model can read is told, and a name that means something else is refused
    constant = source.replace("FACTOR", "1e-9").replace("cut.std(1)", "cut.std(1) * 1e-9")
    (tmp_path / "my_constant.py").write_text(constant)
    importlib.import_module("my_constant")
    assert main(line) == 1
    assert "2 of 2 features" in (said := capsys.readouterr().err)
    assert "are read as constants" in said
    monkeypatch.setitem(ENCODERS, "none", ENCODERS["loudness"])
    monkeypatch.setattr(
        sys.modules["my_constant"].Loudness,
        "info",
        replace(ENCODERS["loudness"].load(None, "cpu").info, name="none"),
    )
    assert main([*line[:-1], "none"]) == 1
    assert "no encoder can be called 'none'" in capsys.readouterr().err


def test_an_encoders_tensors_are_read_and_complex_numbers_refused(
    added, tmp_path, monkeypatch, capsys
):
    sounds, manifest = folder_of_sounds(tmp_path / "sounds", "ab"), tmp_path / "m.jsonl"
    ser("manifest", "mine", "--root", sounds, "--out", manifest)
    line = ["extract", "--manifest", str(manifest), "--audio", "loudness", "--out"]
    ser(*line, tmp_path / "f")
    wanted = FeatureStore.open(tmp_path / "f" / "mine" / "loudness.safetensors")
    loudness = ENCODERS["loudness"].load(None, "cpu")
    plain = loudness.frames
    tensors = {
        "bfloat16": lambda found: found.bfloat16().requires_grad_(),
        "float64": lambda found: found.double().requires_grad_(),
        "complex": lambda found: found + 1j,
    }
    for name, made in tensors.items():
        monkeypatch.setattr(
            type(loudness), "frames", lambda _, wave, made=made: made(torch.from_numpy(plain(wave)))
        )
        out = tmp_path / name
        assert main([*line, str(out)]) == (name == "complex")
        if name != "complex":
            store = FeatureStore.open(out / "mine" / "loudness.safetensors")
            for key in wanted.ids:
                np.testing.assert_allclose(store[key], wanted[key], rtol=0.01)
    assert "gave complex64; allowed: real numbers" in capsys.readouterr().err


@pytest.mark.parametrize(
    "score",
    [
        lambda matrix: 0.5,
        lambda matrix: None,
        lambda matrix: METRICS["UA"](matrix)[..., None],
        lambda matrix: 100 * METRICS["UA"](matrix),
    ],
)
def test_a_score_of_another_shape_or_scale_is_told_before_anything_is_trained(
    score, tmp_path, monkeypatch
):
    write_experiment(tmp_path / "runs", {"audio": (2.0, 1), "linear": (1.0, 1)})
    monkeypatch.setitem(METRICS, "odd", score)
    with pytest.raises(SerError, match=r"the score 'odd' gives .*; needed: an array \[2\]"):
        report(tmp_path / "runs")
    material = load_material(made_folder(tmp_path, made_rows(48)), class_set("common4"))
    plan = InDomain(models=("linear",)).plan(material, make_split(material.utterances, "speaker"))
    with pytest.raises(SerError, match="the score 'odd' gives"):
        make_experiment(plan, tmp_path / "new")
    assert not (tmp_path / "new").exists()


def test_a_score_for_one_class_set_is_tried_with_as_many_classes(tmp_path, monkeypatch):
    monkeypatch.setitem(METRICS, "fourth", lambda m: m[..., 3, 3] / m[..., 3, :].sum(-1))
    material = load_material(made_folder(tmp_path, made_rows(48)), class_set("common4"))
    plan = InDomain(models=("linear",)).plan(material, make_split(material.utterances, "speaker"))
    assert make_experiment(plan, tmp_path / "runs")
    write_experiment(tmp_path / "of_fewer", {"audio": (2.0, 1), "linear": (1.0, 1)})
    with pytest.raises(SerError, match=r"the score 'fourth' fails for counts .*IndexError"):
        report(tmp_path / "of_fewer")


def test_installed_packages_add_theirs_by_entry_points(tmp_path):
    (tmp_path / "my_plugin.py").write_text(PLUGIN)
    info = tmp_path / "my_plugin-1.0.dist-info"
    info.mkdir()
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: my-plugin\nVersion: 1.0\n")
    # the group as CONTRIBUTING.md gives it to authors of plug-ins
    page = (Path(__file__).parents[1] / "CONTRIBUTING.md").read_text("utf-8")
    (group,) = re.findall(r'entry-points\."([\w.]+)"', page)
    (info / "entry_points.txt").write_text(f"[{group}]\nmine = my_plugin\n")
    code = f"import sys; sys.path.insert(0, {str(tmp_path)!r}); import multimodal_ser.cli as c; "
    made = subprocess.run(
        [sys.executable, "-c", code + "c.main(['list'])"], capture_output=True, text=True
    )
    assert made.returncode == 0, made.stderr
    for name in ADDED:
        assert f"\n  {name:18} " in made.stdout
    assert "The mean of the sound, and a linear layer." in made.stdout


@pytest.mark.parametrize(
    ("fields", "told"),
    [
        (lambda path: {"id": "mine/x"}, "ids must be unique, but these occur twice: ['mine/x']"),
        (lambda path: {"speaker": 3}, 'speaker is 3; allowed: text, such as "3"'),
        (lambda path: {"speaker": "a "}, "speaker is 'a '; allowed: no space around it"),
        (lambda path: {"speaker": ""}, "speaker is empty; allowed: text, or null"),
        (lambda path: {"emotion": len(path.stem) % 2}, "allowed: text, such as"),
        (None, "the reader of mine gave a list, not a Corpus"),
    ],
)
def test_what_a_reader_gives_is_checked_before_it_is_written(
    added, fields, told, tmp_path, capsys, monkeypatch
):
    def read(root):
        found = []
        if fields is None:
            return found
        for path in sorted(root.glob("*.wav")):
            row = {"id": f"mine/{path.stem}", "corpus": "mine", "emotion": "anger"}
            found.append(Utterance(**row | {"audio": str(path)} | fields(path)))
        return Corpus(found)

    monkeypatch.setitem(CORPORA, "mine", replace(CORPORA["mine"], read=read))
    sounds, out = folder_of_sounds(tmp_path / "sounds", "a"), tmp_path / "m.jsonl"
    assert main(["manifest", "mine", "--root", str(sounds), "--out", str(out)]) == 1
    assert told in capsys.readouterr().err
    assert not out.exists()


def test_an_error_in_code_of_the_user_names_its_line(added, tmp_path, capsys, monkeypatch):
    file = tmp_path / "reader.py"
    file.write_text("def read(root):\n    return root / 0\n")
    scope = {}
    exec(compile(file.read_text(), str(file), "exec"), scope)
    monkeypatch.setitem(CORPORA, "mine", replace(CORPORA["mine"], read=scope["read"]))
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    assert main(["manifest", "mine", "--root", str(tmp_path), "--out", str(tmp_path / "m")]) == 2
    said = capsys.readouterr().err
    assert said.startswith(f"error: {file}, line 2, code of your own: TypeError: unsupported")
    assert "should not happen" not in said


def test_a_reader_of_ones_own_that_finds_nothing_writes_nothing(added, tmp_path, capsys):
    (tmp_path / "empty").mkdir()
    words = ["manifest", "mine", "--root", str(tmp_path / "empty"), "--out", str(tmp_path / "m")]
    assert main(words) == 1
    assert "no utterance was found (nothing was left out)" in capsys.readouterr().err
    assert not (tmp_path / "m").exists()


class Point:
    """An entry point that cannot be loaded."""

    value, dist = "nowhere", None

    def __init__(self, error):
        self.error = error

    def load(self):
        raise self.error


@pytest.mark.parametrize("error", [ImportError("no module named nowhere"), SystemExit(3)])
def test_a_broken_plugin_is_named(error, monkeypatch):
    monkeypatch.setattr(plugins, "entry_points", lambda group: (Point(error),))
    plugins.load_plugins.cache_clear()
    with pytest.raises(SerError, match=r"names nowhere as a plug-in, which cannot be imported"):
        plugins.load_plugins()
