"""What every verb has in common: help, endings and their exit codes, lazy imports, the environment."""

import errno
import os
import resource
import shlex
import signal
import subprocess
import sys
from collections.abc import Callable
from typing import Any

import click
import pytest

import ck
from ck import errors
from ck.cli.main import VERBS, cli, main

CK = [sys.executable, "-m", "ck.cli.main"]
ROOT = os.path.dirname(os.path.dirname(os.path.abspath(ck.__file__)))


def run_process(*words: str, **settings: Any) -> subprocess.CompletedProcess[str]:
    return subprocess.run([*CK, *words], cwd=ROOT, text=True, capture_output=True, timeout=60, **settings)


def processor_seconds(*words: str) -> float:
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    assert run_process(*words).returncode == 0
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    return after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime


def test_help_takes_a_fifth_of_a_second() -> None:
    # Processor time of the whole process: nothing in it waits, and other tests may hold the processors.
    assert sorted(processor_seconds("--help") for _ in range(5))[2] <= 0.2


def test_verbs_import_nothing_heavy() -> None:
    program = f"import sys, importlib\nfor verb in {list(VERBS)}: importlib.import_module('ck.cli.' + verb)\n"
    program += "print(sorted({'numpy', 'xdsl', 'tokenizers', 'rich', 'jinja2'} & set(sys.modules)))"
    done = subprocess.run([sys.executable, "-c", program], cwd=ROOT, text=True, capture_output=True)
    assert done.stdout == "[]\n"


def test_no_words_show_the_help(ck_main: Any) -> None:
    assert ck_main() == ck_main("--help")


@pytest.mark.parametrize("verb", VERBS)
def test_each_verb_has_help_and_refuses_what_it_does_not_know(verb: str, ck_main: Any) -> None:
    shown = ck_main(verb, "--help")
    assert shown.code == 0
    assert shown.out.startswith(f"Usage: ck {verb} ")
    wrong = ck_main(verb, "--no-such-flag")
    assert (wrong.code, wrong.out) == (2, "")
    assert wrong.err.count("\n") == 1
    assert wrong.err.startswith(f"ck: {verb}: no such option")
    assert wrong.err.endswith(f"; see: ck {verb} --help\n")


@pytest.mark.parametrize(
    ("word", "words"),
    [
        ("plul", "no such verb: plul; did you mean pull?"),
        ("chta", "no such verb: chta; did you mean chat?"),
        ("qqqq", "no such verb: qqqq; the verbs are run, pull"),
    ],
)
def test_an_unknown_verb_names_the_nearest(word: str, words: str, ck_main: Any) -> None:
    result = ck_main(word)
    assert result.code == 2
    assert words in result.err
    assert result.err.count("\n") == 1


def test_a_verb_of_several_names_them(ck_main: Any) -> None:
    line = "ck: cache: needs one of ls, prune, rm, verify; see: ck cache --help\n"
    assert ck_main("cache") == (2, "", line)


def test_version(ck_main: Any) -> None:
    assert ck_main("--version") == (0, f"ck {ck.__version__}\n", "")


class Raiser:
    """A compiler that ends with one error."""

    def __init__(self, error: BaseException) -> None:
        self.error = error

    def __call__(self, *words: Any, **options: Any) -> None:
        raise self.error


ENDINGS: list[tuple[BaseException, int, str]] = [
    (errors.CkError("x: must be a, found b"), 1, "ck: x: must be a, found b\n"),
    (errors.UsageError("two\nlines"), 2, "ck: two lines\n"),
    (errors.MalformedError("m"), 3, "ck: m\n"),
    (errors.UnsupportedError("m"), 4, "ck: m\n"),
    (errors.GateError("m"), 5, "ck: m\n"),
    (errors.MachineError("m"), 6, "ck: m\n"),
    (errors.NetworkError("m"), 7, "ck: m\n"),
    (errors.ResourceError("m"), 8, "ck: m\n"),
    (MemoryError(), 8, "ck: memory: the machine has no more to give; try a smaller context with -c\n"),
    (
        OSError(errno.ENOMEM, "x"),
        8,
        "ck: memory: the machine has no more to give; try a smaller context with -c\n",
    ),
    (OSError(errno.ENOSPC, "No space left on device", "/x"), 8, "ck: /x: No space left on device\n"),
    (PermissionError(errno.EACCES, "Permission denied", "/x"), 6, "ck: /x: Permission denied\n"),
    (
        OSError(errno.ENAMETOOLONG, "File name too long", "a" * 300),
        2,
        f"ck: {'a' * 100}..: a file's name must be shorter; give a path\n",
    ),
    (KeyboardInterrupt(), 130, "ck: interrupted\n"),
]


