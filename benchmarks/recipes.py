"""Which recipe serves small, different, real tasks: every model on each, beside the baselines.

    python benchmarks/recipes.py --data DATA --work bench/recipes

DATA holds ``emodb/wav``, ``cremad/AudioRebuilt`` (CREMA-D rebuilt from spectrograms, and said so)
with its tables, and ``meld`` with its tables and, for the tasks of MELD's dev part with sound,
``dev_features.npz``. Features are extracted into the work folder once. Half of the tasks were
looked at while the recipe was chosen, by their validation parts; those KEPT ASIDE were not, and
stand in a table of their own. So do those of two corpora in other languages (``unseen``: a sample
of nEMO, Polish, and TurEV-DB, Turkish), which were ADDED when the recipe had been chosen.

The tasks named ``paired`` put words of MELD beside sound of CREMA-D of the same class: real
features, but nobody said these words in this voice. In ``paired, contradicting`` a fifth of the
utterances carry words of another class; the label is the sound's.
"""

from __future__ import annotations

import csv
import json
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass, replace
from multiprocessing import get_context
from pathlib import Path
from typing import Any, TypeAlias

import numpy as np
import torch
import tyro
from scipy import stats

from multimodal_ser.cli import main
from multimodal_ser.config.settings import ModelConfig, TrainConfig
from multimodal_ser.corpora.labels import class_set
from multimodal_ser.dataset.examples import Examples, Modality
from multimodal_ser.dataset.material import Material, load_material, pooled
from multimodal_ser.evaluation import metrics, statistics
from multimodal_ser.experiments.fitting import one_thread
from multimodal_ser.experiments.loading import standardized_by_speaker
from multimodal_ser.models.fusion import MODELS, Dims, Ensemble
from multimodal_ser.splits import make_split
from multimodal_ser.training.baselines import BASELINES, fit_baseline
from multimodal_ser.training.loop import fit, predict
from multimodal_ser.training.stacking import STACKED, fit_stacked

FOLDS = 5
PAIRED_ROWS = 5_500
UNSEEN = ("nemo", "turev")
NEMO, TUREV = "anger,fear,happiness,neutral,sadness,surprise", "anger,calm,happiness,sadness"
Rows: TypeAlias = tuple[np.ndarray, np.ndarray, np.ndarray]  # training, validation, test


@dataclass(frozen=True)
class Task:
    """What is learnt and tested.

    Attributes:
        examples: features and labels.
        classes: how many.
        clusters: speaker or dialogue of each row: what the intervals are drawn over.
        folds: rows of the training, validation and test part, each.
    """

    examples: Examples
    classes: int
    clusters: Sequence[str]
    folds: Sequence[Rows]


@dataclass(frozen=True)
class Arguments:
    """What the benchmark is told.

    Attributes:
        data: the corpora's folder.
        work: where features and results go; what is there is not made again.
        tasks: those to run; all where not given.
        folds: how many of the five (ten on EmoDB) are run.
        seeds: of the networks.
        jobs: processes.
    """

    data: Path
    work: Path = Path("bench/recipes")
    tasks: tuple[str, ...] = ()
    folds: int = 10
    seeds: int = 1
    jobs: int = 2


def of_corpus(
    arguments: Arguments, corpus: str, features: str, labels: str, *, tokens: bool = False,
    by_speaker: bool = False,
) -> Task:  # fmt: skip
    """A corpus by itself, sound or words."""
    material = load(arguments, corpus, features, labels, tokens=tokens)
    if by_speaker:
        material = standardized_by_speaker(material)
    return task_of(material)


def load(
    arguments: Arguments, corpus: str, features: str, labels: str, *, tokens: bool = False
) -> Material:
    folder = arguments.work / "features" / features / corpus
    if not folder.is_dir():
        extract(arguments, corpus, features)
    material = load_material(folder, class_set(labels))
    if corpus == "meld":  # its test part stays untouched
        rows = [n for n, row in enumerate(material.utterances) if row.split != "test"]
        material = replace(
            material,
            utterances=[material.utterances[n] for n in rows],
            examples=first_words(material.examples.take(rows)),
        )
    return material if tokens else pooled(material)


