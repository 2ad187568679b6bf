"""Every command of README and docs/ runs, on small made-up data, in the order of the pages."""

import io
import re
import runpy
import sys
from contextlib import redirect_stdout
from dataclasses import fields
from pathlib import Path
from unittest import mock

import numpy as np
import pytest

from made_docs import PAGES, ROOT, arguments, blocks, is_shell, small, statements, world
from multimodal_ser.cli import main
from multimodal_ser.cli.app import app
from multimodal_ser.config.settings import TrainConfig
from multimodal_ser.models.fusion import MODELS

if sys.version_info >= (3, 11):
    import tomllib
else:  # pytest brings it there
    import tomli as tomllib

pytestmark = pytest.mark.slow

# Commands that are not run here, each with its reason. What matches no line is run.
NOT_RUN = {
    r"pip install": "needs a network; the extras it names are checked below",
    r"ser --tyro-write": "writes into the user's home",
    r"make |git |pytest|cd |export ": "what developers type; CI itself runs them",
    r"ser demo": "trains on the shipped features: tests/test_demo.py",
    r"ser serve": "serves until it is stopped: tests/test_serve_process.py",
    r"ser .*--engine ray": "starts a cluster: tests/test_cluster.py",
    r"ser .*emotion2vec-plus-large": "its weights are on the hub: tests/test_emotion2vec_files.py",
    r"(arecord .*|ser analyze -)$": "listens to a microphone: tests/test_timeline_cli.py",
    r"ser .*--speakers pyannote": "its weights are on the hub, behind a licence",
    r"curl ": "asks a server that serves until it is stopped: tests/test_serve*.py",
    r"python benchmarks/": "takes minutes and real corpora: tests/test_benchmarks.py",
    r"python -m nkululeko": "another program, with heavy requirements of its own",
    r"python scripts/": "takes minutes: measures the sources",
    r"python metadata/": "the original's lines: tests/test_paper.py",
}
# Blocks of Python that are not run here.
NOT_EXECUTED = {
    "multimodal_ser.encoders.emotion2vec": "its weights are on the hub: tests/test_emotion2vec*.py",
    "websocket": "asks a server that serves until it is stopped: tests/test_serve*.py",
    "MODELS[": "tests/test_plugins.py registers one of each",
    "CORPORA[": "tests/test_plugins.py",
    "ENCODERS[": "tests/test_plugins.py",
    "ADAPTERS[": "tests/test_plugins.py",
    "METRICS[": "tests/test_plugins.py",
    "#!/bin/bash": "needs SLURM",
}
# Pages whose commands are not run here.
UNREAD = {
    "docs/results.md": "runs of hours on the real corpora; the kinds of lines are the guide's"
}
# What a subcommand prints, or, where it prints nothing, what it leaves behind.
PRINTS = {
    "list": r"emodb7.*whisper-tiny",
    "manifest": r"\d+\s+utterances",
    "check": r"\d+ utterances checked, 0 findings",
    "split": r"wrote emodb\.split\.json: speaker-2, 2 folds",
    "extract": r"\.safetensors: \d+ utterances, 0 failed",
    "import-features": r"\.safetensors: \d+ utterances",
    "train": r"UA.*WA.*WF1|CCC.*RMSE",
    "experiment": r"UA.*WA.*WF1",
    "report": r"UA.*page: .*report\.html",
    "compare": r"UA.*linear",
    "tune": r"chosen.*UA|UA.*chosen",
    "explain": r"audio: hidden.*correlation",
    "results": r"wrote .*\.md",
    "merge-encoder": r"wrote merged",
    "unseen": r"corpus left out.*UA",
    "predict": r"^$|\.wav +\w+ +.* 0\.\d\d",
    "analyze": r".+",
    "adapt": r".*",
    "export": r"wrote .*\.onnx .*differ",
}
AFTER = {page: PAGES[:1] if page == "docs/guide.md" else PAGES[:2] for page in PAGES[1:]}


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    folder = world(tmp_path_factory.mktemp("world"))
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        # nobody speaks in made-up sound
        patch.setattr("multimodal_ser.audio.speech.gates.AUTO", "none")
        patch.setattr("os.cpu_count", lambda: 1)  # one process: starting others takes longer
        yield folder, {}, {}


