"""`ck train`, `ck resume` and `ck promote` as a person types them: mistakes, output, a model at the end."""

import json
import os
import pty
import re
import signal
import subprocess
import sys
import termios
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from ck.cli.training import RESUMABLE
from ck.frontend.architectures.templates import TEMPLATES
from ck.train.config import KEYS
from ck.train.config_sources import FLAGS
from ck.train.rundir import RunDirectory
from tests.train.children import environment
from tests.train.small_runs import spawn, words

BAD: dict[str, tuple[bytes, str, list[str], int]] = {
    "empty.txt": (b"", "empty.txt: must hold text, found none", [], 3),
    "row.txt": (
        b"one row\n",
        "row.txt: tokenizer: the text must give 300 tokens, it gives 257 at most; add text, 300 tokens are",
        [],
        2,
    ),
    "crlf.txt": (b"a b\nc d\r\n", "crlf.txt:2: lines must end in LF, found CR LF", [], 3),
    "bom.txt": (b"\xef\xbb\xbfhello\n", "bom.txt:1: must start with text, found a byte order mark", [], 3),
    "nul.txt": (b"a\nb\nc\0d\n", "nul.txt:3: must be text, found a NUL byte", [], 3),
    "bad.jsonl": (b'{"text":"ok"}\n{"text":"so"}\n{"text":\n', "bad.jsonl:3: must be a JSON object", [], 3),
    "latin.txt": (b"a\ncaf\xe9\n", "latin.txt:2: ", [], 3),
    "umlaut.txt": (
        "plain\nnäh\n".encode(), "umlaut.txt:2: must be printable ASCII", ["--tokenizer", "ascii_bpe"], 3
    ),
    "missing.txt": (b"", "missing.txt: must be a file or a directory, found nothing there", [], 2),
}  # fmt: skip


@pytest.mark.parametrize("name", BAD)
def test_bad_data_is_named_and_leaves_no_run(name: str, ck_main: Any, training: Path) -> None:
    data, message, more, code = BAD[name]
    if name != "missing.txt":
        Path(name).write_bytes(data)
    result = ck_main(
        "train", "--run", "./run", "--steps", "2", *words(data=["c.txt"] * bool(more) + [name]), *more
    )
    assert result.code == code, result.err
    last = result.err.splitlines()[-1]
    assert last.startswith(f"ck: {message}"), last
    assert not (training / "run" / "run.json").exists()
    assert not (training / "run" / "checkpoints").exists()
    assert result.out == ""
    # Nothing of it stands in the way of the next one.
    again = ck_main("train", "--run", "./run", "--steps", "2", *words())
    assert again.code == 0, again.err
    assert (training / "run" / "checkpoints" / "step-2").is_dir()


def test_a_text_shorter_than_a_sequence(ck_main: Any, training: Path) -> None:
    ck_main("train", "--run", "./first", "--steps", "1", *words())
    Path("row.txt").write_text("one row\n")
    flags = words(data=["row.txt"], tokenizer="first/tokenizer.json")
    result = ck_main("train", "--run", "./run", "--steps", "2", *flags)
    assert result.code == 3
    assert "ck: row.txt: must give at least 33 tokens for a sequence of 32, found 8" in result.err
    assert not (training / "run" / "run.json").exists()


def test_all_mistakes_at_once(ck_main: Any, training: Path) -> None:
    wrong = ["--template", "lama", "--layers", "0", "--num-heads", "3", "--num-kv-heads", "2", "--lr", "-1"]
    result = ck_main("train", "--run", "./run", *wrong, "--schedule", "none", "--set", "run.stepps=3")
    assert result.code == 2
    [line] = result.err.splitlines()
    for text in (
        "--set run.stepps: is no key, did you mean run.steps",
        f"--template: must be one of {', '.join(TEMPLATES)}, found 'lama'",
        "--schedule: must be one of constant, linear, cosine, wsd, found 'none'",
        "--layers: must be a whole number from 1", "--lr: must be a number above 0, found -1.0",
        "--num-kv-heads: must divide the 3",
        "--data: at least one file or folder is required, found none",
    ):  # fmt: skip
        assert text in line, text
    assert not (training / "run").exists()
    result = ck_main("train", "--run", "./run", "--data", "c.txt")
    assert (result.code, result.err) == (
        2,
        f"ck: --template: must be one of {', '.join(TEMPLATES)}, found none\n",
    )
    result = ck_main("train", "--run", "a b", *words())
    assert (result.code, result.err[:30]) == (2, "ck: --run: must be at most 100")
    assert ck_main("train", *words()).code == 2


