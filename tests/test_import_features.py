"""Features of a user's own and the original's pickles: matched, checked, or refused."""

import csv
import pickle
import re
import sys
import unicodedata
from collections import OrderedDict
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from multimodal_ser.corpora.utterance import Utterance
from multimodal_ser.errors import FeatureError, SerError
from multimodal_ser.features import FeatureStore, import_features
from multimodal_ser.features.rows import read_feature_rows, read_ids

MELD = Path(__file__).parents[2] / "shared" / "data" / "meld"
WORDS = ["ang", "hap", "neu", "sad", "exc", "ang"]
UTTERANCES = [Utterance(f"iemocap/u{n}", "iemocap", word) for n, word in enumerate(WORDS)]
IDS = [row.id for row in UTTERANCES]
VECTORS = np.random.default_rng(0).normal(size=(6, 5)).astype("f4")


def imported(tmp_path, source, modality="audio", **options):
    out = tmp_path / "out"
    options = {"dtype": "float32", "overwrite": True, **options}
    result = import_features(source, UTTERANCES, out, "mine", modality, **options)
    return result, FeatureStore.open(result.path)


def of_archive(tmp_path, audio, **arrays):
    """Imports an archive with ids beside the features."""
    np.savez(tmp_path / "x.npz", **{"id": np.array(IDS), "audio": audio, **arrays})
    return imported(tmp_path, tmp_path / "x.npz")


def check_vectors(store, ids=IDS, vectors=VECTORS):
    assert list(store.ids) == list(ids)
    for key, vector in zip(ids, vectors, strict=True):
        np.testing.assert_array_equal(store[key], np.atleast_2d(vector))


def test_npy_with_a_list_of_ids(tmp_path):
    np.save(tmp_path / "a.npy", VECTORS[::-1])
    (tmp_path / "a.txt").write_text("\n".join(key.removeprefix("iemocap/") for key in IDS[::-1]))
    result, store = imported(
        tmp_path, tmp_path / "a.npy", ids=tmp_path / "a.txt", trained_on=["iemocap=labels"]
    )
    check_vectors(store)
    assert (result.done, result.missing, result.unknown) == (6, [], [])
    assert store.header.exposure["iemocap"].saw == "labels"
    assert (store.header.encoder, store.header.tokens, store.header.dim) == ("mine", 1, 5)
    assert store.header.weights == ""
    (tmp_path / "a.json").write_text(str(IDS[::-1]).replace("'", '"'))
    check_vectors(imported(tmp_path, tmp_path / "a.npy", ids=tmp_path / "a.json")[1])


def test_npz_with_ids_inside_and_several_arrays(tmp_path):
    source = tmp_path / "a.npz"
    np.savez(source, ids=np.array([*IDS[1:], "iemocap/other"]), good=VECTORS, bad=VECTORS[:, :2])
    with pytest.raises(FeatureError, match=r"good, bad.*--key"):
        imported(tmp_path, source)
    result, store = imported(tmp_path, source, key="good")
    check_vectors(store, IDS[1:], VECTORS[:-1])
    assert (result.missing, result.unknown) == ([IDS[0]], ["iemocap/other"])
    assert "a.npz" in store.header.failures[IDS[0]]
    assert store.header.layers == "good"


def test_matrices_are_kept_or_brought_down_to_tokens(tmp_path):
    frames = np.random.default_rng(0).normal(size=(6, 8, 5)).astype("f4")
    np.save(tmp_path / "a.npy", frames)
    check_vectors(imported(tmp_path, tmp_path / "a.npy", rows="manifest")[1], IDS, frames)
    _, store = imported(tmp_path, tmp_path / "a.npy", rows="manifest", tokens=1)
    np.testing.assert_allclose(store[IDS[0]][0], frames[0].mean(0), atol=1e-6)


def test_rows_by_the_manifest_need_equal_counts(tmp_path):
    np.save(tmp_path / "a.npy", VECTORS)
    check_vectors(imported(tmp_path, tmp_path / "a.npy", rows="manifest")[1])
    np.save(tmp_path / "a.npy", VECTORS[:5])
    with pytest.raises(FeatureError, match="has 5 rows, but the manifest has 6"):
        imported(tmp_path, tmp_path / "a.npy", rows="manifest")
    with pytest.raises(FeatureError, match=r"--ids.*--rows manifest"):
        imported(tmp_path, tmp_path / "a.npy")


def test_parquet_with_lists_matrices_and_numeric_columns(tmp_path):
    pyarrow = pytest.importorskip("pyarrow")
    pytest.importorskip("pyarrow.parquet")

    source = tmp_path / "a.parquet"
    pyarrow.parquet.write_table(
        pyarrow.table({"id": IDS, "label": [9] * 6, "vector": VECTORS.tolist()}), source
    )
    check_vectors(imported(tmp_path, source)[1])
    columns = {f"f{n}": VECTORS[:, n] for n in range(5)}
    table = pyarrow.table({"number": list(range(6)), "label": [9] * 6, **columns})
    pyarrow.parquet.write_table(table, source)
    check_vectors(imported(tmp_path, source, id_format="u{number}")[1])
    matrices = [[row.tolist()] * 2 for row in VECTORS]
    pyarrow.parquet.write_table(pyarrow.table({"id": IDS, "m": matrices}), source)
    assert imported(tmp_path, source)[1][IDS[0]].shape == (2, 5)
    source.write_bytes(b"PAR1 no")
    with pytest.raises(FeatureError, match="parquet"):
        imported(tmp_path, source)


