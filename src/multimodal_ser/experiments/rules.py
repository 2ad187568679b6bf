"""A network → warnings if it breaks the rules of docs/models.md: users add their own networks."""

from __future__ import annotations

import logging

import torch
import torch.nn.functional as F

from multimodal_ser.dataset.examples import Examples
from multimodal_ser.models.fusion import Ensemble

_log = logging.getLogger(__name__)


def warn_of_outputs(name: str, model: Ensemble, examples: Examples) -> None:
    """Warns if the outputs are not what the rest takes them for.

    That is, if they change with one more token of padding, or from call to call: a recording by
    itself, without the padding of longer ones, is then predicted otherwise than in the table. And
    if they are probabilities in place of logits.
    """
    device = next(model.buffers()).device
    batch = [one.to(device) for one in next(examples.batches(len(examples)))[:4]]
    wider = [F.pad(one, (0, 0) * (one.ndim - 2) + (0, int(one.shape[1] > 1))) for one in batch]
    with torch.inference_mode():
        try:
            once, again = (model(*inputs).logits for inputs in (batch, wider))
            same = torch.allclose(once, again, atol=1e-3)
        except RuntimeError:  # layers of a fixed number of tokens
            same = False
    with torch.inference_mode():
        text, text_mask, audio, audio_mask = batch
        logits = model.each(text, text_mask, audio, audio_mask).logits[
            ..., : model.classes - model.values
        ]
    if logits.numel() and bool((logits >= 0).all() and ((logits.sum(2) - 1).abs() < 1e-3).all()):
        _log.warning(
            "%s: its outputs are probabilities: softmax is applied to them once more, which makes "
            "all of them alike; return the logits, as they are before a softmax", name,
        )  # fmt: skip
    if not same:
        _log.warning(
            "%s: its outputs change with padding, or from call to call: a recording by itself is "
            "predicted otherwise than in the table; see the rules in docs/models.md", name,
        )  # fmt: skip
