# %% [markdown]
# # From recordings to a timeline
#
# A folder of short recordings as a table, and one long recording over time, without labels, training or PyTorch.
# Open this file as a notebook in VS Code, or in Jupyter with jupytext.

# %%
from pathlib import Path

from multimodal_ser import load
from multimodal_ser.timeline import analyze

calls, interview = Path("calls"), "interview.mp3"  # your own
predictor = load()
print(predictor.card.split("\n\n")[1])

# %% [markdown]
# One prediction per recording. If a recording cannot be read, its error takes its place.

# %%
found = predictor(sorted(calls.glob("*.wav")))
table = found.to_frame()
print(table[["label", "confidence", "reason"]].head())

# %% [markdown]
# A telephone line or a microphone shifts all recordings in the same way, which can look like an emotion. With ten
# recordings or more, this shift is estimated without labels and removed.

# %%
if table["reason"].isna().any():  # otherwise none of them was predicted
    adapted = predictor.adapted(calls)
    print(adapted.channel.count, "recordings used to estimate the channel")
    print(adapted(sorted(calls.glob("*.wav"))))

# %% [markdown]
# A long recording over time: segments with one emotion each, and their start and end in seconds.

# %%
timeline = analyze(interview, predictor)
for segment in timeline.segments:
    print(f"{segment.start:6.1f} – {segment.end:6.1f} s  {segment.label}  {segment.confidence:.2f}")