def first_words(examples: Examples, most: int = 32) -> Examples:
    """The first word pieces of every utterance: padding to the longest costs time alone."""
    modality = examples.text
    return replace(examples, text=Modality(modality.tokens[:, :most], modality.mask[:, :most]))


def extract(arguments: Arguments, corpus: str, features: str) -> None:
    manifest = arguments.work / f"{corpus}.jsonl"
    more = ["--audio-dir", "AudioRebuilt"] if corpus == "cremad" else []
    kind, root = corpus, arguments.data / corpus
    if corpus in UNSEEN:
        kind, root, more = "table", arguments.data / "unseen" / f"{corpus}.csv", ["--name", corpus]
    run("manifest", kind, "--root", str(root), "--out", str(manifest), *more)
    modality = "--text" if features == "minilm" else "--audio"
    out = str(arguments.work / "features" / features)
    run(
        *("extract", "--manifest", str(manifest), modality, features),
        *("--audio-tokens", "8", "--out", out),
    )


def run(*command: str) -> None:
    code = main(list(command))
    if code:
        raise SystemExit(code)


def with_words(arguments: Arguments, corpus: str, features: str, labels: str) -> Task:
    """A corpus with sound and words, one vector each."""
    sound, words = (load(arguments, corpus, name, labels) for name in (features, "minilm"))
    same = words.examples.take([words.examples.places[key] for key in sound.examples.ids])
    return task_of(replace(sound, examples=replace(sound.examples, text=same.text)))


def task_of(material: Material) -> Task:
    words = material.utterances[0].corpus == "meld"
    scheme, allow = ("dialogue", ("speaker",)) if words else ("speaker", ())
    speakers = {row.speaker for row in material.utterances}
    folds = None if len(speakers) == FOLDS * 2 else FOLDS  # EmoDB: one speaker at a time
    split = make_split(material.utterances, scheme, folds=folds, allow=allow)
    places = material.examples.places

    def rows_of(ids: Iterable[str]) -> np.ndarray:
        return np.array([places[key] for key in ids])

    rows = [(rows_of(f.train), rows_of(f.validation), rows_of(f.test)) for f in split.folds]
    clusters = [str(getattr(row, scheme)) for row in material.utterances]
    return Task(material.examples, len(material.labels.classes), clusters, rows)


def of_meld_dev(arguments: Arguments, audio: str) -> Task:
    """MELD's dev part with words and sound, one vector each, of the features that are at hand."""
    arrays = np.load(arguments.data / "meld" / "dev_features.npz")
    table = (arguments.data / "meld" / "dev_features.csv").open(encoding="utf-8")
    rows = list(csv.DictReader(table))
    material = load(arguments, "meld", "minilm", "meld7")
    known = {row.id: row for row in material.utterances}
    ids = [f"meld/dev/dia{row['Dialogue_ID']}_utt{row['Utterance_ID']}" for row in rows]
    mine = material.examples.take([material.examples.places[key] for key in ids])
    real = torch.ones(len(ids), 1, dtype=torch.bool)
    text, sound = (
        Modality(torch.from_numpy(arrays[name].astype(np.float32))[:, None], real)
        for name in ("text_roberta_base", audio)
    )
    examples = replace(mine, text=text, audio=sound)
    return task_of(replace(material, utterances=[known[key] for key in ids], examples=examples))


