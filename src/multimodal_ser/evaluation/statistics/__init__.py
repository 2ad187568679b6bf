"""counts per speaker → confidence intervals of scores, and tests of their differences."""

from multimodal_ser.evaluation.statistics.clusters import (
    LEAST_CLUSTERS,
    LEAST_EFFECTIVE,
    Interval,
    Metric,
    clustered_interval,
    estimate,
    interval_ends,
)
from multimodal_ser.evaluation.statistics.comparisons import (
    Comparison,
    McNemar,
    Repeats,
    compare,
    compare_apart,
    holm,
    mcnemar,
    paired,
    sign_flip,
    smallest_p,
)
from multimodal_ser.evaluation.statistics.means import OfMeans, sums_of

__all__ = [
    "LEAST_CLUSTERS",
    "LEAST_EFFECTIVE",
    "Comparison",
    "Interval",
    "McNemar",
    "Metric",
    "OfMeans",
    "Repeats",
    "clustered_interval",
    "compare",
    "compare_apart",
    "estimate",
    "holm",
    "interval_ends",
    "mcnemar",
    "paired",
    "sign_flip",
    "smallest_p",
    "sums_of",
]
