"""What is loaded for an experiment, what is left out, and the notes beside every number."""

from collections import Counter

import numpy as np
import pytest

from made_features import FOUR, made_arrays, made_folder, made_rows, write_features
from multimodal_ser.config.settings import ModelConfig, TrainConfig
from multimodal_ser.corpora.labels import class_set
from multimodal_ser.dataset.material import load_material
from multimodal_ser.encoders.base import Exposure
from multimodal_ser.errors import FeatureError, LabelError
from multimodal_ser.experiments.plans import plan_runs
from multimodal_ser.experiments.running import run_all
from multimodal_ser.report import report
from multimodal_ser.splits import make_split

COMMON = class_set("common4")


def stored(tmp_path, rows, **header):
    """A folder of audio features with these fields in their header."""
    folder = made_folder(tmp_path, rows, ("audio",))
    path = folder / "made-audio.safetensors"
    write_features(path, made_arrays(rows, "audio"), "audio", **header)
    return folder


def test_examples_are_the_features_and_the_classes(tmp_path):
    rows = made_rows(24)
    material = load_material(made_folder(tmp_path, rows), COMMON)
    assert material.utterances == rows
    assert material.examples.ids == tuple(row.id for row in rows)
    assert [COMMON.classes[n] for n in material.examples.label] == [row.emotion for row in rows]
    for modality in ("audio", "text"):
        side = getattr(material.examples, modality)
        for place, array in enumerate(made_arrays(rows, modality).values()):
            assert side.mask[place].tolist() == [n < len(array) for n in range(4)]
            np.testing.assert_array_equal(side.tokens[place, : len(array)], array)
            np.testing.assert_allclose(side.pooled()[place], array.mean(0), rtol=1e-4, atol=1e-5)
        assert material.features[modality].encoder == f"made-{modality}"
    assert material.dropped == {}


def test_features_that_a_damaged_disk_made_infinite_are_no_diverged_training(tmp_path):
    file = made_folder(tmp_path, made_rows(24), ("audio",)) / "made-audio.safetensors"
    file.write_bytes(file.read_bytes()[:-4] + np.float32(np.nan).tobytes())
    with pytest.raises(FeatureError, match=r"features of 'mine/023' are not finite.*--overwrite"):
        load_material(file.parent, COMMON)