def paired(
    arguments: Arguments, features: str, *, seed: int, tokens: bool = False,
    by_speaker: bool = False, contradicting: float = 0.0,
) -> Task:  # fmt: skip
    """Words of MELD with sound of CREMA-D of the same class, fold by fold, nothing on two sides."""
    sound = load(arguments, "cremad", features, "common4", tokens=tokens)
    sound = standardized_by_speaker(sound) if by_speaker else sound
    words = load(arguments, "meld", "minilm", "common4", tokens=tokens)
    tests = [[fold[2] for fold in task_of(one).folds] for one in (sound, words)]
    random, rows = np.random.default_rng(seed), []
    for number, (heard, read) in enumerate(zip(*tests, strict=True)):
        rows += [
            (number, *pair)
            for pair in pairs_of(sound, words, heard, read, random, contradicting)
        ]  # fmt: skip
    fold, heard, read = np.array(rows)[random.permutation(len(rows))].T
    speakers = [str(sound.utterances[row].speaker) for row in heard]
    mine, other = sound.examples.take(heard.tolist()), words.examples.take(read.tolist())
    ids = tuple(f"paired/{row}" for row in range(len(fold)))
    examples = Examples(ids, other.text, mine.audio, mine.label)
    return Task(examples, 4, speakers, [paired_fold(fold, speakers, k) for k in range(FOLDS)])


def pairs_of(
    sound: Material, words: Material, heard: np.ndarray, read: np.ndarray,
    random: np.random.Generator, contradicting: float,
) -> Iterator[tuple[int, int]]:  # fmt: skip
    """Rows of sound and words of one class, as many of each class."""
    of_sound, of_words = sound.examples.label.numpy(), words.examples.label.numpy()
    each = PAIRED_ROWS // FOLDS // 4
    for name in range(4):
        mine = random.permutation(heard[of_sound[heard] == name])[:each]
        same = np.resize(random.permutation(read[of_words[read] == name]), len(mine))
        others = random.choice(read[of_words[read] != name], len(mine))
        against = random.random(len(mine)) < contradicting
        yield from zip(mine, np.where(against, others, same), strict=True)


