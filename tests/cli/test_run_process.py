"""`ck run` as a process: in pipes, at a terminal, interrupted, and with readers that leave."""

import os
import pty
import re
import select
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest

from tests.cli.stand_in import REPLY

STAND_IN = Path(__file__).with_name("stand_in.py")
ROOT = Path(__file__).parents[2]
THOUGHT = "<think>\nhm\n</think>\n\nParis."


def process(*words: str, **settings: Any) -> subprocess.Popen[bytes]:
    env = {**os.environ, "PYTHONPATH": str(ROOT), **settings.pop("env", {})}
    command = [sys.executable, str(STAND_IN), "run", str(STAND_IN), *words]
    return subprocess.Popen(command, env=env, cwd=ROOT, **settings)


def pipe(text: bytes, *words: str) -> tuple[int, bytes, str]:
    pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "stderr": subprocess.PIPE}
    with process(*words, **pipes) as child:
        out, err = child.communicate(text, timeout=60)
    return child.returncode, out, err.decode()


def test_a_pipe_is_turns_and_commands() -> None:
    script = b'Hello\n/stats\n"""\ntwo\nlines"""\n/what\n/help\n/reset\nAgain\n/exit\nnever said\n'
    code, out, err = pipe(script, "--temp", "0")
    # A command that there is not ends the whole in its exit code.
    assert (code, out.decode()) == (2, f"{REPLY}\n" * 3)
    assert err.count("stopped by eog") == 4
    assert "no such command: /what; /help lists them" in err
    assert "begins and ends a text of several lines" in err
    assert "conversation forgotten" in err
    assert "tokens of context in use, seed" in err


def test_a_pipe_may_end_anywhere() -> None:
    assert pipe(b"")[:2] == (0, b"")
    assert pipe(b"Hello")[:2] == (0, REPLY.encode() + b"\n")
    assert pipe(b'"""Hello\nto')[:2] == (0, REPLY.encode() + b"\n")
    assert pipe(b"\n  \n")[:2] == (0, b"")
    assert pipe(b"\xff\xfe broken\n")[:2] == (0, REPLY.encode() + b"\n")


def test_a_full_context_ends_the_turn_and_not_the_chat() -> None:
    script = b"Hi\n" + b"x" * 90 + b"\n/reset\nHi\n"
    code, out, err = pipe(script, "-c", "80")
    assert (code, out.decode()) == (8, f"{REPLY}\n" * 2)
    # What was asked in vain is not part of the conversation.
    assert "ck: prompt: must fit the context of 80 tokens, it has 159; shorten it" in err
    assert "/reset forgets the conversation" in err


@pytest.mark.parametrize(("words", "answer"), [("", ""), ("-f -", f"{REPLY}\n")])
def test_no_standard_input_is_an_empty_one(words: str, answer: str) -> None:
    env = {**os.environ, "PYTHONPATH": str(ROOT)}
    command = ["sh", "-c", f'exec "{sys.executable}" "{STAND_IN}" run "{STAND_IN}" {words} <&-']
    done = subprocess.run(command, env=env, cwd=ROOT, capture_output=True, timeout=60)
    assert (done.returncode, done.stdout.decode()) == (0, answer)


def test_standard_input_as_one_prompt() -> None:
    code, out, err = pipe(b"two\nlines\n", "-f", "-", "--show-token-ids")
    assert (code, out) == (0, REPLY.encode() + b"\n")
    assert f"prompt ids: 257 {' '.join(map(str, b'[user]two' + bytes([10]) + b'lines[assistant]'))}\n" in err


class Terminal:
    """`ck run` on a pseudo-terminal."""

    def __init__(self, *words: str, **env: str) -> None:
        self.ours, theirs = pty.openpty()
        self.text = ""
        # A session of its own, whose terminal this is, so that Ctrl-C typed becomes SIGINT.
        script = "import fcntl, os, sys, termios; fcntl.ioctl(0, termios.TIOCSCTTY, 0)\n"
        script += "os.execv(sys.executable, [sys.executable, *sys.argv[1:]])"
        command = [sys.executable, "-c", script, str(STAND_IN), "run", str(STAND_IN), *words]
        environment = {**os.environ, "PYTHONPATH": str(ROOT), "TERM": "dumb", **env}
        self.child = subprocess.Popen(
            command, stdin=theirs, stdout=theirs, stderr=theirs, env=environment, start_new_session=True
        )
        os.close(theirs)

    def until(self, words: str) -> None:
        """Read until `words` come, which are taken out of the text."""
        deadline = time.monotonic() + 60
        while words not in self.text:
            ready, _, _ = select.select([self.ours], [], [], 1)
            if ready:
                try:
                    self.text += os.read(self.ours, 4096).decode("utf-8", "replace")
                except OSError:
                    break
            assert time.monotonic() < deadline, self.text
        assert words in self.text, self.text
        self.text = self.text.partition(words)[2]

    def press_at_the_prompt(self, key: str) -> None:
        """Type `key` once the prompt is read by input(): what comes in the instant before, Python's readline
        notices with the next key only, and nobody's finger is that fast.
        """
        time.sleep(0.5)
        self.type(key)

    def type(self, text: str) -> None:
        os.write(self.ours, text.encode())

    def end(self) -> int:
        code = self.child.wait(timeout=60)
        os.close(self.ours)
        return code