@pytest.mark.parametrize("separator", [",", ";"])
def test_a_table_of_features_keeps_numbers_for_the_emotion_out(tmp_path, separator, caplog):
    names = ["", "id", "f0", "f1", "Emotion_ID", "label", "Speaker", "file", "text_1"]
    lines = [[n, key, n + 0.5, -n, n, 3, 4, f"{key}.wav", 7] for n, key in enumerate(IDS)]
    rows = [separator.join(map(str, line)) for line in [names, *lines]]
    source = tmp_path / "a.csv"
    source.write_text("\n".join(rows).replace(".5", ",5" if separator == ";" else ".5"))
    found = read_feature_rows(source, "audio")
    assert list(found.ids) == [f"{key}" for key in IDS]
    assert found.values.tolist() == [[n + 0.5, -n, 7] for n in range(len(IDS))]
    assert "3 columns are features: f0, f1, text_1; not as features: Emotion_ID" in caplog.text
    pyarrow = pytest.importorskip("pyarrow")
    pytest.importorskip("pyarrow.parquet")
    table = {"id": IDS, "f0": [0.5] * len(IDS), "speaker_id": range(len(IDS))}
    pyarrow.parquet.write_table(pyarrow.table(table), tmp_path / "a.parquet")
    assert read_feature_rows(tmp_path / "a.parquet", "audio").values.shape == (len(IDS), 1)


@pytest.mark.parametrize("name", ["ID", "Utt ID", "segment_id", "File_Name", "wav", "filepath"])
def test_the_column_that_names_the_rows_in_its_usual_spellings(tmp_path, name):
    shown = "C:\\data\\{}.WAV" if name[0] in "FfWw" else "{}"
    lines = [f"{name},f0", *(f"{shown.format(n)},{n}.5" for n in range(6))]
    source = tmp_path / "a.csv"
    source.write_text("\n".join(lines))
    rows = [
        replace(row, id=f"iemocap/{n}", audio=f"/x/{n}.wav") for n, row in enumerate(UTTERANCES)
    ]
    result = import_features(source, rows, tmp_path / "features", "own", "audio")
    store = FeatureStore.open(result.path)
    assert [store[row.id].item() for row in rows] == [n + 0.5 for n in range(6)]
    assert read_ids(source) == [shown.format(n) for n in range(6)]


def test_parquet_without_pyarrow_names_the_extra(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "pyarrow", None)
    (tmp_path / "a.parquet").write_bytes(b"PAR1")
    with pytest.raises(FeatureError, match=r"pip install .*\[parquet\]"):
        imported(tmp_path, tmp_path / "a.parquet")


def test_ids_of_a_table_are_made_by_a_template(tmp_path):
    path = tmp_path / "rows.csv"
    path.write_text("Dialogue_ID,Utterance_ID,x\n3,1,a\n3,2,b\n")
    assert read_ids(path, "dia{Dialogue_ID}_utt{Utterance_ID}") == ["dia3_utt1", "dia3_utt2"]
    with pytest.raises(FeatureError, match="Dialogue_ID, Utterance_ID, x"):
        read_ids(path, "{Dialog}")
    with pytest.raises(FeatureError, match="--id-format"):
        read_ids(path)


def test_what_cannot_be_matched_is_refused(tmp_path):
    np.savez(tmp_path / "a.npz", ids=np.array(["x"] * 6), v=VECTORS)
    with pytest.raises(FeatureError, match="repeat"):
        imported(tmp_path, tmp_path / "a.npz")
    np.savez(tmp_path / "a.npz", ids=np.array(list("abcdef")), v=VECTORS)
    with pytest.raises(FeatureError, match=r"none of its 6 ids.*'a'.*iemocap/u0"):
        imported(tmp_path, tmp_path / "a.npz")
    np.savez(tmp_path / "a.npz", ids=np.array(IDS[:3]), v=VECTORS)
    with pytest.raises(FeatureError, match=r"6 rows.*3"):
        imported(tmp_path, tmp_path / "a.npz")


@pytest.mark.parametrize("value", [np.array(["a"] * 6), np.ones(6), np.float32(1), np.ones((6, 0))])
def test_values_that_are_no_rows_of_numbers_are_refused(tmp_path, value):
    np.save(tmp_path / "a.npy", value)
    with pytest.raises(FeatureError, match=r"a\.npy"):
        imported(tmp_path, tmp_path / "a.npy", rows="manifest")


