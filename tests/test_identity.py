"""Identities follow the content: a changed input is a new result, anything else is not."""

import json
import os
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import soundfile

from multimodal_ser.config.settings import ModelConfig, TrainConfig
from multimodal_ser.corpora.utterance import Utterance, read_manifest, write_manifest
from multimodal_ser.errors import SerError
from multimodal_ser.experiments import protocols
from multimodal_ser.experiments.loading import load_domain
from multimodal_ser.experiments.running import make_experiment
from multimodal_ser.features import extract
from multimodal_ser.report import summarise
from multimodal_ser.splits import make_split
from multimodal_ser.splits.folds import write_split
from test_extract import FakeEncoder

CLASSES = ("anger", "sadness")


def recorded(root: Path, per_class: int = 3) -> list[Utterance]:
    """Recordings of four speakers whose loudness tells the class."""
    draw, rows = np.random.default_rng(0), []
    (root / "wav").mkdir(parents=True, exist_ok=True)
    for speaker in "pqrs":
        for loud, emotion in ((0.6, "anger"), (0.1, "sadness")):
            for take in range(per_class):
                path = root / "wav" / f"{speaker}_{emotion}_{take}.wav"
                noise = loud * draw.uniform(-1, 1, 1600)
                soundfile.write(path, noise, 16_000, subtype="PCM_16")
                key = f"my/{path.stem}"
                words = f"take {take}"
                rows.append(Utterance(key, "my", emotion, str(path), words, speaker=speaker))
    return rows


class Bench:
    """A corpus, and what `ser extract` and `ser train` do with it; counts what is made anew."""

    def __init__(self, root: Path):
        self.root = root
        self.rows = recorded(root)
        self.weights = "ab12"
        self.options = {"class_weights": True}
        self.split = "speaker"
        self.encoded = 0
        self.overwrite = False

    def run(self) -> set[str]:
        """The names of the runs that the same two commands leave in their table."""
        self.encoded = 0
        for modality in ("audio", "text"):
            encoder = FakeEncoder(modality=modality, weights=self.weights, name=f"my-{modality}")
            extract(self.rows, encoder, self.root / "features", tokens=1, overwrite=self.overwrite)
            self.encoded += sum(encoder.batches)
        domain = load_domain(self.root / "features" / "my", ",".join(CLASSES), self.split)
        schedule = TrainConfig(**self.options)
        experiment = protocols.InDomain(
            models=("linear",), seeds=1, network=ModelConfig(), schedule=schedule
        ).plan(*domain)
        make_experiment(experiment, self.root / "runs", jobs=1)
        return {path.parent.name for path in (self.root / "runs").glob("*/config.json")}

    def answers(self) -> list[str]:
        paths = sorted((self.root / "runs").glob("*/predictions.csv"))
        return [path.read_text() for path in paths]


def one_sample(bench):
    samples, rate = soundfile.read(bench.rows[4].audio, dtype="int16")
    samples[800] ^= 1
    soundfile.write(bench.rows[4].audio, samples, rate, subtype="PCM_16")


def one_label(bench):
    bench.rows[0] = replace(bench.rows[0], emotion="sadness")


def one_id(bench):
    bench.rows[0] = replace(bench.rows[0], id="my/another")
    bench.overwrite = True  # features of other ids are refused otherwise


def one_speaker(bench):
    bench.rows[0] = replace(bench.rows[0], speaker="q")


def one_word(bench):
    bench.rows[2] = replace(bench.rows[2], text="other words by far")


def a_stretch(bench):
    bench.rows[3] = replace(bench.rows[3], start=0.02)


def the_weights(bench):
    bench.weights = "cd34"
    bench.overwrite = True  # other weights are refused otherwise


def the_split(bench):
    write_split(make_split(bench.rows, "speaker", folds=2), bench.root / "split.json")
    bench.split = str(bench.root / "split.json")


def an_option(bench):
    bench.options["class_weights"] = False


@pytest.mark.parametrize(
    "change",
    [one_sample, one_label, one_id, one_speaker, one_word, a_stretch, the_weights, the_split,
     an_option],
)  # fmt: skip
def test_any_change_of_an_input_is_another_identity_and_a_new_result(tmp_path, change):
    bench = Bench(tmp_path)
    before = bench.run()
    times = {path: path.stat().st_mtime_ns for path in (tmp_path / "wav").iterdir()}
    change(bench)
    for path, time in times.items():  # a copy may keep the times of what it replaces
        os.utime(path, ns=(time, time))
    after = bench.run()
    assert not before & after or (change is an_option and before < after)
    assert len(after - before) == (2 if change is the_split else 4)
    if change in (one_sample, one_word, a_stretch, the_weights, one_id):
        assert bench.encoded


def nothing(bench):
    pass


def the_times(bench):
    for path in bench.root.rglob("*"):
        os.utime(path, (1, 1))


def the_order(bench):
    bench.rows = bench.rows[::-1]


def the_place(bench):
    for row in bench.rows:
        Path(row.audio).rename(bench.root / Path(row.audio).name)
    bench.rows = [replace(r, audio=str(bench.root / Path(r.audio).name)) for r in bench.rows]


