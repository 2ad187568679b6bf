"""Reads corpora into manifests: one module per corpus, all registered in CORPORA.

The registry is loaded on first use, since reading a manifest needs none of the readers.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING

from multimodal_ser.corpora.base import CorpusInfo
from multimodal_ser.corpora.utterance import Corpus, Utterance, read_manifest, write_manifest

if TYPE_CHECKING:
    from multimodal_ser.corpora.registry import CORPORA, GENERAL_READERS

__all__ = [
    "CORPORA",
    "GENERAL_READERS",
    "Corpus",
    "CorpusInfo",
    "Utterance",
    "read_manifest",
    "write_manifest",
]


def __getattr__(name: str) -> object:
    if name in __all__:
        return getattr(import_module(f"{__name__}.registry"), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
