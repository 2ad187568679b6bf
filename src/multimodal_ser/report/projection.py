"""run folders + features → two dimensions: source and target before and after adaptation.

t-SNE of a network's embeddings shows neighbourhoods, not distances: beside each picture stands how
well a linear classifier tells the corpora apart in the embedding itself.
"""

from __future__ import annotations

import copy
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from numpy.typing import NDArray

from multimodal_ser.errors import SerError
from multimodal_ser.palette import colour
from multimodal_ser.report.align import System
from multimodal_ser.report.drawing import ACCENT, MUTED, canvas, legend
from multimodal_ser.report.naming import BASELINES, NO_ADAPTATION, method
from multimodal_ser.runs.folder import MODEL, Run

if TYPE_CHECKING:
    from torch import nn

    from multimodal_ser.data import Examples

MOST_ROWS = 800  # of each corpus: more points hide each other, and t-SNE takes long


@dataclass(frozen=True, eq=False)
class Cloud:
    """One run's embeddings of both corpora, on a plane.

    Attributes:
        name: of the system.
        points: source rows, then target rows, [N, 2].
        target: which rows are the target's, [N].
        labels: class names, [N].
        told_apart: balanced accuracy of a linear classifier that tells the corpora apart in the
            whole embedding, cross-validated; 0.5 is chance.
    """

    name: str
    points: NDArray[np.float64]
    target: NDArray[np.bool_]
    labels: NDArray[np.str_]
    told_apart: float


def clouds(systems: Sequence[System], features: tuple[Path, Path]) -> tuple[Cloud, Cloud]:
    """Embeds both corpora by the network without adaptation and by the best with one.

    Args:
        systems: of the table, the best first.
        features: folders of the source's and the target's features.

    Raises:
        SerError: there is no pair of such networks, or features that do not fit them.
    """
    networks = [one for one in systems if one.model not in BASELINES]
    adapted = [one for one in networks if method(one.runs[0]) != NO_ADAPTATION]
    after = adapted[0] if adapted else None
    plain = [one for one in networks if one not in adapted and after and one.model == after.model]
    before = plain[0] if plain else None
    if before is None or after is None:
        raise SerError(
            "a picture of embeddings needs a network without adaptation and one with; give an "
            "experiment of adaptation with the method none among its methods"
        )
    return _cloud(before, features), _cloud(after, features)


def _cloud(system: System, features: tuple[Path, Path]) -> Cloud:
    from multimodal_ser.runs.model_file import load_model

    run = system.runs[0]
    (source, of_source), (target, of_target) = (_read(run, folder) for folder in features)
    model = load_model(run.folder / MODEL)
    embedded = [_embed(model, target)]  # the file has the target's statistics
    _standardize_source(model, run, source, target)
    embedded.insert(0, _embed(model, source))
    is_target = np.repeat([False, True], [len(rows) for rows in embedded])
    rows = np.concatenate(embedded)
    return Cloud(
        name=system.name,
        points=plane(rows),
        target=is_target,
        labels=np.concatenate([of_source[_chosen(source)], of_target[_chosen(target)]]),
        told_apart=told_apart(rows, is_target),
    )


def _read(run: Run, folder: Path) -> tuple[Examples, NDArray[np.str_]]:
    """A corpus as a run read it, and its utterances' class names [N]."""
    from multimodal_ser.labels import class_set
    from multimodal_ser.material import MODALITIES, load_material, pooled

    described = run.config.features
    audio, text = (one.encoder if (one := described[m]) else "none" for m in MODALITIES)
    material = load_material(folder, class_set(run.config.labels.name), audio, text)
    if any(one and one.pooled_from for one in described.values()):
        material = pooled(material)
    return material.examples, np.array(material.labels.classes)[material.examples.label.numpy()]


def _standardize_source(model: nn.Module, run: Run, source: Examples, target: Examples) -> None:
    """Gives a model the source's input statistics, as they were while it learnt."""
    from multimodal_ser.adapt import ADAPTERS
    from multimodal_ser.alignment import recoloured
    from multimodal_ser.models import Ensemble

    if not (_own_statistics(run) and isinstance(model, Ensemble)):
        return
    of_target = copy.deepcopy(model.standardize)
    model.fit_inputs(source)
    if ADAPTERS[method(run)].recolours:
        model.standardize = recoloured(model.standardize, source, of_target, target)


