"""source [N,D], target [M,D], progress → scalar: losses that align two corpora's embeddings.

No function here is given a label. ADAPTERS is the registry.
"""

from __future__ import annotations

import math
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

# Learning rate of the adapters in times the network's: a domain classifier that lags behind the
# network gives it a gradient that removes nothing (tests/test_adapt_shifts.py).
PACE = 5
# Rows per feature from which on a covariance is estimated well enough to recolour by it: with
# EmoDB's 339 rows of 88 or 1,152 features recolouring did harm.
_ROWS = 5
_FOREIGN = 5.0  # ratio of two corpora's variances from which on a direction is recoloured
# Widths of the kernels in times the mean squared distance: a family around it, as in DAN.
BANDWIDTHS = tuple(2.0**power for power in range(-3, 4))


def coral(source: Tensor, target: Tensor) -> Tensor:
    """Distance between the covariances of two samples (Sun & Saenko 2016, "Deep CORAL").

    ``‖C_s − C_t‖²_F / 4d²`` with the unbiased covariances of source [N, d] and target [M, d].

    >>> float(coral(torch.tensor([[0.0], [2.0]]), torch.tensor([[0.0], [0.0]])))
    1.0
    """
    difference = _covariance(source) - _covariance(target)
    return difference.square().sum() / (4 * source.shape[1] ** 2)


def _covariance(x: Tensor) -> Tensor:
    """Unbiased covariance [D, D] of x [N, D], where N is at least 2."""
    centred = x - x.mean(0)
    return centred.T @ centred / (len(x) - 1)


def recolouring(source: Tensor, target: Tensor) -> Tensor:
    """The matrix [D, D] that gives source [N, D] the target's variance where the two differ much.

    CORAL in closed form (Sun, Feng & Saenko 2016, "Return of Frustratingly Easy Domain
    Adaptation") on standardised features: ``source @ recolouring`` with
    ``C_s^(-1/2) M^(1/2) C_s^(1/2)``, where ``M = C_s^(-1/2) C_t C_s^(-1/2)``. The result has the
    target's covariance, as with the paper's ``C_s^(-1/2) C_t^(1/2)``, but directions in which the
    two corpora agree are left unchanged.

    Two things differ from the paper. Directions are changed only if one corpus varies FOREIGN
    times as much as the other: smaller differences arise by chance where speakers are few, and
    undoing them costs more than it gains. Covariances are shrunk (Ledoit & Wolf 2004); with fewer
    than ROWS rows per feature they cannot be estimated, and the identity is returned.

    >>> x = torch.eye(2).repeat(50, 1) - 0.5
    >>> recolouring(x, x).allclose(torch.eye(2))
    True
    """
    # Imported here because predicting imports this module and needs no scikit-learn.
    from sklearn.covariance import ledoit_wolf

    if min(len(source), len(target)) < _ROWS * source.shape[1]:
        return torch.eye(source.shape[1]).to(source)
    # In double precision: powers of small eigenvalues lose digits.
    own, other = (torch.from_numpy(ledoit_wolf(x.cpu().double())[0]) for x in (source, target))
    # The identity is added before inverting, as in the paper: it bounds the eigenvalues from below.
    unit = torch.eye(len(own), dtype=torch.float64)
    values, vectors = torch.linalg.eigh(own + unit)
    to_white, back = ((vectors * values**exponent) @ vectors.T for exponent in (-0.5, 0.5))
    # On white axes of the source the eigenvalues are the ratios of the two corpora's variances.
    ratios, directions = torch.linalg.eigh(to_white @ (other + unit) @ to_white)
    seen = to_white @ directions
    # The variances themselves, without the added identity, along these directions [D] each.
    before, after = ((seen * (matrix @ seen)).sum(0) for matrix in (own, other))
    # The logarithm treats a ratio and its inverse alike.
    foreign = ratios.log().abs() > math.log(_FOREIGN)
    factors = torch.where(foreign, (after / before.clamp(min=1e-12)).sqrt(), 1.0)
    # Into the white axes, scaled along the chosen directions only, and back.
    whole: Tensor = to_white @ (directions * factors) @ directions.T @ back
    return whole.to(source)


def mmd(source: Tensor, target: Tensor, bandwidths: Tensor | None = None) -> Tensor:
    """Squared maximum mean discrepancy with a mean of Gaussian kernels (Long et al. 2015, "DAN").

    ``mean k(s, s') + mean k(t, t') − 2 mean k(s, t)`` (Gretton et al. 2012, the biased estimate)
    over source [N, D] and target [M, D], with ``k(x, y) = mean_γ exp(−‖x − y‖² / γ)``.

    Args:
        source: one sample.
        target: the other sample.
        bandwidths: γ [K]; by default BANDWIDTHS times the mean squared distance between all rows
            of both samples.

    >>> float(mmd(torch.tensor([[0.0], [1.0]]), torch.tensor([[1.0], [0.0]])))
    0.0
    """
    both = torch.cat([source, target])
    distance = _squared_distances(both)
    if bandwidths is None:
        # Detached: a bandwidth is a scale to measure by, and must not be learnt. The distances of
        # rows to themselves are zero and do not count as pairs.
        pairs = max(1, len(both) * (len(both) - 1))
        mean = distance.detach().sum() / pairs
        bandwidths = mean.clamp(min=1e-12) * both.new_tensor(BANDWIDTHS)
    kernel = torch.exp(-distance[..., None] / bandwidths).mean(-1)  # [N + M, N + M]
    n = len(source)
    return kernel[:n, :n].mean() + kernel[n:, n:].mean() - 2 * kernel[:n, n:].mean()