def test_odd_arguments_are_refused(tmp_path):
    np.save(tmp_path / "a.npy", VECTORS)
    source, good = tmp_path / "a.npy", {"rows": "manifest"}
    for says, options in [
        ("--trained-on", {"trained_on": ["iemocap"], **good}),
        ("--trained-on", {"trained_on": ["iemocap=maybe"], **good}),
        ("unknown rows", {"rows": "order"}),
        ("unknown modality", {"modality": "video", **good}),
        ("tokens=0", {"tokens": 0, **good}),
    ]:
        with pytest.raises(FeatureError, match=says):
            imported(tmp_path, source, **options)
    imported(tmp_path, source, **good)
    with pytest.raises(FeatureError, match=r"exists.*--overwrite"):
        imported(tmp_path, source, overwrite=False, **good)
    for name, says in [("b.npy", "no file"), ("a.txt", "ending")]:
        (tmp_path / "a.txt").touch()
        with pytest.raises(FeatureError, match=says):
            imported(tmp_path, tmp_path / name, **good)


@pytest.mark.skipif(not MELD.exists(), reason="development data (shared/data/meld) is not here")
def test_meld_dev_features_by_its_own_table(tmp_path):
    with (MELD / "dev_features.csv").open(encoding="utf-8") as file:
        keys = [
            f"meld/dev/dia{r['Dialogue_ID']}_utt{r['Utterance_ID']}" for r in csv.DictReader(file)
        ]
    rows = [Utterance(key, "meld", "joy") for key in sorted(keys)]
    result = import_features(
        MELD / "dev_features.npz", rows, tmp_path, "roberta", "text", key="text_roberta_base",
        ids=MELD / "dev_features.csv", id_format="meld/dev/dia{Dialogue_ID}_utt{Utterance_ID}",
    )  # fmt: skip
    assert (result.done, result.missing, result.unknown) == (1108, [], [])
    with np.load(MELD / "dev_features.npz") as theirs:
        array = theirs["text_roberta_base"]
    store = FeatureStore.open(result.path)
    np.testing.assert_array_equal(store[keys[17]][0], array[17].astype("f4"))


def original_rows(labels=(0, 1, 2, 3, 1, 0)):
    """As the original's scripts write them: tensors that are views of larger storages."""
    whole = torch.from_numpy(np.stack([VECTORS, VECTORS * 2]))
    return [
        {
            "text_embed": whole[1, n],
            "audio_embed": torch.from_numpy(VECTORS[n]).float(),
            "label": torch.tensor(np.int64(label)),
        }
        for n, label in enumerate(labels)
    ]


def test_a_folder_with_a_file_for_each_utterance(tmp_path):
    rows = [
        replace(row, audio=str(tmp_path / "wav" / f"{n}.wav"))
        for n, row in enumerate([Utterance(f"made/u{n}", "made", "anger") for n in range(4)])
    ]
    (tmp_path / "given" / "part").mkdir(parents=True)
    arrays = {f"part/{n}": np.full((2 + n, 3), n, "f4") for n in range(3)}
    for name, array in arrays.items():
        in_a_batch = name == "part/1"
        np.save(tmp_path / "given" / f"{name}.npy", array[None] if in_a_batch else array)
    found = import_features(tmp_path / "given", rows, tmp_path / "f", "mine", "audio")
    assert (found.done, found.missing) == (3, [rows[3].id])
    store = FeatureStore.open(found.path)
    assert all((store[rows[n].id] == n).all() and len(store[rows[n].id]) == 2 + n for n in range(3))
    (tmp_path / "empty").mkdir()
    with pytest.raises(FeatureError, match=r"holds no \.npy"):
        import_features(tmp_path / "empty", rows, tmp_path / "f", "other", "audio")


def test_options_that_mean_nothing_for_a_file_are_refused(tmp_path):
    """--key of a table with a column for each feature once took all of its columns."""
    np.save(tmp_path / "a.npy", VECTORS)
    np.savez(tmp_path / "a.npz", ids=np.array(IDS), good=VECTORS)
    lines = ["id,aa,bb", *(f"{key},1.5,{n}" for n, key in enumerate(IDS))]
    (tmp_path / "a.csv").write_text("\n".join(lines))
    (tmp_path / "ids.txt").write_text("\n".join(IDS))
    (tmp_path / "each").mkdir()
    np.save(tmp_path / "each" / "x.npy", VECTORS[0])
    for name, given, said in (
        ("a.csv", {"key": "aa"}, r"a\.csv: --key aa means nothing.*\.npz, \.parquet.*leave it out"),
        ("a.npy", {"key": "aa", "ids": tmp_path / "ids.txt"}, r"a\.npy: --key aa means nothing"),
        ("each", {"key": "aa"}, r"x\.npy: --key aa means nothing"),
        ("a.npz", {"id_format": "u{n}"}, r"a\.npz: --id-format u\{n\} means nothing"),
        (
            "a.npy",
            {"id_format": "u{n}", "ids": tmp_path / "ids.txt"},
            r"ids\.txt: --id-format u\{n\} means nothing",
        ),
    ):
        with pytest.raises(FeatureError, match=said):
            imported(tmp_path, tmp_path / name, **given)


