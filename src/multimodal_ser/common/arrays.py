"""Array types that many modules use in their signatures."""

from __future__ import annotations

from typing import Any, TypeAlias

import numpy as np
from numpy.typing import NDArray

Array: TypeAlias = NDArray[Any]
Floats: TypeAlias = NDArray[np.float64]
Samples: TypeAlias = NDArray[np.float32]
"""A waveform: [time], or [time, channels] if channels are kept."""
