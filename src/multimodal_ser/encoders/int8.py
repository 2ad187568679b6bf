"""Linear layers in 8 bits: a network's large products by the processor's integer instructions.

Weights are quantised once, one scale an output (symmetric); inputs as they come, one scale a row
(Dettmers et al., 2022, section 3.1). A scale of the whole batch would be cheaper, but then a
recording's frames would depend on what shares its batch. Sums of integers are exact, so they do
not here.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

_SMALLEST = 1e-12  # a row of zeros has no scale of its own


class Int8Linear(nn.Module):
    """A linear layer whose product is of 8-bit integers.

    Attributes:
        weight: [out, in], int8.
        scale: of each output's weights [out].
        bias: [out].
    """

    weight: Tensor
    scale: Tensor
    bias: Tensor

    def __init__(self, linear: nn.Linear) -> None:
        super().__init__()
        weight, scale = _quantised(linear.weight.detach().float())
        self.register_buffer("weight", weight)
        self.register_buffer("scale", scale[:, 0])
        bias = torch.zeros(len(weight)) if linear.bias is None else linear.bias.detach().float()
        self.register_buffer("bias", bias)

    def forward(self, x: Tensor) -> Tensor:
        """Maps [..., in] to [..., out] of the same type."""
        rows, scale = _quantised(x.reshape(-1, x.shape[-1]))
        # torch has no public product of int8 matrices; this is what torchao's layers call, too
        product = torch._int_mm(rows, self.weight.t())
        y = torch.addcmul(self.bias, product * scale, self.scale)
        return y.to(x.dtype).view(*x.shape[:-1], -1)


def _quantised(rows: Tensor) -> tuple[Tensor, Tensor]:
    """Rows [N, D] → int8 [N, D], and each row's scale [N, 1], float32."""
    largest = torch.linalg.vector_norm(rows, torch.inf, dim=1, keepdim=True)
    scale = largest.float().clamp(min=_SMALLEST) / 127
    return (rows / scale).round_().to(torch.int8), scale


def with_int8(module: nn.Module) -> None:
    """Puts an `Int8Linear` in the place of every linear layer inside `module`."""
    for name, child in module.named_children():
        if isinstance(child, nn.Linear):
            setattr(module, name, Int8Linear(child))
        else:
            with_int8(child)
