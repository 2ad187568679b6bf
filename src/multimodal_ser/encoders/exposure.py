"""What each encoder's training saw of each corpus, claim by claim with its source.

``no`` means: the authors list what they trained on, and the corpus is not in it. Lists of web
text or sound that nobody can look through are ``unknown``.
"""

from __future__ import annotations

from collections.abc import Mapping

from multimodal_ser.encoders.base import Exposure

CORPORA = ("iemocap", "cremad", "meld", "emodb", "ravdess")


def _all(exposure: Exposure, **other: Exposure) -> Mapping[str, Exposure]:
    return {**dict.fromkeys(CORPORA, exposure), **other}


_WHISPER = Exposure(
    "unknown",
    "Radford et al. 2022 (arXiv:2212.04356), section 2.1: 680,000 h of sound with transcripts "
    "from the web (English alone for .en models), sources not disclosed; no emotion labels",
)
_BERT = Exposure(
    "no",
    "Devlin et al. 2019 (arXiv:1810.04805), section 3.1: BooksCorpus and English Wikipedia, which "
    "do not include the corpus's transcripts",
)
_MINILM = Exposure(
    "no",
    "model card of sentence-transformers/all-MiniLM-L6-v2: 1.17 billion pairs from a list of "
    "data sets (Reddit, S2ORC, WikiAnswers, ...) that does not name the corpus",
)
_MINILM_MELD = Exposure(
    "unknown",
    "model card of sentence-transformers/all-MiniLM-L6-v2: MELD is not listed, but 727 million "
    "Reddit comments are, in which lines of the series Friends may be quoted; no emotion labels",
)
_WAV2VEC2 = Exposure(
    "no",
    "Baevski et al. 2020 (arXiv:2006.11477), section 4.1, and the model card of "
    "facebook/wav2vec2-base: LibriSpeech, 960 h of read audiobooks, without transcripts",
)
_EGEMAPS = Exposure(
    "no", "Eyben et al. 2016 (IEEE TAFFC 7(2)): formulas chosen by experts, nothing is trained"
)
_EGEMAPS_EMODB = Exposure(
    "no",
    "Eyben et al. 2016 (IEEE TAFFC 7(2)): nothing is trained, but EMO-DB is one of the corpora on "
    "which the authors evaluated the set",
)

EXPOSURE: Mapping[str, Mapping[str, Exposure]] = {
    "whisper-tiny": _all(_WHISPER),
    "minilm": _all(_MINILM, meld=_MINILM_MELD),
    "bert": _all(_BERT),
    "wav2vec2": _all(_WAV2VEC2),
    "egemaps": _all(_EGEMAPS, emodb=_EGEMAPS_EMODB),
}
