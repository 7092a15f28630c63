"""A chat by lines: commands, what they print, and what they leave."""

import io
import os
import re
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import pytest

from ck.frontend.thinking import Template as AnyTemplate
from ck.runtime.chat import Conversation
from ck.runtime.chat_state import StateKeeper
from ck.runtime.generate import Session
from ck.runtime.repl import HELP, Repl
from ck.runtime.samplers.params import SamplingParams
from ck.runtime.sampling import Sampler
from ck.runtime.terminal import Display
from tests.cli.stand_in import Executable, Template, Tokenizer

REPLY = "Paris."


def chat(script: str, reply: str = REPLY, n_ctx: int = 400, base: bool = False, **settings: Any) -> Any:
    """What the lines of `script` come to: out, err, the exit code, and the chat."""
    exe, tokenizer = Executable(reply, n_ctx, 64, 1), cast("Any", Tokenizer())
    template = None if base else cast("AnyTemplate", Template())
    talk = Conversation(Session(cast("Any", exe), tokenizer), template)
    sampler = Sampler(SamplingParams(temp=0, seed=1), tokenizer)
    name = settings.pop("model", "a")
    keeper = StateKeeper(cast("Any", exe), lambda: exe.identity(name))
    out, err = io.StringIO(), io.StringIO()
    repl = Repl(talk, sampler, keeper, -1, settings.pop("display", Display()), io.StringIO(script), out, err)
    code = repl.run()
    return SimpleNamespace(code=code, out=out.getvalue(), err=err.getvalue(), talk=talk, exe=exe, repl=repl)


def asked(run: Any) -> str:
    """The last prompt."""
    return bytes(token for token in run.talk.session.prompt if token < 256).decode()


def test_help_lists_every_command() -> None:
    for name in chat("/exit\n").repl._commands():
        assert re.search(rf"^{name}\b", HELP, re.MULTILINE), name
    assert HELP in chat("/help\n").err


def test_regen_replies_again_in_the_place_of_the_last_reply() -> None:
    run = chat("Hi\nWhere?\n/regen\n/regen\n")
    assert run.out == f"{REPLY}\n" * 4
    assert [turn["content"] for turn in run.talk.turns] == ["Hi", REPLY, "Where?", REPLY]
    assert asked(run) == f"[user]Hi[assistant]{REPLY}[user]Where?[assistant]"
    # All of the prompt but its last token was there.
    assert run.talk.session.stats.n_cached == len(run.talk.session.prompt) - 1
    assert chat("Once\n/regen\n", base=True).out == f"{REPLY}\n" * 2
    nothing = chat("/regen\n")
    assert (nothing.code, nothing.out) == (2, "")
    assert "ck: regen: there must be a reply to do again, nothing was asked yet" in nothing.err


def test_a_regen_that_fails_keeps_the_reply() -> None:
    run = chat("Hi\n")
    run.talk.session.engine.n_ctx = 10
    run.repl._handle("/regen")
    assert "must fit the context of 10 tokens" in run.err + run.repl.err.getvalue()
    assert [turn["content"] for turn in run.talk.turns] == ["Hi", REPLY]


def test_system_sets_and_removes_the_system_message() -> None:
    run = chat("Hi\n/system Be brief.\nWhere?\n")
    assert asked(run).startswith("[system]Be brief.[user]Hi[assistant]")
    assert "system message set" in run.err
    run = chat("/system Be brief.\n/system\nHi\n")
    assert asked(run) == "[user]Hi[assistant]"
    base = chat("/system x\n", base=True)
    assert (base.code, base.out) == (2, "")
    assert "ck: system: needs a chat template" in base.err


def test_tokens_and_stats() -> None:
    run = chat("Hi\n/tokens\n/stats\n")
    assert "20 tokens of prompt, 6 of reply\n" in run.err
    assert "answer ids: 80 97 114 105 115 46\nanswer pieces: 'P' 'a' 'r' 'i' 's' '.'\n" in run.err
    assert "prompt pieces: '<begin>' '[' 'u'" in run.err
    assert "of 400 tokens of context in use, seed 1" in run.err
    before = chat("/stats\n").err
    assert before == "nothing was generated yet\n0 of 400 tokens of context in use, seed 1\n"


def test_ids_pieces_and_ascii() -> None:
    run = chat("Hi\n", "\u00e9\n", display=Display(True, True, True))
    assert run.out == "\\xe9\n\n"
    assert "answer ids: 195 169 10\n" in run.err
    assert r"answer pieces: '\xc3' '\xa9' '\n'" in run.err
    display = Display(pieces=True)
    pieces = ["\u00e9".encode(), b"\x1b", b"'"]
    assert [display.piece(piece) for piece in pieces] == [
        "'\u00e9'",
        r"'\x1b'",
        '"\'"',
    ]
    assert Display(ascii=True).piece("\u00e9".encode()) == r"'\xe9'"


def test_set() -> None:
    run = chat(
        "/set temp=0.5\n/set --top-k = 3\n/set mirostat-ent=2\n/set ignore_eos=on\n"
        "/set samplers=top_k;temp\n/set\n"
    )
    params = run.repl.sampler.params
    assert (params.temp, params.top_k, params.mirostat_tau, params.ignore_eos) == (0.5, 3, 2.0, True)
    assert params.samplers == ("top_k", "temperature")
    last = run.err.splitlines()[-1]
    assert (
        last == "temp 0.5, top_k 3, mirostat_tau 2.0, ignore_eos True, samplers top_k;temperature, predict -1"
    )
    run = chat("/set stop=ri,zz\nHi\n/set stop=\nHi\n/set predict=2\nHi\n")
    assert run.out == "Pa\nParis.\nPa\n"
    assert "stopped by stop" in run.err
    assert "predict -1, stop 'ri' 'zz'" in run.err
    # Seed and stream go on.
    assert run.repl.sampler.seed == 1