def commands(page, folder):
    """Argument lists of a page's shell blocks."""
    for block in filter(is_shell, blocks(page)):
        if any(mark in block.body for mark in NOT_EXECUTED):
            continue
        before = ""
        for statement in statements(block.body):
            if re.fullmatch(r"\w+=(\"[^\"]*\"|\S*)", statement):
                before += statement + "\n"
                continue
            found = arguments(statement, folder, before)
            assert found, f"{page}: no command in {statement!r}"
            yield from found


def reason(words):
    return next((why for how, why in NOT_RUN.items() if re.match(how, " ".join(words))), None)


def run(words):
    """Runs one command in this process; what it printed."""
    out = io.StringIO()
    with redirect_stdout(out):
        code = _script(words[1:]) if words[0] == "python" else main(small(words))
    assert code == 0, f"{' '.join(words)} ended with {code}"
    return out.getvalue()


def _script(words):
    with pytest.MonkeyPatch.context() as patch, mock.patch.dict(MODELS):
        patch.setattr(sys, "argv", [words[0], *small(["", *words[1:]])])
        with pytest.raises(SystemExit) as ended:
            runpy.run_path(words[0], run_name="__main__")
    return ended.value.code


def pages_until(page, place):
    """Runs the commands of the pages that a reader has followed before, and of this one, once.

    What several pages have in the same words is run once.
    """
    folder, done, printed = place
    for one in (*AFTER.get(page, ()), page):
        if one in done:
            continue
        done[one] = []
        _keep_files(one, folder)
        for words in commands(one, folder):
            if reason(words) is None:
                key = tuple(words)
                printed[key] = printed[key] if key in printed else run(words)
                done[one].append((words, printed[key]))
    return done[page]


def _keep_files(page, folder):
    """A page says of a block of Python what the file is called."""
    text = (ROOT / page).read_text(encoding="utf-8")
    for name, body in re.findall(r"`(\w+\.py)`[^\n]*:\n\n```python\n(.*?)^```", text, re.M | re.S):
        (folder / name).write_text(body)


@pytest.mark.parametrize("page", PAGES)
def test_the_commands_of_a_page_run_and_print_what_they_should(page, place):
    for words, printed in pages_until(page, place):
        sub = words[1] if words[0] == "ser" else words[2]
        if "--out" in words:
            assert Path(words[words.index("--out") + 1]).exists(), words
        assert re.search(PRINTS[sub], printed, re.S), (words, printed)


def test_the_python_of_the_pages_runs(place, monkeypatch):
    pages_until("docs/guide.md", place)
    _short(monkeypatch)
    ran = 0
    for page in PAGES:
        named = {"chunk": np.zeros(1600, np.float32), "__name__": "__main__"}
        for block in blocks(page):
            if block.language == "python" and not any(m in block.body for m in NOT_EXECUTED):
                exec(compile(block.body, page, "exec"), named)
                ran += 1
    assert ran >= 3


@pytest.mark.parametrize(
    "name", ["recordings_to_timeline", "corpus_to_paper", "own_model", "few_shot"]
)
def test_the_notebooks_run(place, monkeypatch, name, capsys):
    """Cells of scripts, on small data and with one step of training, printing what they promise."""
    pages_until("docs/guide.md", place)
    _short(monkeypatch)
    with mock.patch.dict(MODELS):
        runpy.run_path(str(ROOT / "examples" / f"{name}.py"), run_name="__main__")
    printed = capsys.readouterr().out
    assert ("label" if name == "recordings_to_timeline" else "UA") in printed
    assert ("tabular" in printed) == (name == "corpus_to_paper")


