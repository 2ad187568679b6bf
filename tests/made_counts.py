"""Confusion counts of made-up speakers."""

import numpy as np


def speakers(rng, count, utterances=20, skill=0.7, spread=0.1, classes=3, seeds=1):
    """Confusion counts of made-up speakers, each with recalls of their own, [S, K, C, C]."""
    recall = np.clip(rng.normal(skill, spread, size=(count, 1, classes)), 0, 1)
    right = rng.binomial(utterances, np.repeat(recall, seeds, axis=1))
    sums = np.zeros((count, seeds, classes, classes))
    for name in range(classes):
        sums[..., name, name] = right[..., name]
        sums[..., name, (name + 1) % classes] = utterances - right[..., name]
    return sums


def two_class(right, said):
    """Counts [S, 1, 2, 2] of speakers who said so many, all of one class, so many of them right."""
    sums = np.zeros((len(said), 1, 2, 2))
    sums[:, 0, 0, 0] = right
    sums[:, 0, 0, 1] = np.subtract(said, right)
    return sums
