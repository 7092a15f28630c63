"""Does llama.cpp read an exported GGUF file as ck does: the same token ids, the same greedy continuations.

    python benchmarks/peers/llama_cpp.py        once: builds the peer
    python benchmarks/peers/check_export.py MODEL.gguf CORPUS... [--run RUN_DIR]

Ids are those of each corpus file as a whole, special tokens added and recognised; with --run those of the
run's own tokenizer are compared too. Continuations start from pieces of the corpus, weights and cache of both
sides in f32. Up to the first step whose two best logits lie less than GAP apart the ids must be equal; what
comes from there on is counted as not compared. One JSON object on standard output; exit code 5 when something
differs.
"""

import argparse
import hashlib
import json
import os
import subprocess
import sys
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import llama_cpp
import numpy as np

import ck
from ck.errors import CkError, GateError, MachineError, UsageError
from ck.frontend.model import open_model
from ck.frontend.tokenizer import Tokenizer
from ck.train.tokenizer_training import load_tokenizer

PROBE = Path(__file__).with_name("llama_cpp_probe.c")
LIBRARIES = ("llama", "ggml", "ggml-cpu", "ggml-base")
# Both sides are f32 and round differently; a choice between logits closer than this is no difference.
GAP = 1e-3


@dataclass(frozen=True)
class Ids:
    """Token ids of one file: whether all readers agree, and the first place where they do not."""

    file: str
    n_tokens: int
    equal: bool
    first_difference: int | None


@dataclass(frozen=True)
class Continuation:
    """A greedy continuation of `prompt`: the first `n_certain` ids had to be equal, `n_equal` were."""

    prompt: list[int]
    ck: list[int]
    llama_cpp: list[int]
    n_certain: int
    n_equal: int
    max_logit_difference: float

    @property
    def passed(self) -> bool:
        return self.n_equal >= self.n_certain


def build_probe(source: Path = PROBE) -> Path:
    """The probe, compiled against the peer's libraries when its source has changed."""
    llama_cpp.program(llama_cpp.PROGRAMS[0])
    place = llama_cpp.folder()
    out = place / f"probe-{hashlib.sha256(source.read_bytes()).hexdigest()[:16]}"
    if out.exists():
        return out
    root = next(place.glob("*/vendor/llama.cpp"))
    found = {path.stem: path for path in (place / "build").rglob("lib*.a")}
    archives = [str(found[f"lib{name}"]) for name in LIBRARIES]
    include = [f"-I{root / part}" for part in ("include", "ggml/include")]
    partial = out.with_suffix(".o")
    commands = (
        ["cc", "-std=c11", "-O2", "-Wall", "-Wextra", *include, "-c", str(source), "-o", str(partial)],
        # Twice, since they name each other's symbols.
        ["c++", str(partial), *archives, *archives, "-fopenmp", "-pthread", "-ldl", "-o", str(out)],
    )
    for command in commands:
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        if done.returncode:
            raise MachineError(f"probe: {command[0]} must compile it, it says: {done.stderr.strip()[-300:]}")
    return out


def ask(*words: str | Path, stdin: bytes) -> list[list[str]]:
    """The words of each line that the probe prints. Raises GateError with its reason when it fails."""
    done = subprocess.run([build_probe(), *words], input=stdin, capture_output=True, check=False)
    if done.returncode:
        lines = done.stderr.decode(errors="replace").strip().splitlines() or ["no message"]
        raise GateError(f"{words[0]}: llama.cpp must read it, exit code {done.returncode}, {lines[-1]}")
    return [line.split() for line in done.stdout.decode().splitlines()]


def compare_ids(model: Path, corpus: Path, tokenizer: Tokenizer, run: Path | None) -> tuple[Ids, list[int]]:
    """The ids of `corpus` by llama.cpp against ck's, and the run's when there is one; ck's ids."""
    data = corpus.read_bytes()
    ours = tokenizer.encode(data.decode(), parse_special=True)
    others = [[int(words[0]) for words in ask(model, "tokenize", stdin=data)]]
    if run is not None:
        trained = load_tokenizer(run)
        others.append([trained.end_id, *trained.encode(data.decode()).tolist()])
    differences = [n for other in others if (n := first_difference(ours, other)) is not None]
    return Ids(str(corpus), len(ours), not differences, min(differences, default=None)), ours


def first_difference(a: list[int], b: list[int]) -> int | None:
    """Where two lists begin to differ; None when they are equal."""
    n = next((n for n, (x, y) in enumerate(zip(a, b, strict=False)) if x != y), min(len(a), len(b)))
    return None if n == len(a) == len(b) else n


