"""Settings that make no sense are refused, with what is allowed."""

import math

import pytest

from multimodal_ser.config.settings import AdaptConfig, ModelConfig, TrainConfig, TuneConfig
from multimodal_ser.errors import SerError

SHARES = {
    ModelConfig: ("dropout", "input_dropout", "modality_dropout"),
    TrainConfig: ("label_smoothing", "average"),
    TuneConfig: ("label_smoothing", "average", "dropout"),
}
COUNTS = {
    ModelConfig: ("members", "hidden_dim", "num_heads"),
    TrainConfig: ("epochs", "patience", "batch_size"),
    TuneConfig: ("epochs", "patience", "batch_size", "hidden_dim"),
}
AMOUNTS = {
    TrainConfig: ("learning_rate", "weight_decay"),
    TuneConfig: ("learning_rate", "weight_decay"),
    AdaptConfig: ("weight",),
}


def listed(kinds):
    return [(kind, name) for kind, names in kinds.items() for name in names]


@pytest.mark.parametrize(("kind", "name"), listed(SHARES))
def test_shares_lie_from_zero_to_less_than_one(kind, name):
    for allowed in (0.0, 0.99):
        assert getattr(kind(**{name: allowed}), name) == allowed
    said = f"^{name} is a share from 0 to less than 1, not "
    for given in (2, 1, -0.1, math.nan, math.inf):
        with pytest.raises(SerError, match=f"{said}{given}"):
            kind(**{name: given})


@pytest.mark.parametrize(("kind", "name"), listed(COUNTS))
def test_counts_are_whole_numbers_from_one(kind, name):
    for given in (0, -1, 1.5, math.nan):
        with pytest.raises(SerError, match=f"^{name} is a whole number, 1 or more, not {given}"):
            kind(**{name: given})


@pytest.mark.parametrize(("kind", "name"), listed(AMOUNTS))
def test_amounts_are_finite_and_not_negative(kind, name):
    for given in (-1e-9, math.nan, math.inf):
        with pytest.raises(SerError, match=f"^{name} is a finite number, 0 or more, not {given}"):
            kind(**{name: given})
