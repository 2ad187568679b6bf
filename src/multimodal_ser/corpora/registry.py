"""CORPORA: the corpora that can be read.

>>> CORPORA["emodb"].licence
'CC0-1.0'
"""

from __future__ import annotations

from multimodal_ser.corpora.audformat import AUDFORMAT
from multimodal_ser.corpora.base import CorpusInfo
from multimodal_ser.corpora.cmu_mosei import CMU_MOSEI
from multimodal_ser.corpora.cremad import CREMAD
from multimodal_ser.corpora.emobox import EMOBOX
from multimodal_ser.corpora.emodb import EMODB, EMODB2
from multimodal_ser.corpora.emozionalmente import EMOZIONALMENTE
from multimodal_ser.corpora.huggingface import HUGGINGFACE, RESD
from multimodal_ser.corpora.iemocap import IEMOCAP
from multimodal_ser.corpora.meld import MELD
from multimodal_ser.corpora.msp_improv import MSP_IMPROV
from multimodal_ser.corpora.msp_podcast import MSP_PODCAST
from multimodal_ser.corpora.named import NAMED
from multimodal_ser.corpora.own import FOLDERS, TABLE
from multimodal_ser.corpora.ravdess import RAVDESS
from multimodal_ser.corpora.toolkits import KALDI, LHOTSE

_GENERAL = (TABLE, FOLDERS, AUDFORMAT, HUGGINGFACE, KALDI, LHOTSE, EMOBOX)
GENERAL_READERS = tuple(info.name for info in _GENERAL)
"""Readers of users' own data; its classes, licence and citation are the user's."""

CORPORA: dict[str, CorpusInfo] = {
    info.name: info
    for info in (
        *(IEMOCAP, CREMAD, MELD, EMODB, RAVDESS, MSP_PODCAST, MSP_IMPROV, CMU_MOSEI),
        *(EMOZIONALMENTE, RESD, EMODB2),
        *NAMED,
        *_GENERAL,
    )
}
