"""RESD folder → Utterance: dialogues in Russian that 20 actors improvised, seven emotions.

Reads the data set's folder as it is on the hub (``data/train-*.parquet``, ``data/test-*.parquet``,
with or without words), or ``loop.csv`` and ``test.csv`` (name, path, emotion) with folders
``train`` and ``test``. Known traps: Speakers are not given. Clips of one dialogue may be in both
parts (``ser split`` reports this). Half of the recordings have a rate of 44.1 kHz.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path, PurePosixPath

from multimodal_ser.corpora.base import CorpusInfo, cite, read_csv_rows, require_folder, traps_of
from multimodal_ser.corpora.huggingface import read_huggingface
from multimodal_ser.corpora.rows import of_rows
from multimodal_ser.corpora.utterance import Corpus


def read_resd(root: Path, audio_dir: str = "recordings") -> Corpus:
    """Reads the folder.

    Args:
        root: the data set's folder.
        audio_dir: where audio embedded in the tables is written, below `root`.

    Raises:
        SerError: the folder or its files are missing, or pyarrow is missing for Parquet.
    """
    root = require_folder(Path(root), "RESD")
    if (root / "train.csv").is_file():
        read = of_rows("resd", root / "train.csv", _listed(root))
    else:
        read = read_huggingface(root, "resd", audio_dir=audio_dir)
    # 32_happiness_enthusiasm_h_120: dialogue 32, its two emotions, the one meant, the turn
    rows = [
        replace(row, dialogue=PurePosixPath(row.id).name.rsplit("_", 2)[0])
        for row in read.utterances
    ]
    return Corpus(rows, read.left_out)


def _listed(root: Path) -> Iterator[dict[str, str]]:
    for part in ("train", "test"):
        for row in read_csv_rows(root / f"{part}.csv", ["path", "emotion"]):
            own = f"{part}/{Path(row['path']).stem}"
            audio = f"{part}/{row['path']}"
            yield {"id": own, "audio": audio, "emotion": row["emotion"], "split": part}


RESD = CorpusInfo(
    name="resd",
    description="improvised dialogues in Russian by 20 actors in 7 emotions, 1,396 recordings",
    read=read_resd,
    licence="MIT",
    citation=cite("amentes2022resd"),
    url="https://huggingface.co/datasets/Aniemore/resd",
    labels="anger,disgust,enthusiasm,fear,happiness,neutral,sadness",
    speakers=20,
    parts="train, test",
    traps=traps_of(__doc__),
)
