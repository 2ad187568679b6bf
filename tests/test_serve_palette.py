"""The emotions' colours stay apart for every kind of sight, and stand out from the page."""

from itertools import combinations

import numpy as np
import pytest

from multimodal_ser.common.palette import COLOURS, DARK, SAME, colour, colours
from multimodal_ser.corpora.labels import CLASS_SETS
from multimodal_ser.predict.prediction import label_colours

SEVEN = ("anger", "disgust", "fear", "happiness", "neutral", "sadness", "surprise")
SIGHT = {  # Machado, Oliveira, Fernandes (2009), severity 1
    "normal": np.eye(3),
    "protanopia": [[0.152286, 1.052583, -0.204868], [0.114503, 0.786281, 0.099216],
                   [-0.003882, -0.048116, 1.051998]],
    "deuteranopia": [[0.367322, 0.860646, -0.227968], [0.280085, 0.672501, 0.047413],
                     [-0.011820, 0.042940, 0.968881]],
    "tritanopia": [[1.255528, -0.076749, -0.178779], [-0.078411, 0.930809, 0.147602],
                   [0.004733, 0.691367, 0.303900]],
}  # fmt: skip
TO_LMS = [[0.4122214708, 0.5363325363, 0.0514459929], [0.2119034982, 0.6806995451, 0.1073969566],
          [0.0883024619, 0.2817188376, 0.6299787005]]  # fmt: skip
TO_LAB = [[0.2104542553, 0.7936177850, -0.0040720468], [1.9779984951, -2.4285922050, 0.4505937099],
          [0.0259040371, 0.7827717662, -0.8086757660]]  # fmt: skip


def linear(text):
    value = np.array([int(text[at : at + 2], 16) for at in (1, 3, 5)]) / 255
    return np.where(value <= 0.04045, value / 12.92, ((value + 0.055) / 1.055) ** 2.4)


def contrast(one, other):
    light, dark = sorted(float(linear(c) @ [0.2126, 0.7152, 0.0722]) for c in (one, other))[::-1]
    return (light + 0.05) / (dark + 0.05)


@pytest.mark.parametrize("dark", [False, True])
@pytest.mark.parametrize("sight", SIGHT)
def test_the_seven_stay_apart(dark, sight):
    seen = {
        name: TO_LAB
        @ np.cbrt(TO_LMS @ np.clip(SIGHT[sight] @ linear(colour(name, dark=dark)), 0, 1))
        for name in SEVEN
    }
    for one, other in combinations(SEVEN, 2):
        assert np.linalg.norm(seen[one] - seen[other]) >= 0.08, (one, other)


def test_every_colour_stands_out_from_the_ground():
    assert set(COLOURS) == set(DARK)
    assert set(SAME.values()) <= set(COLOURS)
    for name in COLOURS:
        assert contrast(colour(name), "#ffffff") >= 3, name
        assert contrast(colour(name, dark=True), "#171c23") >= 3, name


def test_every_class_of_every_set_has_a_colour_of_its_own():
    for classes in (known.classes for known in CLASS_SETS.values()):
        assert len({colour(name) for name in classes}) == len(classes)
    assert colour("Joy") == colour("happiness")
    assert colour("never heard of") == colour("never heard of")


@pytest.mark.parametrize(
    ("labels", "attributes"),
    [
        (SEVEN, ("arousal", "valence", "dominance")),
        (("anger", "sadness"), ("valence", "arousal")),
        (("A", "B", "C", "D", "E", "F", "G"), ()),
        (("angry", "anger", "Anger", "calm"), ()),
        (("positive", "negative"), ("valence",)),
    ],
)
def test_what_a_model_shows_together_has_different_colours(labels, attributes):
    shown = (*labels, "uncertain", *attributes)
    hues = label_colours(labels, None, attributes)
    for dark in (0, 1):
        assert len({hues[name][dark] for name in shown}) == len(shown)
    assert hues.get("anger", (colour("anger"),))[0] == colour("anger")
    alone = label_colours(("arousal", "valence", "dominance"), (1, 5))
    assert alone["active negative"] == colours(["anger"])["anger"]
    assert alone["passive negative"] == colours(["sadness"])["sadness"]
    assert len({alone[name] for name in alone}) == 7
