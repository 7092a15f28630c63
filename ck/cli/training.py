"""What the training verbs share: the flags of a configuration, and the live line."""

import os
import sys
import time
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, Self, TypeVar

import click

from ck.cli.progress import QUIET_S

if TYPE_CHECKING:
    from ck.train.runs import RunResult
    from ck.train.trainer import StepReport

F = TypeVar("F", bound=Callable[..., Any])

# Of the flag: its type, and its help. Ranges are the configuration's, which tells all mistakes at once.
_FLAGS: dict[str, tuple[type, str]] = {
    "template": (str, "The family of the model; a wrong name lists them."),
    "layers": (int, "Blocks.  [default: 4]"),
    "embed_dim": (int, "Width of a token.  [default: 128]"),
    "hidden_dim": (int, "Width of the feed-forward.  [default: 512]"),
    "num_heads": (int, "Query heads.  [default: 8]"),
    "num_kv_heads": (int, "Key and value heads.  [default: 4]"),
    "head_dim": (int, "Width of a head; 16 divides it.  [default: the template's, or embed-dim / num-heads]"),
    "vocab_size": (int, "Tokens of a new tokenizer.  [default: 1024]"),
    "context_len": (int, "Positions of the model.  [default: 512]"),
    "init": (
        str,
        "normal_0p02, xavier_uniform, xavier_normal, kaiming_uniform or zeros (for tests).  "
        "[default: normal_0p02]",
    ),
    "tokenizer": (str, "bpe, ascii_bpe or a tokenizer.json.  [default: bpe]"),
    "seq_len": (int, "Tokens of a sequence.  [default: 128]"),
    "batch": (int, "Sequences of a micro-batch.  [default: 8]"),
    "grad_accum": (int, "Micro-batches of an update.  [default: 1]"),
    "lr": (float, "Highest learning rate.  [default: 0.0003]"),
    "schedule": (str, "constant, linear, cosine or wsd.  [default: cosine]"),
    "warmup": (int, "Updates until the highest rate.  [default: 0]"),
    "max_grad_norm": (float, "Norm that gradients are clipped to; 0 is no clipping.  [default: 1]"),
    "optimizer": (str, "adamw or sgd.  [default: adamw]"),
    "steps": (int, "Updates in all.  [default: 200]"),
    "epochs": (int, "In place of --steps: passes over the data."),
    "total_tokens": (int, "In place of --steps: tokens."),
    "seed": (int, "Of first weights, dev split and shuffle.  [default: 42]"),
    "dtype": (str, "f32, or bf16 for products of bf16 factors over f32 weights.  [default: f32]"),
    "save_every": (int, "Updates between checkpoints.  [default: 100]"),
    "eval_every": (int, "Updates between passes over the dev data.  [default: 50]"),
    "parity": (str, "off, suggest, run or require: a comparison with PyTorch afterwards.  [default: off]"),
    "threads": (int, "Threads.  [default: CK_THREADS, else all allowed]"),
    "backend": (str, "c, llvm, or auto: c where a C compiler works, else llvm.  [default: auto]"),
}
# What a resumed run may change.
RESUMABLE = (
    "steps",
    "epochs",
    "total_tokens",
    "lr",
    "max_grad_norm",
    "save_every",
    "eval_every",
    "threads",
    "backend",
)


def config_flags(*names: str) -> Callable[[F], F]:
    """The flags `names`, whose defaults are the run's own, or all flags by default; and --set."""

    def decorate(function: F) -> F:
        chosen = names or tuple(_FLAGS)
        function = click.option(
            "--set", "sets", multiple=True, metavar="SECTION.KEY=VALUE", help="Any key of the configuration."
        )(function)
        for name in reversed(chosen):
            kind, text = _FLAGS[name]
            text = text.partition("  [")[0] if names else text
            short = ("-t",) if name == "threads" else ()
            option = click.option(
                *short, f"--{name.replace('_', '-')}", type=kind, show_default=False, help=text
            )
            function = option(function)
        return function

    return decorate


class Live:
    """A `Watch` for people: one line that changes on a terminal, a line now and then elsewhere.

    What is printed after the `with` block begins on a line of its own.
    """

    def __init__(self) -> None:
        self._is_terminal = sys.stderr.isatty()
        self._is_open = False
        self._next = 0.0
        self._dev = ""

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *ending: object) -> None:
        if self._is_open:
            print(file=sys.stderr, flush=True)

    def say(self, text: str) -> None:
        """A line of its own."""
        self._write(text, ends=True)

    def on_step(self, report: "StepReport") -> None:
        """The live line."""
        now = time.monotonic()
        is_last = report.step == report.total_steps
        if not self._is_terminal and now < self._next and not is_last:
            return
        self._next = now + QUIET_S
        line = (
            f"step {report.step}/{report.total_steps}  loss {report.loss:.4f}  lr {report.lr:.3g}  "
            f"norm {report.grad_norm:.3f}  {report.tokens_per_second:.0f} tok/s  "
            f"ETA {clock(report.seconds_left)}{self._dev}"
        )
        self._write(line, ends=is_last or not self._is_terminal)

    def on_dev(self, step: int, loss: float, bits_per_byte: float) -> None:
        """The dev figures, which stay in the live line."""
        self._dev = f"  dev {loss:.4f} ({bits_per_byte:.4f} bits/byte)"
        if not self._is_terminal:
            self.say(f"step {step}: dev loss {loss:.4f}, {bits_per_byte:.4f} bits per byte")

    def _write(self, text: str, ends: bool) -> None:
        clear = "\r\033[K" if self._is_terminal else ""
        # A line that wraps cannot be cleared.
        shown = text if ends else text[: _columns() - 1]
        print(f"{clear}{shown}", end="\n" if ends else "", file=sys.stderr, flush=True)
        self._is_open = not ends


def _columns() -> int:
    """Columns of the terminal that stderr is; 80 where it does not know."""
    try:
        return os.get_terminal_size(sys.stderr.fileno()).columns or 80
    except OSError:
        return 80


def clock(seconds: float) -> str:
    """A duration as people read it: 1:02:03, or 2:03."""
    minutes, rest = divmod(max(0, int(seconds)), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02}:{rest:02}" if hours else f"{minutes}:{rest:02}"


def report(result: "RunResult", name: str, as_json: bool) -> None:
    """What a run came to, on stdout."""
    import shlex

    from ck.cli.output import write_json

    if as_json:
        fields = ("step", "loss", "dev_loss", "dev_bits_per_byte")
        write_json({"run": str(result.path), **{name: getattr(result, name) for name in fields}})
        return
    parts = [f"loss {result.loss:.4f}" if result.loss is not None else ""]
    if result.dev_loss is not None:
        parts.append(f"dev loss {result.dev_loss:.4f}, {result.dev_bits_per_byte:.4f} bits per byte")
    click.echo(f"{result.path}: step {result.step}, {', '.join(filter(None, parts))}")
    argument = shlex.quote(name)
    click.echo(f"next: ck promote {argument}, then ck run {argument} --prompt …")