def test_from_text_to_a_model_that_goes_on(ck_main: Any, training: Path) -> None:
    trained = ck_main("train", "--run", "./run", "--steps", "60", "--json", *words(lr=5e-3))
    assert trained.code == 0, trained.err
    facts = json.loads(trained.out)
    assert facts.keys() == {"schema_version", "run", "step", "loss", "dev_loss", "dev_bits_per_byte"}
    assert (facts["run"], facts["step"]) == (str(training / "run"), 60)
    assert facts["dev_loss"] < 4
    unpromoted = ck_main("run", "./run", "--prompt", "the")
    assert unpromoted.code == 2
    assert unpromoted.err == f"ck: run: this run has no model yet; run: ck promote {training / 'run'}\n"

    listed = json.loads(ck_main("promote", "./run", "--list", "--json").out)
    assert [each["step"] for each in listed["checkpoints"]] == [20, 40, 60]
    table = ck_main("promote", "./run", "--list").out.splitlines()
    assert table[0].split() == ["step", "dev", "loss"]
    assert re.fullmatch(r"60 +\d\.\d{4} +latest, best *", table[-1])
    assert ck_main("promote", "./run", "--dry-run").out == "./run: step 60 would be promoted\n"
    assert json.loads(ck_main("promote", "./run", "--dry-run", "--json").out)["path"] is None
    assert not (training / "run" / "model.gguf").exists()
    for which, step in (("20", 20), ("best", 60)):
        promoted = json.loads(ck_main("promote", "./run", "--step", which, "--json").out)
        assert (promoted["step"], promoted["path"]) == (step, str(training / "run" / "model.gguf"))
    assert "promoted" in ck_main("promote", "./run", "--list").out.splitlines()[-1]
    assert ck_main("promote", "./run", "--step", "7").code == 2
    (training / "run" / "checkpoints" / "step-60" / "weights.safetensors").write_bytes(b"")
    listed = ck_main("promote", "./run", "--list")
    assert listed.code == 0
    assert listed.out.splitlines()[-1].split() == ["60", "latest,", "best,", "promoted,", "damaged"]
    assert re.match(r"step 60 is damaged: .*/step-60: .* weights\.safetensors must be \d+ bytes", listed.err)
    [line] = ck_main("promote", "./run", "--step", "best").err.splitlines()
    back = f"; the next best is step 40: ck promote {training / 'run'} --step 40"
    assert line.startswith("ck: ")
    assert line.endswith(back)

    told = ck_main("run", "./run", "--prompt", "the small model", "-n", "16", "--temp", "0")
    assert told.code == 0, told.err
    assert len(told.out.strip()) > 5
    assert "16 tokens" in told.err


def test_rows_and_runs_among_the_data(ck_main: Any, training: Path) -> None:
    Path("d/old").mkdir(parents=True)
    Path("d/old/run.json").write_text("{}")
    rows = [json.dumps({"body": line}) for line in Path("c.txt").read_text().splitlines()]
    Path("d/a.jsonl").write_text("\n".join(rows))
    flags = ["train", "--run", "./run", "--steps", "1", *words(data=["d"])]
    wrong = ck_main(*flags)
    assert wrong.code == 3
    named = "d/a.jsonl:1: must have a field text, found body; name it with --field, for ck train with --set"
    assert f"ck: {named} data.field=NAME\n" in wrong.err
    done = ck_main(*flags, "--set", "data.field=body")
    assert done.code == 0, done.err
    assert done.err.count("d/old: left out of the data, it holds run.json and so is a run\n") == 1
    index = json.loads((training / "run" / "data" / "index.json").read_text())
    assert index["train"]["n_documents"] + index["dev"]["n_documents"] == len(rows)


