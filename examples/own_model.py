# %% [markdown]
# # A model of your own
#
# An ordinary module of torch: tokens and masks of both modalities in, logits and an embedding out. In MODELS it is
# trained, evaluated, compared and asked like those that are shipped.

# %%
from pathlib import Path

import torch
from torch import nn

from multimodal_ser import class_set, load_material, make_split
from multimodal_ser.experiments.protocols import InDomain
from multimodal_ser.experiments.running import make
from multimodal_ser.models.fusion import MODELS
from multimodal_ser.models.layers import Output, masked_mean
from multimodal_ser.report import summarise, text_table


class Gated(nn.Module):
    """Each modality's mean, weighed by a gate that both decide."""

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
# Features of a corpus with words, as `ser extract --audio whisper-tiny --text minilm` makes them; MELD's six
# characters speak in every dialogue, which has to be allowed by name and is then said in the table.

# %%
material = load_material(Path("features/meld"), class_set("meld7"), text="minilm")
split = make_split(material.utterances, "dialogue", folds=5, allow=["speaker"])
asked = InDomain(models=("gated", "concat", "linear"), seeds=2)
if __name__ == "__main__":
    make(asked.plan(material, split), Path("own-model"))
    print(text_table(summarise(Path("own-model"))))