def _squared_distances(x: Tensor) -> Tensor:
    """‖x_i − x_j‖² [N, N] of x [N, D].

    `torch.cdist` takes a square root, which has no derivative where two rows are equal.
    """
    square = x.square().sum(1)
    # ‖a‖² + ‖b‖² − 2ab, which rounding can make slightly negative
    return (square[:, None] + square - 2 * x @ x.T).clamp(min=0)


class _Reverse(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor, weight: float) -> Tensor:
        ctx.weight = weight
        return x.view_as(x)

    @staticmethod
    def backward(ctx: Any, *gradient: Tensor) -> tuple[Tensor, None]:
        return -ctx.weight * gradient[0], None


def reverse_gradient(x: Tensor, weight: float) -> Tensor:
    """Returns x unchanged; its gradient is multiplied by ``−weight`` (Ganin et al. 2016)."""
    return _Reverse.apply(x, weight)  # type: ignore[no-untyped-call]


def ramp(progress: float) -> float:
    """The factor of the reversed gradient after a share p of the training (Ganin et al. 2016).

    ``2 / (1 + exp(−10 p)) − 1`` begins at zero, while the domain classifier knows nothing yet.

    >>> [round(ramp(p), 2) for p in (0, 0.1, 0.5, 1)]
    [0.0, 0.46, 0.99, 1.0]
    """
    return 2 / (1 + math.exp(-10 * progress)) - 1


class Adapter(nn.Module):
    """No adaptation; also the base class of the methods, which are made for an embedding's width.

    Attributes:
        aligns: whether the method has a loss at all.
        standardizes: whether it always standardises the target by the target's own statistics,
            whatever `AdaptConfig.standardize` says.
        recolours: whether the source's inputs are also given the target's covariance (see
            `recolouring`) where each corpus is standardised by its own statistics.
        weight: default weight of the loss beside the classification's.
    """

    aligns = False
    standardizes = False
    recolours = False
    weight = 0.0

    def __init__(self, dim: int) -> None:
        super().__init__()

    def forward(self, source: Tensor, target: Tensor, progress: float) -> Tensor:
        """Embeddings source [N, D], target [M, D], progress from 0 to 1 → loss []."""
        return source.new_zeros(())


class Dann(Adapter):
    """Domain-adversarial training (Ganin et al. 2016): embeddings that do not show their corpus.

    A domain classifier learns to tell the two corpora apart, and through the reversed gradient
    the network learns to prevent it.
    """

    aligns = True
    weight = 0.3

    def __init__(self, dim: int) -> None:
        super().__init__(dim)
        self.domain = nn.Sequential(nn.Linear(dim, dim), nn.ReLU(), nn.Linear(dim, 1))

    def forward(self, source: Tensor, target: Tensor, progress: float) -> Tensor:
        """Embeddings source [N, D], target [M, D], progress from 0 to 1 → loss []."""
        # Only the gradient to the network is scaled by the ramp; the classifier learns at once.
        strength = ramp(progress)
        # [N] and [M] logits of "this is the target".
        source, target = (
            self.domain(reverse_gradient(x, strength))[:, 0] for x in (source, target)
        )
        return (
            F.binary_cross_entropy_with_logits(source, torch.zeros_like(source))
            + F.binary_cross_entropy_with_logits(target, torch.ones_like(target))
        ) / 2


class Mmd(Adapter):
    """Aligns the two distributions of embeddings by minimising `mmd`."""

    aligns = True
    weight = 1.0

    def forward(self, source: Tensor, target: Tensor, progress: float) -> Tensor:
        """Embeddings source [N, D], target [M, D] → loss []."""
        return mmd(source, target)


class Coral(Adapter):
    """Aligns covariances: those of the inputs in closed form, those of the embeddings by a loss."""

    aligns = True
    recolours = True
    weight = 20.0

    def forward(self, source: Tensor, target: Tensor, progress: float) -> Tensor:
        """Embeddings source [N, D], target [M, D] → loss []."""
        return coral(source, target)


class Standardized(Adapter):
    """Standardises each corpus's inputs by its own statistics, without any loss."""

    standardizes = True


ADAPTERS: dict[str, type[Adapter]] = {
    "none": Adapter,
    "standardize": Standardized,
    "dann": Dann,
    "mmd": Mmd,
    "coral": Coral,
}
