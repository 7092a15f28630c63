"""`ck template`: the template, the prompt it makes, whether it fits; and `ck run` with one that does not."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tests.frontend.make_gguf import TEMPLATE, write_tiny

Install = Callable[..., list[Any]]

FITS = "{{ bos_token }}{% for m in messages %}{{ m.role }}|{{ m.content }}<|im_end|>{% endfor %}"
FITS += "{{ 'assistant|' if add_generation_prompt }}"


@pytest.fixture
def tiny(tmp_path: Path) -> str:
    return str(write_tiny(tmp_path / "tiny.gguf"))


@pytest.fixture
def fits(tmp_path: Path) -> str:
    path = tmp_path / "fits.jinja"
    path.write_text(FITS)
    return str(path)


def test_show(ck_main: Any, tiny: str) -> None:
    assert ck_main("template", "show", tiny).out == TEMPLATE + "\n"
    assert json.loads(ck_main("template", "show", tiny, "--json").out)["chat_template"] == TEMPLATE


def test_render_is_the_text_alone(ck_main: Any, tiny: str, fits: str) -> None:
    words = ("template", "render", tiny, "-p", "ab", "--system", "a")
    assert ck_main(*words) == (0, "system: a\nuser: ab\n", "")
    result = ck_main(*words, "--chat-template", fits)
    assert result.out == "<s>system|a<|im_end|>user|ab<|im_end|>assistant|"
    assert ck_main(*words, "--chat-template", fits, "--no-reply").out.endswith("ab<|im_end|>")


def test_render_takes_messages_and_tools_from_files(ck_main: Any, tiny: str, tmp_path: Path) -> None:
    template = tmp_path / "t.jinja"
    template.write_text(
        "{{ messages | tojson }}{{ tools | tojson }}{{ date_string }}{{ enable_thinking }}</think>"
    )
    talk = tmp_path / "talk.json"
    messages = [{"role": "user", "content": "\u00e9"}]
    talk.write_text(json.dumps({"messages": messages, "tools": [{"name": "f"}]}))
    words = ("template", "render", tiny, "--messages", str(talk), "--chat-template", str(template))
    result = ck_main(*words, "--set", "date_string=today", "--thinking", "off")
    assert result.out == '[{"role": "user", "content": "\u00e9"}][{"name": "f"}]todayFalse</think>'
    (tmp_path / "tools.json").write_text('[{"name": "g"}]')
    result = ck_main(*words, "--tools", str(tmp_path / "tools.json"), "--set", "date_string=[1]", "-p", "x")
    assert result.out.endswith('{"role": "user", "content": "x"}][{"name": "g"}][1]</think>')


def test_ids_are_what_a_chat_feeds(ck_main: Any, tiny: str, fits: str) -> None:
    words = ("template", "render", tiny, "-p", "a<|im_end|>", "--chat-template", fits)
    assert ck_main(*words).out.count("<|im_end|>") == 2
    ids = [int(word) for word in ck_main(*words, "--ids").out.split()]
    # The message's own is text.
    assert (ids.count(3), ids.count(1), ids[0]) == (1, 1, 1)
    data = json.loads(ck_main(*words, "--json").out)
    assert (data["text"], data["ids"]) == (ck_main(*words).out, ids)


def test_lint(ck_main: Any, tiny: str, fits: str) -> None:
    result = ck_main("template", "lint", tiny)
    assert result.code == 5
    assert result.out.startswith("warning: turn-end: after a reply the template writes")
    assert result.err.endswith("tiny.gguf: the chat template must fit the tokens, it has 2 warnings\n")
    data = json.loads(ck_main("template", "lint", tiny, "--json").out)
    assert data["n_warnings"] == 2
    assert {finding["rule"] for finding in data["findings"]} == {"turn-end", "generation-prompt", "bos"}
    result = ck_main("template", "lint", tiny, "--chat-template", fits)
    assert (result.code, result.out.count("\n"), result.out[:10]) == (0, 1, "note: bos:")


REFUSED = [
    (["show", "missing.gguf"], "missing.gguf: no such file"),
    (["render"], "--prompt or --messages is required"),
    (["render", "--messages", "missing"], "missing: must be a readable file"),
    (["render", "--messages", "text"], "text: must be JSON: "),
    (["render", "--messages", "number"], "number: must be a list of JSON objects"),
    (["render", "-p", "x", "--set", "y"], "--set: must be NAME=VALUE, found y"),
    (["render", "-p", "x", "--set", "messages=1"], "a template variable must be one of"),
    (["render", "-p", "x", "--thinking", "on"], "--thinking on: needs a switch, the chat template has none"),
]


@pytest.mark.parametrize(("words", "message"), REFUSED, ids=lambda value: str(value))
def test_what_is_refused_is_one_line(
    words: list[str], message: str, ck_main: Any, tiny: str, tmp_path: Path
) -> None:
    (tmp_path / "text").write_text("Hi")
    (tmp_path / "number").write_text("1")
    verb, *rest = words
    result = ck_main("template", verb, *([] if rest[:1] == ["missing.gguf"] else [tiny]), *rest)
    assert (result.code, result.out, result.err.count("\n")) == (2, "", 1)
    assert message in result.err


def test_a_model_without_a_template_says_so(ck_main: Any, tiny: str, tmp_path: Path) -> None:
    from tests.frontend.raw_gguf import parse

    raw = parse(Path(tiny).read_bytes())
    raw.remove("tokenizer.chat_template")
    (tmp_path / "base.gguf").write_bytes(raw.pack())
    for verb in (["show"], ["lint"], ["render", "-p", "x"]):
        result = ck_main("template", verb[0], str(tmp_path / "base.gguf"), *verb[1:])
        assert (result.code, result.err) == (
            2,
            "ck: base.gguf: has no chat template, it completes raw text\n",
        )


def test_a_chat_begins_with_the_first_warning(
    ck_main: Any, model: str, stand_in: Install, tmp_path: Path
) -> None:
    stand_in()
    assert "chat template" not in ck_main("run", model, "-p", "x").err
    (tmp_path / "t.jinja").write_text("{% for m in messages %}{{ m.content }}\n{% endfor %}")
    result = ck_main("run", model, "-p", "x", "--chat-template", str(tmp_path / "t.jinja"))
    assert result.code == 0
    line = result.err.splitlines()[0]
    assert line.startswith("ck: chat template: after a reply the template writes And")
    assert line.endswith("what does is <end>; see: ck template lint")
    # Raw text has no template that could misfit.
    assert "ck: " not in ck_main("run", model, "-p", "x", "--chat-template", "none").err
