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
    Repeats,
    compare,
    compare_apart,
    paired,
    sign_flip,
)
from multimodal_ser.evaluation.statistics.means import OfMeans, sums_of
from multimodal_ser.evaluation.statistics.p_values import McNemar, holm, mcnemar, smallest_p

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
