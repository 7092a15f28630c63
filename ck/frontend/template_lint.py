"""What does not fit together in a chat template, a vocabulary and the tokens that end a reply.

Rules look at what the template writes for the plainest conversations, seldom at how it is written. A warning
means that a chat will go wrong: a reply that does not end, a prompt that no reply follows. A note is there to
be known.
"""

import re
from collections.abc import Callable, Iterable, Iterator
from contextlib import suppress
from dataclasses import dataclass
from typing import Literal

from ck.errors import MalformedError, UsageError
from ck.frontend.chat_template import encode_chat
from ck.frontend.gguf.cursor import shown
from ck.frontend.thinking import Template, read_thinking
from ck.frontend.tokenizer import Tokenizer

_SYSTEM = {"role": "system", "content": "Be kind to everybody."}
_ASKED = {"role": "user", "content": "Which word comes first?"}
_SAID = {"role": "assistant", "content": "The shortest of them."}
_MORE = {"role": "user", "content": "And which one then?"}
_REPLY = _SAID["content"]

# Texts that are meant as control tokens, whatever the vocabulary has.
_CONTROL = re.compile(r"<\|[^<>|\s'\"{}+]{1,40}\|>|<(?:start|end|begin)_of_[a-z_]{1,40}>")
_ADDRESS = re.compile(r"https?://[^\s'\"<>\\]{1,80}")
# Of a long list, as many as a line holds.
_LISTED = 4


@dataclass(frozen=True)
class Finding:
    """What one rule found."""

    rule: str
    level: Literal["warning", "note"]
    text: str


@dataclass(frozen=True)
class _Case:
    """A template, its vocabulary, and the plainest conversations.

    asked      a question, its reply asked for; `unasked` the same with no reply asked for
    said       a question and its reply
    went_on    both, and another question
    system     a system message and a question; None when the template refuses it
    """

    template: Template
    tokenizer: Tokenizer
    asked: str
    unasked: str
    said: str
    went_on: str
    system: str | None

    def ids(self, text: str) -> list[int]:
        """Ids of what a template writes."""
        return self.tokenizer.encode(text, add_special=False, parse_special=True)


def lint_template(template: Template, tokenizer: Tokenizer) -> list[Finding]:
    """What is wrong, then what is to know.

    Raises MalformedError for a template that cannot be run, UsageError for one that refuses a question with
    its reply.
    """
    system: str | None = None
    with suppress(MalformedError, UsageError):
        system = template.render([_SYSTEM, _ASKED])
    case = _Case(
        template=template,
        tokenizer=tokenizer,
        asked=template.render([_ASKED]),
        unasked=template.render([_ASKED], False),
        said=template.render([_ASKED, _SAID], False),
        went_on=template.render([_ASKED, _SAID, _MORE]),
        system=system,
    )
    found = [finding for rule in _RULES for finding in rule(case)]
    return sorted(found, key=lambda finding: finding.level == "note")


def _turn_end(case: _Case) -> Iterator[Finding]:
    """What follows a reply in the history has to be what ends one."""
    _, reply, rest = case.went_on.rpartition(_REPLY)
    if not reply:
        yield Finding("turn-end", "warning", "a reply is missing from what the next turn sees")
        return
    rest = rest.lstrip()
    ids = case.ids(rest)
    if ids and ids[0] in case.tokenizer.eog_ids:
        return
    ends = _listed(shown(_text(case, token)) for token in sorted(case.tokenizer.eog_ids)) or "no token"
    is_token = ids and case.tokenizer.is_control(ids[0])
    writes = shown(_text(case, ids[0]) if is_token else rest[:20]) or "nothing"
    text = f"after a reply the template writes {writes}, which does not end one; what does is {ends}"
    yield Finding("turn-end", "warning", text)


def _generation_prompt(case: _Case) -> Iterator[Finding]:
    """What asks for a reply has to lead to it as the history does."""
    follows = case.said.startswith(case.asked) and case.said[len(case.asked) :].lstrip().startswith(_REPLY)
    if case.asked == case.unasked and not follows:
        text = "nothing is written to ask for a reply, the history has something before each"
        yield Finding("generation-prompt", "warning", text)


def _bos(case: _Case) -> Iterator[Finding]:
    bos = case.tokenizer.bos_id
    if bos is None:
        return
    text = shown(_text(case, bos))
    if encode_chat(case.tokenizer, case.asked)[:2] == [bos, bos]:
        yield Finding("bos", "warning", f"a prompt begins with {text} twice")
    elif case.tokenizer.add_bos and case.ids(case.asked)[:1] == [bos]:
        wrote = f"the template writes {text} and the tokenizer adds it: what encodes the text must not"
        yield Finding("bos", "note", f"{wrote} add it again, ck does not")
    elif case.tokenizer.add_bos:
        yield Finding("bos", "note", f"the template does not write {text}, ck puts it first")


def _tokens(case: _Case) -> Iterator[Finding]:
    """Control tokens have to be tokens."""
    written = dict.fromkeys(_CONTROL.findall(case.asked + case.went_on + (case.system or "")))
    unknown = [text for text in written if len(case.ids(text)) != 1]
    if unknown:
        are = "is no token" if len(unknown) == 1 else "are no tokens"
        yield Finding("tokens", "warning", f"{_listed(map(shown, unknown))} {are} of this vocabulary")
    named = dict.fromkeys(_CONTROL.findall(case.template.source))
    unused = [text for text in named if text not in written and len(case.ids(text)) != 1]
    if unused:
        text = f"{_listed(map(shown, unused))}, which the template names, the vocabulary does not have"
        yield Finding("tokens", "note", text)


def _system_message(case: _Case) -> Iterator[Finding]:
    if case.system is None:
        yield Finding("system", "note", "a system message is refused")
    elif _SYSTEM["content"] not in case.system:
        yield Finding("system", "note", "a system message is left out")


def _thinking(case: _Case) -> Iterator[Finding]:
    thinking = read_thinking(case.template)
    if thinking is not None and thinking.switch is None:
        yield Finding("thinking", "note", f"{thinking.start} is known, no switch turns it on or off")


def _addresses(case: _Case) -> Iterator[Finding]:
    found = dict.fromkeys(_ADDRESS.findall(case.template.source))
    if found:
        yield Finding("addresses", "note", f"the template names {_listed(map(shown, found))}")


_RULES: tuple[Callable[[_Case], Iterator[Finding]], ...] = (
    _turn_end,
    _generation_prompt,
    _bos,
    _tokens,
    _system_message,
    _thinking,
    _addresses,
)


def _text(case: _Case, token: int) -> str:
    return case.tokenizer.piece(token).decode("utf-8", "replace")


def _listed(texts: Iterable[str]) -> str:
    """Some of `texts`, and how many more there are."""
    every = list(texts)
    more = f" and {len(every) - _LISTED} more" if len(every) > _LISTED else ""
    return ", ".join(every[:_LISTED]) + more
