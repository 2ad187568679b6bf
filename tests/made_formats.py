"""Made-up data in the formats of other tools: audformat, Hugging Face, Kaldi, lhotse, EmoBox."""

import gzip
import io
import json
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import soundfile

from made_corpora import Made, put

FOUR = ("anger", "happiness", "neutral", "sadness")


def write(path: Path, text: str) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text, encoding="utf-8")


def sound_bytes(key: str, format: str = "WAV") -> bytes:
    """A tenth of a second of noise, which depends on the key."""
    noise = np.random.default_rng(sum(map(ord, key))).normal(0, 0.1, 1600)
    file = io.BytesIO()
    soundfile.write(file, noise, 16_000, format=format)
    return file.getvalue()


def write_parquet(path: Path, rows: list[dict[str, Any]], features: Mapping[str, Any]) -> None:
    """A Parquet file as the library datasets writes it, with its features in the schema."""
    import pyarrow
    import pyarrow.parquet

    table = pyarrow.Table.from_pylist(rows)
    said = json.dumps({"info": {"features": features}})
    path.parent.mkdir(parents=True, exist_ok=True)
    pyarrow.parquet.write_table(table.replace_schema_metadata({"huggingface": said}), path)


def write_audformat(
    root: Path,
    name: str,
    rows: list[tuple[str, int, str, float]],
    people: Mapping[int, Mapping[str, object]],
    storage: str = "csv",
) -> None:
    """EmoDB 2.0's tables, written by audformat itself; rows are file, speaker, emotion, share."""
    import audformat

    db = audformat.Database(name)
    db.schemes["speaker"] = audformat.Scheme("int", labels={k: dict(v) for k, v in people.items()})
    db.schemes["emotion"] = audformat.Scheme("str", labels=sorted({row[2] for row in rows}))
    db.schemes["confidence"] = audformat.Scheme("float", minimum=0, maximum=1)
    db.schemes["duration"] = audformat.Scheme("time")
    db.schemes["transcription"] = audformat.Scheme("str", labels={"a01": "Erfundene Worte."})
    doubtful = [row for row in rows if row[3] < 0.8]
    clear = [row for row in rows if row[3] >= 0.8]
    larynx = [(row[0].replace("wav/", "laryngo/"), *row[1:]) for row in rows]
    tables = {"emotion": rows, "laryngo.emotion": larynx, "emotion.categories.ambiguous": doubtful}
    for split, on in (("train", (3, 8, 9, 10, 11, 13)), ("test", (12, 14, 15, 16))):
        db.splits[split] = audformat.Split(split)
        tables[f"emotion.categories.{split}.gold_standard"] = [r for r in clear if r[1] in on]
    db["files"] = audformat.Table(audformat.filewise_index([row[0] for row in rows]))
    for column, values in (
        ("duration", ["0.5s" for _ in rows]),
        ("speaker", [row[1] for row in rows]),
        ("transcription", ["a01" for _ in rows]),
    ):
        db["files"][column] = audformat.Column(scheme_id=column)
        db["files"][column].set(values)
    for table, chosen in tables.items():
        split = table.split(".")[2] if table.endswith("gold_standard") else None
        index = audformat.filewise_index([row[0] for row in chosen])
        db[table] = audformat.Table(index, split_id=split)
        db[table]["emotion"] = audformat.Column(scheme_id="emotion")
        db[table]["emotion"].set([row[2] for row in chosen])
        db[table]["emotion.confidence"] = audformat.Column(scheme_id="confidence")
        db[table]["emotion.confidence"].set([row[3] for row in chosen])
    db.save(str(root), storage_format=storage)


