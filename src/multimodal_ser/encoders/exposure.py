"""What each encoder's training saw of each corpus, claim by claim with its source.

The claims are about the weights that the encoder's authors publish: those of a known hash, or from
the authors' own page on the hub. Of all other weights, whatever the folder is called, nothing is
known: they may have been trained further, on any corpus and its labels.

``no`` means: the authors list what they trained on, and the corpus is not in it. Lists of web
text or sound that nobody can look through are ``unknown``.
"""

from __future__ import annotations

from collections.abc import Mapping

from multimodal_ser.encoders.base import Exposure
from multimodal_ser.encoders.homes import HOMES
from multimodal_ser.encoders.weights import Weights

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
_E2V = Exposure(
    "unknown",
    "Ma et al. 2023 (arXiv:2312.15185), section 4: 262 h of emotional speech without labels for "
    "emotion2vec itself, begun from data2vec 2.0 (LibriSpeech); the corpus is not known to be "
    "among it",
)
_E2V_SEEN = Exposure(
    "unlabelled",
    "Ma et al. 2023 (arXiv:2312.15185), section 4: self-supervised on 262 h of emotional speech, "
    "IEMOCAP and MELD among it as far as is known; emotion labels were not used",
)
_E2V_PLUS = Exposure(
    "labels",
    "model cards of emotion2vec+ (seed, base, large): seed was fine-tuned with academic speech "
    "emotion data from EmoBox, base and large derive from it by its pseudo-labels; EmoBox (Ma et "
    "al. 2024, arXiv:2406.07162, table of its 32 corpora) contains the corpus; which folds is not "
    "said",
)

EXPOSURE: Mapping[str, Mapping[str, Exposure]] = {
    **{f"whisper-{size}": _all(_WHISPER) for size in ("tiny", "base", "small", "medium", "large")},
    "minilm": _all(_MINILM, meld=_MINILM_MELD),
    "bert": _all(_BERT),
    "wav2vec2": _all(_WAV2VEC2),
    "egemaps": _all(_EGEMAPS, emodb=_EGEMAPS_EMODB),
    "emotion2vec-base": _all(_E2V, iemocap=_E2V_SEEN, meld=_E2V_SEEN),
    "emotion2vec-plus-seed": _all(_E2V_PLUS),
    "emotion2vec-plus-base": _all(_E2V_PLUS),
    "emotion2vec-plus-large": _all(_E2V_PLUS),
}


def exposure_of(name: str, weights: Weights) -> Mapping[str, Exposure]:
    """What the training of these weights saw: corpus name → its exposure.

    Args:
        name: key in EXPOSURE.
        weights: what `resolve` found.
    """
    home = HOMES.get(name)
    if name not in EXPOSURE or home is None:
        return {}
    if weights.hub == home.hub or (home.offline and weights.sha256 == home.offline.sha256):
        return EXPOSURE[name]
    return {  # never cleaner than by its name: what saw the labels stays so
        corpus: Exposure(
            "labels" if claim.saw == "labels" else "unknown",
            f"the weights {weights.sha256[:12]} are none that are known here: a local folder or "
            f"another page of the hub; the published {name}: {_SAYS[claim.saw]} ({claim.source})",
        )
        for corpus, claim in EXPOSURE[name].items()
    }


_SAYS = {
    "labels": "saw it with emotion labels",
    "unlabelled": "saw it without labels",
    "no": "did not see it",
    "unknown": "may have seen it",
}
