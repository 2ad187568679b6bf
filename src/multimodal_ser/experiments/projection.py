"""run folders + features → two dimensions: source and target before and after adaptation.

t-SNE of a network's embeddings shows neighbourhoods, not distances. Each picture therefore comes
with a number: how well a linear classifier tells the corpora apart in the embedding itself.
"""

from __future__ import annotations

import copy
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

from multimodal_ser.common.arrays import Bools, Floats, Ints
from multimodal_ser.corpora.labels import class_set
from multimodal_ser.dataset.examples import Examples
from multimodal_ser.errors import SerError
from multimodal_ser.experiments.fitting import as_model_reads
from multimodal_ser.experiments.loading import load_described
from multimodal_ser.experiments.plans import corpus_names
from multimodal_ser.models.adapters import ADAPTERS
from multimodal_ser.models.fusion import Ensemble
from multimodal_ser.report.align import System, align
from multimodal_ser.report.naming import NO_ADAPTATION, method
from multimodal_ser.report.summary import Cloud, Summary
from multimodal_ser.runs.folder import MODEL, Run, read_runs
from multimodal_ser.runs.model_file import load_model
from multimodal_ser.training.alignment import recoloured

_MOST_ROWS = 800  # of each corpus: more points would hide each other, and t-SNE would take long


def clouds_of(
    experiment: Path, summary: Summary, features: tuple[Path, Path]
) -> tuple[Cloud, Cloud]:
    """Embeds both corpora with an experiment's best adapted network, and with the unadapted one.

    Args:
        experiment: the folder that holds the run folders.
        summary: of them.
        features: folders of the source's and the target's features.

    Raises:
        SerError: there is no pair of such networks, or the features do not fit them.
    """
    named = {system.name: system for system in align(read_runs(experiment)).systems}
    systems = [named[row.name] for row in summary.rows]
    networks = [one for one in systems if not one.baseline]
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
    run = system.runs[0]
    (source, of_source), (target, of_target) = (
        _read(run, folder, corpora)
        for folder, corpora in zip(features, (run.source, run.config.corpora), strict=True)
    )
    model = load_model(run.folder / MODEL)
    # The order matters: a saved model standardises by the target's statistics, so the target is
    # embedded before those of the source replace them.
    embedded = [_embed(model, target)]
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


def _read(run: Run, folder: Path, corpora: Sequence[str]) -> tuple[Examples, NDArray[np.str_]]:
    """A corpus as the run reads it, and the class names of its utterances [N]."""
    labels = run.config.labels
    material = load_described(folder, class_set(labels.name), run.config.features, labels.task)
    if (found := corpus_names(material)) != tuple(corpora):
        raise SerError(
            f"{folder} holds features of {', '.join(found)}, but {', '.join(corpora)} is wanted; "
            "give the features of the source first, then those of the target"
        )
    material = as_model_reads(material, run.config)
    return material.examples, np.array(material.labels.classes)[material.examples.label.numpy()]


def _standardize_source(model: nn.Module, run: Run, source: Examples, target: Examples) -> None:
    """Gives a model the input statistics of the source that it had during training."""
    if not (_own_statistics(run) and isinstance(model, Ensemble)):
        return
    of_target = copy.deepcopy(model.standardize)
    model.fit_inputs(source)
    if ADAPTERS[method(run)].recolours:
        model.standardize = recoloured(model.standardize, source, of_target, target)


def _chosen(examples: Examples) -> Ints:
    """The rows that are shown: all, or a random MOST_ROWS of them."""
    return np.sort(np.random.default_rng(0).permutation(len(examples))[:_MOST_ROWS])


def _embed(model: nn.Module, examples: Examples) -> Floats:
    """Embeds the utterances that are shown: [N, H]."""
    with torch.inference_mode():
        batch = examples.batch(torch.from_numpy(_chosen(examples)))
        rows: Floats = model(*batch[:-1]).embedding.double().numpy()
    return rows


def _own_statistics(run: Run) -> bool:
    """Whether each corpus's inputs were standardised by its own statistics."""
    adaptation = run.config.train.adaptation
    return bool(adaptation and adaptation.method != NO_ADAPTATION and adaptation.standardize)


def plane(rows: Floats) -> Floats:
    """Lays out embeddings [N, H] in two dimensions [N, 2]: PCA to at most 50, then t-SNE.

    Fewer than 30 rows are shown by PCA alone. The same rows give the same picture.
    """
    from sklearn.decomposition import PCA
    from sklearn.manifold import TSNE

    few = len(rows) < 30
    parts = 2 if few else min(50, *rows.shape)
    reduced: Floats = PCA(parts, random_state=0).fit_transform(rows)
    if few:
        return reduced
    # Perplexity is about the number of neighbours of a point; 30 is scikit-learn's default.
    layout = TSNE(perplexity=min(30, len(rows) // 4), init="pca", random_state=0)
    return np.asarray(layout.fit_transform(reduced), dtype=np.float64)


def told_apart(rows: Floats, target: Bools) -> float:
    """Balanced accuracy of a linear classifier that tells the corpora apart, five-fold.

    The proxy A-distance is computed from it (Ben-David et al. 2007, "Analysis of Representations
    for Domain Adaptation"). It is 0.5 if the embedding does not show the corpus.
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
