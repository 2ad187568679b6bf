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
from multimodal_ser.experiments.running import make_experiment
from multimodal_ser.report import latex_table, summarise, text_table

root, out = Path("EmoDB"), Path("paper-run")  # your own

# %% [markdown]
# The reader lists what it left out, with the reason. Several processes train in parallel below, each of which runs this
# file under another name: what is to be done once stands behind a condition.

# %%
if __name__ == "__main__":
    corpus = CORPORA["emodb"].read(root)
    print(len(corpus.utterances), "utterances;", corpus.left_out)

# %% [markdown]
# One vector per utterance. If the call is interrupted, run it again to resume.

# %%
if __name__ == "__main__":
    extract(corpus.utterances, load_encoder("whisper-tiny"), out / "features", tokens=1)

# %% [markdown]
# Every speaker is the test set once. Overlaps of speakers, sessions or recordings would be an error here.

# %%
if __name__ == "__main__":
    material = load_material(out / "features", class_set("emodb7"))
    split = make_split(material.utterances, "speaker", sounds=sounds_of(material))
    experiment = InDomain(models=("audio", "linear"), seeds=3)
    make_experiment(experiment.plan(material, split), out / "runs")

# %% [markdown]
# ± is over seeds, [ ] over speakers. Below the table are overlaps and what the encoder may have seen of the corpus.

# %%
if __name__ == "__main__":
    summary = summarise(out / "runs")
    print(text_table(summary))
    print(latex_table(summary))