def make_audformat(root: Path) -> Made:
    """Segments of two files with a speaker each, and attributes, as audformat writes them."""
    import audformat

    db, emotions = audformat.Database("mine"), {}
    db.schemes["style"] = audformat.Scheme("str", labels=["angry", "happy", "neutral", "sad"])
    db.schemes["arousal"] = audformat.Scheme("float", minimum=-1, maximum=1)
    db.schemes["speaker"] = audformat.Scheme("str", labels={"x": {"gender": "female"}, "y": {}})
    db.splits["dev"] = audformat.Split("dev")
    files = ["audio/1.wav", "audio/2.wav"]
    for file in files:
        put(root / file)
    db["files"] = audformat.Table(audformat.filewise_index(files))
    db["files"]["speaker"] = audformat.Column(scheme_id="speaker")
    db["files"]["speaker"].set(["x", "y"])
    times = [(file, start, start + 1.5) for file in files for start in (0.0, 2.25)]
    index = audformat.segmented_index(*map(list, zip(*times, strict=True)))
    db["segments"] = audformat.Table(index, split_id="dev")
    for column, values in (
        ("style", ["angry", "happy", "neutral", "sad"]),
        ("arousal", [0.5, 0.25, -0.5, -1.0]),
    ):
        db["segments"][column] = audformat.Column(scheme_id=column)
        db["segments"][column].set(values)
    db.save(str(root))
    for (file, start, _), word in zip(times, FOUR, strict=True):
        emotions[f"mine/{file.removesuffix('.wav')}@{start:g}"] = word
    return Made(root, emotions)


def make_folders(root: Path) -> Made:
    """``train/Actor_01/angry/*.wav`` and ``test/happy/Actor_02/*.wav``: both orders."""
    root = root / "own"
    emotions = {}
    for path, word in (
        ("test/happy/Actor_02/1.wav", "happiness"),
        ("test/neutral/Actor_02/1.wav", "neutral"),
        ("train/Actor_01/Angry/1.wav", "anger"),
        ("train/Actor_01/bittersweet/1.wav", "bittersweet"),
    ):
        put(root / path)
        emotions[f"own/{path.removesuffix('.wav')}"] = word
    put(root / "train/Actor_01/Angry/._1.wav")
    return Made(root, emotions)


def make_huggingface(root: Path) -> Made:
    """Numbers of a ClassLabel, people, words; two recordings of one name in each part."""
    root = root / "mine"
    value = {"dtype": "string", "_type": "Value"}
    label = {"names": [*FOUR], "_type": "ClassLabel"}
    features = {"audio": {"_type": "Audio"}, "label": label, "speaker_id": value, "text": value}
    emotions, number = {}, 0
    for part in ("test", "train", "validation"):
        rows = []
        for place, word in enumerate(FOUR):
            name = "same.flac" if place < 2 else f"{word}.flac"
            sound = {"bytes": sound_bytes(part + word, "FLAC"), "path": f"a{place}/{name}"}
            rows.append(
                {"audio": sound, "label": place, "speaker_id": f"s{place}", "text": "Words"}
            )
            own = f"same-{number:06}" if place < 2 else word
            emotions[f"mine/{part}/{own}"] = word
            number += 1
        write_parquet(root / f"data/{part}-00000-of-00001.parquet", rows, features)
    return Made(root, emotions)


def make_kaldi(root: Path) -> Made:
    """A part with segments of a recording, and one of whole files."""
    root, emotions = root / "data", {}
    put(root.parent / "wavs/long.wav")
    put(root.parent / "wavs/short.wav")
    write(root / "dev/wav.scp", "u3 wavs/short.wav\n")
    write(root / "dev/utt2spk", "u3 cleo\n")
    write(root / "dev/utt2emotion", "u3 sad\n")
    write(root / "train/wav.scp", f"rec1\t{root.parent / 'wavs/long.wav'}\n")
    write(root / "train/segments", "u1 rec1 0.00 1.50\nu2 rec1 1.5 3\n")
    write(root / "train/utt2spk", "u1 ann\nu2 ben\n")
    write(root / "train/spk2gender", "ann f\n")
    write(root / "train/text", "u1 made up words\nu2\n")
    write(root / "train/utt2emo", "u1 ang\nu2 neu\n")
    for key, word in (("u1", "anger"), ("u2", "neutral"), ("u3", "sadness")):
        emotions[f"data/{key}"] = word
    return Made(root, emotions)