@pytest.mark.parametrize("protocol", range(6))
def test_the_originals_layout_in_every_protocol(tmp_path, protocol):
    source = tmp_path / "IEMOCAP_BERT_emotion2vec_train.pkl"
    source.write_bytes(pickle.dumps(original_rows(), protocol))
    check_vectors(imported(tmp_path, source, rows="manifest")[1])
    check_vectors(imported(tmp_path, source, "text", rows="manifest")[1], IDS, VECTORS * 2)
    with pytest.raises(FeatureError, match=r"audio_embed.*--key|text_embed, audio_embed.*--key"):
        imported(tmp_path, source, key="ecapa", rows="manifest")
    with pytest.raises(FeatureError, match="--rows manifest"):
        imported(tmp_path, source)


def test_integer_labels_are_checked_only_in_the_order_given(tmp_path):
    source = tmp_path / "train.pkl"
    order = ["anger", "happiness", "neutral", "sadness"]
    source.write_bytes(pickle.dumps(original_rows()))
    check_vectors(imported(tmp_path, source, rows="manifest", labels=order)[1])
    swapped = original_rows((0, 1, 3, 2, 1, 0))  # the original's IEMOCAP script: sadness 2
    source.write_bytes(pickle.dumps(swapped))
    imported(tmp_path, source, rows="manifest")
    with pytest.raises(FeatureError, match=r"row 2 has label 3, which is 'sadness'.*'neu'"):
        imported(tmp_path, source, rows="manifest", labels=order)
    swapped_order = ["anger", "happiness", "sadness", "neutral"]
    imported(tmp_path, source, rows="manifest", labels=swapped_order)
    source.write_bytes(pickle.dumps(original_rows((0, 1, 2, 7, 1, 0))))
    with pytest.raises(FeatureError, match="no class"):
        imported(tmp_path, source, rows="manifest", labels=order)


@pytest.mark.parametrize(
    "content",
    [
        {"id": IDS, "audio_embed": VECTORS, "label": np.arange(6)},
        {"ids": np.array(IDS), "audio_embed": torch.from_numpy(VECTORS)},
        dict(zip(IDS, VECTORS, strict=True)),
        OrderedDict(zip(IDS, map(torch.from_numpy, VECTORS), strict=True)),
        [
            {"id": key, "audio_features": row.tolist()}
            for key, row in zip(IDS, VECTORS, strict=True)
        ],
        {"id": np.array(IDS, dtype=object), "audio": np.array([*VECTORS, None], dtype=object)[:6]},
    ],
)
@pytest.mark.parametrize("protocol", [2, 4, 5])
def test_other_layouts_with_ids(tmp_path, content, protocol):
    source = tmp_path / "a.pkl"
    source.write_bytes(pickle.dumps(content, protocol))
    check_vectors(imported(tmp_path, source)[1])


@pytest.mark.parametrize("as_zip", [True, False])
def test_files_of_torch_save(tmp_path, as_zip):
    source = tmp_path / "a.pt"
    torch.save(original_rows(), source, _use_new_zipfile_serialization=as_zip)
    check_vectors(imported(tmp_path, source, rows="manifest")[1])


@pytest.mark.parametrize("encoding", ["utf-8", "utf-16"])
def test_ids_in_any_table(tmp_path, encoding):
    """Semicolons, quoted line breaks and odd line separators within a cell move no row."""
    lines = ["name;words", *(f'{key};"one\nand \u2028 two"' for key in IDS)]
    (tmp_path / "ids.csv").write_text("\n".join(lines), encoding=encoding)
    assert read_ids(tmp_path / "ids.csv", "{name}") == list(IDS)


def test_small_differences_beside_large_or_tiny_values_are_kept(tmp_path):
    file = tmp_path / "x.npz"
    for scale, offset in ((1e-7, 0.0), (1.0, 5e4), (1e6, 0.0)):
        values = np.arange(12.0).reshape(6, 2) * scale + offset
        np.savez(file, audio=values, id=np.array(IDS))
        made = import_features(file, UTTERANCES, tmp_path, "x", "audio", overwrite=True)
        store = FeatureStore.open(made.path)
        np.testing.assert_allclose([store[row.id][0] for row in UTTERANCES], values, rtol=1e-6)


def test_an_empty_cell_is_no_reason_to_lose_a_feature(tmp_path):
    for empty in ("", "NaN", "NA"):
        lines = [f"{key},{n},{'' if n else empty},note" for n, key in enumerate(IDS)]
        table = "id,loudness,never,said\n" + "\n".join(lines)
        (tmp_path / "x.csv").write_text(table)
        assert imported(tmp_path, tmp_path / "x.csv")[1].header.dim == 1
        lines = [f"{key},{n},{n + 1 if n else empty}" for n, key in enumerate(IDS)]
        (tmp_path / "x.csv").write_text("id,loudness,pitch\n" + "\n".join(lines))
        with pytest.raises(FeatureError, match=r"iemocap/u0: 'mine' gave NaN"):
            imported(tmp_path, tmp_path / "x.csv")


