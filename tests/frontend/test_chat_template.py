"""Chat templates: transformers' text, and errors in one line. Hostile ones are test_template_attacks.py's."""

import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from ck.errors import CkError, MalformedError, UsageError
from ck.frontend.chat_template import ChatTemplate
from ck.frontend.model import open_model
from tests.frontend.conversations import REFUSED, TALKS, Transformers, differences
from tests.models import model_path

OURS = sorted((Path(__file__).parents[1] / "data" / "templates").glob("*.jinja"))

MESSAGES = [
    {"role": "system", "content": "You are terse."},
    {"role": "user", "content": "Hi <|im_end|> \u00e9\U0001f600 {{ 1 }}"},
    {"role": "assistant", "content": " Hello! "},
    {"role": "user", "content": "line\nline"},
]

HEADERS = """{%- set loop_messages = messages %}
{%- for message in loop_messages %}
    {%- set content = '<|start|>' + message['role'] + '<|end|>\n\n' + message['content'] | trim + '<|eot|>' %}
    {%- if loop.index0 == 0 %}
        {%- set content = bos_token + content %}
    {%- endif %}
    {{- content }}
{%- endfor %}
{%- if add_generation_prompt %}
    {{- '<|start|>assistant<|end|>\n\n' }}
{%- endif %}
"""
TURNS = """{{ bos_token }}
{%- if messages[0]['role'] == 'system' -%}
    {%- set prefix = messages[0]['content'] + '\n\n' -%}
    {%- set rest = messages[1:] -%}
{%- else -%}
    {%- set prefix = "" -%}
    {%- set rest = messages -%}
{%- endif -%}
{%- for message in rest -%}
    {%- if (message['role'] == 'user') != (loop.index0 % 2 == 0) -%}
        {{ raise_exception("roles must alternate") }}
    {%- endif -%}
    {%- set role = "model" if message['role'] == 'assistant' else message['role'] -%}
    {{ '<start_of_turn>' + role + '\n' + (prefix if loop.first else "") }}
    {%- if message['content'] is string -%}
        {{ message['content'] | trim }}
    {%- endif -%}
    {{ '<end_of_turn>\n' }}
{%- endfor -%}
{%- if add_generation_prompt -%}
    {{ '<start_of_turn>model\n' }}
{%- endif -%}
"""
THINKING = """{% set ns = namespace(last=-1) %}
{% for m in messages %}
{% if m.role == 'user' %}{% set ns.last = loop.index0 %}{% endif %}
{% endfor %}
{% for m in messages %}
{% if m.role == 'assistant' and '</think>' in m.content and loop.index0 < ns.last %}
{{ m.content.split('</think>')[-1] }}
{% continue %}
{% endif %}
<|im_start|>{{ m.role }} {{ m | tojson }} {{ m.items() | list | length }}
{% endfor %}
{% generation %}{{ '<think>' if enable_thinking is defined and enable_thinking }}{% endgeneration %}
"""
TOOLS = "{% if tools %}{{ tools | tojson(indent=4) }}{% else %}none{% endif %}{{ eos_token }}"

TEMPLATES = {"headers": HEADERS, "turns": TURNS, "thinking": THINKING, "tools": TOOLS}

ERRORS = [
    "{% if",
    "{{ }",
    "{% endfor %}",
    "{{ x | nosuchfilter }}",
    "{% nosuchtag %}",
    "{{ undefined.attribute.attribute }}",
    "{{ 1 / 0 }}",
    "{{ messages[99].content }}",
    "{{ messages[0].content.zork() }}",
    "{{ 'a' + 1 }}",
]


@pytest.fixture(scope="module")
def demo() -> Iterator[ChatTemplate]:
    source = open_model(model_path("smollm2-135m")).file.chat_template
    assert source is not None
    template = ChatTemplate(source, "<|im_start|>", "<|im_end|>")
    yield template
    template.close()


def test_the_demo_model_asks_for_a_reply(demo: ChatTemplate) -> None:
    assert demo.render([{"role": "user", "content": "Hi"}]) == (
        "<|im_start|>system\nYou are a helpful AI assistant named SmolLM, trained by Hugging Face<|im_end|>\n"
        "<|im_start|>user\nHi<|im_end|>\n<|im_start|>assistant\n"
    )
    assert not demo.render([{"role": "user", "content": "Hi"}], add_generation_prompt=False).endswith(
        "assistant\n"
    )


