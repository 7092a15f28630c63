"""What several verbs share: the model argument, the options that shape a program, and compiling with them."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar, Protocol, TypeVar

import click

from ck.dtypes import ACTIVATIONS

if TYPE_CHECKING:
    from pathlib import Path

    from ck.runtime.model import Model

F = TypeVar("F", bound=Callable[..., Any])


class _Dataclass(Protocol):
    __dataclass_fields__: ClassVar[dict[str, Any]]


T = TypeVar("T", bound=_Dataclass)

model_argument = click.argument("model")
json_option = click.option("--json", "as_json", is_flag=True, help="Print JSON.")

_CTX_SIZE = click.option(
    "-c",
    "--ctx-size",
    type=click.IntRange(min=0),
    help="Tokens of context; 0 is the model's own. Default: the model's own, at most 4096.",
)
_SHAPE_OPTIONS = (
    click.option("-b", "--chunk", type=click.IntRange(1, 1 << 16), default=512, help="Prompt tokens a step."),
    click.option(
        "--kv", type=click.Choice(["f16", "f32"], False), default="f16", help="Type of the KV cache."
    ),
    click.option("--dtype", type=click.Choice(["f32"], False), help="Dequantise all weights to this type."),
    click.option(
        "--activations",
        type=click.Choice(ACTIVATIONS, False),
        default="q16",
        help="Rows for quantised weights: q16, of 15 bits, or q8, of 8: less exact, faster on AVX-512 VNNI.",
    ),
    click.option(
        "--quantize",
        metavar="TYPE",
        help="Quantise a folder's matrices on load: q8_0, q6_k, q5_k, q4_k, q4_0, q2_k, ..",
    ),
)
_THREADS = click.option(
    "-t", "--threads", type=click.IntRange(1, 1024), help="Threads. Default: CK_THREADS, else all allowed."
)
_LOCKED = click.option(
    "--locked",
    is_flag=True,
    help="Refuse a name on the hub that is another commit than when it was fetched last.",
)
_BACKEND = click.option(
    "--backend",
    type=click.Choice(["c", "llvm"]),
    help="What compiles. Default: c where a C compiler works, else llvm; both give the same bits.",
)


def shape_options(function: F) -> F:
    """The options of `ProgramOptions` that decide a program's sizes."""
    for option in reversed((_CTX_SIZE, *_SHAPE_OPTIONS)):
        function = option(function)
    return function


def program_options(function: F) -> F:
    """All options of `ProgramOptions`."""
    return shape_options(_THREADS(_BACKEND(_LOCKED(function))))


def window_options(function: F) -> F:
    """All options of `ProgramOptions` but the context's size, which a verb with windows says itself."""
    for option in reversed((*_SHAPE_OPTIONS, _THREADS, _BACKEND, _LOCKED)):
        function = option(function)
    return function


@dataclass(frozen=True)
class ProgramOptions:
    """What `ck.compile` is asked for, beside the model."""

    ctx_size: int | None
    chunk: int
    kv: str
    dtype: str | None
    activations: str
    quantize: str | None = None
    threads: int | None = None
    backend: str | None = None
    locked: bool = False


def take(kind: type[T], given: dict[str, Any]) -> T:
    """A `kind`, a dataclass, made of the entries of `given` that it names, which are removed."""
    return kind(**{name: given.pop(name) for name in kind.__dataclass_fields__ if name in given})


def find_model(argument: str, locked: bool = False) -> "Path":
    """The file or the model folder that `argument` means; a name is fetched, with progress."""
    from ck.cli.progress import transfer
    from ck.runtime.resolve import resolve_model

    # An address may have a query that is nobody's business.
    with transfer(argument.partition("?")[0]) as progress:
        return resolve_model(argument, progress, locked)


def compile_model(
    argument: str,
    options: ProgramOptions,
    force: bool = False,
    check: bool = False,
    adapter: str | None = None,
) -> "Model":
    """The compiled model that `argument` means, from the cache unless `force`; `check` goes to stderr."""
    import ck
    from ck.cli.output import left_out
    from ck.cli.progress import Status

    path = find_model(argument, options.locked)

    def show(stage: str) -> None:
        if stage.startswith("check "):
            status.say(stage)
        status.show(f"compiling {path.name}: {stage}")

    with Status(f"loading {path.name}") as status:
        model = ck.compile(
            path,
            context_len=options.ctx_size,
            kv=options.kv,
            dtype=options.dtype,
            activations=options.activations,
            quantize=options.quantize,
            threads=options.threads,
            chunk=options.chunk,
            adapter=adapter,
            backend=options.backend,
            force=force,
            check=check,
            progress=show,
        )
        if model.file.skipped:
            status.say(f"{path.name}: left out {left_out(model.file.skipped)}")
    return model
