# %% [markdown]
# # From recordings to a timeline
#
# A folder of short recordings as a table, and one long recording over time. No labels, no training, no torch.
# Open this file as a notebook in VS Code, or in Jupyter by jupytext.

# %%
from pathlib import Path

from multimodal_ser import load
from multimodal_ser.timeline import analyze

calls, interview = Path("calls"), "interview.mp3"  # your own
predictor = load()
print(predictor.card.split("\n\n")[1])

# %% [markdown]
# One answer a recording. What cannot be read stands in its place as an error.

# %%
found = predictor(sorted(calls.glob("*.wav")))
table = found.to_frame()
print(table[["label", "confidence", "reason"]].head())

# %% [markdown]
# Recordings of one line or microphone are shifted alike, which can look like an emotion. Ten of them or more tell
# the shift, without labels.

# %%
if any(item.reason is None for item in found):
    adapted = predictor.adapted(calls)
    print(adapted.channel.count, "recordings tell the channel")
    print(adapted(sorted(calls.glob("*.wav"))))

# %% [markdown]
# A long recording over time: segments of one emotion each, with where they begin and end in seconds.

# %%
timeline = analyze(interview, predictor)
for segment in timeline.segments:
    print(f"{segment.start:6.1f} – {segment.end:6.1f} s  {segment.label}  {segment.confidence:.2f}")
