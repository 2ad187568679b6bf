"""Reads a user's table: CSV, TSV, JSONL or Parquet, one utterance per row.

Columns: ``audio`` and ``emotion``; where there are such, ``id``, ``text``, ``speaker``,
``session``, ``dialogue``, ``start``, ``end`` (seconds), ``split``, ``arousal``, ``valence``,
``dominance`` and ``votes`` (``anger:3 neutral:2``, or an object in JSONL), in these or other usual
spellings (`columns.SPELLINGS`). Other columns go to ``extra``. Emotions are the names of classes,
such as ``anger``. A row without an emotion is read if it has votes (its emotion is then the one
with most of them, or ``no agreement``) or attributes (``no label``). Every column recognised by
another spelling is reported in a note.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from multimodal_ser.corpora.base import CorpusInfo, check_name
from multimodal_ser.corpora.cells import read_cells
from multimodal_ser.corpora.columns import understood
from multimodal_ser.corpora.rows import NEEDED, of_cells
from multimodal_ser.corpora.utterance import Corpus
from multimodal_ser.errors import SerError


def read_table(
    root: Path,
    name: str | None = None,
    *,
    columns: Sequence[str] = (),
    encoding: str | None = None,
    audio_dir: str = ".",
) -> Corpus:
    """Reads a table; its rows keep their order.

    Args:
        root: the table's file.
        name: the corpus's name in ids and results; None for the file's name.
        columns: ``start=von`` if the column start is called von, ``start=none`` if there is none.
        encoding: of the text; None to detect it (an error if that is ambiguous).
        audio_dir: the folder of the recordings, to which the table's paths are relative; itself
            relative to the table's folder.

    Raises:
        SerError: the file or a column is missing, the name is taken, a cell cannot be read, or an
            id occurs twice; the message gives line number and column.
    """
    path = Path(root)
    if not path.is_file():
        raise SerError(f"no table at {path}; give the CSV, TSV, JSONL or Parquet file itself")
    name = check_name(path.stem if name is None else name)
    cells = read_cells(path, encoding, _fits)
    return of_cells(name, path, cells, columns, own_words=True, folder=path.parent / audio_dir)


def _fits(columns: Sequence[str]) -> bool:
    """Whether these columns could be a table's: audio or emotion is among them."""
    return len(columns) > 1 and (
        bool({*NEEDED} & {*columns})
        or bool({*NEEDED} & {*understood("", [*dict.fromkeys(columns)]).column})
    )


TABLE = CorpusInfo(
    name="table",
    description="your own CSV, TSV, JSONL or Parquet file with the columns audio and emotion",
    read=read_table,
    licence="that of the recordings it lists",
)
