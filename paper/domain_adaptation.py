"""The original's module of adaptation losses: gradient reversal, DANN, MMD and CORAL.

They are the library's own, under the original document's names as well.
"""

from multimodal_ser.models.adapters import (
    ADAPTERS,
    Coral,
    Dann,
    Mmd,
    coral,
    mmd,
    ramp,
    reverse_gradient,
)

GRL, DANN, MMD, CORAL = reverse_gradient, Dann, Mmd, Coral

__all__ = ["ADAPTERS", "CORAL", "DANN", "GRL", "MMD", "coral", "mmd", "ramp", "reverse_gradient"]