def the_names_of_files(bench):
    for row in bench.rows:
        Path(row.audio).rename(f"{row.audio}.old")
    bench.rows = [replace(row, audio=f"{row.audio}.old") for row in bench.rows]


@pytest.mark.parametrize("change", [nothing, the_times, the_order, the_place, the_names_of_files])
def test_what_is_no_input_changes_nothing_and_nothing_is_made_again(tmp_path, change):
    bench = Bench(tmp_path)
    before, answers = bench.run(), bench.answers()
    files = sorted(path for name in before for path in (tmp_path / "runs" / name).iterdir())
    inodes = [path.stat().st_ino for path in files]
    change(bench)
    assert bench.run() == before
    assert bench.encoded == 0
    assert bench.answers() == answers
    assert [path.stat().st_ino for path in files] == inodes
    assert not (tmp_path / "runs" / "set-aside").exists()


def test_replaced_recordings_give_the_result_of_a_fresh_folder(tmp_path):
    bench = Bench(tmp_path / "a")
    bench.run()
    good = summarise(tmp_path / "a" / "runs").best.scores["UA"].mean
    draw = np.random.default_rng(1)
    fresh = Bench(tmp_path / "b")
    for row, other in zip(bench.rows, fresh.rows, strict=True):
        noise = 0.3 * draw.uniform(-1, 1, 1600)
        for one in (row, other):
            soundfile.write(one.audio, noise, 16_000, subtype="PCM_16")
    bench.run()
    fresh.run()
    assert bench.answers() == fresh.answers()
    assert summarise(tmp_path / "a" / "runs").best.scores["UA"].mean < good == 1.0


def test_corrected_labels_set_older_runs_aside_and_the_report_says_so(tmp_path, caplog):
    bench = Bench(tmp_path)
    old = bench.run()
    manifest = tmp_path / "features" / "my" / "manifest.jsonl"
    rows = read_manifest(manifest)
    write_manifest([replace(rows[0], emotion="sadness"), *rows[1:]], manifest)
    bench.rows = read_manifest(manifest)
    new = bench.run()
    aside = tmp_path / "runs" / "set-aside"
    assert {path.name for path in aside.iterdir()} == old
    assert "4 runs" in caplog.text
    assert "made with other labels" in caplog.text
    summary = summarise(tmp_path / "runs")
    assert any("4 runs" in line and "set-aside" in line for line in summary.cautions)
    assert len(summary.rows) == 1
    bench.rows = rows  # the correction is taken back: what was made comes back
    assert bench.run() == old
    assert {path.name for path in aside.iterdir()} == new


def test_a_run_that_differs_in_its_marks_alone_is_set_aside_too(tmp_path):
    bench = Bench(tmp_path)
    names = bench.run()
    folder = tmp_path / "runs" / min(names)
    config = json.loads((folder / "config.json").read_text())
    config["marks"] = ["worded as an earlier version did"]
    (folder / "config.json").write_text(json.dumps(config))
    folder.rename(folder.with_name("linear-of-an-earlier-version"))
    assert bench.run() == names
    aside = tmp_path / "runs" / "set-aside"
    assert [path.name for path in aside.iterdir()] == ["linear-of-an-earlier-version"]
    (aside / "linear-of-an-earlier-version").rename(tmp_path / "runs" / "linear-put-back")
    with pytest.raises(SerError, match=r"same model, fold and seed, made with other marks; run"):
        summarise(tmp_path / "runs")


def test_a_leak_found_later_stands_beside_every_result(tmp_path):
    rows, settings = recorded(tmp_path), {"network": ModelConfig(), "schedule": TrainConfig()}
    for models, session in ((("linear", "svm"), None), (("linear",), "together")):
        own = [replace(row, session=session) for row in rows]
        extract(own, FakeEncoder(name="my-audio"), tmp_path / "features", tokens=1)
        domain = load_domain(tmp_path / "features", "anger,sadness", "speaker", allow=["session"])
        plan = protocols.InDomain(models=models, seeds=1, **settings).plan(*domain)
        make_experiment(plan, tmp_path / "runs", jobs=1)
    found = summarise(tmp_path / "runs")
    (leak,) = [note for note in found.notes if note.leak]
    assert "session" in leak.text
    assert [row.model for row in found.rows if leak.letter not in row.notes] == []


def test_the_manifest_beside_features_notes_what_the_recordings_held(tmp_path):
    bench = Bench(tmp_path)
    bench.run()
    lines = (tmp_path / "features" / "my" / "manifest.jsonl").read_text().splitlines()
    assert len({json.loads(line)["content"] for line in lines}) == len(bench.rows)


def test_an_encoder_is_not_tuned_on_recordings_that_have_changed(tmp_path):
    from multimodal_ser.experiments.finetuned import load_clips

    bench = Bench(tmp_path)
    bench.run()
    material, _ = load_domain(tmp_path / "features" / "my", ",".join(CLASSES), "speaker")
    keys = [bench.rows[4].id, bench.rows[5].id]
    assert load_clips(material, keys).ids == tuple(keys)
    one_sample(bench)
    with pytest.raises(
        SerError, match=r"wav has changed since the features of my/p_sadness_1 were"
    ):
        load_clips(material, keys)
