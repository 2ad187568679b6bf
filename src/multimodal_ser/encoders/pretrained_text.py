"""text → tokens: any text encoder of transformers, one frame per word piece.

BERT, RoBERTa, DeBERTa, ModernBERT, multilingual E5 and the like, from a folder with the hub's
layout. Frames are the word pieces and the special tokens at both ends of a sentence, without
padding; the empty string gives only the special tokens. Sentences are cut after 512 pieces.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch
from torch import Tensor, nn

from multimodal_ser.common.files import parse_json
from multimodal_ser.encoders.base import (
    EncoderInfo,
    InContext,
    check_finite,
    checked_texts,
    chosen_layers,
    torch_dtype,
)
from multimodal_ser.encoders.exposure import info_of
from multimodal_ser.encoders.pretrained import TEXT, Sendable, pretrained
from multimodal_ser.encoders.weights import Weights, resolve
from multimodal_ser.errors import EncoderError

_MAX_TOKENS = 512
_TOKENIZERS = ("tokenizer.json", "vocab.txt", "vocab.json", "spm.model", "sentencepiece.bpe.model")
_STRAY = 0.01  # share of pieces that may have a capital without the vocabulary being cased
_AFTER_PADDING = ("roberta", "xlm-roberta", "mpnet")  # number positions from the padding id + 1


class TextNetwork(nn.Module):
    """A text network of transformers that returns every layer."""

    def __init__(self, model: Any) -> None:
        super().__init__()
        self.model, self.width = model, model.config.hidden_size

    @property
    def blocks(self) -> nn.ModuleList:
        """The transformer's blocks, in order."""
        # Architectures name them encoder.layer, encoder.layers, transformer.layer or layers.
        holders = (getattr(self.model, name, None) for name in ("encoder", "transformer"))
        for holder in (*holders, self.model):
            for name in ("layer", "layers"):
                if isinstance(found := getattr(holder, name, None), nn.ModuleList):
                    return found
        raise EncoderError(f"{type(self.model).__name__} has no list of blocks")

    @property
    def most(self) -> int:
        """Largest number of word pieces in a sentence."""
        positions: int = getattr(self.model.config, "max_position_embeddings", _MAX_TOKENS)
        if self.model.config.model_type in _AFTER_PADDING:
            positions -= self.model.embeddings.padding_idx + 1
        return min(_MAX_TOKENS, positions)

    def forward(self, **tokens: Tensor) -> list[Tensor]:
        """The input of the first block and the output of every block, each [B, T, width]."""
        states = self.model(**tokens, output_hidden_states=True)
        return [*states.hidden_states[:-1], states.last_hidden_state]

    def chosen(self, layers: Sequence[int], **tokens: Tensor) -> Tensor:
        """Concatenated layers, [B, T, layers · width].

        For the last layer alone hidden states are not requested, of which transformers keeps all.
        """
        if tuple(layers) == (len(self.blocks),):
            return self.model(**tokens).last_hidden_state
        states = self(**tokens)
        return torch.cat([states[layer] for layer in layers], dim=-1)


class PretrainedText(Sendable):
    """A text encoder of transformers with the interface of `Encoder`: sentences → frames.

    Attributes:
        in_context: True, since from words with their context (`InContext`) it returns only the
            frames of the utterance's own words.
    """

    in_context = True

    def __init__(
        self,
        network: TextNetwork,
        tokenizer: Any,
        info: EncoderInfo,
        layers: Sequence[int],
        device: str,
        dtype: torch.dtype,
        prefix: str = "",
    ) -> None:
        self.network = network.to(device=device, dtype=dtype)
        self.tokenizer, self.info, self.layers = tokenizer, info, tuple(layers)
        self.dtype, self.prefix = dtype, prefix
        self.most_pieces = network.most

    @torch.inference_mode()
    def __call__(self, items: Sequence[np.ndarray] | Sequence[str]) -> list[np.ndarray]:
        """Encodes sentences into arrays [word pieces, dim]."""
        texts = checked_texts(self.info.name, items)
        if not texts:
            return []
        tokens = self.tokens(texts)
        joined = self.network.chosen(self.layers, **tokens).float().cpu()
        lengths = tokens["attention_mask"].sum(1).tolist()
        encoded = []
        for text, states, length in zip(texts, joined, lengths, strict=True):
            frames = self._own(text, states[:length])
            check_finite(self.info.name, frames.isfinite().all(), self.dtype)
            encoded.append(frames.numpy().copy())
        return encoded

    def _own(self, text: str, frames: Tensor) -> Tensor:
        """Keeps the frames of the utterance's own words, which have attended to their context."""
        if not isinstance(text, InContext):
            return frames
        if not self.tokenizer.is_fast:
            raise EncoderError(
                f"{self.info.name}: its tokenizer does not tell where a word piece is, which "
                "--context needs; take an encoder with a tokenizer.json"
            )
        spans = self._pieces([text], return_offsets_mapping=True)["offset_mapping"][0]
        first, last = (place + len(self.prefix) for place in text.own)
        # Special tokens have an empty span, a == b, and are no words. A word piece belongs to the
        # utterance if their spans overlap: some tokenizers (DeBERTa's) count the space before a
        # word to its span. An utterance without words of its own keeps the first token.
        own = torch.tensor([a < b and a < last and b > first for a, b in spans])
        if first < last <= min((a for a, b in spans if a < b), default=0):
            raise EncoderError(
                f"{self.info.name}: the words after an utterance fill all {self.most_pieces} word "
                "pieces and leave none to its own; take a smaller --context-after"
            )
        return frames[own] if own.any() else frames[:1]

    def inputs(self, items: Sequence[object]) -> list[Tensor]:
        """The network's input for each sentence: the ids of its word pieces."""
        texts = checked_texts(self.info.name, items)
        if not texts:
            return []
        tokens = self.tokens(texts)
        rows = zip(tokens["input_ids"], tokens["attention_mask"], strict=True)
        return [ids[mask.bool()] for ids, mask in rows]

    def states(self, inputs: Sequence[Tensor]) -> list[Tensor]:
        """Tokens [T, dim] of each input, with gradients if the network is being fine-tuned."""
        pad = self.tokenizer.pad_token_id
        ids = nn.utils.rnn.pad_sequence(list(inputs), batch_first=True, padding_value=pad)
        lengths = torch.tensor([len(x) for x in inputs], device=ids.device)
        mask = (torch.arange(ids.shape[1], device=ids.device) < lengths[:, None]).long()
        joined = self.network.chosen(self.layers, input_ids=ids, attention_mask=mask)
        return [row[:length] for row, length in zip(joined, lengths.tolist(), strict=True)]

    def tokens(self, texts: Sequence[str]) -> dict[str, Tensor]:
        """Word pieces of sentences, padded on the right: the network's input."""
        tokens = self._pieces(texts, padding="longest", return_tensors="pt")
        return dict(tokens.to(self.device))

    def _pieces(self, texts: Sequence[str], **how: Any) -> Any:
        """Word pieces; if there are too many, those of a context are cut at its beginning."""
        cut = "left" if any(isinstance(text, InContext) for text in texts) else "right"
        self.tokenizer.truncation_side = cut
        given = [self.prefix + text for text in texts]
        return self.tokenizer(given, truncation=True, max_length=self.most_pieces, **how)