def _chosen(examples: Examples) -> NDArray[np.int64]:
    """Rows to show, at most MOST_ROWS."""
    return np.sort(np.random.default_rng(0).permutation(len(examples))[:MOST_ROWS])


def _embed(model: nn.Module, examples: Examples) -> NDArray[np.float64]:
    """Embeds the utterances that are shown: [N, H]."""
    import torch

    with torch.inference_mode():
        batch = examples.batch(torch.from_numpy(_chosen(examples)))
        rows: NDArray[np.float64] = model(*batch[:-1]).embedding.double().numpy()
    return rows


def _own_statistics(run: Run) -> bool:
    """Whether each corpus's inputs were standardised by its own statistics."""
    adaptation = run.config.train.adaptation
    return bool(adaptation and adaptation.method != NO_ADAPTATION and adaptation.standardize)


def plane(rows: NDArray[np.float64]) -> NDArray[np.float64]:
    """Lays embeddings [N, H] out in two dimensions, [N, 2]: at most 50 of PCA's, then t-SNE.

    Few rows (under 30) are shown by PCA alone. The same rows give the same picture.
    """
    from sklearn.decomposition import PCA
    from sklearn.manifold import TSNE

    few = len(rows) < 30
    parts = 2 if few else min(50, *rows.shape)
    reduced: NDArray[np.float64] = PCA(parts, random_state=0).fit_transform(rows)
    if few:
        return reduced
    layout = TSNE(perplexity=min(30, len(rows) // 4), init="pca", random_state=0)
    return np.asarray(layout.fit_transform(reduced), dtype=np.float64)


def told_apart(rows: NDArray[np.float64], target: NDArray[np.bool_]) -> float:
    """Balanced accuracy of a linear classifier that tells the corpora apart, five-fold.

    It is what the proxy A-distance is made of (Ben-David et al. 2007, "Analysis of
    representations for domain adaptation"): 0.5 where an embedding hides the corpus.
    """
    from sklearn.linear_model import LogisticRegression
    from sklearn.model_selection import cross_val_score
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import StandardScaler

    smaller = int(min(target.sum(), (~target).sum()))
    model = make_pipeline(
        StandardScaler(), LogisticRegression(class_weight="balanced", max_iter=1000)
    )
    scores = cross_val_score(
        model, rows, target, cv=max(2, min(5, smaller)), scoring="balanced_accuracy"
    )
    return float(scores.mean())


def projection(pair: Sequence[Cloud]) -> Figure:
    """Draws embeddings before and after: above by corpus, beneath by class."""
    figure, axes = canvas(9.6, 9.6, columns=2, rows=2)
    for column, cloud in enumerate(pair):
        _by_corpus(axes[column], cloud)
        _by_class(axes[2 + column], cloud)
    for ax in axes:
        ax.set(xticks=[], yticks=[])
        ax.spines[:].set_visible(True)
    legend(axes[0])
    legend(axes[2])
    return figure


def _by_corpus(ax: Axes, cloud: Cloud) -> None:
    for name, rows, shade in (
        ("source", ~cloud.target, MUTED),
        ("target", cloud.target, ACCENT),
    ):
        x, y = cloud.points[rows].T
        ax.scatter(x, y, s=9, color=shade, alpha=0.6, linewidths=0, label=name)
    ax.set_xlabel(f"{cloud.name}: corpora told apart {100 * cloud.told_apart:.0f} %")


def _by_class(ax: Axes, cloud: Cloud) -> None:
    for name in sorted(set(cloud.labels)):
        for rows, marker in ((~cloud.target, "o"), (cloud.target, "+")):
            x, y = cloud.points[rows & (cloud.labels == name)].T
            named = str(name) if marker == "o" else None
            ax.scatter(x, y, s=11, c=colour(str(name)), marker=marker, linewidths=0.7, label=named)
    ax.set_xlabel(f"{cloud.name}, by class: dots source, crosses target")


def told(pair: Sequence[Cloud]) -> str:
    """Says in words what the picture shows, for readers who cannot see it."""
    parts = [
        f"{cloud.name}: a linear classifier tells the corpora apart in "
        f"{100 * cloud.told_apart:.0f} % (50 is chance)"
        for cloud in pair
    ]
    return f"Embeddings of source and target on a plane. {'; '.join(parts)}."
