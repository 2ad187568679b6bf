# %% [markdown]
# # Your own model
#
# A model is an ordinary PyTorch module: its inputs are tokens and masks of both modalities, its outputs logits and an
# embedding. Once it is in MODELS, it is trained, evaluated, compared and used like the models of the package.

# %%
from pathlib import Path

import torch
from torch import nn

from multimodal_ser import class_set, load_material, make_split
from multimodal_ser.experiments.protocols import InDomain
from multimodal_ser.experiments.running import make_experiment
from multimodal_ser.models.fusion import MODELS
from multimodal_ser.models.layers import Output, masked_mean
from multimodal_ser.report import summarise, text_table


class Gated(nn.Module):
    """The mean of each modality, weighted by a gate that depends on both."""

    modalities = ("text", "audio")

    def __init__(self, dims, config):
        super().__init__()
        self.sides = nn.ModuleList(nn.Linear(d, config.hidden_dim) for d in (dims.text, dims.audio))
        self.gate = nn.Linear(2 * config.hidden_dim, 2)
        self.classify = nn.Linear(config.hidden_dim, dims.classes)

    def forward(self, text, text_mask, audio, audio_mask):
        pairs = zip(self.sides, ((text, text_mask), (audio, audio_mask)), strict=True)
        means = torch.stack([side(masked_mean(*given)).relu() for side, given in pairs], 1)
        weights = self.gate(means.flatten(1)).softmax(1)[..., None]
        embedding = (means * weights).sum(1)
        return Output(self.classify(embedding), embedding)


MODELS["gated"] = Gated

# %% [markdown]
# Features of a corpus with words, made by `ser extract --audio whisper-tiny --text minilm`. MELD's six characters speak
# in most dialogues, so splitting by dialogue shares speakers. This has to be allowed by name, and the table states it.

# %%
if __name__ == "__main__":  # not in each of the processes that train in parallel
    material = load_material(Path("features/meld"), class_set("meld7"), text="minilm")
    split = make_split(material.utterances, "dialogue", folds=5, allow=["speaker"])
    asked = InDomain(models=("gated", "concat", "linear"), seeds=2)
    make_experiment(asked.plan(material, split), Path("own-model"))
    print(text_table(summarise(Path("own-model"))))
