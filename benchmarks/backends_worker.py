"""One process of benchmarks/backends.py; prints a line of JSON.

    python benchmarks/backends_worker.py WHAT ...
        speed MODEL THREADS PAIRS     rates of both backends by figure
        step SIZES THREADS PAIRS      the same of training steps, SIZES in JSON
        train SIZES BACKEND           nothing: compiles and loads a trainable
        ready MODEL BACKEND           seconds until the first token is possible
        object PROGRAM BACKEND        seconds that loading the object takes

A pair runs one backend and then the other, the first of the last pair second, in one process: what else the
machine does hits both.
"""

import json
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

BACKENDS = ("c", "llvm")
PROMPT, DECODED = 512, 64
Rates = dict[str, dict[str, list[float]]]


def alternate(sides: dict[str, Callable[[], None]], count: int, pairs: int) -> dict[str, list[float]]:
    """Units a second of every turn of each side, where a turn does `count` units; one turn warms up."""
    rates: dict[str, list[float]] = {name: [] for name in sides}
    for pair in range(pairs + 1):
        for name in sides if pair % 2 else reversed(sides):
            started = time.perf_counter()
            sides[name]()
            if pair:
                rates[name].append(count / (time.perf_counter() - started))
    return rates


def speed(model: str, threads: int, pairs: int) -> Rates:
    """Tokens a second: a prompt of 512 into an empty cache, and 64 decoded after it."""
    import numpy as np

    import ck

    exes = {name: ck.compile(model, context_len=1024, threads=threads, backend=name).exe for name in BACKENDS}
    tokens = np.random.default_rng(1).integers(0, exes["c"].n_vocab, PROMPT + DECODED, dtype=np.int32)

    def prompt(exe: Any) -> None:
        exe.reset()
        exe.prefill(tokens[:PROMPT])

    def decode(exe: Any) -> None:
        exe.rewind(PROMPT)
        for token in tokens[PROMPT:].tolist():
            exe.decode(token)

    turns = {f"prompt {PROMPT}": (prompt, PROMPT), f"decode {DECODED}": (decode, DECODED)}
    return {
        figure: alternate({name: lambda e=exe, t=turn: t(e) for name, exe in exes.items()}, count, pairs)
        for figure, (turn, count) in turns.items()
    }


def trainable(sizes: dict[str, int], backend: str, threads: int | None) -> Any:
    """The training program of a preset."""
    from training_worker import make_template

    import ck

    shape = {"batch": sizes["batch"], "seq": sizes["seq"]}
    return ck.compile(make_template(sizes), mode="train", **shape, threads=threads, backend=backend)


def step(sizes: dict[str, int], threads: int, pairs: int) -> Rates:
    """Tokens a second of whole training steps."""
    import numpy as np

    made = {name: trainable(sizes, name, threads) for name in BACKENDS}
    shape = (sizes["batch"], sizes["seq"] + 1)
    ids = np.random.default_rng(1).integers(0, sizes["vocab_size"], shape).astype(np.int32)

    def turn(each: Any) -> None:
        each.step(ids[:, :-1], ids[:, 1:])

    n_tokens = sizes["batch"] * sizes["seq"]
    return {"step": alternate({n: lambda e=each: turn(e) for n, each in made.items()}, n_tokens, pairs)}


def ready(model: str, backend: str) -> dict[str, float]:
    """Seconds from before `import ck` to a model that can take its first token; of them, packing weights."""
    started = time.perf_counter()
    import ck

    made = ck.compile(model, backend=backend)
    return {"ready_s": time.perf_counter() - started, "pack_s": made.info["pack_ms"] / 1e3}


def loaded(program: str, name: str) -> dict[str, float]:
    """Seconds from the stored program to its entries' addresses, with the imports that this takes."""
    from ck.runtime.library import library

    library()
    started = time.perf_counter()
    from ck.backend.backends import backend

    backend(name).load(Path(program)).address("ck_decode")
    return {"object_s": time.perf_counter() - started}


def main() -> None:
    """The command line."""
    what, first, *rest = sys.argv[1:]
    result: Any = None
    match what:
        case "speed":
            result = speed(first, *map(int, rest))
        case "step":
            result = step(json.loads(first), *map(int, rest))
        case "train":
            trainable(json.loads(first), rest[0], None)
        case "ready":
            result = ready(first, rest[0])
        case _:
            result = loaded(first, rest[0])
    print(json.dumps(result))


if __name__ == "__main__":
    main()
