"""corpus folder → corpora → manifest.jsonl: one file per corpus, all in CORPORA.

>>> CORPORA["emodb"].licence
'CC0-1.0'
"""

from __future__ import annotations

from multimodal_ser.corpora import (
    cremad,
    emodb,
    iemocap,
    meld,
    msp_podcast,
    named_corpora,
    ravdess,
    table,
)
from multimodal_ser.corpora.base import CorpusInfo
from multimodal_ser.corpora.summary import Row, summarise
from multimodal_ser.corpora.utterance import Corpus, Utterance, read_manifest, write_manifest

__all__ = [
    "CORPORA",
    "Corpus",
    "CorpusInfo",
    "Row",
    "Utterance",
    "read_manifest",
    "summarise",
    "write_manifest",
]

CORPORA: dict[str, CorpusInfo] = {
    info.name: info
    for info in (
        *(one.INFO for one in (iemocap, cremad, meld, emodb, ravdess, msp_podcast)),
        *named_corpora.INFOS,
        table.INFO,
    )
}
