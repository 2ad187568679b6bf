"""corpus folder → corpora → manifest.jsonl: one file per corpus, all in CORPORA.

>>> CORPORA["emodb"].licence
'CC0-1.0'
"""

from __future__ import annotations

from multimodal_ser.corpora import (
    audformat,
    cmu_mosei,
    cremad,
    emobox,
    emodb,
    emodb2,
    emozionalmente,
    folders,
    huggingface,
    iemocap,
    kaldi,
    lhotse,
    meld,
    msp_improv,
    msp_podcast,
    named_corpora,
    ravdess,
    resd,
    table,
)
from multimodal_ser.corpora.base import CorpusInfo
from multimodal_ser.corpora.summary import CorpusRow, summarise_corpus
from multimodal_ser.corpora.utterance import Corpus, Utterance, read_manifest, write_manifest

__all__ = [
    "CORPORA",
    "GENERAL_READERS",
    "Corpus",
    "CorpusInfo",
    "CorpusRow",
    "Utterance",
    "read_manifest",
    "summarise_corpus",
    "write_manifest",
]

_OWN = (table, folders, audformat, huggingface, kaldi, lhotse, emobox)
_FILES = (iemocap, cremad, meld, emodb, ravdess, msp_podcast, msp_improv, cmu_mosei)
GENERAL_READERS = tuple(one.INFO.name for one in _OWN)
"""The readers of anybody's data, whose classes, licence and citation are their owner's."""

CORPORA: dict[str, CorpusInfo] = {
    info.name: info
    for info in (
        *(one.INFO for one in (*_FILES, emozionalmente, resd, emodb2)),
        *named_corpora.INFOS,
        *(one.INFO for one in _OWN),
    )
}