def test_a_folder_of_somebodys_is_no_place_for_a_run(ck_main: Any, training: Path) -> None:
    Path("paper/data").mkdir(parents=True)
    Path("paper/data/index.json").write_text("mine")
    Path("paper/.new-draft").write_text("mine")
    result = ck_main("train", "--run", "./paper", "--steps", "1", *words())
    assert result.code == 9
    assert result.err.startswith(f"ck: {training}/paper: must be empty, not there yet, or what a start that")
    assert sorted(map(str, Path("paper").rglob("*"))) == [
        "paper/.new-draft",
        "paper/data",
        "paper/data/index.json",
    ]
    assert Path("paper/data/index.json").read_text() == "mine"


def test_a_named_run_lies_in_the_cache_and_goes_on(ck_main: Any, training: Path) -> None:
    name = f"named-{os.getpid()}-{time.time_ns()}"
    first = ck_main("train", "--run", name, "--steps", "20", *words())
    assert first.code == 0
    head, rest = first.out.splitlines()
    assert head.startswith(f"{RunDirectory.open(name).path}: step 20, loss ")
    assert rest == f"next: ck promote {name}, then ck run {name} --prompt …"
    again = ck_main("train", "--run", name, "--steps", "20", *words())
    assert again.code == 9
    assert f"must be a new run, found one; run: ck resume {name}, or choose another name" in again.err
    resumed = ck_main("resume", name, "--steps", "30", "--json")
    assert json.loads(resumed.out)["step"] == 30
    assert "resuming after step 20 of 30\n" in resumed.err
    finished = ck_main("resume", name)
    assert finished.code == 0
    assert finished.out.startswith(f"{RunDirectory.open(name).path}: step 30, loss ")
    assert f"all 30 steps are done; for more: ck resume {name} --steps 60\n" in finished.err
    shorter = ck_main("resume", name, "--steps", "10")
    assert shorter.code == 2
    assert shorter.err.endswith(
        "ck: --steps: must come to at least the 30 steps that are done, found 10; pass more, or go back with "
        "--step\n"
    )
    assert ck_main("resume", name, "--set", "optim.beta1=0.5").code == 2
    assert ck_main("resume", name, "--step", "7").code == 2
    assert ck_main("resume", "nothing-here").code == 2
    with RunDirectory.open(name).lock():
        assert ck_main("resume", name).code == 9
        assert ck_main("promote", name).code == 9
    assert ck_main("promote", name).out.endswith(f": step 30; talk to it with: ck run {name}\n")
    told = ck_main("run", name, "--prompt", "the", "-n", "4", "--temp", "0")
    assert told.code == 0, told.err
    exported = ck_main("export", name, "--to", "gguf:f16", "-o", "f16.gguf", "--step", "20")
    assert exported.out.startswith(f"f16.gguf: {name} at step 20, ")


def test_an_alert_is_exit_code_5(ck_main: Any, training: Path) -> None:
    result = ck_main("train", "--run", "./run", "--steps", "9", *words(lr=1e30))
    assert result.code == 5
    resume = f"ck resume {training / 'run'}"
    assert result.err.endswith(
        f"; step 1 is saved; go back with {resume} --step 0 and a lower --lr, or leave the batch out with "
        f"{resume} --set run.alerts=skip\n"
    )
    assert ck_main("resume", "./run", "--step", "0", "--lr", "1e-3").code == 0


def test_a_configuration_file_with_flags_above_it(ck_main: Any, training: Path) -> None:
    Path("c.toml").write_text('[model]\ntemplate = "gemma3"\nlayers = 2\n[run]\nsteps = 3\nbatch = 1\n')
    flags = words()[words().index("--embed-dim") :]
    flags = ["--data", "c.txt", *flags]
    result = ck_main("train", "--run", "./run", "--config", "c.toml", *flags, "--set", "run.seed=5")
    assert result.code == 0, result.err
    kept = (training / "run" / "config.toml").read_text()
    for line in ('template = "gemma3"', "steps = 3", "batch = 2", "seed = 5"):
        assert line in kept.splitlines()