def test_an_archive_with_an_array_for_each_utterance(tmp_path):
    arrays = {key: np.full((1 + n, 5), n, "f4") for n, key in enumerate(IDS)}
    np.savez(tmp_path / "x.npz", **arrays)
    store = imported(tmp_path, tmp_path / "x.npz")[1]
    assert [store[key].shape for key in IDS] == [(1 + n, 5) for n in range(6)]


def test_ids_as_bytes_are_text(tmp_path):
    check_vectors(of_archive(tmp_path, VECTORS, id=np.array(IDS).astype("S"))[1])
    ids = [key.encode() for key in IDS[:-1]] + ["Zoë".encode("latin1")]
    assert of_archive(tmp_path, VECTORS, id=np.array(ids))[0].missing == IDS[-1:]


def test_the_only_text_of_an_archive_names_its_rows(tmp_path):
    words = np.array(WORDS)  # not different for each row
    np.savez(tmp_path / "x.npz", X=VECTORS, utterances=np.array(IDS), y=words)
    check_vectors(imported(tmp_path, tmp_path / "x.npz")[1])
    np.savez(
        tmp_path / "x.npz", X=VECTORS, utterances=np.array(IDS), speakers=np.array([*"abcdef"])
    )
    with pytest.raises(FeatureError, match=r"has no ids; give .*--ids, the column .*--id-format"):
        imported(tmp_path, tmp_path / "x.npz")
    np.savez(tmp_path / "x.npz", X=VECTORS, id=np.array(IDS, object))
    with pytest.raises(FeatureError, match=r"no objects: .* ids as numpy.array\(ids, str\)"):
        imported(tmp_path, tmp_path / "x.npz")


def test_texts_of_another_number_than_the_rows_are_not_taken_for_ids(tmp_path):
    classes = np.array(sorted({*WORDS}))
    np.savez(tmp_path / "x.npz", X=VECTORS, utterances=np.array(IDS), classes=classes)
    check_vectors(imported(tmp_path, tmp_path / "x.npz")[1])
    each = dict(zip(IDS, VECTORS, strict=True))  # an array for each utterance
    np.savez(tmp_path / "x.npz", **each, classes=classes)
    check_vectors(imported(tmp_path, tmp_path / "x.npz")[1])


def test_names_of_files_are_ids_where_the_manifest_names_no_recordings(tmp_path):
    names = [f"{key.removeprefix('iemocap/')}.wav" for key in IDS]
    np.savez(tmp_path / "x.npz", X=VECTORS, id=np.array(names))
    check_vectors(imported(tmp_path, tmp_path / "x.npz")[1])
    # a recording of that name is meant before an id that is like it
    rows = [replace(row, audio=f"/here/{names[n - 1]}") for n, row in enumerate(UTTERANCES)]
    made = import_features(tmp_path / "x.npz", rows, tmp_path / "out", "other", "audio")
    check_vectors(FeatureStore.open(made.path), vectors=np.roll(VECTORS, 1, 0))


def test_numbers_that_are_not_real_are_told(tmp_path):
    np.savez(tmp_path / "x.npz", audio=np.ones((6, 2), complex), id=np.array(IDS))
    with pytest.raises(FeatureError, match=r"x.npz: has no array \[rows, dim\] of real"):
        import_features(tmp_path / "x.npz", UTTERANCES, tmp_path, "x", "audio")


def test_rows_named_by_their_recordings_are_matched(tmp_path, caplog):
    rows = [replace(row, audio=f"/here/{row.id[-2:]}.wav") for row in UTTERANCES]
    order = [3, 0, 5, 1, 4, 2]
    header = "file,start,end,gender,loudness,jitter\n"
    for name in ("C:\\there\\u{}.wav", "/there/u{}.wav", "u{}"):
        cells = [f"{name.format(n)},0 days,0 days 00:00:01,1,{n},{-n}" for n in order]
        (tmp_path / "x.csv").write_text(header + "\n".join(cells))
        made = import_features(tmp_path / "x.csv", rows, tmp_path, "x", "audio", overwrite=True)
        store = FeatureStore.open(made.path)
        assert [store[row.id].tolist() for row in rows] == [[[n, -n]] for n in range(6)]
    assert "2 columns are features: loudness, jitter; not as features: start, end, gender" in (
        caplog.text
    )
    # two segments of one recording, and a row whose name only begins alike, are nobody's
    segments = [replace(row, audio="/here/u0.wav") for row in rows]
    for chosen, name in ((segments, "u{}"), (rows, "u{}.2")):
        cells = [f"{name.format(n)},0 days,0 days 00:00:01,1,{n},{-n}" for n in order]
        (tmp_path / "x.csv").write_text(header + "\n".join(cells))
        chosen = [replace(row, id=row.id.replace("/u", "/x")) for row in chosen]
        with pytest.raises(FeatureError, match="none of its 6 ids"):
            import_features(tmp_path / "x.csv", chosen, tmp_path, "y", "audio")


