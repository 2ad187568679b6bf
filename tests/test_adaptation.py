"""What a channel shifts is told from what its recordings express."""

import numpy as np
import pytest

from multimodal_ser.predict.adaptation import channel_shift

CENTRES = np.array([[3.0, 0, 0], [0, 3, 0], [0, 0, 3], [-3, -3, -3]])
MOVED = np.array([2.0, -1.5, 1.0])


def drawn(shares, count, shift=MOVED, seed=0):
    """Embeddings of classes in these shares, and the classes."""
    rng = np.random.default_rng(seed)
    label = rng.choice(len(CENTRES), count, p=shares)
    return CENTRES[label] + shift + rng.standard_normal((count, 3)), label


def right(points, label):
    return (np.square(points[:, None] - CENTRES).sum(2).argmin(1) == label).mean()


def test_a_mixed_set_tells_its_shift():
    points, label = drawn([0.25] * 4, 400)
    shift = channel_shift(points, CENTRES)
    assert shift.dtype == np.float32
    np.testing.assert_allclose(shift, MOVED, atol=0.25)
    assert right(points - shift, label) > right(points, label) + 0.1


@pytest.mark.parametrize("main", range(4))
@pytest.mark.parametrize("count", [20, 100, 400])
def test_a_set_of_mostly_one_class_is_not_flattened(main, count):
    shares = np.full(4, 0.2 / 3)
    shares[main] = 0.8
    for moved in (0 * MOVED, MOVED):
        points, label = drawn(shares, count, moved, seed=count + main)
        shift = channel_shift(points, CENTRES)
        assert right(points - shift, label) >= right(points, label) - 0.02
        mean = points.mean(0) - CENTRES.mean(0)  # what a plain mean would take away
        assert np.linalg.norm(shift - moved) < np.linalg.norm(mean - moved)


def test_few_recordings_shift_little():
    points, _ = drawn([0.25] * 4, 400)
    sizes = [np.linalg.norm(channel_shift(points[:n], CENTRES)) for n in (2, 20, 400)]
    assert sizes[0] < sizes[1] < sizes[2]
    assert not channel_shift(points[:0], CENTRES).any()


def test_one_centre_gives_the_shrunk_mean():
    points = np.random.default_rng(0).standard_normal((30, 2)) + 5
    expected = (points.sum(0) - 30 * 1.0) / (30 + 10)
    np.testing.assert_allclose(channel_shift(points, np.ones((1, 2)), clips=10), expected, 1e-5)
