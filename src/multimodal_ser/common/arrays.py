"""Array types that many modules use in their signatures."""

from __future__ import annotations

from typing import Any, TypeAlias

import numpy as np
from numpy.typing import NDArray

Array: TypeAlias = NDArray[Any]
Bools: TypeAlias = NDArray[np.bool_]
Floats: TypeAlias = NDArray[np.float64]
Ints: TypeAlias = NDArray[np.int64]
Singles: TypeAlias = NDArray[np.float32]
Samples: TypeAlias = NDArray[np.float32]
"""A waveform: [time], or [time, channels] if channels are kept."""
# Single precision keeps about seven digits: a spread below 1e-5 of the mean may be rounding. So may
# one below 1e-7, the step of half precision near 0, in which features are stored.
LEAST_SPREAD = (1e-5, 1e-7)