@pytest.mark.parametrize("name", ["corpus_to_paper", "own_model", "few_shot"])
def test_processes_that_train_in_parallel_repeat_nothing_of_a_notebook(name, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)  # where no data is: reading any would fail
    with mock.patch.dict(MODELS):
        runpy.run_path(str(ROOT / "examples" / f"{name}.py"), run_name="__mp_main__")
        assert ("gated" in MODELS) == (name == "own_model")


def _short(monkeypatch):
    """One epoch where nothing else is said."""
    short = [
        1 if item.name in ("epochs", "least_steps") else item.default
        for item in fields(TrainConfig)
    ]
    monkeypatch.setattr(TrainConfig.__init__, "__defaults__", tuple(short))


def test_no_reason_is_left_over(place):
    """What is listed as not run occurs; what is neither run nor listed ends `commands`."""
    found = [" ".join(words) for page in PAGES for words in commands(page, place[0])]
    for how in NOT_RUN:
        assert any(re.match(how, one) for one in found), how
    bodies = "".join(block.body for page in PAGES for block in blocks(page))
    for mark in NOT_EXECUTED:
        assert mark in bodies, mark


def test_what_is_installed_exists():
    """Packages come from this folder, with extras that pyproject.toml has."""
    extras = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"][
        "optional-dependencies"
    ]
    for page in [*PAGES, "Dockerfile", "docs/design.md"]:
        text = (ROOT / page).read_text(encoding="utf-8")
        for line in re.findall(r"pip install[^\n`]*", text):
            for named in re.findall(r"\[([\w,-]+)\]", line):
                assert set(named.split(",")) <= set(extras), (page, line)
            if page.endswith(".md"):
                assert "'multimodal-ser[" not in line, (page, line)


def test_what_sentences_name_exists(capsys):
    """Subcommands and files of the repository that stand in the middle of a sentence."""
    with pytest.raises(SystemExit):
        main(["--help"])
    printed = capsys.readouterr().out
    for page in (*PAGES, *UNREAD, "CHANGELOG.md", "docs/design.md"):
        text = (ROOT / page).read_text(encoding="utf-8")
        for name in re.findall(r"`ser ([a-z][a-z-]*)", text):
            assert re.search(rf"\b{name}\b", printed), (page, name)
        for file in re.findall(r"`(?:python )?((?:tests|scripts|benchmarks)/\w+\.py)", text):
            assert (ROOT / file).is_file(), (page, file)


def test_the_tests_that_the_pages_name_exist():
    """`test_x.py::test_y`, and `::test_z` of the file that was named last."""
    named = 0
    for page in (*PAGES, *UNREAD, "docs/design.md"):
        file = ""
        for module, test in re.findall(
            r"`(?:tests/)?(test_\w+\.py)?(?:::(\w+))?`", (ROOT / page).read_text(encoding="utf-8")
        ):
            file = module or file
            if module or test:
                text = (ROOT / "tests" / file).read_text(encoding="utf-8")
                assert f"def {test}" in text, (page, file, test)
                named += 1
    assert named > 50


def test_every_command_is_on_a_page():
    texts = " ".join((ROOT / page).read_text(encoding="utf-8") for page in PAGES)
    for name in app._subcommands:
        assert re.search(rf"\bser {name}\b", texts), name


def test_every_page_is_two_clicks_from_the_readme():
    found = {ROOT / "README.md"}
    for _ in range(2):
        for page in tuple(found):
            links = re.findall(r"\]\(([^):#]+\.md)", page.read_text(encoding="utf-8"))
            found |= {(page.parent / link).resolve() for link in links}
    assert not {*(ROOT / "docs").glob("*.md")} - found


def test_every_page_is_read():
    docs = {path.relative_to(ROOT).as_posix() for path in (ROOT / "docs").rglob("*.md")}
    unread = docs - set(PAGES) - set(UNREAD)
    assert not [page for page in unread if any(is_shell(block) for block in blocks(page))]