def paired_fold(fold: np.ndarray, speakers: Sequence[str], tested: int) -> Rows:
    """Half of the next bin's speakers validate; the others, whose words they share, rest."""
    following = fold == (tested + 1) % FOLDS
    names = sorted({speakers[row] for row in np.flatnonzero(following).tolist()})
    chosen = np.isin(speakers, names[: len(names) // 2]) & following
    rest = (fold != tested) & ~following
    return np.flatnonzero(rest), np.flatnonzero(chosen), np.flatnonzero(fold == tested)


TASKS: dict[str, Callable[[Arguments], Task]] = {
    "EmoDB-7, whisper-tiny": lambda a: of_corpus(a, "emodb", "whisper-tiny", "emodb7"),
    "CREMA-D-4 rebuilt, whisper-tiny": lambda a: of_corpus(a, "cremad", "whisper-tiny", "cremad4"),
    "MELD-4 words, pooled": lambda a: of_corpus(a, "meld", "minilm", "meld4"),
    "MELD dev-7, words + wav2vec2": lambda a: of_meld_dev(a, "audio_wav2vec2_base"),
    "paired, eGeMAPS by speaker": lambda a: paired(a, "egemaps", seed=0, by_speaker=True),
    "paired, contradicting, whisper-tiny": lambda a: paired(
        a, "whisper-tiny", seed=3, contradicting=0.2
    ),
}
KEPT_ASIDE: dict[str, Callable[[Arguments], Task]] = {
    "EmoDB-7, eGeMAPS": lambda a: of_corpus(a, "emodb", "egemaps", "emodb7"),
    "CREMA-D-6 rebuilt, whisper-tiny, 8 tokens": lambda a: of_corpus(
        a, "cremad", "whisper-tiny", "cremad6", tokens=True
    ),
    "CREMA-D-6 rebuilt, eGeMAPS": lambda a: of_corpus(a, "cremad", "egemaps", "cremad6"),
    "CREMA-D-6 rebuilt, eGeMAPS by speaker": lambda a: of_corpus(
        a, "cremad", "egemaps", "cremad6", by_speaker=True
    ),
    "MELD-7 words, tokens": lambda a: of_corpus(a, "meld", "minilm", "meld7", tokens=True),
    "MELD dev-7, words + mel": lambda a: of_meld_dev(a, "audio_mel"),
    "paired, whisper-tiny, tokens": lambda a: paired(a, "whisper-tiny", seed=2, tokens=True),
    "paired, contradicting, eGeMAPS by speaker": lambda a: paired(
        a, "egemaps", seed=1, by_speaker=True, contradicting=0.2
    ),
}
ADDED: dict[str, Callable[[Arguments], Task]] = {
    "nEMO-6 sample, whisper-tiny": lambda a: of_corpus(a, "nemo", "whisper-tiny", NEMO),
    "nEMO-6 sample, eGeMAPS": lambda a: of_corpus(a, "nemo", "egemaps", NEMO),
    # Every actor says the same sentences in each emotion, so the words carry no information.
    "nEMO-6 sample, words + whisper-tiny": lambda a: with_words(a, "nemo", "whisper-tiny", NEMO),
    "TurEV-4, whisper-tiny": lambda a: of_corpus(a, "turev", "whisper-tiny", TUREV),
    "TurEV-4, eGeMAPS": lambda a: of_corpus(a, "turev", "egemaps", TUREV),
}
GROUPS = {
    "Tasks looked at while choosing": TASKS,
    "Kept aside": KEPT_ASIDE,
    "Other languages, added when the recipe had been chosen": ADDED,
}
ALL = {name: task for group in GROUPS.values() for name, task in group.items()}


def models_of(task: Task) -> list[str]:
    """The models that a task's modalities allow; one-sided baselines beside one-sided networks."""
    modalities = [name for name in ("text", "audio") if getattr(task.examples, name).dim]
    if len(modalities) == 1:
        return [*modalities, STACKED, *BASELINES]
    single = [f"{kind}, {modality} alone" for modality in modalities for kind in BASELINES]
    return [*modalities, "concat", "cross_attention", STACKED, *BASELINES, *single]


@one_thread()
def predictions(task: Task, model: str, fold: int, seed: int) -> tuple[np.ndarray, float]:
    """Class of each test row of a fold, and the processor seconds that it took."""
    begun = time.process_time()
    train, validation, test = (task.examples.take(part) for part in task.folds[fold])
    dims, schedule = Dims(train.text.dim, train.audio.dim, task.classes), TrainConfig()
    kind, _, modality = model.removesuffix(" alone").partition(", ")
    if kind == STACKED:
        fitted = fit_stacked(dims, train, validation, ModelConfig(), schedule, seed)
    elif kind in BASELINES:
        read = (modality,) if modality else ("text", "audio")
        fitted = fit_baseline(kind, dims, train, validation, schedule, modalities=read)
    else:
        torch.manual_seed(seed)
        network = Ensemble(MODELS[kind], dims, ModelConfig())
        fitted = fit(network, train, validation, schedule, seed)
    return predict(fitted.model, test).argmax(1).numpy(), time.process_time() - begun


def measure(arguments: Arguments, name: str) -> dict[str, dict[str, Any]]:
    """Every model's predictions on a task, kept in the work folder as they are made."""
    path = arguments.work / "results" / f"{name}.json"
    path.parent.mkdir(parents=True, exist_ok=True)
    done = json.loads(path.read_text()) if path.is_file() else {}
    task = ALL[name](arguments)
    folds = range(min(arguments.folds, len(task.folds)))
    wanted = [
        (model, fold, seed)
        for model in models_of(task)
        for seed in range(1 if model.split(",")[0] in BASELINES else arguments.seeds)
        for fold in folds
        if f"{model}|{fold}|{seed}" not in done
    ]
    with ProcessPoolExecutor(arguments.jobs, get_context("fork")) as pool:
        made = [pool.submit(predictions, task, *which) for which in wanted]
        for which, future in zip(wanted, made, strict=True):
            said, seconds = future.result()
            done["|".join(map(str, which))] = {"said": said.tolist(), "seconds": seconds}
            path.write_text(json.dumps(done))
    counts = {}
    for model in models_of(task):
        seeds = 1 if model.split(",")[0] in BASELINES else arguments.seeds
        counts[model] = {
            "counts": counted(task, folds, done, model, seeds),
            "seconds": np.mean(
                [v["seconds"] for k, v in done.items() if k.startswith(f"{model}|")]
            ),
        }
    return counts


def counted(
    task: Task, folds: Sequence[int], done: dict[str, Any], model: str, seeds: int
) -> np.ndarray:
    """Confusion counts of each cluster and seed, [clusters, seeds, C, C]."""
    rows = np.concatenate([task.folds[fold][2] for fold in folds])
    truth, clusters = task.examples.label.numpy()[rows], np.array(task.clusters)[rows]
    names = sorted(set(clusters))
    counts = np.zeros((len(names), seeds, task.classes, task.classes))
    for seed in range(seeds):
        said = np.concatenate([done[f"{model}|{fold}|{seed}"]["said"] for fold in folds])
        place = np.searchsorted(names, clusters)
        np.add.at(counts, (place, np.full_like(place, seed), truth, said.astype(int)), 1)
    return counts


def rank_table(arguments: Arguments, names: Sequence[str], title: str) -> list[float]:
    """Prints UA of every model, and how far the recommended one is from the better baseline.

    Returns:
        That difference on each task, in points.
    """
    print(f"\n{title}\n")
    shown = ["text", "audio", "concat", "cross_attention", STACKED, *BASELINES]
    print(f"| task | {' | '.join(shown)} | {STACKED} − better baseline | p (Holm) | s a fold |")
    print("|---|" + "---:|" * (len(shown) + 3))
    rows = [(name, measure(arguments, name)) for name in names]
    versus = []
    for _, models in rows:
        by_ua = {kind: ua(models[kind]["counts"]) for kind in BASELINES}
        best = max(by_ua, key=by_ua.__getitem__)
        versus.append(
            statistics.compare(models[STACKED]["counts"], models[best]["counts"], metrics.ua)
        )
    corrected = statistics.holm([one.p for one in versus])
    for (name, models), one, p in zip(rows, versus, corrected, strict=True):
        cells = [score(models, kind) for kind in shown]
        chance = "–" if p is None else "< 0.001" if p < 0.001 else f"{p:.3f}"
        print(
            f"| {name} | {' | '.join(cells)} | {100 * one.difference:+.1f} "
            f"[{100 * one.low:+.1f}, {100 * one.high:+.1f}] | {chance} "
            f"| {models[STACKED]['seconds']:.0f} |",
            flush=True,
        )
    gaps = [100 * one.difference for one in versus]
    over_tasks(gaps)
    for name, models in rows:
        for modality in ("text", "audio"):
            if f"svm, {modality} alone" in models:
                alone = models[f"svm, {modality} alone"]["counts"]
                one = statistics.compare(models[modality]["counts"], alone, metrics.ua)
                print(
                    f"{name}: {modality} network − svm on {modality} ({100 * ua(alone):.1f}): "
                    f"{100 * one.difference:+.1f} [{100 * one.low:+.1f}, {100 * one.high:+.1f}]"
                )
    return gaps


def over_tasks(gaps: Sequence[float]) -> None:
    """Prints the mean difference, and whether there is one over tasks.

    The signed-rank test is the one that Demšar (2006, JMLR 7, section 3.1.3) recommends for two
    classifiers on many tasks: unlike the t test it doesn't assume that differences are normally
    distributed, which a few large ones among many small ones are not.
    """
    if len(gaps) > 1:
        print(
            f"\nmean over {len(gaps)} tasks: {np.mean(gaps):+.1f} ± {stats.sem(gaps):.1f} "
            f"(standard error over tasks); p = {stats.ttest_1samp(gaps, 0).pvalue:.3f} by a "
            f"t test, {stats.wilcoxon(gaps).pvalue:.3f} by Wilcoxon's signed-rank test"
        )


def score(models: dict[str, dict[str, Any]], kind: str) -> str:
    return f"{100 * ua(models[kind]['counts']):.1f}" if kind in models else "–"


def ua(counts: np.ndarray) -> float:
    return float(metrics.ua(counts.sum(0)).mean())


if __name__ == "__main__":
    told, all_gaps = tyro.cli(Arguments), []
    for heading, group in GROUPS.items():
        if chosen := [name for name in group if not told.tasks or name in told.tasks]:
            all_gaps += rank_table(told, chosen, heading)
    over_tasks(all_gaps)
