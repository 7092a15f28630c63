"""`Thinking`: how a chat template lets a model think before it answers, found by what it writes.

Marks around a thought stand in the template, which cuts past thoughts by them. A switch is a variable that
changes the prompt; its name alone says nothing, since some templates read it and others only mention it.
"""

from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from typing import Any, Protocol

from ck.errors import MalformedError, UsageError

# What begins and what ends a thought.
MARKS = (("<think>", "</think>"), ("[THINK]", "[/THINK]"))
# The variables by which templates are told whether to let think.
SWITCHES = ("enable_thinking", "thinking")
_QUESTION = ({"role": "user", "content": "Why?"},)


class Template(Protocol):
    """What is needed of a chat template."""

    @property
    def source(self) -> str: ...
    def render(
        self,
        messages: Sequence[Mapping[str, Any]],
        add_generation_prompt: bool = True,
        variables: Mapping[str, Any] | None = None,
    ) -> str: ...


@dataclass(frozen=True)
class Thinking:
    """One template's: the texts around a thought, and the variable that turns it on and off, if any."""

    start: str
    end: str
    switch: str | None


def read_thinking(template: Template) -> Thinking | None:
    """How `template` lets think; None when it knows no thought."""
    marks = next((marks for marks in MARKS if marks[1] in template.source), None)
    return None if marks is None else Thinking(*marks, _switch(template))


def _switch(template: Template) -> str | None:
    for name in SWITCHES:
        # A template that refuses so plain a question has no switch that could be seen.
        with suppress(MalformedError, UsageError):
            if name in template.source and len({_prompt(template, name, on) for on in (True, False)}) == 2:
                return name
    return None


def _prompt(template: Template, name: str, on: bool) -> str:
    return template.render(_QUESTION, True, {name: on})
