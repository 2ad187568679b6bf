"""Rewrites the last section of docs/corpora.md from CORPORA: one paragraph per corpus.

python scripts/corpora_page.py
"""

from __future__ import annotations

from pathlib import Path

from multimodal_ser.corpora import CORPORA, GENERAL_READERS, CorpusInfo
from multimodal_ser.corpora.labels import class_set

PAGE = Path(__file__).parents[1] / "docs" / "corpora.md"
HEADING = "## The corpora one by one\n"


def entry(info: CorpusInfo) -> str:
    """Returns a corpus's paragraph in Markdown."""
    scale = info.attribute_scale
    facts = [
        "classes: " + ", ".join(class_set(info.labels or "common4").classes),
        f"arousal, valence, dominance from {scale[0]:g} to {scale[1]:g}" if scale else "",
        f"{info.speakers} speakers" if info.speakers else "",
        f"official split: {info.parts}" if info.parts else "no official split",
        f"licence: {info.licence}",
        f"[{info.cited}]({info.url})",
    ]
    summary = "; ".join(filter(None, facts))
    return f"**`{info.name}`**: {info.description}; {summary}. *Traps:* {info.traps.rstrip('.')}.\n"


def page(before: str) -> str:
    """Returns the whole page: the text above the heading is kept, the corpora follow it."""
    infos = [info for name, info in CORPORA.items() if name not in GENERAL_READERS]
    above = before.partition(HEADING)[0]
    return above + HEADING + "\n" + "\n".join(map(entry, infos))


if __name__ == "__main__":
    PAGE.write_text(page(PAGE.read_text("utf-8")), "utf-8")
