"""Linear layers in 8 bits: large matrix products with the processor's integer instructions.

Weights are quantised once, symmetrically with one scale per output; inputs are quantised at every
call, with one scale per row (vector-wise quantisation; Dettmers et al., 2022, section 3.1). One
scale for a whole batch would be cheaper, but would make the frames of a recording depend on what
shares its batch. With a scale per row they do not, since sums of integers are exact.
"""

from __future__ import annotations

import math
import threading
from collections.abc import Sequence

import torch
from torch import Tensor, nn

_SMALLEST = 1e-12  # keeps the scale of a row of zeros above zero
_CHUNK = 256  # rows per product, few enough for the results between two passes to fit the caches


class Int8Linear(nn.Module):
    """A linear layer whose matrix product multiplies 8-bit integers.

    Attributes:
        weight: [out, in], int8.
        scale: of the weights of each output [out].
        bias: [out].
    """

    weight: Tensor
    scale: Tensor
    bias: Tensor

    def __init__(self, linear: nn.Linear) -> None:
        super().__init__()
        weight = linear.weight.detach().float()
        scale = _scale(weight)
        # Symmetric quantisation: 0 stays 0.
        self.register_buffer("weight", (weight / scale).round_().to(torch.int8))
        self.register_buffer("scale", scale[:, 0])
        bias = torch.zeros(len(weight)) if linear.bias is None else linear.bias.detach().float()
        self.register_buffer("bias", bias)

    def forward(self, x: Tensor) -> Tensor:
        """Maps [..., in] to [..., out] of the same type."""
        rows = x.reshape(-1, x.shape[-1])
        out = x.new_empty(len(rows), len(self.weight))
        for start in range(0, len(rows), _CHUNK):
            self._product(rows[start : start + _CHUNK], out[start : start + _CHUNK])
        return out.view(*x.shape[:-1], -1)

    @torch.no_grad()
    def _product(self, rows: Tensor, out: Tensor) -> None:
        """Fills `out` [n, out] for a chunk of rows [n, in]."""
        values = _memory("values", rows.shape, torch.float32).copy_(rows)
        scale = _scale(values)
        small = _memory("small", rows.shape, torch.int8).copy_(values.div_(scale).round_())
        # torch has no public product of int8 matrices; torchao's layers call the same function.
        sums = torch._int_mm(small, self.weight.t(), out=_memory("sums", out.shape, torch.int32))
        # Both scales are undone: that of each row of the input, and that of each output.
        y = _memory("values", out.shape, torch.float32).copy_(sums).mul_(scale)
        out.copy_(torch.addcmul(self.bias, y, self.scale, out=y))


def _scale(rows: Tensor) -> Tensor:
    """The scale of each row [N, 1] for symmetric quantisation: its largest magnitude is 127."""
    # Not a norm, nor the maximum of magnitudes: both take several times as long.
    largest = torch.maximum(rows.amax(1, keepdim=True), -rows.amin(1, keepdim=True))
    return largest.clamp_(min=_SMALLEST).div_(127)


# Memory of each thread that is used again for every product: new memory would have to be cleared by
# the system first, which takes as long as a product.
_memories = threading.local()


def _memory(name: str, shape: Sequence[int], dtype: torch.dtype) -> Tensor:
    """A tensor of this shape with any content, in the thread's memory of that name."""
    known: dict[str, Tensor] = _memories.__dict__  # each thread's own
    count = math.prod(shape)
    if name not in known or known[name].numel() < count:
        # Tensors of inference mode could not be written to outside of it.
        with torch.inference_mode(False):
            known[name] = torch.empty(count, dtype=dtype)
    return known[name][:count].view(*shape)


def with_int8(module: nn.Module) -> None:
    """Replaces every linear layer inside `module` by an `Int8Linear`, in place."""
    for name, child in module.named_children():
        if isinstance(child, nn.Linear):
            setattr(module, name, Int8Linear(child))
        else:
            with_int8(child)
