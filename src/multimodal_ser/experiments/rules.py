"""A network → a warning if it breaks the rules of docs/models.md: users add their own networks."""

from __future__ import annotations

import logging

import torch
import torch.nn.functional as F
from torch import nn

from multimodal_ser.dataset.examples import Examples

_log = logging.getLogger(__name__)


def warn_of_padding(name: str, model: nn.Module, examples: Examples) -> None:
    """Warns if the logits change with one more token of padding, or from call to call.

    A recording by itself, without the padding of longer ones, is then predicted otherwise than in
    the table.
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
    if not same:
        _log.warning(
            "%s: its outputs change with padding, or from call to call: a recording by itself is "
            "predicted otherwise than in the table; see the rules in docs/models.md", name,
        )  # fmt: skip
