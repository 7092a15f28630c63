"""Every storage type on files that llama-quantize writes, against the gguf package and llama.cpp.

    python benchmarks/peers/llama_cpp.py        once: builds the peer
    python benchmarks/peers/check_types.py [--types NAMES] [--out DIR] [--threads N]

SmolLM2 requantised to each type; where rows are no multiples of 256 matrices of a K type lie in another type,
so types are mixed. Of each file:

    values   every tensor as ck dequantises it: bit for bit what the gguf package reads
    text     how ck goes on after START, greedily, for a reader to judge

Of each K type also the random model of check_quantised.py, whose rows are whole blocks of 256, on its windows
of random ids:

    KLD      the mean divergence from the f32 model and from the file's own numbers in f32, caches in f16;
             ck's is at most RATIO times llama.cpp's
    top      the likeliest id is that of the file's own numbers, in as many rows as llama.cpp's is at least

What text costs in divergence and perplexity, check_eval.py measures. A table on standard output, and
DIR/type_values.json and DIR/type_values.md; exit code 5 when something differs.
"""

import argparse
import sys
import tempfile
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import check_quantised
import gguf
import llama_cpp
import numpy as np
from outcome import add_common, ended, keep

import ck
from ck.errors import GateError
from ck.regression.models import random_weights, vocabulary
from ck.runtime.library import isa_path
from ck.runtime.machine import cpu_name
from ck.runtime.resolve import resolve_model
from ck.runtime.weights import read_tensor
from ck.train.export.gguf_file import export_gguf

RATIO = 1.05
START, STEPS = "Once upon a time", 24


@dataclass(frozen=True)
class Found:
    """What was found of one file of SmolLM2.

    stored     matrices by the type they lie in
    n_values   numbers that were compared; n_other, that differ
    text       how ck goes on after START
    """

    storage: str
    stored: dict[str, int]
    n_values: int
    n_other: int
    text: str

    @property
    def passed(self) -> bool:
        return self.n_values > 0 and self.n_other == 0


@dataclass(frozen=True)
class Whole:
    """What was found of one file of the random model, in pairs: ck, llama.cpp.

    kld, file_kld  mean divergence from the f32 model, from the file's numbers in f32
    same_top       of `n_rows` rows, those whose likeliest id is that of the file's numbers
    """

    storage: str
    n_rows: int
    kld: tuple[float, float]
    file_kld: tuple[float, float]
    same_top: tuple[int, int]

    @property
    def passed(self) -> bool:
        bounded = all(ours <= RATIO * theirs for ours, theirs in (self.kld, self.file_kld))
        return bounded and self.same_top[0] >= self.same_top[1]


def compare(storage: str, path: Path, threads: int) -> Found:
    """One file."""
    model = ck.compile(path, threads=threads, context_len=256)
    return Found(storage, *values(model.file, path), continued(model))


def values(file: Any, path: Path) -> tuple[dict[str, int], int, int]:
    """Matrices by type, numbers compared, numbers whose bits are not those of the gguf package."""
    stored, n_values, n_other = dict[str, int](), 0, 0
    for tensor in gguf.GGUFReader(path).tensors:
        kind = tensor.tensor_type.name
        if len(tensor.shape) > 1:
            stored[kind] = stored.get(kind, 0) + 1
        want = gguf.dequantize(tensor.data, tensor.tensor_type).astype(np.float32, copy=False)
        got = read_tensor(file, tensor.name)
        n_values += got.size
        n_other += int((got.view(np.uint32).ravel() != want.view(np.uint32).ravel()).sum())
    return stored, n_values, n_other


def continued(model: Any) -> str:
    """The greedy continuation of START by STEPS tokens."""
    model.exe.reset()
    ids = model.tokenizer.encode(START)
    logits, found = model.exe.prefill(np.array(ids, np.int32)), list[int]()
    for _ in range(STEPS):
        found.append(int(np.argmax(logits)))
        logits = model.exe.decode(found[-1])
    return model.tokenizer.decode(found)


