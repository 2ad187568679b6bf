"""A network of the original's shape and its plain training loop, for comparing training speed.

It is written from the original's document and from what is known of its results, not from its
code. Taken from there: the mean of emotion2vec+ large's frames (1024) and BERT's [CLS] (768), each
projected to 384; two layers of cross-attention in both directions; both modalities concatenated, a
multi-layer classifier and a softmax; dropout 0.3, weight decay 0.01; class weights in the loss;
3,259 training rows; 33 epochs per run, which took 404 s on 2 cores. That 1.77 of 11.5 million
parameters are queries and keys means that there are six blocks of attention with a feed-forward
layer four times as wide: two in each layer, and, in our reading, one block of self-attention per
modality.

Not stated there, and chosen here: 8 heads (their number does not change the size of any product),
AdamW at 1e-4 with a cosine decay, gradients clipped at 1, batches of 16 (larger ones are faster:
``--batch-size``), a loader without worker processes. The number of epochs is given instead of
stopping early; the epoch that is best on the validation set is kept.

As there, each modality is one vector, so that attention has one key and its softmax is always 1.
"""

from __future__ import annotations

import copy
import time
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.utils.data import DataLoader, TensorDataset

from multimodal_ser.evaluation import metrics

EPOCHS = 33  # of one run of the original
SECONDS = 404.0  # that one run took: stated, not measured here


@dataclass(frozen=True)
class Settings:
    """The original's hyperparameters.

    Attributes:
        epochs: passes over the training part.
        batch_size: rows per step.
        hidden_dim: width of both modalities after projection.
        num_layers: number of layers of cross-attention, in both directions.
        num_heads: attention heads.
        dropout: share of activations dropped.
        learning_rate: AdamW's, at the beginning.
        weight_decay: AdamW's.
        workers: processes that load batches.
    """

    epochs: int = EPOCHS
    batch_size: int = 16
    hidden_dim: int = 384
    num_layers: int = 2
    num_heads: int = 8
    dropout: float = 0.3
    learning_rate: float = 1e-4
    weight_decay: float = 0.01
    workers: int = 0


class Block(nn.Module):
    """Attention from one sequence to another, then a feed-forward layer; both with a residual."""

    def __init__(self, settings: Settings) -> None:
        super().__init__()
        wide, dropout = settings.hidden_dim, settings.dropout
        self.attend = nn.MultiheadAttention(
            wide, settings.num_heads, dropout=dropout, batch_first=True
        )
        self.attended = nn.LayerNorm(wide)
        self.feed = nn.Sequential(
            nn.Linear(wide, 4 * wide), nn.GELU(), nn.Dropout(dropout), nn.Linear(4 * wide, wide)
        )
        self.fed = nn.LayerNorm(wide)
        self.drop = nn.Dropout(dropout)

    def forward(self, query: Tensor, key: Tensor) -> Tensor:
        """Query [B, Q, H] and key [B, K, H] → [B, Q, H]."""
        found, _ = self.attend(query, key, key, need_weights=False)
        hidden = self.attended(query + self.drop(found))
        out: Tensor = self.fed(hidden + self.drop(self.feed(hidden)))
        return out


class OriginalNetwork(nn.Module):
    """Both modalities projected, self-attention in each, cross-attention, a classifier."""

    def __init__(self, text: int, audio: int, classes: int, settings: Settings) -> None:
        super().__init__()
        wide, layers = settings.hidden_dim, range(settings.num_layers)
        drop = nn.Dropout(settings.dropout)
        self.text = nn.Sequential(nn.Linear(text, wide), nn.LayerNorm(wide), nn.GELU(), drop)
        self.audio = nn.Sequential(nn.Linear(audio, wide), nn.LayerNorm(wide), nn.GELU(), drop)
        self.own = nn.ModuleList(Block(settings) for _ in range(2))
        self.to_text = nn.ModuleList(Block(settings) for _ in layers)
        self.to_audio = nn.ModuleList(Block(settings) for _ in layers)
        self.classify = nn.Sequential(
            nn.Linear(2 * wide, wide // 2), nn.GELU(), drop, nn.Linear(wide // 2, classes)
        )

    def forward(self, text: Tensor, audio: Tensor) -> Tensor:
        """Text [B, T, Dt] and audio [B, A, Da] → logits [B, C]."""
        words, sound = self.text(text), self.audio(audio)
        words, sound = self.own[0](words, words), self.own[1](sound, sound)
        for to_text, to_audio in zip(self.to_text, self.to_audio, strict=True):
            words, sound = to_text(words, sound), to_audio(sound, words)
        logits: Tensor = self.classify(torch.cat([words.mean(1), sound.mean(1)], 1))
        return logits


@dataclass(frozen=True)
class Trained:
    """The result of one run.

    Attributes:
        model: as of its best epoch.
        losses: mean training loss of every epoch.
        validation: validation UA of every epoch.
        seconds: training with an evaluation each epoch, by itself.
    """

    model: OriginalNetwork
    losses: list[float]
    validation: list[float]
    seconds: float


def train_original(
    train: TensorDataset, validation: TensorDataset, classes: int, settings: Settings, seed: int
) -> Trained:
    """Trains once as the original does: a shuffled loader, AdamW, an evaluation every epoch.

    Args:
        train: text [N, T, Dt], audio [N, A, Da], label [N].
        validation: the same.
        classes: number of classes.
        settings: the hyperparameters.
        seed: seed of initialisation, order and dropout.
    """
    torch.manual_seed(seed)
    text, audio, label = train.tensors
    model = OriginalNetwork(text.shape[2], audio.shape[2], classes, settings)
    counts = torch.bincount(label, minlength=classes).clamp(min=1)
    weights = counts.sum() / (classes * counts)
    optimizer = torch.optim.AdamW(
        model.parameters(), settings.learning_rate, weight_decay=settings.weight_decay
    )
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, settings.epochs)
    loader = DataLoader(train, settings.batch_size, shuffle=True, num_workers=settings.workers)
    best, kept = -1.0, model.state_dict()
    losses, scores = [], []
    began = time.perf_counter()
    for _ in range(settings.epochs):
        losses.append(_epoch(model, loader, optimizer, weights))
        schedule.step()
        scores.append(ua(ask(model, validation, settings.batch_size), validation, classes))
        if scores[-1] > best:
            best, kept = scores[-1], copy.deepcopy(model.state_dict())
    seconds = time.perf_counter() - began
    model.load_state_dict(kept)
    return Trained(model, losses, scores, seconds)


def _epoch(
    model: nn.Module,
    loader: DataLoader[tuple[Tensor, ...]],
    optimizer: torch.optim.Optimizer,
    weights: Tensor,
) -> float:
    model.train()
    losses = []
    for text, audio, label in loader:
        optimizer.zero_grad()
        loss = F.cross_entropy(model(text, audio), label, weights)
        loss.backward()  # type: ignore[no-untyped-call]
        nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        losses.append(loss.item())
    return sum(losses) / len(losses)


@torch.no_grad()
def ask(model: nn.Module, rows: TensorDataset, batch_size: int = 64) -> Tensor:
    """Predicts class ids [N], in the order of the rows."""
    model.eval()
    batches = DataLoader(rows, batch_size)
    return torch.cat([model(text, audio).argmax(1) for text, audio, _ in batches])


def ua(answers: Tensor, rows: TensorDataset, classes: int) -> float:
    """UA of class ids [N] for rows with labels."""
    matrix = metrics.confusion(rows.tensors[2].numpy(), answers.numpy(), classes)
    return float(metrics.ua(matrix))
