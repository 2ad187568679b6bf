"""Every mistake at the command line is one line and an exit code, never a traceback."""

import functools
import inspect
import io
import json
import os
import random
import re
import subprocess
import sys
import types
import typing
from collections.abc import Callable
from pathlib import Path

import pytest

from made_features import made_folder, made_rows
from made_models import made_tuned
from made_sound import tone, written
from multimodal_ser import cli
from multimodal_ser.cli import _parsed, experiment, main, mistyped
from multimodal_ser.cli.app import app
from multimodal_ser.cli.predict import weights_of
from multimodal_ser.corpora.utterance import Utterance, write_manifest
from multimodal_ser.encoders.exposure import stated
from multimodal_ser.errors import SerError

COMMANDS = {
    "list": [],
    "manifest": ["emodb", "--root", "{root}", "--out", "{new}/m.jsonl"],
    "check": ["{manifest}"],
    "split": ["{manifest}", "--labels", "common4", "--scheme", "speaker", "--out", "{new}/s.json"],
    "extract": ["--manifest", "{manifest}", "--out", "{new}", "--audio", "whisper-tiny"],
    "convert-weights": ["{root}", "--out", "{new}/w"],
    "import-features": [
        "{root}/none.npy", "--manifest", "{manifest}", "--out", "{new}", "--name", "mine",
        "--modality", "audio",
    ],
    "train": [
        "--features", "{features}", "--labels", "common4", "--split", "speaker", "--out", "{new}",
    ],
    "demo": ["--out", "{new}"],
    "predict": ["{sound}", "--model", "{model}"],
    "analyze": ["{sound}", "--model", "{model}", "--out", "{new}"],
    "serve": ["--model", "{model}"],
    "export": ["{model}", "--out", "{new}/m.onnx"],
    "report": ["{root}"],
    "results": ["--tables", "{root}/none.json", "--out", "{new}/r.md"],
}  # fmt: skip
PROTOCOLS = ("in-domain", "ablation", "adaptation", "combined", "finetune", "fewshot")
WRONG = {
    int: ("x", "-1", "0", "99999999999999999999", "1.5", ""),
    float: ("x", "-1", "nan", "inf", "1e999", ""),
    bool: ("maybe",),
    Path: ("/proc/none/x", "{file}/below", "{file}", "", "\udce9", "a" * 5000),
    str: ("no-such", "", "../../x", "\udce9", "{file}/below", "a,a", "-"),
}


@pytest.fixture(scope="module")
def places(tmp_path_factory):
    """What the command lines name: good inputs, a file, folders."""
    root = tmp_path_factory.mktemp("places")
    sound = written(root / "a.wav", tone(0.5))
    rows = [
        Utterance(
            f"mine/{n}",
            "mine",
            word,
            str(sound),
            "so what",
            speaker=f"s{n % 3}",
            start=n / 50,
            end=(n + 1) / 50,
        )
        for n, word in enumerate(("anger", "happiness", "neutral", "sadness") * 3)
    ]
    write_manifest(rows, root / "m.jsonl")
    (root / "file").write_text("a file")
    return {
        "root": root / "empty",
        "file": root / "file",
        "manifest": root / "m.jsonl",
        "sound": sound,
        "model": made_tuned(root / "made.safetensors"),
        "features": made_folder(root / "features", made_rows(24, speakers=3), ("audio",)),
        "new": root / "new",
    }


