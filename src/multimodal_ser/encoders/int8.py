"""Linear layers in 8 bits: large matrix products with the processor's integer instructions.

Weights are quantised once, symmetrically with one scale per output; inputs are quantised as they
come, with one scale per row (vector-wise quantisation; Dettmers et al., 2022, section 3.1). One
scale for a whole batch would be cheaper, but would make the frames of a recording depend on what
shares its batch. With a scale per row they do not, since sums of integers are exact.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

_SMALLEST = 1e-12  # keeps the scale of a row of zeros above zero


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
        weight, scale = _quantised(linear.weight.detach().float())
        self.register_buffer("weight", weight)
        self.register_buffer("scale", scale[:, 0])
        bias = torch.zeros(len(weight)) if linear.bias is None else linear.bias.detach().float()
        self.register_buffer("bias", bias)

    def forward(self, x: Tensor) -> Tensor:
        """Maps [..., in] to [..., out] of the same type."""
        rows, scale = _quantised(x.reshape(-1, x.shape[-1]))
        # torch has no public product of int8 matrices; torchao's layers call the same function.
        product = torch._int_mm(rows, self.weight.t())  # int32 [N, out]
        # Both scales are undone: that of each row of the input, and that of each output.
        y = torch.addcmul(self.bias, product * scale, self.scale)
        return y.to(x.dtype).view(*x.shape[:-1], -1)


def _quantised(rows: Tensor) -> tuple[Tensor, Tensor]:
    """Rows [N, D] → int8 [N, D], and the scale of each row [N, 1], float32."""
    # Symmetric quantisation: the largest magnitude of a row becomes 127, and 0 stays 0.
    largest = torch.linalg.vector_norm(rows, torch.inf, dim=1, keepdim=True)
    scale = largest.float().clamp(min=_SMALLEST) / 127
    return (rows / scale).round_().to(torch.int8), scale


def with_int8(module: nn.Module) -> None:
    """Replaces every linear layer inside `module` by an `Int8Linear`, in place."""
    for name, child in module.named_children():
        if isinstance(child, nn.Linear):
            setattr(module, name, Int8Linear(child))
        else:
            with_int8(child)
