"""per-speaker counts → how far a score, or a difference of two, can be believed."""

from multimodal_ser.statistics.bootstrap import (
    Interval,
    Metric,
    bootstrap,
    clustered_interval,
    percentile_interval,
)
from multimodal_ser.statistics.comparisons import (
    Comparison,
    McNemar,
    compare,
    compare_apart,
    holm,
    mcnemar,
)

__all__ = [
    "Comparison",
    "Interval",
    "McNemar",
    "Metric",
    "bootstrap",
    "clustered_interval",
    "compare",
    "compare_apart",
    "holm",
    "mcnemar",
    "percentile_interval",
]
