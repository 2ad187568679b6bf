"""source [N,D], target [M,D], progress → scalar: what draws two corpora's embeddings together.

Nothing here is given a label. ADAPTERS is the registry.
"""

from __future__ import annotations

import math
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

PACE = 5  # adapters learn so many times as fast: a classifier that lags behind hides nothing
ROWS = 5  # a feature: EmoDB's 339 rows of 88 or 1,152 features made recolouring harmful
FOREIGN = 5.0  # times the variance
BANDWIDTHS = tuple(2.0**power for power in range(-3, 4))  # of the mean squared distance


def coral(source: Tensor, target: Tensor) -> Tensor:
    """Distance of two samples' covariances (Sun & Saenko 2016, "Deep CORAL").

    ``‖C_s − C_t‖²_F / 4d²`` with the unbiased covariances of source [N, d] and target [M, d].

    >>> float(coral(torch.tensor([[0.0], [2.0]]), torch.tensor([[0.0], [0.0]])))
    1.0
    """
    difference = covariance(source) - covariance(target)
    return difference.square().sum() / (4 * source.shape[1] ** 2)


def covariance(x: Tensor) -> Tensor:
    """Unbiased covariance [D, D] of x [N, D], N two or more."""
    centred = x - x.mean(0)
    return centred.T @ centred / (len(x) - 1)


def recolouring(source: Tensor, target: Tensor) -> Tensor:
    """What gives source [N, D] the target's variance where it is of another order: [D, D].

    CORAL in closed form (Sun, Feng & Saenko 2016, "Return of frustratingly easy domain
    adaptation"), ``C_s^(-1/2) M^(1/2) C_s^(1/2)`` with ``M = C_s^(-1/2) C_t C_s^(-1/2)`` of
    standardised features, which has the target's covariance as the paper's
    ``C_s^(-1/2) C_t^(1/2)`` has, and leaves alone what the two have in common. M's eigenvectors
    are those of the covariances plus the identity, as in the paper; only where they say that one
    corpus varies FOREIGN times as much as the other is anything changed: lesser differences are
    what few speakers leave to chance, and to undo them costs more than it gains. Covariances are
    shrunk as Ledoit & Wolf (2004) estimate it; of fewer than ROWS rows a feature they say too
    little, and nothing is changed. To multiply on the right.

    >>> x = torch.eye(2).repeat(50, 1) - 0.5
    >>> recolouring(x, x).allclose(torch.eye(2))
    True
    """
    # Here, since predicting needs none of scikit-learn.
    from sklearn.covariance import ledoit_wolf

    if min(len(source), len(target)) < ROWS * source.shape[1]:
        return torch.eye(source.shape[1]).to(source)
    mine, other = (torch.from_numpy(ledoit_wolf(x.cpu().double())[0]) for x in (source, target))
    unit = torch.eye(len(mine), dtype=torch.float64)
    values, vectors = torch.linalg.eigh(mine + unit)
    to_white, back = ((vectors * values**exponent) @ vectors.T for exponent in (-0.5, 0.5))
    ratios, directions = torch.linalg.eigh(to_white @ (other + unit) @ to_white)
    seen = to_white @ directions
    before, after = ((seen * (matrix @ seen)).sum(0) for matrix in (mine, other))
    foreign = ratios.log().abs() > math.log(FOREIGN)
    factors = torch.where(foreign, (after / before.clamp(min=1e-12)).sqrt(), 1.0)
    whole: Tensor = to_white @ (directions * factors) @ directions.T @ back
    return whole.to(source)