def continue_greedily(
    compiled: Any, model: Path, prompt: list[int], n_tokens: int, threads: int
) -> Continuation:
    """`n_tokens` greedy ids from both sides."""
    compiled.exe.reset()
    logits, ours, gaps, best = compiled.exe.prefill(np.array(prompt, np.int32)), [], [], []
    for _ in range(n_tokens):
        second, first = np.partition(logits, -2)[-2:]
        ours.append(int(np.argmax(logits)))
        gaps.append(float(first - second))
        best.append(float(first))
        logits = compiled.exe.decode(ours[-1])
    stdin = " ".join(map(str, prompt)).encode()
    rows = ask(model, "greedy", str(n_tokens), str(threads), stdin=stdin)
    theirs = [int(row[0]) for row in rows]
    gaps = [min(gap, float(row[1]) - float(row[2])) for gap, row in zip(gaps, rows, strict=True)]
    differs = first_difference(ours, theirs)
    n_equal = n_tokens if differs is None else differs
    # The step after the last equal one starts from the same ids as well.
    same_start = zip(best[: n_equal + 1], rows, strict=False)
    return Continuation(
        prompt=prompt, ck=ours, llama_cpp=theirs,
        n_certain=next((n for n, gap in enumerate(gaps) if gap < GAP), n_tokens),
        n_equal=n_equal, max_logit_difference=max(abs(a - float(row[1])) for a, row in same_start),
    )  # fmt: skip


def prompts(ids: list[int], n_prompts: int, n_each: int) -> list[list[int]]:
    """Pieces of `ids`, evenly spread."""
    last = max(0, len(ids) - n_each)
    return [ids[at : at + n_each] for at in np.linspace(0, last, n_prompts, dtype=int).tolist()]


def compare(args: argparse.Namespace) -> dict[str, Any]:
    """Everything compared, as JSON, `passed` among it."""
    source = open_model(args.model)
    stored = {tensor.storage.name for tensor in source.file.tensors.values()}
    if stored != {"f32"}:
        raise UsageError(f"{args.model}: must be stored as f32 throughout, found {', '.join(sorted(stored))}")
    if source.hp.context_length < args.prompt_tokens + args.tokens:
        raise UsageError(
            f"{args.model}: needs a context of {args.prompt_tokens + args.tokens} tokens, it has "
            f"{source.hp.context_length}; give fewer --tokens"
        )
    tokenizer = Tokenizer.from_gguf(source.file)
    ids, all_ours = list[Ids](), list[int]()
    for corpus in args.corpus:
        found, ours = compare_ids(args.model, corpus, tokenizer, args.run)
        ids.append(found)
        all_ours += ours
    compiled = ck.compile(args.model, dtype="f32", kv="f32", threads=args.threads)
    continuations = [
        continue_greedily(compiled, args.model, prompt, args.tokens, args.threads)
        for prompt in prompts(all_ours, args.prompts, args.prompt_tokens)
    ]
    return {
        "schema_version": 1, "model": str(args.model), "peer": llama_cpp.describe(), "gap": GAP,
        "passed": all(each.equal for each in ids) and all(each.passed for each in continuations),
        "n_not_compared": sum(args.tokens - each.n_certain for each in continuations),
        "ids": [asdict(each) for each in ids],
        "greedy": [asdict(each) | {"passed": each.passed} for each in continuations],
    }  # fmt: skip


def check(result: dict[str, Any]) -> None:
    """Raise GateError, naming the first difference, unless everything that had to be equal is."""
    for ids in result["ids"]:
        if not ids["equal"]:
            raise GateError(
                f"{ids['file']}: ids must be equal, they differ from {ids['first_difference']} on"
            )
    for n, each in enumerate(result["greedy"]):
        if not each["passed"]:
            raise GateError(
                f"prompt {n}: the first {each['n_certain']} ids must be equal, {each['n_equal']} are"
            )
    if not any(each["n_certain"] for each in result["greedy"]):
        raise GateError(
            f"no continuation could be compared: every first step has a gap below {result['gap']}"
        )


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description="Compare an exported GGUF file in llama.cpp and in ck.")
    parser.add_argument("model", type=Path, help="a GGUF file stored as f32")
    parser.add_argument("corpus", type=Path, nargs="+", help="text files")
    parser.add_argument("--run", type=Path, metavar="RUN_DIR", help="the run that the file was exported from")
    parser.add_argument("--prompts", type=int, default=4)
    parser.add_argument("--prompt-tokens", type=int, default=16, help="of each prompt")
    parser.add_argument("--tokens", type=int, default=64, help="to continue each prompt by")
    parser.add_argument("--threads", type=int, default=len(os.sched_getaffinity(0)))
    return parser.parse_args()


def main() -> int:
    args = arguments()
    try:
        result = compare(args)
        print(json.dumps(result, indent=1))
        check(result)
    except (CkError, OSError, UnicodeDecodeError) as error:
        print(f"check_export.py: {error}", file=sys.stderr)
        return error.exit_code if isinstance(error, CkError) else MachineError.exit_code
    return 0


if __name__ == "__main__":
    sys.exit(main())