def test_folders_tell_files_of_one_name_apart(tmp_path):
    """As in SAVEE, where every speaker's folder has an a01.wav."""
    rows = [
        replace(row, audio=f"/here/{folder}/a{n // 2}.wav")
        for n, (row, folder) in enumerate(zip(UTTERANCES, ["DC", "JE"] * 3, strict=True))
    ]
    paths = [row.audio.replace("/here", "C:/there/data").replace("/", "\\") for row in rows]
    foreign = "C:\\there\\data\\KL\\a0.wav"  # of a speaker that the manifest lacks
    table = zip([foreign, *reversed(paths)], [np.zeros(5), *reversed(VECTORS)], strict=True)
    lines = [",".join([path, *map(repr, vector.tolist())]) for path, vector in table]
    (tmp_path / "x.csv").write_text("\n".join(["file,a,b,c,d,e", *lines]))
    for chosen in (rows, rows[::2]):  # and with only one a0.wav in the manifest
        made = import_features(tmp_path / "x.csv", chosen, tmp_path, "x", "audio", overwrite=True)
        store = FeatureStore.open(made.path)
        wanted = [VECTORS[rows.index(row)] for row in chosen]
        check_vectors(store, [row.id for row in chosen], np.array(wanted))
        assert foreign in made.unknown


def test_padding_of_arrays_of_one_length_is_left_out(tmp_path, caplog):
    lengths = [3, 1, 4, 4, 2, 1]
    padded = np.zeros((6, 4, 5), "f4")
    for row, (length, vector) in enumerate(zip(lengths, VECTORS, strict=True)):
        padded[row, :length] = vector
    padded[0, 1] = 0  # between others a row of zeros is no padding
    store = of_archive(tmp_path, padded)[1]
    assert [len(store[key]) for key in IDS] == lengths
    assert "zeros at the end of 4 of 6 utterances" in caplog.text


def test_parquets_bytes_are_ids_and_its_nulls_are_no_features(tmp_path):
    pyarrow = pytest.importorskip("pyarrow", reason="the extra 'parquet' is not installed")
    from pyarrow import parquet

    ids = [key.encode() for key in IDS]
    rows = [None if n == 2 else vector.tolist() for n, vector in enumerate(VECTORS)]
    parquet.write_table(pyarrow.table({"id": ids, "x": rows}), tmp_path / "x.parquet")
    result, store = imported(tmp_path, tmp_path / "x.parquet")
    assert (result.done, result.missing) == (5, [IDS[2]])
    assert store.header.failures == {IDS[2]: "its row is empty in x.parquet"}
    np.testing.assert_array_equal(store[IDS[3]], VECTORS[3:4])
    table = pyarrow.table({"id": ids, "x": rows, "y": rows})
    parquet.write_table(table, tmp_path / "x.parquet")
    with pytest.raises(FeatureError, match="has x, y; choose one with --key"):
        imported(tmp_path, tmp_path / "x.parquet")


def test_matrices_whose_columns_are_time_steps_are_told(tmp_path, caplog):
    caplog.set_level("INFO")
    rng, lengths = np.random.default_rng(0), [3, 2, 5, 5, 4, 2]
    turned = {key: rng.normal(size=(7, n)) for key, n in zip(IDS, lengths, strict=True)}
    for key, array in turned.items():
        np.save(tmp_path / f"{key.rpartition('/')[2]}.npy", array)
    with pytest.raises(FeatureError, match=r"u0' has 3 .* all have 7 rows: .* transpose them"):
        imported(tmp_path, tmp_path)
    np.savez(tmp_path / "each.npz", **{key.replace("/", "_"): a for key, a in turned.items()})
    with pytest.raises(FeatureError, match=r"one with --key; or, if each .* not as \[dim, time\]"):
        imported(tmp_path, tmp_path / "each.npz")
    padded = np.zeros((6, 7, 5))
    for row, array in enumerate(turned.values()):
        padded[row, :, : array.shape[1]] = array
    of_archive(tmp_path, padded)
    assert "2 to 5 of the 5 columns hold numbers" in caplog.text
    caplog.clear()
    of_archive(tmp_path, rng.normal(size=(6, 7, 5)))
    assert caplog.messages == ["x.npz: 5 features at up to 7 time steps"]


def test_arrays_of_other_widths_are_named_however_they_are_stored(tmp_path):
    rows = [Utterance(f"iemocap/u{n}", "iemocap", "ang") for n in range(60)]
    arrays = {row.id: np.ones((1 + n % 3, 5 if n != 7 else 4)) for n, row in enumerate(rows)}
    np.savez(tmp_path / "x.npz", **arrays)
    torch.save({key: torch.from_numpy(array) for key, array in arrays.items()}, tmp_path / "x.pt")
    for source in ("x.npz", "x.pt"):
        with pytest.raises(FeatureError, match=r"u0' has 5 features and 'iemocap/u7' has 4"):
            import_features(tmp_path / source, rows, tmp_path / "out", "mine", "audio")