@pytest.mark.oracle
@pytest.mark.parametrize("name", ["demo", *TEMPLATES])
@pytest.mark.parametrize("count", [2, 4])
@pytest.mark.parametrize("asks", [False, True])
def test_text_is_what_transformers_renders(name: str, count: int, asks: bool) -> None:
    from transformers.utils.chat_template_utils import render_jinja_template

    source = TEMPLATES.get(name) or open_model(model_path("smollm2-135m")).file.chat_template
    assert source is not None
    extra: dict[str, Any] = {"enable_thinking": True} if name == "thinking" else {}
    tools = (
        [{"type": "function", "function": {"name": "f", "description": "<é>"}}] if name == "tools" else None
    )
    (expected,), _ = render_jinja_template(
        [MESSAGES[:count]],
        tools=tools,
        chat_template=source,
        add_generation_prompt=asks,
        bos_token="<s>",
        eos_token="</s>",
        **extra,
    )
    template = ChatTemplate(source, "<s>", "</s>")
    given = extra if tools is None else {**extra, "tools": tools}
    assert template.render(MESSAGES[:count], asks, given) == expected
    template.close()


@pytest.mark.oracle
@pytest.mark.parametrize("path", OURS, ids=lambda path: path.stem)
def test_sixty_conversations_are_what_transformers_renders(path: Path) -> None:
    source = path.read_text("utf-8")
    assert len(TALKS) == len({talk.name for talk in TALKS}) == 60
    assert differences(source) == []
    # The comparison is of texts: few conversations are refused, and those that remain differ.
    theirs = Transformers(source)
    texts = [text for text in map(theirs.render, TALKS) if text != REFUSED]
    assert len(texts) >= 45
    assert len(set(texts)) >= 35


@pytest.mark.oracle
def test_the_demo_models_sixty_conversations() -> None:
    source = open_model(model_path("smollm2-135m")).file.chat_template
    assert source is not None
    assert differences(source, "<|im_start|>", "<|im_end|>") == []


def test_what_a_generation_block_sets_stays_inside() -> None:
    source = "{% set a = 1 %}{% generation %}{% set a = 2 %}{{ a }}{% endgeneration %}{{ a }}"
    template = ChatTemplate(source + "{{ dict.fromkeys(['k'], 3) }}{{ dict(k=4) }}", "", "")
    assert template.render(MESSAGES) == "21{'k': 3}{'k': 4}"
    template.close()


def test_a_message_has_no_keys_without_value_and_its_thinking_by_two_names() -> None:
    template = ChatTemplate("{% for m in messages %}{{ m | tojson }}{% endfor %}", "", "")
    said = [{"role": "assistant", "content": None, "reasoning": "because"}]
    expected = '{"thinking": "because", "role": "assistant", "reasoning": "because"'
    assert template.render(said) == expected + ', "reasoning_content": "because"}'
    with pytest.raises(UsageError, match=r"a conversation must be JSON: .*bytes is not JSON"):
        template.render([{"role": "user", "content": b"Hi"}])
    template.close()


@pytest.mark.parametrize("source", ERRORS)
def test_errors_are_one_line_and_keep_the_child(source: str) -> None:
    template = ChatTemplate(source, "", "")
    pids = set()
    for _ in range(2):
        with pytest.raises(MalformedError, match=r"^chat template: [^\n]*; try --chat-template none$"):
            template.render(MESSAGES)
        pids.add(template.child_pid)
    assert len(pids) == 1
    template.close()


def test_a_refused_conversation_is_the_users_to_mend() -> None:
    template = ChatTemplate(TURNS, "<s>", "</s>")
    with pytest.raises(UsageError, match="chat template: roles must alternate"):
        template.render([MESSAGES[2]])
    assert template.render(MESSAGES[1:2]).endswith("<start_of_turn>model\n")
    template.close()


def test_limits_on_what_goes_in() -> None:
    with pytest.raises(MalformedError, match="at most 262144 bytes, found 262145"):
        ChatTemplate("a" * 262_145, "", "")
    with pytest.raises(UsageError, match=r"must be one of .*, found bos_token"):
        ChatTemplate("", "", "").render(MESSAGES, variables={"bos_token": "x"})


def test_the_child_has_no_environment_and_no_files(demo: ChatTemplate) -> None:
    demo.render(MESSAGES)
    folder = f"/proc/{demo.child_pid}"
    with open(f"{folder}/environ", "rb") as file:
        assert file.read() == b""
    assert sorted(os.listdir(f"{folder}/fd")) == ["0", "1", "2"]


def test_a_killed_child_is_an_error_and_is_replaced(demo: ChatTemplate) -> None:
    before = demo.render(MESSAGES)
    assert demo.child_pid is not None
    os.kill(demo.child_pid, 9)
    with pytest.raises(CkError, match="chat template: "):
        demo.render(MESSAGES)
    assert demo.render(MESSAGES) == before
