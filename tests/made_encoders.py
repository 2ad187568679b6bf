"""Folders with small random networks, as the hub lays them out."""

from functools import cache

import pytest
import torch

import made_emotion2vec
from multimodal_ser.encoders import ENCODERS

VOCABULARY = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", "so", "what", "else", "##r", "!"]


@cache
def tiny(name, root):
    """A folder with a small random network in the encoder's own layout; None for egemaps."""
    if name == "egemaps":
        pytest.importorskip("opensmile", reason="the extra 'egemaps' is not installed")
        return None
    if name.startswith("emotion2vec"):
        return made_emotion2vec.folder(root / name, name)
    torch.manual_seed(0)
    folder = root / name
    model = _tiny_model(name)
    for parameter in model.parameters():
        parameter.data += 0.05 * torch.randn_like(parameter)
    model.save_pretrained(folder)
    if ENCODERS[name].modality == "text":
        (folder / "vocab.txt").write_text("\n".join(VOCABULARY))
    return folder


def _tiny_model(name):
    import transformers as hf

    small = {"hidden_size": 16, "num_hidden_layers": 3, "num_attention_heads": 2}
    if name.startswith("whisper-"):
        config = hf.WhisperConfig(
            d_model=16, encoder_layers=4, encoder_attention_heads=2, encoder_ffn_dim=64,
            decoder_layers=1, decoder_attention_heads=2, decoder_ffn_dim=16, vocab_size=20,
            pad_token_id=0, bos_token_id=1, eos_token_id=2, decoder_start_token_id=1,
        )  # fmt: skip
        return hf.WhisperModel(config)
    if name == "wav2vec2":
        config = hf.Wav2Vec2Config(
            **small, intermediate_size=32, conv_dim=(8,) * 7, num_conv_pos_embeddings=16,
            num_conv_pos_embedding_groups=2,
        )  # fmt: skip
        return hf.Wav2Vec2Model(config)
    config = hf.BertConfig(**small, intermediate_size=32, vocab_size=len(VOCABULARY))
    return hf.BertForPreTraining(config)  # as on the hub: with heads that are left out