@pytest.mark.parametrize(("error", "code", "line"), ENDINGS, ids=lambda value: type(value).__name__)
def test_an_ending_is_one_line_and_a_code(
    error: BaseException, code: int, line: str, ck_main: Any, model: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(ck, "compile", Raiser(error), raising=False)
    assert ck_main("run", model, "-p", "x") == (code, "", line)


@pytest.mark.parametrize("error", [errors.InternalError("a"), ValueError("a"), OSError(errno.EBADF, "a")])
def test_a_defect_shows_its_traceback(
    error: Exception, ck_main: Any, model: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(ck, "compile", Raiser(error), raising=False)
    result = ck_main("run", model, "-p", "x")
    assert (result.code, result.out) == (70, "")
    assert "Traceback (most recent call last)" in result.err
    assert result.err.splitlines()[-1].startswith("ck: this is a defect in ck: ")


def test_a_reader_that_leaves_is_no_error() -> None:
    with subprocess.Popen([*CK, "--help"], cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.PIPE) as child:
        assert child.stdout is not None
        assert child.stderr is not None
        child.stdout.close()
        assert child.stderr.read() == b""
    assert child.returncode == 141


def test_a_full_disk_is_one_line() -> None:
    with open("/dev/full", "w") as full:
        done = subprocess.run([*CK, "--help"], cwd=ROOT, stdout=full, stderr=subprocess.PIPE, text=True)
    assert (done.returncode, done.stderr) == (8, "ck: No space left on device\n")


def test_closed_streams_do_no_harm() -> None:
    command = f"{shlex.join(CK)} ls <&- >&- 2>&-"
    assert subprocess.run(["sh", "-c", command], cwd=ROOT).returncode == 0


def test_a_terminal_that_is_not_utf8_gets_an_answer() -> None:
    env = {**os.environ, "PYTHONIOENCODING": "ascii"}
    done = run_process("doctor", env=env)
    assert done.returncode in (0, 6)
    assert "Traceback" not in done.stderr


def test_sigterm_ends_with_143(monkeypatch: pytest.MonkeyPatch) -> None:
    before = signal.getsignal(signal.SIGTERM)

    def terminate(*words: Any, **options: Any) -> None:
        os.kill(os.getpid(), signal.SIGTERM)

    monkeypatch.setattr(ck, "compile", terminate, raising=False)
    try:
        with pytest.raises(SystemExit) as caught:
            main(["run", __file__, "-p", "x"])
    finally:
        signal.signal(signal.SIGTERM, before)
    assert caught.value.code == 143


def test_options_come_from_the_environment(
    ck_main: Any, model: str, stand_in: Callable[..., list[Any]], monkeypatch: pytest.MonkeyPatch
) -> None:
    calls = stand_in()
    monkeypatch.setenv("CK_RUN_CTX_SIZE", "123")
    monkeypatch.setenv("CK_RUN_SEED", "77")
    # The alias reads the same variables, and a flag wins over its variable.
    assert "seed 77" in ck_main("chat", model, "-p", "x").err
    assert "seed 78" in ck_main("run", model, "-p", "x", "--seed", "78").err
    assert [call.options["context_len"] for call in calls] == [123, 123]


def test_no_option_shadows_a_variable_with_another_meaning() -> None:
    taken = {"CK_CACHE_DIR", "CK_THREADS", "CK_ISA_MASK", "CK_PYTHON", "CK_VENV", "CK_TORCH"}
    context = click.Context(cli, info_name="ck", auto_envvar_prefix="CK")
    names = set[str]()
    for verb in VERBS:
        command = cli.get_command(context, verb)
        assert command is not None
        names |= {f"CK_{verb}_{parameter.name}".upper() for parameter in command.params}
    assert not names & taken
