# %% [markdown]
# # To another corpus: no labels, and a few
#
# A model of one corpus on another: as it is, adapted without labels, and trained further on a few.

# %%
from pathlib import Path

from multimodal_ser import class_set, load_material, make_split
from multimodal_ser.dataset.material import pooled
from multimodal_ser.experiments.running import make
from multimodal_ser.experiments.transfer import Adaptation, Fewshot
from multimodal_ser.report import summarise, text_table

classes = class_set("common4")  # words of both corpora, in one order


def read(folder):
    """A corpus's features as one vector an utterance, and folds by speaker."""
    material = pooled(load_material(Path(folder), classes, audio="whisper-tiny", text="none"))
    return material, make_split(material.utterances, "speaker")


domains = (*read("features/cremad"), *read("features/emodb"))

# %% [markdown]
# Without the target's labels: standardising each corpus by itself is most of what can be gained.

# %%
if __name__ == "__main__":
    without = Adaptation(model="audio", methods=("none", "standardize"), seeds=2)
    make(without.plan(*domains), Path("no-labels"))
    print(text_table(summarise(Path("no-labels"))))

# %% [markdown]
# With a few of them, drawn again and again. Beside it the same network from scratch on the same few: what the source
# has given is the difference.

# %%
if __name__ == "__main__":
    few = Fewshot(model="audio", shots=(2,), draws=2, seeds=2)  # two utterances of every class
    make(few.plan(*domains), Path("few-labels"))
    print(text_table(summarise(Path("few-labels"))))