def test_help_lists_every_flag(ck_main: Any) -> None:
    text = ck_main("train", "--help").out
    flags = {f"--{name.replace('_', '-')}" for name in FLAGS}
    assert flags <= {*re.findall(r"--[a-z-]+", text)}
    assert {"--run", "--data", "--config", "--set", "--json"} <= {*re.findall(r"--[a-z-]+", text)}
    assert all(any(key.endswith(f".{name}") for key in KEYS) for name in FLAGS)
    again = ck_main("resume", "--help").out
    assert {f"--{name.replace('_', '-')}" for name in RESUMABLE} <= {*re.findall(r"--[a-z-]+", again)}
    # The defaults of a run that exists are its own.
    assert "[default" not in again
    assert {"--step", "--dry-run", "--list"} <= {*re.findall(r"--[a-z-]+", ck_main("promote", "--help").out)}


def test_plain_lines_where_there_is_no_terminal(training: Path) -> None:
    child = spawn("train", "--run", "./run", "--steps", "30", *words())
    out, error = child.communicate(timeout=60)
    assert child.returncode == 0, error
    assert "\r" not in error
    assert "\033" not in error
    lines = error.splitlines()
    assert [line for line in lines if line.startswith("step ") and "dev loss" in line] == [
        line
        for line in lines
        if re.fullmatch(r"step (10|20|30): dev loss \d\.\d{4}, \d\.\d{4} bits per byte", line)
    ]
    number = r"[\d.e+-]+"
    live = re.compile(
        rf"step \d+/30  loss {number}  lr {number}  norm {number}  \d+ tok/s  ETA \d+:\d\d"
        rf"(  dev {number} \({number} bits/byte\))?"
    )
    steps = [line for line in lines if live.fullmatch(line)]
    # The first and the last; others only after ten seconds.
    assert [line.split()[1] for line in steps] == ["1/30", "30/30"]
    assert out.splitlines()[0].startswith(f"{training / 'run'}: step 30, loss ")


def on_terminal(
    columns: int, act: Callable[[subprocess.Popen[bytes]], None], *arguments: str
) -> tuple[int, str]:
    """`ck` whose stderr is a terminal; `act` is called once a step is shown."""
    ours, theirs = pty.openpty()
    termios.tcsetwinsize(theirs, (24, columns))
    command = [sys.executable, "-m", "ck.cli.main", *arguments]
    child = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=theirs, env=environment())
    os.close(theirs)
    text, acted = b"", False
    while True:
        try:
            piece = os.read(ours, 1 << 16)
        except OSError:  # how Linux ends a terminal whose other side is closed
            break
        text += piece
        if not acted and b"step 20/" in text:
            act(child)
            acted = True
    os.close(ours)
    return child.wait(60), text.decode()


def test_one_line_that_changes_on_a_terminal(training: Path) -> None:
    columns = 64
    code, text = on_terminal(columns, lambda _: None, "train", "--run", "./run", "--steps", "60", *words())
    assert code == 0, text
    # Each step writes over the one before; only the last one stays.
    shown = re.findall(r"\r\033\[K(step [^\r\n]*)", text)
    assert [line.split()[1] for line in shown] == [f"{step}/60" for step in range(1, 61)]
    assert all(len(line) < columns for line in shown[:-1]), "a line that wraps cannot be cleared"
    rows = [line.split("\r\033[K")[-1] for line in text.split("\r\n")]
    assert [row for row in rows if row.startswith("step ")] == [shown[-1]]
    assert "dev " in shown[-1]
    assert rows[0] == "reading the data"


def test_an_interrupt_has_a_line_of_its_own(training: Path) -> None:
    def interrupt(child: subprocess.Popen[bytes]) -> None:
        child.send_signal(signal.SIGINT)

    code, text = on_terminal(100, interrupt, "train", "--run", "./a b", "--steps", "5000", *words())
    assert code == 130
    rows = text.split("\r\n")
    step = re.fullmatch(r"ck: step (\d+) is saved; go on with: ck resume '(.*)/a b'", rows[-2])
    assert step, rows[-2:]
    assert rows[-3].split("\r\033[K")[-1].startswith(f"step {step[1]}/5000  loss ")
    assert (training / "a b" / "checkpoints" / "latest").resolve().name == f"step-{step[1]}"