def test_labels_among_the_features_are_told_and_a_tables_refused(tmp_path, caplog):
    rows = [replace(row, id=f"{row.id}{n}") for n in range(2) for row in UTTERANCES]
    ids, words = np.array([row.id for row in rows]), sorted({row.emotion for row in rows})
    noise = np.random.default_rng(0).normal(size=(len(rows), 3)).round(3)
    number = np.array([[words.index(row.emotion)] for row in rows])
    source = tmp_path / "x.npz"

    def told(features, rows=rows):
        caplog.clear()
        np.savez(source, feat=features, id=ids)
        import_features(source, rows, tmp_path / "o", "mine", "audio", overwrite=True)
        return caplog.text

    assert "1 of 4 features, such as number 4, tell the label" in told(np.hstack([noise, number]))
    one_hot = np.hstack([noise, number == 1])  # 1 for one of the emotions
    assert "such as number 4, tell the label exactly" in told(one_hot)
    rated = [
        replace(row, attributes={"valence": x})
        for row, x in zip(rows, noise[:, 0], strict=True)
    ]  # fmt: skip
    assert "such as number 1, tell the label exactly" in told(noise, rated)
    assert "tell the label" not in told(noise)
    lines = [",".join(map(str, line)) for line in zip(ids, *noise.T, number[:, 0], strict=True)]
    (tmp_path / "x.csv").write_text("\n".join(["id,f0,f1,f2,y", *lines]))
    with pytest.raises(FeatureError, match="such as y, tell the label exactly"):
        import_features(tmp_path / "x.csv", rows, tmp_path / "p", "mine", "audio")


@pytest.mark.parametrize(("scale", "offset"), [(1e-9, 0.0), (1.0, 1e6)])
def test_features_that_would_be_read_as_constants_are_told(tmp_path, caplog, scale, offset):
    source = tmp_path / "x.npz"
    np.savez(source, feat=VECTORS * scale + offset, id=np.array(IDS))
    with pytest.raises(FeatureError, match="5 of 5 features, such as number 1, vary too little"):
        imported(tmp_path, source)
    np.savez(source, feat=np.hstack([VECTORS, VECTORS[:, :1] * scale + offset]), id=np.array(IDS))
    imported(tmp_path, source)
    assert "1 of 6 features, such as number 6, vary too little" in caplog.text


def test_rows_of_parquet_are_matched_by_the_recording(tmp_path):
    pyarrow = pytest.importorskip("pyarrow")
    pytest.importorskip("pyarrow.parquet")
    rows = [replace(row, audio=f"/x/{row.id[-2:]}.wav") for row in UTTERANCES]
    table = {"file": [row.audio for row in rows[::-1]], "f": VECTORS[::-1, 0]}
    pyarrow.parquet.write_table(pyarrow.table(table), tmp_path / "a.parquet")
    made = import_features(tmp_path / "a.parquet", rows, tmp_path / "o", "mine", "audio")
    store = FeatureStore.open(made.path)
    assert [store[key][0, 0] for key in IDS] == pytest.approx(VECTORS[:, 0], abs=1e-3)


def padded_outputs():
    """What an encoder gives for a padded batch: its outputs for padding are not zero."""
    lengths, frames = [3, 1, 4, 2, 2, 1], np.random.default_rng(0).normal(size=(6, 4, 5))
    real = [frames[row, :count].astype("f4") for row, count in enumerate(lengths)]
    return frames.astype("f4"), np.array(lengths), real


@pytest.mark.parametrize("told", ["lengths", "mask", "audio_mask", "audio_lengths"])
@pytest.mark.parametrize("kind", ["npz", "pickle"])
def test_padding_is_told_by_lengths_or_a_mask_beside_it(tmp_path, caplog, told, kind):
    frames, lengths, real = padded_outputs()
    mask = np.arange(4) < lengths[:, None]
    columns = {"audio": frames, told: mask.astype("i8") if "mask" in told else lengths}
    if kind == "npz":
        np.savez(tmp_path / "x.npz", id=np.array(IDS), **columns)
        source = tmp_path / "x.npz"
    else:
        source = tmp_path / "x.pkl"
        rows = [
            {"id": key, **{name: value[row] for name, value in columns.items()}}
            for row, key in enumerate(IDS)
        ]
        source.write_bytes(pickle.dumps(rows))
    store = imported(tmp_path, source)[1]
    for key, matrix in zip(IDS, real, strict=True):
        np.testing.assert_array_equal(store[key], matrix)
    assert (
        f"padding of 5 of 6 utterances is left out, by '{told}': of at most 4 rows, 1 to 4 are kept"
        in caplog.text
    )


def test_numbers_beyond_float32_are_told_from_infinite_ones(tmp_path):
    vectors = VECTORS.astype(np.float64)
    for size in (1e39, 3e36):  # sums of the second overflow, where a training diverged
        vectors[2, 1] = -size
        with pytest.raises(FeatureError, match=re.escape(f"u2' has -{size:g}; allowed: up to 1e")):
            of_archive(tmp_path, vectors)
    vectors[2, 1] = -np.inf
    with pytest.raises(FeatureError, match="gave NaN or infinite values"):
        of_archive(tmp_path, vectors)


def test_lengths_of_something_else_are_told_and_not_used(tmp_path, caplog):
    frames, lengths, _ = padded_outputs()
    np.savez(tmp_path / "x.npz", id=np.array(IDS), audio=frames, lengths=lengths * 16_000)
    assert len(imported(tmp_path, tmp_path / "x.npz")[1][IDS[0]]) == 4
    assert "'lengths' does not say which rows of 'audio' are padding" in caplog.text