def test_features_that_a_copy_lost_are_no_silence(tmp_path):
    file = made_folder(tmp_path, made_rows(24), ("audio",)) / "made-audio.safetensors"
    whole = file.read_bytes()
    file.write_bytes(whole[: -len(whole) // 4] + bytes(len(whole) // 4))
    with pytest.raises(FeatureError, match=r"features of 'mine/0\d\d' are all zero.*copy it again"):
        load_material(file.parent, COMMON)


def test_emotions_outside_the_set_and_utterances_without_features_are_counted(tmp_path):
    rows = made_rows(30, words=(*FOUR, "boredom"))
    folder = made_folder(tmp_path, rows, ("audio",))
    arrays = made_arrays(rows, "audio")
    del arrays["mine/000"], arrays["mine/001"]
    write_features(folder / "made-audio.safetensors", arrays, "audio")
    material = load_material(folder, COMMON)
    assert material.dropped == {"emotion 'boredom' is not in common4": 6, "no features": 2}
    assert (
        "2 utterances have no features: they are neither learnt from nor tested" in material.marks
    )
    assert len(material.examples) == 22
    assert Counter(row.emotion for row in material.utterances).keys() == set(FOUR)


def test_a_missing_modality_is_masked_and_reported(tmp_path):
    rows = made_rows(24)
    material = load_material(made_folder(tmp_path, rows, lacking={"mine/003", "mine/007"}), COMMON)
    has_text = material.examples.text.mask.any(1)
    assert [n for n, has in enumerate(has_text) if not has] == [3, 7]
    assert not material.examples.text.tokens[[3, 7]].any()
    assert "2 of 24 utterances have no text" in material.marks


def test_a_modality_without_features_is_absent(tmp_path):
    material = load_material(made_folder(tmp_path, made_rows(24), ("audio",)), COMMON)
    assert material.features["text"] is None
    assert material.examples.text.dim == 0
    assert material.examples.text.tokens.shape == (24, 0, 0)


def test_several_feature_files_have_to_be_chosen_from(tmp_path):
    rows = made_rows(24)
    folder = made_folder(tmp_path, rows)
    write_features(folder / "other.safetensors", made_arrays(rows, "audio", seed=1), "audio")
    with pytest.raises(FeatureError, match=r"several audio.*--audio: made-audio, other, none"):
        load_material(folder, COMMON)
    with pytest.raises(FeatureError, match=r"no audio features 'nine'.*made-audio, other, none"):
        load_material(folder, COMMON, audio="nine")
    first, second = (load_material(folder, COMMON, audio=n) for n in ("made-audio", "other"))
    assert second.features["audio"].encoder == "other"
    assert not first.examples.audio.tokens.equal(second.examples.audio.tokens)
    assert load_material(folder, COMMON, audio="none").features["audio"] is None
    with pytest.raises(FeatureError, match="neither audio nor text"):
        load_material(folder, COMMON, audio="none", text="none")


def test_the_folder_of_all_features_is_enough_where_it_holds_one_corpus(tmp_path):
    made_folder(tmp_path, made_rows(24))
    assert len(load_material(tmp_path, COMMON).examples) == 24
    made_folder(tmp_path, made_rows(24, corpus="yours"))
    with pytest.raises(
        FeatureError, match=r"2 corpora \['mine', 'yours'\]; give the folder of one"
    ):
        load_material(tmp_path, COMMON)


@pytest.mark.parametrize(("folder", "says"), [(".", r"0 corpora \[\]"), ("nowhere", "no folder")])
def test_a_folder_without_features_is_an_error_with_its_remedy(tmp_path, folder, says):
    with pytest.raises(FeatureError, match=f"{says}.*ser extract"):
        load_material(tmp_path / folder, COMMON)


def test_a_class_set_that_does_not_cover_is_an_error_with_both_orders(tmp_path):
    folder = made_folder(tmp_path, made_rows(24, words=FOUR[:3]))
    with pytest.raises(LabelError) as caught:
        load_material(folder, COMMON)
    assert "['anger', 'happiness', 'neutral', 'sadness']" in str(caught.value)
    assert "['anger', 'happiness', 'neutral']" in str(caught.value)
    assert load_material(folder, class_set(",".join(FOUR[:3]))).labels.classes == FOUR[:3]


def test_one_class_alone_is_nothing_to_learn_or_to_test(tmp_path):
    folder = made_folder(tmp_path, made_rows(24, words=FOUR[:1]))
    with pytest.raises(LabelError, match=r"24 utterances of \['anger'\] are too few"):
        load_material(folder, COMMON, complete=False)


@pytest.mark.parametrize(
    ("saw", "words"),
    [
        ("labels", "mine: made-audio saw it with emotion labels: not a clean test (a paper)"),
        ("unlabelled", "mine: made-audio saw it without labels (a paper)"),
        ("unknown", "mine: made-audio may have seen it (unknown) (a paper)"),
        (None, "mine: made-audio may have seen it (unknown) (nothing is declared)"),
        ("no", None),
    ],
)
def test_contamination_of_the_encoder_is_reported(tmp_path, saw, words):
    exposure = {"mine": Exposure(saw, "a paper")} if saw else {"yours": Exposure("no", "a paper")}
    folder = stored(tmp_path, made_rows(24), exposure=exposure)
    assert load_material(folder, COMMON).marks == ((words,) if words else ())


def test_contamination_is_in_every_format_of_an_experiment(tmp_path):
    saw = {"mine": Exposure("labels", "a paper")}
    folder = stored(tmp_path, made_rows(48, speakers=4), exposure=saw)
    material = load_material(folder, COMMON)
    split = make_split(material.utterances, "speaker")
    plans = plan_runs(material, split, ["linear"], 1, ModelConfig(), TrainConfig())
    run_all(plans, material, tmp_path / "runs", jobs=1)
    written = report(tmp_path / "runs").parent
    for name in ("table.txt", "table.csv", "table.tex", "report.html"):
        words = " ".join((written / name).read_text(encoding="utf-8").split())
        assert "made-audio saw it with emotion labels: not a clean test (a paper)" in words, name


@pytest.mark.parametrize(
    ("extra", "words"),
    [
        ({"audio": "rebuilt"}, "rebuilt from spectrograms"),
        ({"label": "voice votes"}, "listeners' votes on the voice"),
        ({"label": "predicted"}, "a model's predictions, not annotations"),
        ({"audio": "own", "label": "intended"}, None),
    ],
)
def test_rebuilt_sound_and_voted_labels_are_said(tmp_path, extra, words):
    clean = {"mine": Exposure("no", "a paper")}
    folder = stored(tmp_path, made_rows(24, **extra), exposure=clean)
    marks = load_material(folder, COMMON).marks
    assert len(marks) == (words is not None)
    assert all(words in mark for mark in marks)


def test_the_hashes_of_recordings_are_kept(tmp_path):
    rows = made_rows(24)
    folder = made_folder(tmp_path, rows)
    path, hashes = folder / "made-audio.safetensors", {"mine/000": "aa", "mine/001": "bb"}
    write_features(path, made_arrays(rows, "audio"), "audio", audio_hashes=hashes)
    assert load_material(folder, COMMON).hashes == hashes
