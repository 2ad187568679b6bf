# %% [markdown]
# # From a corpus to the table of a paper
#
# Recordings → manifest → features → models on folds by speaker → one table with intervals, in LaTeX. Extras train and
# offline.

# %%
from pathlib import Path

from multimodal_ser import CORPORA, class_set, extract, load_encoder, load_material, make_split
from multimodal_ser.dataset.material import sounds_of
from multimodal_ser.experiments.protocols import InDomain
from multimodal_ser.experiments.running import make
from multimodal_ser.report import latex_table, summarise, text_table

root, out = Path("EmoDB"), Path("paper-run")  # your own

# %% [markdown]
# What the reader left out, it says with the reason.

# %%
corpus = CORPORA["emodb"].read(root)
print(len(corpus.utterances), "utterances;", corpus.left_out)

# %% [markdown]
# One vector an utterance. Killed at any moment, the same call finishes the rest.

# %%
extract(corpus.utterances, load_encoder("whisper-tiny"), out / "features", tokens=1)

# %% [markdown]
# Every speaker is the test part once. Overlaps of speakers, sessions or recordings would be an error here.

# %%
material = load_material(out / "features", class_set("emodb7"))
split = make_split(material.utterances, "speaker", sounds=sounds_of(material))
asked = InDomain(models=("audio", "linear"), seeds=3)
if __name__ == "__main__":  # runs are made in processes side by side
    make(asked.plan(material, split), out / "runs")

# %% [markdown]
# ± is over seeds, [ ] over speakers; beneath the table stand what leaks and what the encoder may have seen.

# %%
if __name__ == "__main__":
    summary = summarise(out / "runs")
    print(text_table(summary))
    print(latex_table(summary))
