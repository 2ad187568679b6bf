"""text → tokens: all-MiniLM-L6-v2 (sentence-transformers), a BERT of 6 layers, 384 wide.

Its training made one vector of a sentence by the mean over all tokens, [CLS] and [SEP] included.
"""

from __future__ import annotations

from pathlib import Path

from multimodal_ser.encoders.bert import BertTokens, load_bert


def load(
    source: str | Path | None = None, device: str = "cpu", revision: str | None = None
) -> BertTokens:
    """Loads MiniLM; one vector of a sentence is the mean of its tokens."""
    return load_bert("minilm", source, device, "mean", revision)