def lines_of(rows: Iterable[object]) -> str:
    return "".join(json.dumps(row) + "\n" for row in rows)


def recording(key: str, path: str, duration: float = 4.0) -> dict[str, Any]:
    source = {"type": "file", "channels": [0], "source": path}
    return {"id": key, "sources": [source], "sampling_rate": 16000, "num_samples": 64000,
            "duration": duration, "channel_ids": [0]}  # fmt: skip


def supervision(key: str, of: str, start: float, length: float, **more: object) -> dict[str, Any]:
    return {"id": key, "recording_id": of, "start": start, "duration": length, "channel": 0, **more}


def make_lhotse(root: Path) -> Made:
    """Recordings and supervisions, plain and gzipped."""
    root = root / "manifests"
    put(root / "wav/1.wav")
    put(root / "wav/2.wav")
    write(root / "own_recordings_train.jsonl", lines_of([recording("r1", "wav/1.wav")]))
    write(root / "own_recordings_test.jsonl", lines_of([recording("r2", "wav/2.wav")]))
    train = [
        supervision("a", "r1", 0.0, 1.5, speaker="ann", custom={"emotion": "ang", "arousal": 3.5}),
        supervision("b", "r1", 1.5, 2.5, speaker="ben", text="Words", custom={"emotion": "neu"}),
    ]
    write(root / "own_supervisions_train.jsonl", lines_of(train))
    test = supervision("c", "r2", 0.0, 4.0, speaker="cleo", emotion="sad")
    with gzip.open(root / "own_supervisions_test.jsonl.gz", "wt", encoding="utf-8") as file:
        file.write(lines_of([test]))
    return Made(
        root,
        {
            f"manifests/{key}": word
            for key, word in (("a", "anger"), ("b", "neutral"), ("c", "sadness"))
        },
    )


def make_emobox(root: Path) -> Made:
    """``data/casia`` with its label map and speakers; recordings in ``downloads``."""
    folder, emotions, rows, spoken = root / "data" / "casia", {}, [], []
    for speaker in ("liu", "wang", "zhao"):
        for code, word in (("angry", "anger"), ("happy", "happiness"), ("neutral", "neutral")):
            wav = f"downloads/casia/{speaker}/{code}/201.wav"
            put(root / wav)
            key = f"casia-{speaker}-{code}-201"
            rows.append(
                {"key": key, "dataset": "casia", "wav": wav, "type": "raw", "sample_rate": 16000,
                 "num_frame": 8000.0, "task": "category", "length": 0.5, "emo": code, "channel": 1}
            )  # fmt: skip
            spoken.append(f"{key} 1 {speaker} 0 0.5 <id={key},lang=en,spk={speaker}> {code}")
            emotions[f"casia/{speaker}-{code}-201"] = word
    rows.sort(key=lambda row: str(row["key"]))
    write(folder / "casia.jsonl", lines_of(rows))
    write(folder / "data.seg.wrd.stm", "\n".join(spoken) + "\n")
    write(folder / "label_map.json", '{"angry": "Angry", "happy": "Happy", "neutral": "Neutral"}')
    return Made(folder, emotions)


FORMAT_MAKERS: dict[str, Callable[[Path], Made]] = {
    "folders": make_folders,
    "audformat": make_audformat,
    "huggingface": make_huggingface,
    "kaldi": make_kaldi,
    "lhotse": make_lhotse,
    "emobox": make_emobox,
}
OPTIONS: dict[str, dict[str, Any]] = {
    "folders": {"speaker": r"Actor_(\d+)"},
    "audformat": {"columns": ("emotion=style",)},
}