def test_an_utterance_whose_row_is_empty_is_listed_and_the_others_are_kept(tmp_path):
    frames, lengths, real = padded_outputs()
    lengths[2] = 0
    result, store = of_archive(tmp_path, frames, lengths=lengths)
    assert (result.done, result.missing) == (5, [IDS[2]])
    assert store.header.failures == {IDS[2]: "its row is empty in x.npz"}
    np.testing.assert_array_equal(store[IDS[3]], real[3])
    with pytest.raises(FeatureError, match=r"x\.npz: the rows of all utterances are empty"):
        of_archive(tmp_path, frames, lengths=0 * lengths)


def test_arrays_beside_the_features_are_not_taken_for_utterances(tmp_path):
    np.savez(tmp_path / "x.npz", features=VECTORS, labels=np.arange(6), fold=np.ones(6))
    check_vectors(imported(tmp_path, tmp_path / "x.npz", rows="manifest")[1])


def test_features_that_are_zeros_are_told_and_all_rows_that_are_no_numbers_are_counted(
    tmp_path, caplog
):
    vectors = VECTORS.copy()
    vectors[[1, 4]] = 0
    of_archive(tmp_path, vectors)
    assert "the features of 2 utterances, such as iemocap/u1, are all zero" in caplog.text
    vectors[[1, 4]] = np.nan
    with pytest.raises(FeatureError, match=r"u1: 'mine' gave NaN.* so do 2 of 6 rows of x\.npz"):
        of_archive(tmp_path, vectors)


def test_a_value_that_hides_the_others_of_its_feature_is_told(tmp_path, caplog):
    utterances = [Utterance(f"mine/u{n}", "mine", WORDS[n % 2]) for n in range(50)]
    vectors = np.random.default_rng(0).normal(size=(50, 5)).astype("f4")
    vectors[:, 4] = np.arange(50) > 47  # seldom anything but zero, as the count of a rare event is
    for value, told in ((50, False), (-99_999, True)):
        caplog.clear()
        vectors[7, 2] = value
        np.save(tmp_path / "x.npy", vectors)
        options = {"rows": "manifest", "overwrite": True}
        import_features(tmp_path / "x.npy", utterances, tmp_path, "mine", "audio", **options)
        assert ("in 1 feature of 5 a value" in caplog.text) == told
    assert re.search(
        r"feature 2 of mine/u7, counted from 0, is -1e\+05, and nine in ten are within 1\.\d+ of",
        caplog.text,
    )


def test_features_too_small_for_their_type_are_refused(tmp_path):
    np.savez(tmp_path / "x.npz", id=np.array(IDS), audio=VECTORS * [1, 1, 1, 1, 1e-9])
    with pytest.raises(FeatureError, match=r"1 of 5 features are below 1e-06.*--dtype float32"):
        imported(tmp_path, tmp_path / "x.npz", dtype="float16")


@pytest.mark.parametrize("ending", ["wav", "npy"])
def test_ids_are_recognised_with_another_ending_form_or_space(tmp_path, ending):
    names = ["Jos\u00e9_1", "Zo\u00eb_2", "a.b_3", "d_4", "e_5", "f_6"]
    rows = [
        replace(row, id=f"iemocap/{n}", audio=f"/here/{unicodedata.normalize('NFD', name)}.flac")
        for n, (row, name) in enumerate(zip(UTTERANCES, names, strict=True))
    ]
    ids = np.array([f"x/{name}.{ending} " for name in names])
    np.savez(tmp_path / "x.npz", id=ids, audio=VECTORS)
    made = import_features(tmp_path / "x.npz", rows, tmp_path / "out", "mine", "audio")
    check_vectors(FeatureStore.open(made.path), [row.id for row in rows])


def test_hidden_files_of_other_systems_are_no_features(tmp_path):
    for key, vector in zip(IDS, VECTORS, strict=True):
        np.save(tmp_path / f"{key.rpartition('/')[2]}.npy", vector)
    (tmp_path / "._u0.npy").write_bytes(b"\0\5\26\7")
    check_vectors(imported(tmp_path, tmp_path)[1])


def test_commas_that_may_separate_thousands_are_asked_about(tmp_path):
    lines = [f'{key},"{950 if n else "1,234"}","0,{n + 1}"' for n, key in enumerate(IDS)]
    (tmp_path / "x.csv").write_text("id,pitch,jitter\n" + "\n".join(lines))
    store = imported(tmp_path, tmp_path / "x.csv")[1]
    assert store[IDS[0]].tolist() == [[pytest.approx(1.234), pytest.approx(0.1)]]
    lines = [f'{key},"{950 if n else "1,234"}",{n + 1}' for n, key in enumerate(IDS)]
    (tmp_path / "x.csv").write_text("id,pitch,jitter\n" + "\n".join(lines))
    with pytest.raises(SerError, match=r"x\.csv:2: pitch is '1,234', which is 1.234 or 1234"):
        imported(tmp_path, tmp_path / "x.csv")
