"""Measures the package: its size, repetition, and how many functions a command runs through.

    python scripts/house.py            # of this checkout
    python scripts/house.py OTHER/src  # of another one

Lines, entries, repetition and names are read from the source files. Commands are traced: `ser
train`, `ser report` and `ser predict` run on a small made-up task in their own processes, and each
module and function of the package that is entered counts once.
"""

from __future__ import annotations

import ast
import io
import os
import subprocess
import sys
import tempfile
import tokenize
from collections import Counter, defaultdict
from collections.abc import Iterable
from pathlib import Path

PACKAGE = "multimodal_ser"
RUN = 6  # lines that make a repetition
SHORT = ["--schedule.epochs", "1", "--schedule.least-steps", "0"]
TRACED = """
import inspect, os, sys
package, entered = sys.argv[1], set()
def note(frame, event, argument):
    code = frame.f_code
    ours = code.co_filename.startswith(package) and code.co_filename.endswith(".py")
    # the code of a class body is not optimized, unlike that of a function
    if event == "call" and ours and code.co_flags & inspect.CO_OPTIMIZED and code.co_name[0] != "<":
        entered.add((code.co_filename, code.co_qualname if hasattr(code, "co_qualname")
                     else f"{code.co_name}:{code.co_firstlineno}"))
from multimodal_ser.cli import main
sys.setprofile(note)
code = main(sys.argv[2:])
sys.setprofile(None)
sys.stderr.write(f"entered {len({file for file, _ in entered})} files, {len(entered)} functions\\n")
sys.exit(code)
"""


def main() -> None:
    """Prints one figure per line."""
    source = Path(sys.argv[1] if len(sys.argv) > 1 else Path(__file__).parents[1] / "src").resolve()
    package = source / PACKAGE
    files = sorted(package.rglob("*.py"))
    texts = {file: file.read_text("utf-8") for file in files}
    lines = sum(len(text.splitlines()) for text in texts.values())
    print(f"lines of source          {lines} in {len(files)} files")
    print(f"entries at the top       {len(top_entries(package))}")
    comments = sum(map(count_comments, texts.values()))
    print(f"comment lines            {comments} ({comments / lines:.1%})")
    names, twice = public_names(texts.values())
    print(
        f"public names             {names}, defined twice: {len(twice)} ({len(twice) / names:.1%})"
    )
    print(f"  {', '.join(twice)}")
    print(f"repeated runs of {RUN}       {repeated_runs(texts.values())}")
    with tempfile.TemporaryDirectory() as folder:
        for name, arguments in commands(package, Path(folder)).items():
            print(f"ser {name:21}{trace(source, package, Path(folder), arguments)}")


def top_entries(package: Path) -> list[str]:
    """Returns modules and folders of code at the top of the package."""
    return [
        entry.name
        for entry in package.iterdir()
        if entry.suffix == ".py" or (entry.is_dir() and any(entry.glob("*.py")))
    ]


def count_comments(text: str) -> int:
    """Counts comments, except instructions to tools."""
    tokens = tokenize.generate_tokens(io.StringIO(text).readline)
    comments = (token.string.lstrip("# ") for token in tokens if token.type == tokenize.COMMENT)
    return sum(not comment.startswith(("noqa", "type:", "fmt:")) for comment in comments)


def public_names(texts: Iterable[str]) -> tuple[int, list[str]]:
    """Counts public functions, classes and constants, and lists those defined twice."""
    found: Counter[str] = Counter()
    for text in texts:
        for node in ast.parse(text).body:
            if isinstance(node, ast.FunctionDef | ast.ClassDef | ast.AsyncFunctionDef):
                found[node.name] += 1
            elif isinstance(node, ast.Assign):
                found.update(one.id for one in node.targets if isinstance(one, ast.Name))
            elif isinstance(node, ast.AnnAssign) and isinstance(node.target, ast.Name):
                found[node.target.id] += 1
    public = {name: count for name, count in found.items() if not name.startswith("_")}
    return len(public), sorted(name for name, count in public.items() if count > 1)


def repeated_runs(texts: Iterable[str]) -> int:
    """Counts sequences of six lines that occur again, without imports and lone brackets."""
    seen: dict[tuple[str, ...], int] = defaultdict(int)
    for text in texts:
        lines = text.splitlines()
        for node in ast.walk(ast.parse(text)):
            if isinstance(node, ast.Import | ast.ImportFrom):  # which may take several lines
                for place in range(node.lineno - 1, node.end_lineno or node.lineno):
                    lines[place] = ""
        code = [line.strip() for line in lines]
        code = [line for line in code if len(line) > 3 and not line.startswith("#")]
        for place in range(len(code) - RUN + 1):
            seen[tuple(code[place : place + RUN])] += 1
    return sum(count > 1 for count in seen.values())


def commands(package: Path, folder: Path) -> dict[str, list[str]]:
    """Returns the three commands to trace, each after those that it needs."""
    runs = str(folder / "runs")
    return {
        "train": [
            *("train", "--features", str(package / "demo"), "--labels", "emodb7"),
            *("--split", "speaker", "--folds", "2", "--seeds", "1", "--out", runs, "--jobs", "1"),
            *("--model", "audio", *SHORT),
        ],
        "report": ["report", runs],
        "predict": ["predict", str(made_sound(folder / "sound.wav"))],
    }


def made_sound(path: Path) -> Path:
    """Writes two seconds of a buzz that rises and falls, at 16 kHz."""
    import numpy as np
    import soundfile

    time = np.arange(32_000) / 16_000
    buzz = sum(np.sin(2 * np.pi * 120 * n * time) / n for n in range(1, 12))
    soundfile.write(path, 0.1 * buzz * (1 + np.sin(8 * np.pi * time)), 16_000)
    return path


def trace(source: Path, package: Path, folder: Path, arguments: list[str]) -> str:
    """Runs a command; returns how many of the package's files and functions it entered."""
    made = subprocess.run(  # noqa: S603 - the same Python interpreter
        [sys.executable, "-c", TRACED, str(package), *arguments],
        env={**os.environ, "PYTHONPATH": str(source)},
        cwd=folder,
        capture_output=True,
        text=True,
        check=False,
    )
    if made.returncode:
        sys.exit(f"ser {' '.join(arguments)}: {made.stderr}")
    return made.stderr.splitlines()[-1].removeprefix("entered ")


if __name__ == "__main__":
    main()
