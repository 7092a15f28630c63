"""`ck bench MODEL`: llama-bench's two measurements, in its table and with its field names.

pp<N>: feed a prompt of N random tokens to an empty cache. tg<N>: decode N tokens, one at a time, from an
empty cache. Each is run once to warm up, then -r times; tokenising and sampling are not part of it.
"""

import json
import math
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from ck.cli.options import (
    ProgramOptions,
    compile_model,
    find_model,
    json_option,
    model_argument,
    program_options,
    take,
)

if TYPE_CHECKING:
    from ck.runtime.executable import Executable

# The same tokens in every run, whatever they are: no kernel's time depends on them.
TOKEN_SEED = 1


class Counts(click.ParamType[list[int]]):
    """A comma list of numbers from 0."""

    name = "n,n,..."

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> list[int]:
        parts = str(value).split(",")
        if not all(part.isdecimal() for part in parts):
            self.fail(f"must be numbers from 0 with commas between, got {value}", param, ctx)
        return [int(part) for part in parts]


@dataclass(frozen=True)
class Measurement:
    """One row: `samples_ns` are whole runs of n_prompt + n_gen tokens."""

    n_prompt: int
    n_gen: int
    n_threads: int
    test_time: str
    samples_ns: list[int]

    @property
    def name(self) -> str:
        """The row's name in llama-bench's table."""
        return f"pp{self.n_prompt}" if self.n_prompt else f"tg{self.n_gen}"

    @property
    def samples_ts(self) -> list[float]:
        """Tokens a second of each run."""
        return [1e9 * (self.n_prompt + self.n_gen) / n for n in self.samples_ns]


@click.command()
@model_argument
@click.option("-p", "--n-prompt", type=Counts(), default="512", help="Prompt lengths to feed; 0 is none.")
@click.option("-n", "--n-gen", type=Counts(), default="128", help="Numbers of tokens to decode; 0 is none.")
@click.option("-r", "--repetitions", type=click.IntRange(1), default=5, help="Timed runs of each.")
@program_options
@json_option
def command(
    model: str, n_prompt: list[int], n_gen: list[int], repetitions: int, as_json: bool, **given: Any
) -> None:
    """Measure prompt (pp) and decode (tg) speed of MODEL in tokens a second, as llama-bench does.

    The context is as long as the longest measurement unless -c says otherwise.
    """
    from dataclasses import replace

    from ck.errors import UsageError

    tests = [(n, 0) for n in n_prompt if n] + [(0, n) for n in n_gen if n]
    if not tests:
        raise UsageError("bench: needs -p or -n above 0, both are 0")
    options = take(ProgramOptions, given)
    longest = max(map(max, tests))
    options = replace(options, ctx_size=longest if options.ctx_size is None else options.ctx_size)
    path = find_model(model)
    executable = compile_model(str(path), options).exe
    if longest > executable.n_ctx:
        raise UsageError(f"bench: needs a context of {longest} tokens, it has {executable.n_ctx}; raise -c")
    facts = _model_facts(path, options.quantize) | {
        "n_batch": options.chunk,
        "n_ubatch": options.chunk,
        "type_k": options.kv,
    }
    rows = [_measure(executable, *test, repetitions) for test in tests]
    if as_json:
        click.echo(json.dumps([_fields(row, facts) for row in rows], indent=2))
    else:
        _print_table(rows, facts)


def _measure(executable: "Executable", n_prompt: int, n_gen: int, repetitions: int) -> Measurement:
    import numpy as np

    random = np.random.default_rng(TOKEN_SEED)
    tokens = random.integers(0, executable.n_vocab, max(n_prompt, n_gen), dtype=np.int32)

    def run() -> None:
        if n_prompt:
            executable.prefill(tokens)
        for token in tokens.tolist() if n_gen else ():
            executable.decode(token)

    test_time = time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime())
    _time(executable, run)
    samples = [_time(executable, run) for _ in range(repetitions)]
    return Measurement(n_prompt, n_gen, executable.n_threads, test_time, samples)


def _time(executable: "Executable", run: Callable[[], None]) -> int:
    executable.reset()
    start = time.perf_counter_ns()
    run()
    return time.perf_counter_ns() - start


def _model_facts(path: Path, quantize: str | None) -> dict[str, Any]:
    from ck.cli import summary
    from ck.frontend.model import open_file
    from ck.runtime.library import isa_path
    from ck.runtime.machine import cpu_name

    file = open_file(path, quantize)
    return {
        "cpu_info": cpu_name(),
        "backends": f"CPU {isa_path()}",
        "model_filename": str(path),
        "model_type": file.label,
        "model_size": summary.n_tensor_bytes(file),
        "model_n_params": summary.n_params(file),
    }


def _fields(row: Measurement, facts: dict[str, Any]) -> dict[str, Any]:
    return {
        **facts,
        "type_v": facts["type_k"],
        "n_threads": row.n_threads,
        "n_prompt": row.n_prompt,
        "n_gen": row.n_gen,
        "n_depth": 0,
        "test_time": row.test_time,
        "avg_ns": round(_mean(row.samples_ns)),
        "stddev_ns": round(_deviation(row.samples_ns)),
        "avg_ts": _mean(row.samples_ts),
        "stddev_ts": _deviation(row.samples_ts),
        "samples_ns": row.samples_ns,
        "samples_ts": row.samples_ts,
    }


def _mean(values: list[int] | list[float]) -> float:
    return sum(values) / len(values)


def _deviation(values: list[int] | list[float]) -> float:
    """Standard deviation of a sample; 0 for one value."""
    mean = _mean(values)
    return math.sqrt(sum((v - mean) ** 2 for v in values) / (len(values) - 1)) if len(values) > 1 else 0.0


def _print_table(rows: list[Measurement], facts: dict[str, Any]) -> None:
    from ck.cli.output import mebibytes, printable

    widths = (-30, 10, 10, -10, 7, 15, 20)
    head = ("model", "size", "params", "backend", "threads", "test", "t/s")
    click.echo(_row(head, widths))
    click.echo("|" + "|".join(f" {'-' * (abs(w) - 1)}{':' if w > 0 else '-'} " for w in widths) + "|")
    for row in rows:
        speed = f"{_mean(row.samples_ts):.2f} ± {_deviation(row.samples_ts):.2f}"
        size, params = mebibytes(facts["model_size"]), f"{facts['model_n_params'] / 1e6:.2f} M"
        kind = printable(facts["model_type"])
        click.echo(_row((kind, size, params, "CPU", str(row.n_threads), row.name, speed), widths))


def _row(cells: tuple[str, ...], widths: tuple[int, ...]) -> str:
    padded = (c.rjust(w) if w > 0 else c.ljust(-w) for c, w in zip(cells, widths, strict=True))
    return "|" + "|".join(f" {cell} " for cell in padded) + "|"