SET_REFUSED = [
    ("temprature=1", "set: must be one of temp, dynatemp_range,"),
    ("temp=warm", "temp: must be a number, got warm"),
    ("temp", "temp: must be a number, got"),
    ("top_k=1.5", "top_k: must be a whole number, got 1.5"),
    ("top_p=2", "top_p: must be from 0 to 1, got 2.0"),
    ("ignore_eos=maybe", "ignore_eos: must be on or off, got maybe"),
    ("predict=x", "predict: must be a whole number of tokens, -1 for no limit, got x"),
    ("predict=-2", "predict: must be a whole number of tokens"),
    ("stop=a,,b", "stop: a text must have one character at least"),
    ("samplers=top_q", "samplers: each must be one of"),
    ("logit_bias=1", "set: logit_bias is given on the command line"),
]


@pytest.mark.parametrize(("words", "message"), SET_REFUSED)
def test_set_refuses(words: str, message: str) -> None:
    run = chat(f"/set {words}\nHi\n")
    assert f"ck: {message}" in run.err
    assert run.repl.sampler.params == SamplingParams(temp=0, seed=1)
    # The chat goes on; the exit code says that something went wrong.
    assert (run.code, run.out) == (2, f"{REPLY}\n")


def test_save_and_load(tmp_path: Path) -> None:
    file = tmp_path / "talk.state"
    first = chat(f"/system Be brief.\nHi\n/save {file}\n")
    assert re.search(
        r"^saved 2 messages, \d+ tokens of context, 2.2 kB, to talk.state$", first.err, re.MULTILINE
    )
    later = chat(f"/load {file}\nWhere?\n")
    assert later.code == 0
    assert asked(later) == f"[system]Be brief.[user]Hi[assistant]{REPLY}[user]Where?[assistant]"
    assert later.talk.session.stats.n_cached == len(first.exe.tokens) > 20
    assert later.exe.fed == later.exe.tokens[len(first.exe.tokens) :]
    assert chat(f"/load {file}\n/regen\n").out == f"{REPLY}\n"
    assert chat(f"Hi\n/save {file}\n").code == 0


def test_save_keeps_a_file_of_another_kind(tmp_path: Path) -> None:
    (tmp_path / "model.gguf").write_bytes(b"GGUF")
    (tmp_path / "empty").touch()
    os.mkfifo(tmp_path / "pipe")
    for name in ("model.gguf", "pipe"):
        run = chat(f"Hi\n/save {tmp_path / name}\n")
        assert run.code == 9
        assert f"ck: {name}: must be new or a state file of ck, it is not" in run.err
    assert (tmp_path / "model.gguf").read_bytes() == b"GGUF"
    assert chat(f"Hi\n/save {tmp_path}/empty\n").code == 0


@pytest.mark.parametrize(
    ("words", "settings", "message"),
    [
        ("/load", {}, "a file is required, as in /save talk.state"),
        ("/save", {}, "a file is required"),
        ("/load missing", {}, "missing: must be a file that can be read, No such file"),
        ("/save no/such/folder/x", {}, "x: must be a file that can be written, No such file"),
        ("/load FILE", {"model": "b"}, "talk.state: must be of the model that runs, b, it is of 'a'"),
        (
            "/load FILE",
            {"n_ctx": 300},
            "talk.state: must be of a program with -c 300 --kv f16 and 1 caches, it is of one with -c 400",
        ),
        ("/load ~nobody-has-this-name/talk", {}, "talk: must be a file that can be read, No such file"),
        ("/load FILE", {"base": True}, "talk.state: must be of raw text, as there is no chat template"),
    ],
)
def test_a_state_that_does_not_fit(
    tmp_path: Path, words: str, settings: dict[str, Any], message: str
) -> None:
    file = tmp_path / "talk.state"
    chat(f"Hi\n/save {file}\n")
    run = chat(f"Where?\n{words.replace('FILE', str(file))}\n", **settings)
    assert f"ck: {message}" in run.err
    assert run.err.count("ck: ") == 1
    assert run.code == 2
    assert [turn["content"] for turn in run.talk.turns] == ([] if settings.get("base") else ["Where?", REPLY])
    assert run.talk.session.fed == run.exe.tokens


def test_text_that_begins_with_a_slash() -> None:
    run = chat('/usr/bin is a folder\n/usr/bin\n"""\n/exit\nis a command"""\n')
    assert run.out == f"{REPLY}\n" * 2
    assert asked(run).endswith("[user]/exit\nis a command[assistant]")
    assert (run.code, run.err.count("no such command: /usr/bin")) == (2, 1)
    run = chat("Hi\n/reset button\n/regen it\n")
    assert run.out == f"{REPLY}\n" * 3
    assert asked(run).endswith(f"[user]/reset button[assistant]{REPLY}[user]/regen it[assistant]")


def test_the_first_error_is_the_exit_code() -> None:
    assert chat("x" * 500 + "\n/what\n/reset\nHi\n").code == 8
    assert chat("Hi\n/exit\n").code == 0