def load_text_encoder(
    source: str | Path | None = None,
    device: str = "cpu",
    layers: Sequence[int] | Literal["all"] | None = None,
    revision: str | None = None,
    dtype: str = "float32",
    *,
    known_as: str = "bert",
    pool: Literal["mean", "first"] = "mean",
    prefix: str = "",
) -> PretrainedText:
    """Loads a text encoder of transformers with its tokenizer.

    The options are those of `load_encoder`.

    Raises:
        EncoderError: weights or tokenizer are missing, damaged or of an unknown architecture, or a
            layer or type is not allowed.
    """
    name, computed = known_as, torch_dtype(known_as, dtype, device)
    weights = resolve(name, source, revision)
    network = TextNetwork(pretrained(name, weights, TEXT))
    depth = len(network.blocks)
    chosen = chosen_layers(name, (depth,) if layers is None else layers, depth, 0)
    tokenizer = _tokenizer(name, weights, network.model.config.vocab_size)
    info = info_of(name, "text", weights, chosen, width=network.width, rate=0.0, pool=pool)
    return PretrainedText(network, tokenizer, info, chosen, device, computed, prefix)


def _tokenizer(name: str, weights: Weights, vocabulary: int) -> Any:
    from transformers import AutoTokenizer

    if not any((weights.folder / file).is_file() for file in _TOKENIZERS):
        raise EncoderError(
            f"{name}: {weights.folder} has no {' or '.join(_TOKENIZERS)}; copy it from the hub"
        )
    try:
        tokenizer: Any = AutoTokenizer.from_pretrained(
            weights.folder, local_files_only=True, padding_side="right"
        )
    except (OSError, ValueError, RuntimeError, KeyError, TypeError, ImportError) as error:
        raise EncoderError(
            f"{name}: the tokenizer in {weights.folder} cannot be loaded ({error})"
        ) from error
    pieces = tokenizer.get_vocab()
    # numbers, not their count: pieces may be missing in between
    if (count := max(pieces.values(), default=0) + 1) > vocabulary:
        raise EncoderError(
            f"{name}: the tokenizer in {weights.folder} has {count} pieces, the network "
            f"{vocabulary}; they do not belong together"
        )
    _check_case(name, weights.folder, tokenizer, pieces)
    return tokenizer


def _check_case(name: str, folder: Path, tokenizer: Any, pieces: Iterable[str]) -> None:
    """Raises EncoderError if words are only put into lower case because nothing says otherwise.

    transformers does that with a ``vocab.txt`` alone; no piece with a capital would ever be found.
    """
    file = folder / "tokenizer_config.json"
    said = file.is_file() and "do_lower_case" in parse_json(file.read_text(encoding="utf-8"))
    if said or (folder / "tokenizer.json").is_file():
        return
    special = set(tokenizer.all_special_tokens)
    words = [piece for piece in pieces if piece not in special and not piece.startswith("[")]
    capital = [piece for piece in words if piece != piece.lower()]
    if getattr(tokenizer, "do_lower_case", False) and len(capital) > _STRAY * len(words):
        raise EncoderError(
            f"{name}: {len(capital)} of the {len(words)} pieces of {folder / 'vocab.txt'} have "
            f"capitals, such as {min(capital)!r}, and nothing says whether words keep theirs; copy "
            'tokenizer_config.json from the hub, or write "do_lower_case": false into one (true to '
            "put words into lower case)"
        )
