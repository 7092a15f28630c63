"""The process that renders chat templates in jinja2's immutable sandbox, without files or environment.

Runs as a script: one JSON request a frame on standard input, one JSON reply a frame on standard output; a
frame is a length in 4 little-endian bytes and that many bytes of UTF-8. The first frame out says "ready". A
request is {"template", "variables"}; a reply is {"text"}, or {"error", "kind"} where kind is "template" (its
syntax or what it does), "refused" (it called raise_exception) or "limit" (it wanted more than it may have).

The sandbox stops escapes. Time and memory it does not limit; the operating system does.
"""

import json
import resource
import struct
import sys
from collections.abc import Callable
from datetime import datetime
from functools import lru_cache
from typing import Any, BinaryIO, cast

from jinja2 import Template, TemplateError, nodes
from jinja2.exceptions import SecurityError
from jinja2.ext import Extension, loopcontrols
from jinja2.parser import Parser
from jinja2.sandbox import ImmutableSandboxedEnvironment
from jinja2.utils import Namespace

MEMORY_BYTES = 512 << 20
CPU_SECONDS = 2
TEXT_LIMIT_BYTES = 4 << 20

# What a template can raise besides jinja2's own errors. Anything else ends the process.
ORDINARY_ERRORS = (ArithmeticError, AttributeError, LookupError, SyntaxError, TypeError, ValueError)


class RefusedError(TemplateError):
    """The template called raise_exception."""


class LimitError(Exception):
    """The text grew too long."""


class GenerationBlocks(Extension):
    """`{% generation %}` marks what training learns from; a renderer passes it through.

    What is set inside stays inside, as in transformers, where the block is a call of its own.
    """

    def parse(self, parser: Parser) -> nodes.Node:
        """The statements inside, as the body of a call."""
        line = next(parser.stream).lineno
        body = parser.parse_statements(("name:endgeneration",), drop_needle=True)
        return nodes.CallBlock(self.call_method("_inside"), [], [], body).set_lineno(line)

    def _inside(self, caller: Callable[[], str]) -> str:
        return caller()


GenerationBlocks.tags = {"generation"}


class PlainNamespace(Namespace):
    """jinja2's namespace without names that begin with an underscore."""

    def __setitem__(self, name: str, value: Any) -> None:
        _check_name(name)
        super().__setitem__(name, value)


def _namespace(*args: Any, **given: Any) -> PlainNamespace:
    values = dict(*args, **given)
    for name in values:
        _check_name(name)
    return PlainNamespace(values)


class PlainDict:
    """Makes dictionaries; the class itself would be one more object to climb from."""

    def __call__(self, *args: Any, **given: Any) -> dict[Any, Any]:
        return dict(*args, **given)

    def fromkeys(self, keys: Any, value: Any = None) -> dict[Any, Any]:
        """One value for all."""
        return dict.fromkeys(keys, value)


def _check_name(name: object) -> None:
    if isinstance(name, str) and name.startswith("_"):
        raise SecurityError(f"a namespace may not have the name {name}")


def _refuse(message: object) -> None:
    raise RefusedError(str(message))


def _to_json(
    value: Any,
    ensure_ascii: bool = False,
    indent: int | None = None,
    separators: Any = None,
    sort_keys: bool = False,
) -> str:
    """jinja2's own filter escapes for HTML, which a prompt is not."""
    return json.dumps(
        value, ensure_ascii=ensure_ascii, indent=indent, separators=separators, sort_keys=sort_keys
    )


def _now(layout: str) -> str:
    return datetime.now().strftime(layout)


def environment() -> ImmutableSandboxedEnvironment:
    """The environment that published templates expect. Source: transformers, utils/chat_template_utils.py."""
    env = ImmutableSandboxedEnvironment(
        trim_blocks=True, lstrip_blocks=True, extensions=[GenerationBlocks, loopcontrols]
    )
    env.filters["tojson"] = _to_json
    # jinja2 infers too narrow a type for what may be a global.
    cast(dict[str, Any], env.globals).update(
        {
            "raise_exception": _refuse,
            "strftime_now": _now,
            "namespace": _namespace,
            "dict": PlainDict(),
        }
    )
    return env


def render(template: Template, variables: dict[str, Any]) -> str:
    """The text, made piece by piece so that it stops as soon as it is too long. Raises LimitError."""
    parts: list[str] = []
    n_bytes = 0
    for part in template.generate(variables):
        n_bytes += len(part.encode())
        if n_bytes > TEXT_LIMIT_BYTES:
            raise LimitError(f"its text must have at most {TEXT_LIMIT_BYTES} bytes, it has more")
        parts.append(part)
    return "".join(parts)


@lru_cache(maxsize=1)
def compiled(env: ImmutableSandboxedEnvironment, source: str) -> Template:
    """The template; a conversation renders the same one again and again."""
    return env.from_string(source)


def answer(env: ImmutableSandboxedEnvironment, request: dict[str, Any]) -> dict[str, str]:
    """The reply to one request."""
    try:
        return {"text": render(compiled(env, request["template"]), request["variables"])}
    except RefusedError as problem:
        return {"error": str(problem), "kind": "refused"}
    except TemplateError as problem:
        line = getattr(problem, "lineno", None)
        where = "" if line is None else f"line {line}: "
        return {"error": f"{where}{problem}", "kind": "template"}
    except MemoryError:
        return {"error": f"it must do with {MEMORY_BYTES >> 20} MiB, it wanted more", "kind": "limit"}
    except RecursionError:
        return {"error": "it must not be nested so deeply, Python's stack ended", "kind": "limit"}
    except LimitError as problem:
        return {"error": str(problem), "kind": "limit"}
    except ORDINARY_ERRORS as problem:
        return {"error": f"{type(problem).__name__}: {problem}", "kind": "template"}


def give_up_rights() -> None:
    """From here on: no more files, processes or core dumps, and a limited address space."""
    resource.setrlimit(resource.RLIMIT_AS, (MEMORY_BYTES, MEMORY_BYTES))
    for limit in (resource.RLIMIT_NOFILE, resource.RLIMIT_NPROC, resource.RLIMIT_FSIZE, resource.RLIMIT_CORE):
        resource.setrlimit(limit, (0, 0))


def limit_cpu() -> None:
    """Allow the next request its seconds; the kernel counts from the process's start, in whole seconds."""
    used = resource.getrusage(resource.RUSAGE_SELF)
    soft = int(used.ru_utime + used.ru_stime) + 1 + CPU_SECONDS
    resource.setrlimit(resource.RLIMIT_CPU, (soft, resource.RLIM_INFINITY))


def write_frame(stream: BinaryIO, data: bytes) -> None:
    """One frame out."""
    stream.write(struct.pack("<I", len(data)) + data)
    stream.flush()


def main() -> None:
    """Serve until the other side closes."""
    env = environment()
    # Load what jinja2 and the clock load on first use, while files may still be opened.
    warm = (
        "{{ lipsum(n=1) | wordwrap }}{% for x in [1] %}{{ strftime_now('%Y') }}{{ x | tojson }}{% endfor %}"
    )
    answer(env, {"template": warm + "{{ 1 / 0 }}", "variables": {}})
    give_up_rights()
    write_frame(sys.stdout.buffer, b"ready")
    while len(head := sys.stdin.buffer.read(4)) == 4:
        request = json.loads(sys.stdin.buffer.read(struct.unpack("<I", head)[0]))
        limit_cpu()
        write_frame(sys.stdout.buffer, json.dumps(answer(env, request)).encode())


if __name__ == "__main__":
    main()
