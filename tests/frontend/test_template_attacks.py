"""Hostile chat templates: no way out of the sandbox, an end to every bomb, and a chat goes on after it."""

import re
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from ck.errors import MalformedError
from ck.frontend import chat_template
from ck.frontend.chat_template import ChatTemplate
from ck.frontend.gguf import GgufFile
from ck.frontend.tokenizer import Tokenizer
from ck.runtime.chat import Conversation
from ck.runtime.generate import Session
from tests.cli.stand_in import Executable
from tests.frontend.make_gguf import write_tiny

GOOD = "{% for m in messages %}{{ m.role }}: {{ m.content }}\n{% endfor %}"
UNSAFE = r"access to attribute '\w+' of '\w+'"
UNDEFINED = "has no attribute"

# Source, and words of what is said. Many were ways out of an earlier jinja2 or of another program with it.
ESCAPES = [
    # Attributes that lead to a class and from there anywhere.
    ("{{ ''.__class__.__mro__ }}", UNSAFE),
    ("{{ ().__class__.__base__.__subclasses__() }}", UNSAFE),
    ("{{ {}.__class__.__base__.__subclasses__() }}", UNSAFE),
    ("{{ ''['__class__']['__mro__'] }}", UNSAFE),
    ("{{ (''|attr('__class__')).mro() }}", UNSAFE),
    ("{{ ([''] | map(attribute='__class__') | first).__mro__ }}", UNSAFE),
    ("{{ [1] | sum(attribute='__class__') }}", UNSAFE),
    ("{{ (1).__class__.from_bytes('a') }}", UNSAFE),
    ("{{ (1).__reduce_ex__(2) }}", UNSAFE),
    ("{{ range.__class__.__mro__ }}", UNSAFE),
    ("{{ ''.join.__self__.__class__.__mro__ }}", UNSAFE),
    # What jinja2 itself brings, and what ck adds.
    ("{{ cycler.__init__.__globals__ }}", UNSAFE),
    ("{{ cycler('a').__init__.__globals__ }}", UNSAFE),
    ("{{ joiner.__init__.__globals__ }}", UNSAFE),
    ("{{ lipsum.__globals__['os'] }}", UNSAFE),
    ("{{ self.__init__.__globals__ }}", UNSAFE),
    ("{{ self._TemplateReference__context.parent }}", UNSAFE),
    ("{% macro m() %}{% endmacro %}{{ m._func.__globals__ }}", UNSAFE),
    ("{% macro m() %}{% endmacro %}{{ m._environment.globals }}", UNSAFE),
    ("{{ (messages | map('upper')).gi_frame.f_globals }}", UNSAFE),
    ("{{ nothing._fail_with_undefined_error.__globals__ }}", UNSAFE),
    ("{{ raise_exception.__globals__['json'] }}", UNSAFE),
    ("{{ raise_exception.__call__.__self__ }}", UNSAFE),
    ("{{ strftime_now.__code__.co_code }}", UNSAFE),
    ("{{ dict.__mro__[1] }}", UNDEFINED),
    ("{{ dict.__call__.__globals__ }}", UNSAFE),
    ("{{ dict.fromkeys.__func__.__globals__ }}", UNSAFE),
    ("{% set x = namespace(a=1) %}{{ x._Namespace__attrs.a }}", UNSAFE),
    ("{{ namespace(__class__=1) }}", "may not have the name __class__"),
    ("{{ namespace(**{'_x': 1}) }}", "may not have the name _x"),
    ("{% set ns = namespace() %}{% set ns.__class__ = 1 %}", "may not have the name __class__"),
    # Formats, directly and by reference.
    ("{% set f = '{0.__class__.__base__}'.format %}{{ f(1) }}", UNSAFE),
    ("{{ '{0.__class__.__mro__}'.format('').zork }}", UNSAFE),
    # What belongs to the conversation.
    ("{{ messages.append(1) }}", UNSAFE),
    ("{{ messages.clear() }}", UNSAFE),
    ("{{ messages.pop() }}", UNSAFE),
    ("{{ messages.__setitem__(0, 1) }}", UNSAFE),
    ("{{ messages[0].update(role='x') }}", UNSAFE),
    ("{{ messages[0].setdefault('x', 1) }}", UNSAFE),
    # Files.
    ("{% include '/etc/passwd' %}", "no loader"),
    ("{% import 'os' as os %}", "no loader"),
    ("{% from 'x' import y %}", "no loader"),
    ("{% extends 'x' %}", "no loader"),
]

# What the sandbox makes nothing of: no error, and no text either.
SILENT = [
    "{{ '{0.__class__}'.format(1) }}",
    "{{ '{a.__class__}'.format_map({'a': 1}) }}",
    "{{ ('{0.__class__}' | attr('format'))(1) }}",
    "{{ strftime_now.__globals__ }}",
    "{% for m in messages %}{{ loop._iterator }}{% endfor %}",
]

