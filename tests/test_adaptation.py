"""What a channel shifts is told from its recordings, the more of them the more surely."""

import numpy as np

from multimodal_ser.predict.adaptation import channel_shift

CENTRES = np.array([[3.0, 0, 0], [0, 3, 0], [0, 0, 3], [-3, -3, -3]])
MOVED = np.array([2.0, -1.5, 1.0])


def drawn(count, shares=(0.25,) * 4):
    """Embeddings of classes in these shares, and the classes."""
    rng = np.random.default_rng(count)
    label = rng.choice(len(CENTRES), count, p=shares)
    return CENTRES[label] + MOVED + rng.standard_normal((count, 3)), label


def right(points, label):
    return (np.square(points[:, None] - CENTRES).sum(2).argmin(1) == label).mean()


def test_a_mixed_set_is_answered_better():
    points, label = drawn(400)
    shift = channel_shift(points, CENTRES)
    assert shift.dtype == np.float32
    assert right(points - shift, label) > right(points, label) + 0.1
    other, its = drawn(401)
    assert right(other - shift, its) > right(other, its) + 0.1


def test_the_more_recordings_the_more_is_taken():
    points, _ = drawn(400)
    means = np.full((400, 3), points.mean(0))
    sizes = [np.linalg.norm(channel_shift(means[:n], CENTRES)) for n in (0, 2, 20, 400)]
    assert sizes[0] == 0
    assert sizes[1] < sizes[2] < sizes[3] < np.linalg.norm(points.mean(0))


def test_references_weigh_alike_whatever_the_set_holds():
    points = np.repeat(CENTRES, (50, 50, 50, 50), axis=0)
    np.testing.assert_allclose(channel_shift(points, CENTRES), 0, atol=1e-6)
