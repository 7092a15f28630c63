"""Does ck answer as llama.cpp does from the same quantised file, and is it as near to f32: every family.

    python benchmarks/peers/llama_cpp.py        once: builds the peer
    python benchmarks/peers/check_quantised.py [--families NAMES] [--out DIR] [--threads N]

Random models, whole blocks of K types in every row, written by ck's export in f16 and, for llama.cpp to
quantise to Q8_0 and Q4_K_M, in f32. Of each file:

    greedy   PROMPTS continuations of STEPS ids, caches in f32: ck's best id behind llama.cpp's text is
             llama.cpp's at every step but near-ties, where the two best logits lie nearer than NEAR times
             what llama.cpp's logits of that step depart from the file's own numbers in f32, as a root mean
             square; so the noise of a difference of two logits stays 2.8 standard deviations away
    KLD      of WINDOWS windows of LENGTH random ids, caches in f16: the mean divergence from the f32 model,
             and from the file's own numbers in f32, which leaves out what quantising the weights has cost;
             ck's is at most RATIO times llama.cpp's

A family that this llama.cpp does not know is null. A table on standard output, and DIR/quantised.json and
DIR/quantised.md; exit code 5 when something differs.
"""

import argparse
import sys
import tempfile
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import llama_cpp
import numpy as np
from check_export import ask
from outcome import add_common, ended, keep

import ck
from ck.errors import GateError
from ck.frontend.template import Template, make_template
from ck.regression.matrix import chosen
from ck.regression.models import random_weights, vocabulary
from ck.runtime.library import isa_path
from ck.runtime.machine import cpu_name
from ck.train.export.gguf_file import export_gguf

SIZES: dict[str, Any] = {
    "layers": 8, "embed_dim": 256, "hidden_dim": 512, "num_heads": 4, "num_kv_heads": 2, "head_dim": 64,
    "vocab_size": 512, "context_len": 1024, "tied": False,
}  # fmt: skip
# Of families with one, whose pattern stays: llama.cpp knows it by heart. It knows no window that a template
# gives a family without one, which stays longer than LENGTH.
WINDOW = 32
# Numbers of llama.h's llama_ftype; f16 is ck's own.
TYPES = {"f16": None, "Q8_0": 7, "Q4_K_M": 15}
PROMPTS, N_PROMPT, STEPS = 8, 16, 32
WINDOWS, LENGTH = 8, 512
NEAR, RATIO = 4.0, 1.05
UNKNOWN = "unknown model architecture"


@dataclass(frozen=True)
class Found:
    """What was found of one file.

    compared, equal        greedy steps that had to be equal, and that were
    near                   below which is a near-tie, of the median step
    kld, file_kld          mean divergence from the f32 model, from the file's numbers in f32: (ck, llama.cpp)
    reason                 why nothing was compared; None where it was
    """

    family: str
    storage: str
    compared: int = 0
    equal: int = 0
    near: float = 0.0
    kld: tuple[float, float] = (0.0, 0.0)
    file_kld: tuple[float, float] = (0.0, 0.0)
    reason: str | None = None

    @property
    def passed(self) -> bool | None:
        """None when nothing was compared."""
        if self.reason is not None:
            return None
        bounded = all(ours <= RATIO * theirs for ours, theirs in (self.kld, self.file_kld))
        return bounded and self.compared > 0 and self.equal == self.compared


def model_of(family: str) -> Template:
    """The template in SIZES, with a short window where its family has one."""
    made = make_template(family, **SIZES)
    of_family = make_template(made.hp.arch, **SIZES).hp.sliding_window
    return make_template(family, **SIZES, sliding_window=WINDOW) if of_family else made


def files_of(family: str, folder: Path) -> Iterator[tuple[str, Path]]:
    """The model as a file of each of TYPES, and first, called f32, the one they are made from."""
    model = model_of(family)
    weights, keys = random_weights(model), vocabulary(model.hp.n_vocab)
    whole = folder / "f32.gguf"
    export_gguf(whole, model.hp, weights, keys)
    yield "f32", whole
    for storage, number in TYPES.items():
        path = folder / f"{storage}.gguf"
        if number is None:
            export_gguf(path, model.hp, weights, keys, storage)
        else:
            ask(whole, "quantize", path, str(number), stdin=b"")
        yield storage, path


def windows(n_vocab: int) -> np.ndarray:
    """The ids [WINDOWS, LENGTH] that logits are compared on."""
    return np.random.default_rng(0).integers(0, n_vocab, (WINDOWS, LENGTH)).astype(np.int32)


def ours(path: Path, ids: np.ndarray, threads: int, **options: Any) -> np.ndarray:
    """ck's logits [WINDOWS, LENGTH, V]."""
    model = ck.compile(path, threads=threads, context_len=LENGTH, **options)
    return np.stack([model(window) for window in ids])


def theirs(path: Path, ids: np.ndarray, threads: int) -> np.ndarray:
    """llama.cpp's."""
    asked = [ask(path, "logits", str(threads), stdin=text(window)) for window in ids]
    return np.array(asked, np.float32)


def text(ids: np.ndarray) -> bytes:
    return " ".join(map(str, ids)).encode()