SLOW = "must be done after|was stopped"
# Where the machine is slow, time may end first.
MEMORY = "it must do with 512 MiB, it wanted more|must be done after"
NESTED = "must not be nested so deeply"
BOMBS = [
    ("{% for i in range(99999) %}{% for j in range(99999) %}{% endfor %}{% endfor %}", SLOW),
    ("{{ 2 ** (10 ** 10) }}", SLOW),
    ("{{ (['A' * 1000000] * 1000) | join }}", SLOW + "|" + MEMORY),
    ("{{ lipsum(n=10 ** 7) }}", SLOW),
    # Time, or Python's stack: whichever ends first on the machine.
    ("{{ 1" + " + 1" * 20_000 + " }}", SLOW + "|" + NESTED),
    ("{% set n = namespace(x='aa') %}{% for i in range(64) %}{% set n.x = n.x + n.x %}{% endfor %}", MEMORY),
    ("{{ 'A' * 10 ** 9 }}", MEMORY),
    ("{{ [1] * 10 ** 9 }}", MEMORY),
    ("{{ '%1000000000d' % 1 }}", MEMORY),
    ("{{ '{:>1000000000}'.format(1) }}", MEMORY),
    ("{{ 'a'.ljust(10 ** 9) }}", MEMORY),
    ("{{ 'a\nb' | indent(10 ** 9) }}", MEMORY),
    ("{{ messages | tojson(indent=10 ** 9) }}", MEMORY),
    ("{{ messages | batch(10 ** 9, 'x') | list }}", MEMORY),
    ("{{ ('a' * 10 ** 7) | replace('a', 'b' * 1000) }}", MEMORY),
    ("{{ range(10 ** 9) | list }}", "Range too big"),
    ("{% for i in range(99999) %}{{ 'A' * 1000 }}{% endfor %}", "must have at most 4194304 bytes"),
    ("{{ " + "(" * 2000 + "1" + ")" * 2000 + " }}", NESTED),
    ("{{ " + "-" * 50_000 + "1 }}", NESTED),
    ("{{ " + "[" * 5000 + "]" * 5000 + " }}", NESTED),
    ("{% if 1 %}" * 300 + "{% endif %}" * 300, "nested"),
    ("{% macro f(x) %}{{ f(x) }}{% endmacro %}{{ f(1) }}", NESTED),
    ("{% for x in [1] recursive %}{{ loop([1]) }}{% endfor %}", NESTED),
]


@pytest.fixture(scope="module")
def chat(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Conversation]:
    """One chat, whose template is exchanged again and again."""
    file = GgufFile(write_tiny(tmp_path_factory.mktemp("chat") / "tiny.gguf"))
    good = ChatTemplate(GOOD, "<s>", "</s>")
    yield Conversation(Session(Executable("", 64, 64, 1), Tokenizer.from_gguf(file)), good)
    good.close()


def goes_on(chat: Conversation) -> None:
    """With another template the chat's next prompt is as if nothing had been."""
    assert isinstance(chat.template, ChatTemplate)
    chat.template.source = GOOD
    ids = chat.encode("a < b")
    assert chat.session.tokenizer.decode(ids, skip_special=True) == "user: a < b\n"
    assert chat.turns == []


def refused(chat: Conversation, source: str, words: str) -> None:
    assert isinstance(chat.template, ChatTemplate)
    chat.template.source = source
    with pytest.raises(MalformedError, match=rf"^chat template: [^\n]*({words})[^\n]*; try --chat-templ"):
        chat.encode("Hi")


@pytest.mark.parametrize(("source", "words"), ESCAPES)
def test_an_escape_is_refused_and_the_chat_goes_on(chat: Conversation, source: str, words: str) -> None:
    assert isinstance(chat.template, ChatTemplate)
    goes_on(chat)
    child = chat.template.child_pid
    refused(chat, source, words)
    goes_on(chat)
    # The same child renders the next template: nothing of the first is left in it.
    assert chat.template.child_pid == child


@pytest.mark.parametrize("source", SILENT)
def test_what_leads_nowhere_is_empty(chat: Conversation, source: str) -> None:
    assert isinstance(chat.template, ChatTemplate)
    chat.template.source = source
    assert chat.template.render([{"role": "user", "content": "Hi"}]) == ""
    goes_on(chat)


@pytest.mark.parametrize(("source", "words"), BOMBS, ids=lambda text: text[:40])
def test_a_bomb_is_stopped_and_the_chat_goes_on(
    chat: Conversation, source: str, words: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    with monkeypatch.context() as patch:
        if words.startswith(SLOW):
            patch.setattr(chat_template, "WALL_SECONDS", 0.4)
        start = time.monotonic()
        refused(chat, source, words)
        assert time.monotonic() - start < 8
    goes_on(chat)


def test_processor_time_is_limited_by_itself(chat: Conversation, monkeypatch: pytest.MonkeyPatch) -> None:
    """The kernel stops the child, whatever its parent does."""
    monkeypatch.setattr(chat_template, "WALL_SECONDS", 60.0)
    start = time.monotonic()
    refused(chat, "{{ 2 ** (10 ** 10) }}", "must keep to its processor time and memory, it was stopped")
    assert time.monotonic() - start < 30
    goes_on(chat)


def test_the_child_is_limited_by_the_kernel(chat: Conversation) -> None:
    assert isinstance(chat.template, ChatTemplate)
    goes_on(chat)
    limits = Path(f"/proc/{chat.template.child_pid}/limits").read_text()
    for name, value in [("address space", 512 << 20), ("open files", 0), ("processes", 0), ("file size", 0)]:
        assert re.search(rf"^Max {name} +{value} +{value} ", limits, re.MULTILINE), limits
    assert re.search(r"^Max cpu time +\d+ +unlimited ", limits, re.MULTILINE), limits


def test_there_are_as_many_as_promised() -> None:
    assert len(ESCAPES) >= 20
    assert len(BOMBS) >= 15
    assert len({source for source, _ in ESCAPES + BOMBS}) == len(ESCAPES) + len(BOMBS)


def test_filters_that_load_more_code_work_in_the_child(tmp_path: Path, chat: Conversation) -> None:
    """The child cannot open files any more: what its filters need is loaded before."""
    assert isinstance(chat.template, ChatTemplate)
    chat.template.source = "{{ 'aa bb' | wordwrap(2) }}{{ lipsum(n=1, html=false) | length > 9 }}"
    assert chat.template.render([]) == "aa\nbbTrue"
    goes_on(chat)
