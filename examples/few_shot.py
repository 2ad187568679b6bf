# %% [markdown]
# # Transfer to another corpus, without labels and with a few
#
# A model of one corpus is tested on another one: unchanged, adapted without labels, and fine-tuned on a few labels.

# %%
from pathlib import Path

from multimodal_ser import class_set, load_material, make_split
from multimodal_ser.dataset.material import pooled
from multimodal_ser.experiments.running import make_experiment
from multimodal_ser.experiments.transfer import Adaptation, Fewshot
from multimodal_ser.report import summarise, text_table

classes = class_set("common4")  # the same classes in the same order for both corpora


def read(folder):
    """Reads a corpus's features, one vector per utterance, and makes folds by speaker."""
    material = pooled(load_material(Path(folder), classes, audio="whisper-tiny", text="none"))
    return material, make_split(material.utterances, "speaker")


if __name__ == "__main__":  # not in each of the processes that train in parallel
    domains = (*read("features/cremad"), *read("features/emodb"))

# %% [markdown]
# Without the target's labels: most of the possible gain comes from standardising each corpus separately.

# %%
if __name__ == "__main__":
    without = Adaptation(model="audio", methods=("none", "standardize"), seeds=2)
    make_experiment(without.plan(*domains), Path("no-labels"))
    print(text_table(summarise(Path("no-labels"))))

# %% [markdown]
# With a few labels, in several random draws. The same network trained from scratch on the same few labels shows what
# the source corpus contributes.

# %%
if __name__ == "__main__":
    few = Fewshot(model="audio", shots=(2,), draws=2, seeds=2)  # two utterances of every class
    make_experiment(few.plan(*domains), Path("few-labels"))
    print(text_table(summarise(Path("few-labels"))))
