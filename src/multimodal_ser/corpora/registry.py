"""CORPORA: the corpora that can be read.

>>> CORPORA["emodb"].licence
'CC0-1.0'
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import fields
from functools import partial
from typing import Any

from multimodal_ser.corpora.audformat import read_audformat
from multimodal_ser.corpora.base import CorpusInfo, citations, facts
from multimodal_ser.corpora.cmu_mosei import read_cmu_mosei
from multimodal_ser.corpora.cremad import read_cremad
from multimodal_ser.corpora.emobox import read_emobox
from multimodal_ser.corpora.emodb import read_emodb, read_emodb2
from multimodal_ser.corpora.emozionalmente import read_emozionalmente
from multimodal_ser.corpora.huggingface import read_huggingface, read_resd
from multimodal_ser.corpora.iemocap import read_iemocap
from multimodal_ser.corpora.meld import read_meld
from multimodal_ser.corpora.msp_improv import read_msp_improv
from multimodal_ser.corpora.msp_podcast import read_msp_podcast
from multimodal_ser.corpora.named import Named, emotions, read_named
from multimodal_ser.corpora.own import read_folders, read_table
from multimodal_ser.corpora.ravdess import read_ravdess
from multimodal_ser.corpora.toolkits import read_kaldi, read_lhotse
from multimodal_ser.corpora.utterance import Corpus

_READERS: dict[str, Callable[..., Corpus]] = {
    "iemocap": read_iemocap,
    "cremad": read_cremad,
    "meld": read_meld,
    "emodb": read_emodb,
    "ravdess": read_ravdess,
    "msp-podcast": read_msp_podcast,
    "msp-improv": read_msp_improv,
    "cmu-mosei": read_cmu_mosei,
    "emozionalmente": read_emozionalmente,
    "resd": read_resd,
    "emodb2": read_emodb2,
    "table": read_table,
    "folders": read_folders,
    "audformat": read_audformat,
    "huggingface": read_huggingface,
    "kaldi": read_kaldi,
    "lhotse": read_lhotse,
    "emobox": read_emobox,
}
GENERAL_READERS = ("table", "folders", "audformat", "huggingface", "kaldi", "lhotse", "emobox")
"""Readers of users' own data; its classes, licence and citation are the user's."""


def _described(name: str, entry: Mapping[str, Any]) -> CorpusInfo:
    """Describes a corpus; one without a reader is read by the pattern of its file names."""
    known = {one.name: entry[one.name] for one in fields(Named) if one.name in entry}
    read = _READERS.get(name)
    if read is None:
        known["words"] = emotions(known["words"])
        read = partial(read_named, name, Named(**known))
    about = {key: value for key, value in entry.items() if key not in known}
    if "citation" in about:
        about["citation"] = citations()[about["citation"]]
    if "attribute_scale" in about:
        about["attribute_scale"] = tuple(about["attribute_scale"])
    return CorpusInfo(name=name, read=read, **about)


CORPORA: dict[str, CorpusInfo] = {name: _described(name, entry) for name, entry in facts().items()}