@pytest.fixture(autouse=True)
def no_heavy_work(monkeypatch, tmp_path):
    """What would compute, listen or open ports, once its inputs are accepted, does nothing."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(
        "multimodal_ser.experiments.running.make_experiment", lambda *a, **k: Path()
    )
    monkeypatch.setattr("multimodal_ser.report.report", lambda *a, **k: Path())
    monkeypatch.setattr("multimodal_ser.serve.run", lambda *a, **k: None)
    written = types.SimpleNamespace(
        file=Path(__file__), part="whole", compared=1, difference=0.0, int8_difference=None
    )
    monkeypatch.setattr("multimodal_ser.export.export", lambda *a, **k: written)


def command(name: str) -> Callable:
    """The function behind a subcommand."""
    spec = app._subcommands[name]
    return getattr(spec, "target", spec)


def options_of(call: Callable) -> dict[str, type]:
    """Option → the plain type of its value."""
    hints = typing.get_type_hints(call, include_extras=False)
    if isinstance(call, type):  # a protocol's dataclass
        names = [name for name in hints if not name.startswith("_")]
    else:
        names = [
            name
            for name, item in inspect.signature(call).parameters.items()
            if item.kind is not item.POSITIONAL_ONLY
        ]
    return {name.replace("_", "-"): plain(hints[name]) for name in names if plain(hints[name])}


def plain(hint) -> type | None:
    """int of `tuple[int, ...] | None`, str of a Literal; None for nested settings."""
    if hint in WRONG:
        return hint
    if typing.get_origin(hint) is typing.Literal:
        return str
    inner = [plain(one) for one in typing.get_args(hint) if one not in (type(None), ...)]
    return next((one for one in inner if one), None)


def command_lines(places) -> list[list[str]]:
    """Every option of every command with wrong values of its type."""
    calls = {name: (command(name), [name, *base]) for name, base in COMMANDS.items()}
    calls["train"] = (experiment.Train, calls["train"][1])
    for protocol in typing.get_args(experiment.Command):
        kind, info = typing.get_args(protocol)
        base = ["experiment", info.name, "--labels", "common4", "--out", "{new}", "--dry-run"]
        needs = ["--source", "{features}", "--target", "{features}"]
        needs = (
            ["--features", "{features}"]
            if "features" in options_of(kind) and not hasattr(kind, "pairs")
            else needs
        )
        calls[f"experiment {info.name}"] = (kind, [*base, *needs])
    lines = []
    for call, base in calls.values():
        for option, kind in options_of(call).items():
            for value in WRONG[kind]:
                kept = list(base)
                if f"--{option}" in kept:
                    at = kept.index(f"--{option}")
                    del kept[at : at + (1 if option == "dry-run" else 2)]
                said = [f"--{option}={value}"] if kind is bool else [f"--{option}", value]
                lines.append([*kept, *said])
        lines += [base[:1], [*base, "--no-such", "1"], [*base, "one", "too", "many"]]
    for knob in ("network.dropout", "network.members", "schedule.epochs", "schedule.lr"):
        lines += [[*calls["experiment in-domain"][1], f"--{knob}", value] for value in WRONG[float]]
    return [[word.format(**places) for word in line] for line in lines]


def asked(line: list[str]) -> tuple[int, str]:
    """Exit code and standard error of one command line, in this process."""
    out, err = io.StringIO(), io.StringIO()
    before = sys.stdout, sys.stderr
    sys.stdout, sys.stderr = out, err
    try:
        code = main(line)
    except SystemExit as leaving:  # tyro's own errors
        code = leaving.code
    finally:
        sys.stdout, sys.stderr = before
    return code, err.getvalue() + (out.getvalue() if code else "")


@pytest.mark.parametrize(
    ("given", "read"),
    [
        ("manifest table --columns a=b --columns=c=d", "manifest table --columns a=b c=d"),
        ("experiment combined --split=a --split b c", "experiment combined --split a b c"),
        ("extract --trained_on a=no --trained-on b=no", "extract --trained-on a=no b=no"),
        ("extract --layers 3 --audio-tokens 1 --layers 4", "extract --layers 3 4 --audio-tokens 1"),
        ("unseen --odds 1 --odds -1 2", "unseen --odds 1 -1 2"),
        ("predict --format csv --format json a.wav", "predict --format csv --format json a.wav"),
    ],
)  # fmt: skip
def test_a_list_that_is_given_twice_keeps_all_its_values(given, read):
    assert mistyped.joined(given.split(), _parsed) == read.split()


def test_columns_that_are_named_one_by_one_are_all_read(tmp_path):
    table = tmp_path / "own.csv"
    table.write_text("key,wer,was,said\n1,anna,joy,hello\n")
    line = ["manifest", "table", "--root", str(table), "--out", str(tmp_path / "own.jsonl")]
    for column in ("audio=none", "id=key", "speaker=wer", "emotion=was", "text=said"):
        line += ["--columns", column]
    assert asked(line)[0] == 0
    row = json.loads((tmp_path / "own.jsonl").read_text())
    assert [row[name] for name in ("id", "speaker", "emotion", "text")] == [
        "own/1", "anna", "joy", "hello",
    ]  # fmt: skip
    code, said = asked([*line, "--columns", "text=wer"])
    assert (code, "--columns text=said text=wer: text is given twice" in said) == (1, True)


@pytest.mark.parametrize("read", [stated, weights_of])
def test_what_is_stated_twice_is_refused(read):
    with pytest.raises(SerError, match="meld=no meld=labels: meld is given twice; give it once"):
        read(["meld=no", "emodb=no", "meld=labels"])


@pytest.mark.slow
def test_no_traceback_from_wrong_values_of_every_option(places, monkeypatch):
    # the help of a command is written once, not for every line that is wrong
    pages = functools.cache(lambda parse, *command, read=mistyped._help: read(parse, command))
    monkeypatch.setattr(mistyped, "_help", lambda parse, command: pages(parse, *command))
    lines = command_lines(places)
    chosen = random.Random(0).sample(lines, 320)
    assert len(lines) > 600
    assert {line[0] for line in chosen} == {*COMMANDS, "experiment"}
    bad = []
    for line in chosen:
        code, said = asked(line)
        if code not in (0, 1, 2) or "Traceback" in said or "should not happen" in said:
            bad.append((line, code, said[-400:]))
    assert not bad, "\n".join(f"{line} → {code}\n   {said}" for line, code, said in bad)


@pytest.mark.parametrize("name", [*COMMANDS, *(f"experiment {name}" for name in PROTOCOLS)])
def test_an_arbitrary_exception_is_one_line_a_log_and_code_2(name, places, monkeypatch, tmp_path):
    def fail(*given, **how):
        raise ZeroDivisionError("first line\nsecond line")

    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    first, *protocol = name.split()
    if protocol:
        for kind in typing.get_args(experiment.Command):
            monkeypatch.setattr(typing.get_args(kind)[0], "planned", fail)
        line = [first, *protocol, "--out", "x", "--labels", "common4"]
        line += ["--features", "x"] if protocol[0] in ("in-domain", "ablation", "combined") else []
    else:
        call = command(name)
        monkeypatch.setattr(call, "__signature__", inspect.signature(call), raising=False)
        monkeypatch.setattr(call, "__code__", fail.__code__)
        line = [word.format(**places) for word in (name, *COMMANDS[name])]
    code, said = asked(line)
    assert code == 2, said
    assert len(said.strip().splitlines()) == 1
    assert "ZeroDivisionError: first line" in said
    log = Path(re.search(r"details are in (\S+\.log)", said)[1])
    assert log.parent == tmp_path
    assert "Traceback" in log.read_text()
    assert f"ser {first}" in log.read_text()


@pytest.mark.parametrize(
    ("line", "said"),
    [
        ("train --split cremad-original --folds 5", "folds of its own; leave --folds out"),
        ("train --tune.learning-rate 0.1", "add --tune-encoder"),
        ("train --scale 1 5", "--scale is that of attributes"),
        ("train --model --baselines", "there is nothing to train"),
        ("adaptation --methods none --weight 0.5", "settings of methods with a loss"),
        ("adaptation --methods standardize --no-standardize", "settings of methods with a loss"),
        ("fewshot --shots 2 --percentages 30", "exclude each other"),
        ("fewshot --percentages", "needs an amount"),
        ("extract --text minilm --audio-dtype bfloat16", "add --audio ENCODER"),
        ("extract --audio whisper-tiny --context 3", "add --text ENCODER"),
    ],
)
def test_options_without_effect_are_refused(places, tmp_path, line, said):
    name, *options = line.split()
    other = made_folder(tmp_path / "other", made_rows(corpus="other"), ("audio",), shift=0.1)
    given = {
        "train": ["train", "--features", "{features}", "--labels", "common4"],
        "extract": ["extract", "--manifest", "{manifest}"],
    }.get(name, ["experiment", name, "--source", "{features}", "--target", str(other)])
    if given[0] == "experiment":
        given += ["--labels", "anger,happiness,neutral,sadness"]
    words = [word.format(**places) for word in given]
    code, found = asked([*words, *options, "--out", str(tmp_path / "out")])
    assert (code, said in found) == (1, True), found


def test_out_folders_are_made_and_files_are_no_folders(places, tmp_path):
    base = ["predict", str(places["sound"]), "--model", str(places["model"]), "--format", "csv"]
    assert asked([*base, "--out", str(tmp_path / "results" / "deep" / "x.csv")])[0] == 0
    assert (tmp_path / "results" / "deep" / "x.csv").read_text().startswith("file,label")
    for command in ("predict", "manifest", "split", "extract", "analyze", "results"):
        line = [command, *COMMANDS[command], "--out", str(places["file"] / "below")]
        code, said = asked([word.format(**places) for word in line])
        assert code == 1, (command, said)
        assert "error: " in said or "failed: " in said


@pytest.mark.skipif(os.geteuid() == 0 and not Path("/proc").is_dir(), reason="needs /proc")
def test_places_that_may_not_be_written(places):
    for command in ("predict", "split", "analyze"):
        line = [command, *COMMANDS[command], "--out", "/proc/none/x"]
        code, said = asked([word.format(**places) for word in line])
        assert code == 1, (command, said)
        assert "/proc" in said


def shell(command: str, places, **env) -> subprocess.CompletedProcess:
    ser = f"{sys.executable} -m multimodal_ser"
    words = {name: str(place) for name, place in places.items()}
    return subprocess.run(
        ["bash", "-c", command.format(ser=ser, **words)],
        capture_output=True, text=True, errors="surrogateescape", env={**os.environ, **env},
        timeout=300, check=False,
    )  # fmt: skip


def test_consoles_of_any_kind(places, tmp_path):
    strange = written(tmp_path / "żółć → é.wav", tone(0.5))
    base = "{ser} predict '" + str(strange) + "'"  # the starter starts without torch
    for how, env, code in (
        (base, {"PYTHONIOENCODING": "cp1252"}, 0),
        (base + " --format json", {"PYTHONIOENCODING": "ascii"}, 0),
        (base + " > /dev/full", {}, 1),
        (base + " >&-", {}, 0),
        (base + " | head -0; exit ${{PIPESTATUS[0]}}", {}, 141),
        ("{ser} --help | head -1", {}, 0),
        ("{ser} list emodb > /dev/full", {}, 1),
    ):
        done = shell(how, places, **env)
        assert done.returncode == code, (how, done)
        assert "Traceback" not in done.stderr, (how, done.stderr)
        assert "Exception ignored" not in done.stderr, (how, done.stderr)


def test_names_with_dashes_and_bytes(places, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    written(tmp_path / "-x.wav", tone(0.5))
    assert asked(["predict", "-x.wav", "--model", str(places["model"])])[0] == 0
    try:
        (tmp_path / "\udce9.wav").write_bytes((tmp_path / "-x.wav").read_bytes())
    except (OSError, UnicodeError) as error:
        pytest.skip(f"this file system takes no such names: {error}")
    line = ["predict", "\udce9.wav", "--model", str(places["model"])]
    for kind in ("table", "json", "jsonl", "csv"):
        code, said = asked([*line, "--format", kind, "--out", "out"])
        assert code == 0, said
        assert (tmp_path / "out").stat().st_size > 20
    assert r"\xe9.wav," in (tmp_path / "out").read_text("utf-8")
    assert asked([*line, "--format", "json", "--out", "out.json"])[0] == 0
    assert json.loads((tmp_path / "out.json").read_text())[0]["file"] == "\udce9.wav"
    code, said = asked(["analyze", "\udce9.wav", "--model", str(places["model"]), "--out", "t"])
    assert code == 0, said


def test_a_name_with_a_line_break_stays_on_one_line(places, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    try:
        written(tmp_path / "a\n\x1b[1mb.wav", tone(0.5))
    except OSError as error:
        pytest.skip(f"this file system takes no such names: {error}")
    Path("bad\n.wav").write_text("no sound")
    for command in (["predict"], ["analyze", "--formats", "none"]):
        code, said = asked([*command, ".", "--model", str(places["model"])])
        assert code == 1
        assert r"a\n\x1b[1mb.wav" in said
        assert [line for line in said.splitlines() if line.startswith(r"failed: bad\n.wav: ")]


@pytest.mark.parametrize(
    ("given", "said"),
    [("--language de", "leave --language out"), ("--text a", "leave --text out"),
     ("--words --words-model base", "leave --words and --words-model out")],
)  # fmt: skip
def test_options_for_words_are_named_as_given(places, given, said):
    line = ["predict", str(places["sound"]), "--model", str(places["model"]), *given.split()]
    code, told = asked(line)
    assert (code, said in told) == (1, True), told


@pytest.mark.parametrize("value", ["80", "-0.1", "nan", "inf"])
def test_a_threshold_is_a_share(places, value):
    code, said = asked(["predict", str(places["sound"]), "--threshold", value])
    assert code == 1
    assert "allowed: a confidence from 0 to 1" in said
    assert cli.main is main


@pytest.mark.parametrize("form", ["--out {0}", "--out={0}", "--out ./{0}"])
def test_a_file_is_not_both_input_and_output(tmp_path, monkeypatch, capsys, form):
    monkeypatch.chdir(tmp_path)
    Path("t.csv").write_text("audio,emotion\na.wav,anger\n")
    before = Path("t.csv").read_bytes()
    for given in ("manifest table --root t.csv", "split t.csv --labels common4", "export t.csv"):
        assert main([*given.split(), *form.format("t.csv").split()]) == 1
        assert "t.csv: is an input of this command" in capsys.readouterr().err
        assert Path("t.csv").read_bytes() == before


@pytest.mark.parametrize(
    ("line", "said"),
    [
        ("pedict a.wav", "ser has no command pedict; did you mean predict? `ser --help`"),
        ("experiment in-doman", "ser experiment has no command in-doman; did you mean in-domain?"),
        ("predict a.wav --modle x", "ser predict has no option --modle; did you mean --model? "),
        ("train --models stacked", "ser train has no option --models; did you mean --model? "),
        ("train --network.hiden-dim=3", "did you mean --network.hidden-dim? "),
        ("analyze a.wav --no-microphon", "did you mean --no-microphone?"),
        ("list --xyzzy", "ser list has no option --xyzzy; `ser list --help` shows all"),
        ("--verison", "did you mean --version?"),
        (
            "experiment ablation --model text",
            "experiment ablation has no option --model; `ser experiment ablation --help` shows",
        ),
        ("predict a.wav --format cvs", "predict --format cvs; allowed: table, json, jsonl, csv\n"),
        ("export starter --part=hat", "ser export --part hat; allowed: whole, head\n"),
        (
            "train --task vote",
            "allowed: classes, distributions, attributes, classes+attributes, distributions+attri",
        ),
        (
            "analyze a.wav --formats rttm html",
            "ser analyze --formats takes one value, and html is one more; if it takes a list, "
            "write it with commas: --formats rttm,html\n",
        ),
    ],
)
def test_a_wrong_word_is_one_line_with_what_is_allowed(line, said, capsys):
    with pytest.raises(SystemExit) as caught:
        main(line.split())
    assert caught.value.code == 2
    out, error = capsys.readouterr()
    assert said in error
    assert error.count("\n") == 1
    assert not out


@pytest.mark.parametrize(
    ("line", "said"),
    [("manifest emodb x --root y --out z", "Unrecognized options: x"),
     ("report", "Missing from ser report"),
     ("predict a.wav --threshold abc", "Error parsing --threshold"), ("", "Expected one of")],
)  # fmt: skip
def test_other_mistakes_are_told_once(line, said, capsys):
    with pytest.raises(SystemExit):
        main(line.split())
    assert capsys.readouterr().err.count(said) == 1