def mmd(source: Tensor, target: Tensor, bandwidths: Tensor | None = None) -> Tensor:
    """Squared maximum mean discrepancy with a mean of Gaussian kernels (Long et al. 2015, "DAN").

    ``mean k(s, s') + mean k(t, t') − 2 mean k(s, t)`` (Gretton et al. 2012, the biased estimate)
    over source [N, D] and target [M, D], with ``k(x, y) = mean_γ exp(−‖x − y‖² / γ)``.

    Args:
        source: one sample.
        target: the other.
        bandwidths: γ [K]; BANDWIDTHS times the mean squared distance within both samples
            together where not given.

    >>> float(mmd(torch.tensor([[0.0], [1.0]]), torch.tensor([[1.0], [0.0]])))
    0.0
    """
    both = torch.cat([source, target])
    distance = squared_distances(both)
    if bandwidths is None:
        pairs = max(1, len(both) * (len(both) - 1))
        mean = distance.detach().sum() / pairs
        bandwidths = mean.clamp(min=1e-12) * both.new_tensor(BANDWIDTHS)
    kernel = torch.exp(-distance[..., None] / bandwidths).mean(-1)
    n = len(source)
    return kernel[:n, :n].mean() + kernel[n:, n:].mean() - 2 * kernel[:n, n:].mean()


def squared_distances(x: Tensor) -> Tensor:
    """‖x_i − x_j‖² [N, N] of x [N, D]; unlike `torch.cdist` with a gradient at zero."""
    square = x.square().sum(1)
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
    """Passes x on; its gradient comes back times ``−weight`` (Ganin et al. 2016)."""
    reversed_: Tensor = _Reverse.apply(x, weight)  # type: ignore[no-untyped-call]
    return reversed_


def ramp(progress: float) -> float:
    """How much of the reversed gradient counts at a share of the training (Ganin et al. 2016).

    ``2 / (1 + exp(−10 p)) − 1``: nothing at first, while the domain classifier knows nothing.

    >>> [round(ramp(p), 2) for p in (0, 0.1, 0.5, 1)]
    [0.0, 0.46, 0.99, 1.0]
    """
    return 2 / (1 + math.exp(-10 * progress)) - 1


class Adapter(nn.Module):
    """No adaptation, and what all share: they are made for an embedding's width.

    Attributes:
        aligns: whether there is a loss at all.
        standardizes: whether it is nothing without the target's own input statistics.
        recolours: whether the source's inputs are given the target's covariance, where each
            corpus is standardised by its own statistics.
        weight: the loss's weight where none is given.
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
    """Domain-adversarial training (Ganin et al. 2016): embeddings that hide their corpus.

    The classifier learns to tell the corpora apart; the network, by the reversed gradient, to
    prevent it.
    """

    aligns = True
    weight = 0.3

    def __init__(self, dim: int) -> None:
        super().__init__(dim)
        self.domain = nn.Sequential(nn.Linear(dim, dim), nn.ReLU(), nn.Linear(dim, 1))

    def forward(self, source: Tensor, target: Tensor, progress: float) -> Tensor:
        """Embeddings source [N, D], target [M, D], progress from 0 to 1 → loss []."""
        strength = ramp(progress)
        source, target = (
            self.domain(reverse_gradient(x, strength))[:, 0] for x in (source, target)
        )
        return (
            F.binary_cross_entropy_with_logits(source, torch.zeros_like(source))
            + F.binary_cross_entropy_with_logits(target, torch.ones_like(target))
        ) / 2


class Mmd(Adapter):
    """Draws the distributions together as `mmd` sees them."""

    aligns = True
    weight = 1.0

    def forward(self, source: Tensor, target: Tensor, progress: float) -> Tensor:
        """Embeddings source [N, D], target [M, D] → loss []."""
        return mmd(source, target)


class Coral(Adapter):
    """Draws the covariances together: the inputs' in closed form, the embeddings' by a loss."""

    aligns = True
    recolours = True
    weight = 20.0

    def forward(self, source: Tensor, target: Tensor, progress: float) -> Tensor:
        """Embeddings source [N, D], target [M, D] → loss []."""
        return coral(source, target)


class Standardized(Adapter):
    """No loss: each corpus's inputs are standardised by its own statistics, and that is all."""

    standardizes = True


ADAPTERS: dict[str, type[Adapter]] = {
    "none": Adapter,
    "standardize": Standardized,
    "dann": Dann,
    "mmd": Mmd,
    "coral": Coral,
}
