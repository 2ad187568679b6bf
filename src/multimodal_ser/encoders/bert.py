"""text → tokens: BERT base uncased (Devlin et al., 2019), and what other BERT encoders share.

Frames are the word pieces of the last layer, [CLS] first and [SEP] last, as BERT gives them;
padding is left out. The empty string is [CLS] [SEP]. Sentences beyond 512 pieces are cut there.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch

from multimodal_ser.encoders.base import EncoderInfo, checked_texts
from multimodal_ser.encoders.exposure import exposure_of
from multimodal_ser.encoders.weights import Weights, pretrained, resolve
from multimodal_ser.errors import EncoderError

MAX_TOKENS = 512


class BertTokens:
    """Any BERT as an encoder of sentences."""

    def __init__(self, model: Any, tokenizer: Any, info: EncoderInfo, device: str) -> None:
        self.model, self.tokenizer, self.info = model.to(device), tokenizer, info
        self.device = device
        self.most = min(MAX_TOKENS, model.config.max_position_embeddings)

    @torch.inference_mode()
    def __call__(self, items: Sequence[np.ndarray] | Sequence[str]) -> list[np.ndarray]:
        """Encodes sentences into arrays [word pieces, dim]."""
        texts = checked_texts(self.info.name, items)
        if not texts:
            return []
        tokens = self.tokenizer(
            texts, padding="longest", truncation=True, max_length=self.most, return_tensors="pt"
        ).to(self.device)
        states = self.model(**tokens).last_hidden_state.cpu().numpy()
        lengths = tokens["attention_mask"].sum(1).tolist()
        return [state[:length].copy() for state, length in zip(states, lengths, strict=True)]


def load_bert(
    name: str,
    source: str | Path | None,
    device: str,
    pool: Literal["mean", "first"],
    revision: str | None = None,
) -> BertTokens:
    """Loads a BERT with its tokenizer.

    Args:
        name: key in ENCODERS.
        source: local folder, hub id, or None for the installed offline package.
        device: where torch computes.
        pool: what its training made one vector of.
        revision: branch, tag or commit on the hub.

    Raises:
        EncoderError: the weights or the tokenizer are missing or damaged.
    """
    from transformers import BertModel

    weights = resolve(name, source, revision)
    model = pretrained(name, BertModel, weights, optional=_POOLER)
    tokenizer = _tokenizer(name, weights, model.config.vocab_size)
    info = EncoderInfo(
        name=name,
        modality="text",
        dim=model.config.hidden_size,
        rate=0.0,
        weights=weights.sha256,
        layers=str(model.config.num_hidden_layers),
        exposure=exposure_of(name, weights),
        pool=pool,
    )
    return BertTokens(model, tokenizer, info, device)


_POOLER = ("pooler.dense.weight", "pooler.dense.bias")  # comes after the tokens; unused


def _tokenizer(name: str, weights: Weights, vocabulary: int) -> Any:
    from transformers import AutoTokenizer

    if not any((weights.folder / file).is_file() for file in ("tokenizer.json", "vocab.txt")):
        raise EncoderError(
            f"{name}: {weights.folder} has no tokenizer.json or vocab.txt; copy it from the hub"
        )
    try:
        tokenizer: Any = AutoTokenizer.from_pretrained(weights.folder, local_files_only=True)
    except (OSError, ValueError, RuntimeError, KeyError, TypeError) as error:
        raise EncoderError(
            f"{name}: the tokenizer in {weights.folder} cannot be loaded ({error})"
        ) from error
    if len(tokenizer) > vocabulary:
        raise EncoderError(
            f"{name}: the tokenizer in {weights.folder} has {len(tokenizer)} pieces, the network "
            f"{vocabulary}; they do not belong together"
        )
    return tokenizer


def load(
    source: str | Path | None = None, device: str = "cpu", revision: str | None = None
) -> BertTokens:
    """Loads BERT; one vector of a sentence is its first token, [CLS]."""
    return load_bert("bert", source, device, "first", revision)