def divergence(exact: np.ndarray, found: np.ndarray) -> float:
    """The mean over rows of the Kullback-Leibler divergence of `found` from `exact`, logits, in nats."""
    p, q = log_softmax(exact), log_softmax(found)
    return float((np.exp(p) * (p - q)).sum(-1).mean())


def log_softmax(logits: np.ndarray) -> np.ndarray:
    wide = logits.astype(np.float64)
    wide -= wide.max(-1, keepdims=True)
    return wide - np.log(np.exp(wide).sum(-1, keepdims=True))


def greedy(path: Path, prompts: np.ndarray, exact: Any, threads: int) -> tuple[int, int, float]:
    """Steps that had to be equal, that were, and the median near-tie; `exact` is the file's f32 program."""
    exe = ck.compile(path, threads=threads, context_len=LENGTH, kv="f32").exe
    compared = equal = 0
    nears = list[float]()
    for prompt in prompts:
        steps = ask(path, "greedy", str(STEPS), str(threads), stdin=text(prompt))
        ids = np.array([*prompt, *(int(best) for best, _, _ in steps)], np.int32)[:-1]
        apart = np.square(theirs(path, ids[None], threads)[0] - exact(ids)).mean(-1)
        exe.reset()
        logits = exe.prefill(prompt)
        for (best, first, second), noise in zip(steps, np.sqrt(apart[len(prompt) - 1 :]), strict=True):
            nears.append(NEAR * float(noise))
            certain = float(first) - float(second) >= nears[-1]
            compared += certain
            equal += certain and int(np.argmax(logits)) == int(best)
            logits = exe.decode(int(best))
    return compared, equal, float(np.median(nears))


def compare(family: str, storage: str, path: Path, exact: np.ndarray, ids: np.ndarray, threads: int) -> Found:
    """One file; `exact` are the f32 model's logits."""
    try:
        peers = theirs(path, ids, threads)
    except GateError as error:
        if UNKNOWN not in str(error):
            raise
        return Found(family, storage, reason=f"{UNKNOWN} of this llama.cpp")
    model = ck.compile(path, threads=threads, context_len=LENGTH, dtype="f32", kv="f32")
    own, stored = ours(path, ids, threads), np.stack([model(window) for window in ids])
    compared, equal, near = greedy(path, ids[:PROMPTS, :N_PROMPT], model, threads)
    return Found(
        family, storage, compared, equal, near,
        kld=(divergence(exact, own), divergence(exact, peers)),
        file_kld=(divergence(stored, own), divergence(stored, peers)),
    )  # fmt: skip


def family(name: str, threads: int) -> list[Found]:
    """Every file of a family."""
    found = list[Found]()
    ids = windows(SIZES["vocab_size"])
    with tempfile.TemporaryDirectory(prefix="ck-quantised-") as folder:
        files = files_of(name, Path(folder))
        exact = ours(next(files)[1], ids, threads, dtype="f32", kv="f32")
        for storage, path in files:
            found.append(compare(name, storage, path, exact, ids, threads))
            print(line(found[-1]), file=sys.stderr)
    return found


def line(found: Found) -> str:
    """A row of the table."""
    word = {True: "pass", False: "FAIL", None: "null"}[found.passed]
    cells = [found.family, found.storage, word]
    if found.reason is None:
        cells += [f"{found.equal} of {found.compared}", f"{found.near:.1e}"]
        for a, b in (found.kld, found.file_kld):
            cells += [f"{a:.3e}", f"{b:.3e}", f"{a / b:.2g}"]
    else:
        cells += ["", found.reason, *[""] * 6]
    return f"| {' | '.join(cells)} |"


def table(result: dict[str, Any], rows: list[Found]) -> str:
    """The result as Markdown."""
    head = (
        "| family | file | | greedy ids equal | near-tie | KLD from f32: ck | llama.cpp | ratio "
        "| KLD from the file's f32: ck | llama.cpp | ratio |"
    )
    told = f"{result['peer']}; {result['cpu']}, {result['isa']}"
    return "\n".join([told, "", head, "|---" * 11 + "|", *map(line, rows)]) + "\n"


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description="Compare quantised models of every family with llama.cpp.")
    parser.add_argument("--families", default="", help="templates, separated by commas; default: all")
    add_common(parser)
    return parser.parse_args()


def check_all(args: argparse.Namespace) -> None:
    """Compare, keep what was found and raise GateError when something differs."""
    names = chosen(args.families.split(",") if args.families else [])
    rows = [found for name in names for found in family(name, args.threads)]
    result = {
        "schema_version": 1, "peer": llama_cpp.describe(), "cpu": cpu_name(), "isa": isa_path(),
        "rows": [{**asdict(row), "passed": row.passed} for row in rows],
    }  # fmt: skip
    keep(args.out, "quantised", result, table(result, rows))
    print(table(result, rows), end="")
    failed = [f"{row.family} {row.storage}" for row in rows if row.passed is False]
    if failed:
        raise GateError(f"every file must answer as llama.cpp does, found others: {', '.join(failed)}")


def main() -> int:
    args = arguments()
    return ended(__file__, lambda: check_all(args))


if __name__ == "__main__":
    sys.exit(main())