def test_ctrl_c_stops_a_reply_and_twice_leaves() -> None:
    terminal = Terminal(CK_STAND_IN_REPLY="la " * 1000, CK_STAND_IN_DELAY="0.02")
    terminal.until("> ")
    terminal.type("sing\n")
    terminal.until("la la la")
    terminal.type("\x03")
    terminal.until("stopped by interrupted")
    terminal.until("> ")
    terminal.type("sing\n")
    terminal.until("la la")
    terminal.type("\x03")
    terminal.until("stopped by interrupted")
    terminal.until("> ")
    terminal.press_at_the_prompt("\x03")
    terminal.until("Ctrl-C again or /exit leaves")
    terminal.until("> ")
    terminal.press_at_the_prompt("\x03")
    terminal.until("ck: interrupted")
    assert terminal.end() == 130


def test_a_terminal_gets_no_control_characters_and_ctrl_d_leaves() -> None:
    terminal = Terminal(CK_STAND_IN_REPLY="a\x1b]0;title\x07b\tc")
    terminal.until("> ")
    terminal.type("hi\n")
    terminal.until("a\u241b]0;title\u2407b\tc")
    terminal.until("> ")
    terminal.type("\x04")
    assert terminal.end() == 0


def test_a_terminal_sees_how_far_a_long_prompt_is() -> None:
    terminal = Terminal("-p", "x" * 50, "-b", "30")
    terminal.until("reading the prompt: 30 of 68 tokens")
    terminal.until("reading the prompt: 60 of 68 tokens")
    terminal.until(REPLY)
    assert terminal.end() == 0


def test_a_terminal_has_thinking_dim() -> None:
    terminal = Terminal(CK_STAND_IN_REPLY=THOUGHT, CK_STAND_IN_THINKS="1", TERM="xterm")
    terminal.until("> ")
    terminal.type("hi\n")
    terminal.until("\x1b[2mhm\x1b[0m\r\n\r\nParis.\r\n")
    terminal.until("> ")
    terminal.type("\x04")
    assert terminal.end() == 0


def test_ctrl_c_ends_a_single_answer() -> None:
    terminal = Terminal("-p", "sing", CK_STAND_IN_REPLY="la " * 1000, CK_STAND_IN_DELAY="0.02")
    terminal.until("la la")
    terminal.type("\x03")
    terminal.until("ck: interrupted")
    assert terminal.end() == 130


def test_a_reader_that_leaves_ends_an_answer_silently() -> None:
    env = {"CK_STAND_IN_REPLY": "la " * 1000, "CK_STAND_IN_DELAY": "0.005"}
    with process("-p", "x", stdout=subprocess.PIPE, stderr=subprocess.PIPE, env=env) as child:
        assert child.stdout is not None
        assert child.stderr is not None
        child.stdout.read(5)
        child.stdout.close()
        err = child.stderr.read().decode()
    assert child.returncode == 141
    assert err.startswith("context ")
    assert err.count("\n") == 1


def test_sigterm_is_143() -> None:
    env = {"CK_STAND_IN_REPLY": "la " * 1000, "CK_STAND_IN_DELAY": "0.02"}
    with process("-p", "x", stdout=subprocess.PIPE, stderr=subprocess.PIPE, env=env) as child:
        assert child.stdout is not None
        child.stdout.read(5)
        child.send_signal(signal.SIGTERM)
        child.communicate(timeout=30)
    assert child.returncode == 143


def test_a_state_goes_from_one_process_to_the_next(tmp_path: Path) -> None:
    file = tmp_path / "talk.state"
    assert pipe(f"Hi\n/save {file}\n".encode())[0] == 0
    code, out, err = pipe(f"/load {file}\nWhere?\n".encode())
    assert (code, out) == (0, REPLY.encode() + b"\n")
    assert "loaded 2 messages, 51 tokens of context from talk.state\n" in err
    assert re.search(r"\d+ prompt tokens \(51 cached\)", err)
    other = {"env": {"CK_STAND_IN_MODEL": "b"}}
    with process(stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE, **other) as child:
        out, err = child.communicate(f"/load {file}\n".encode(), timeout=60)
    assert (child.returncode, out) == (2, b"")
    assert b"ck: talk.state: must be of the model that runs, b, it is of 'stand-in'\n" in err


def test_a_reader_that_leaves_ends_a_chat_silently() -> None:
    env = {"CK_STAND_IN_REPLY": "la " * 1000, "CK_STAND_IN_DELAY": "0.005"}
    pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "stderr": subprocess.PIPE}
    with process(env=env, **pipes) as child:
        assert child.stdin is not None
        assert child.stdout is not None
        assert child.stderr is not None
        child.stdin.write(b"sing\nagain\n")
        child.stdin.close()
        child.stdout.read(5)
        child.stdout.close()
        err = child.stderr.read().decode()
    assert child.returncode == 141
    assert err.startswith("context ")
    assert err.count("\n") == 1