def wide(types: list[str], threads: int) -> Iterator[Whole]:
    """The random model as a file of each K type."""
    model = check_quantised.model_of("llama")
    ids = check_quantised.windows(model.hp.n_vocab)
    with tempfile.TemporaryDirectory(prefix="ck-types-") as folder:
        source, out = Path(folder) / "f32.gguf", Path(folder) / "stored.gguf"
        export_gguf(source, model.hp, random_weights(model), vocabulary(model.hp.n_vocab))
        exact = check_quantised.ours(source, ids, threads, dtype="f32", kv="f32")
        for storage in types:
            llama_cpp.quantize(source, out, storage, threads)
            yield beside(storage, out, exact, ids, threads)


def beside(storage: str, path: Path, exact: np.ndarray, ids: np.ndarray, threads: int) -> Whole:
    """One file; `exact` are the f32 model's logits."""
    stored = check_quantised.ours(path, ids, threads, dtype="f32", kv="f32")
    both = check_quantised.ours(path, ids, threads), check_quantised.theirs(path, ids, threads)
    kld, file_kld = (
        tuple(check_quantised.divergence(base, rows) for rows in both) for base in (exact, stored)
    )
    same_top = tuple(int((rows.argmax(-1) == stored.argmax(-1)).sum()) for rows in both)
    return Whole(storage, ids.size, kld, file_kld, same_top)


def requantised(types: list[str], threads: int) -> Iterator[Found]:
    """SmolLM2 as a file of each type."""
    source = resolve_model("smollm2-135m")
    with tempfile.TemporaryDirectory(prefix="ck-types-") as folder:
        for storage in types:
            out = Path(folder) / f"{storage}.gguf"
            llama_cpp.quantize(source, out, storage, threads)
            yield compare(storage, out, threads)
            out.unlink()


def line(found: Found) -> str:
    """A row of the table."""
    stored = ", ".join(f"{n} {kind}" for kind, n in sorted(found.stored.items()))
    word, other = "pass" if found.passed else "FAIL", f"{found.n_other} of {found.n_values}"
    return f"| {found.storage} | {stored} | {word} | {other} | {found.text!r} |"


def whole_line(found: Whole) -> str:
    """A row of the second table."""
    cells = [found.storage, "pass" if found.passed else "FAIL"]
    for a, b in (found.kld, found.file_kld):
        cells += [f"{a:.3e}", f"{b:.3e}"]
    return f"| {' | '.join([*cells, *map(str, found.same_top), str(found.n_rows)])} |"


def table(facts: dict[str, str], rows: list[Found], whole: list[Whole]) -> str:
    """The result as Markdown."""
    head = "| type | matrices | | values that differ | greedily |"
    lines = ["{peer}; {cpu}, {isa}".format(**facts), "", head, "|---" * 5 + "|", *map(line, rows)]
    if whole:
        head = (
            "| type | | KLD from f32: ck | llama.cpp | KLD from the file's f32: ck | llama.cpp "
            "| same top: ck | llama.cpp | of |"
        )
        lines += ["", head, "|---" * 9 + "|", *map(whole_line, whole)]
    return "\n".join(lines) + "\n"


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description="Compare every storage type with llama.cpp.")
    parser.add_argument("--types", default="all", help="storage types, separated by commas, or all")
    add_common(parser)
    return parser.parse_args()


def check_all(args: argparse.Namespace) -> None:
    """Compare, keep what was found and raise GateError when something differs."""
    types, rows, whole = llama_cpp.chosen_types(args.types), list[Found](), list[Whole]()
    for found in requantised(types, args.threads):
        rows.append(found)
        print(line(found), file=sys.stderr)
    for other in wide([name for name in types if name in llama_cpp.WIDE_TYPES], args.threads):
        whole.append(other)
        print(whole_line(other), file=sys.stderr)
    facts = {"peer": llama_cpp.describe(), "cpu": cpu_name(), "isa": isa_path()}
    result = {
        "schema_version": 1, **facts, "rows": [{**asdict(row), "passed": row.passed} for row in rows],
        "whole_blocks": [{**asdict(row), "passed": row.passed} for row in whole],
    }  # fmt: skip
    keep(args.out, "type_values", result, table(facts, rows, whole))
    print(table(facts, rows, whole), end="")
    failed = [row.storage for row in (*rows, *whole) if not row.passed]
    if failed:
        raise GateError(f"every type must answer as llama.cpp does, found others: {', '.join(failed)}")


def main() -> int:
    args = arguments()
    return ended(__file__, lambda: check_all(args))


if __name__ == "__main__":
    sys.exit(main())
