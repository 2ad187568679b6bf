"""Estimates the shift of a channel from its recordings; more of them make it more certain."""

import numpy as np

from multimodal_ser.predict.channel import channel_shift

CENTRES = np.array([[3.0, 0, 0], [0, 3, 0], [0, 0, 3], [-3, -3, -3]])
MOVED = np.array([2.0, -1.5, 1.0])


def drawn(count, shares=(0.25,) * 4):
    """Embeddings of classes in these shares, and the classes."""
    rng = np.random.default_rng(count)
    label = rng.choice(len(CENTRES), count, p=shares)
    return CENTRES[label] + MOVED + rng.standard_normal((count, 3)), label


def right(points, label):
    return (np.square(points[:, None] - CENTRES).sum(2).argmin(1) == label).mean()


def test_removing_the_channel_improves_predictions_of_a_mixed_set():
    points, label = drawn(400)
    shift = channel_shift(points, CENTRES)
    assert shift.dtype == np.float32
    assert right(points - shift, label) > right(points, label) + 0.1
    other, its = drawn(401)
    assert right(other - shift, its) > right(other, its) + 0.1


def test_more_recordings_remove_more_of_the_shift():
    points, _ = drawn(400)
    means = np.full((400, 3), points.mean(0))
    sizes = [np.linalg.norm(channel_shift(means[:n], CENTRES)) for n in (0, 2, 20, 400)]
    assert sizes[0] == 0
    whole = channel_shift(means, CENTRES, clips=0, most=1)
    assert sizes[1] < sizes[2] < sizes[3] < np.linalg.norm(whole)


def test_a_set_without_a_channel_is_hardly_shifted():
    points = np.repeat(CENTRES, 50, axis=0)
    shift = channel_shift(points, CENTRES)
    assert np.linalg.norm(shift) < 0.1 * np.linalg.norm(MOVED)


def test_a_set_of_mostly_one_class_is_shifted_less_than_its_mean():
    points, _ = drawn(400, (0.85, 0.05, 0.05, 0.05))
    shift = channel_shift(points, CENTRES)
    there = points.mean(0) - CENTRES.mean(0)
    assert np.linalg.norm(shift - MOVED) < np.linalg.norm(there - MOVED)
    other, its = drawn(401)
    assert right(other - shift, its) > right(other - there, its)


def test_rarer_classes_are_predicted_less_often():
    points, _ = drawn(400)
    shares = np.array([0.4, 0.2, 0.2, 0.2])
    alike, more = channel_shift(points, CENTRES), channel_shift(points, CENTRES, shares)
    assert (alike - more) @ CENTRES[0] > 0  # what is left after the shift lies nearer the first


def test_only_directions_between_classes_are_shifted_or_the_mean_without_classes():
    centres = np.pad(CENTRES, ((0, 0), (0, 1)))
    points = np.pad(drawn(400)[0], ((0, 0), (0, 1)), constant_values=5.0)
    whole = channel_shift(points, centres, clips=0, most=1)
    np.testing.assert_allclose(whole[3], 0, atol=1e-6)
    np.testing.assert_allclose(whole[:3], channel_shift(points[:, :3], CENTRES, clips=0, most=1))
    alone = channel_shift(points, centres.mean(0)[None], clips=0, most=1)
    np.testing.assert_allclose(alone, points.mean(0) - centres.mean(0), rtol=1e-5)


def test_a_set_as_near_as_the_training_data_has_no_channel_though_it_is_of_one_class():
    near = np.tile(0.6 * CENTRES[0], (50, 1))  # mean square 1.08
    assert not channel_shift(near, CENTRES).any()
    sizes = [np.linalg.norm(channel_shift(scale * near, CENTRES)) for scale in (1.05, 1.1, 2)]
    assert 0 < sizes[0] < sizes[1] < sizes[2]
