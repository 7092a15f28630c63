"""Models of published shapes with random weights: whether they compile, load and generate, and at what cost.

    python benchmarks/shapes.py [--shapes NAMES] [--tokens N] [--folder DIR] [--markdown]

One shape after the other is written as a GGUF file to a folder that is emptied again, then

cold      seconds from process start to a loaded program, with an empty program cache
cached    the same with the program in the cache
memory    peak resident bytes of a process that loads, reads 64 tokens and generates N
least     packed weights and KV cache: what such a process cannot do without
decode    tokens a second over the N

Files are in the page cache. A shape that the machine's free memory or disk is too small for ends the run with
one line. Results: a table, in Markdown with --markdown, and DIR/shapes.json.
"""

import argparse
import json
import math
import shutil
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

from measure import CK, ROOT, run, situation
from random_model import storage_of, write_model

from ck.cli.summary import plan_memory
from ck.errors import CkError, MachineError, ResourceError, UsageError
from ck.frontend.architectures import find_architecture
from ck.frontend.architectures.outward import family_of_config, find_outward
from ck.frontend.architectures.outward.config import ConfigReader
from ck.frontend.hyperparameters import HyperParameters
from ck.frontend.model import open_model

LOAD = "import sys, ck; ck.compile(sys.argv[1])"
N_PROMPT = 64
# What a process takes beside weights and cache, and the page cache of the file it reads.
SPARE_BYTES = 2 << 30
LLAMA3 = {
    "rope_type": "llama3", "factor": 32.0, "low_freq_factor": 1.0, "high_freq_factor": 4.0,
    "original_max_position_embeddings": 8192,
}  # fmt: skip


def config(kind: str, sizes: tuple[int, int, int, int, int, int, int, int], **more: Any) -> dict[str, Any]:
    """A config.json; sizes in the order of the names below."""
    names = (
        "num_hidden_layers", "hidden_size", "num_attention_heads", "num_key_value_heads", "head_dim",
        "intermediate_size", "vocab_size", "max_position_embeddings",
    )  # fmt: skip
    return {"model_type": kind, **dict(zip(names, sizes, strict=True)), **more}


TIED = {"tie_word_embeddings": True}
# As their config.json has it, and the storage type of the matrices.
SHAPES: dict[str, tuple[str, dict[str, Any]]] = {
    "Qwen2-0.5B": (
        "q8_0",
        config("qwen2", (24, 896, 14, 2, 64, 4864, 151936, 131072), rope_theta=1e6, **TIED),
    ),
    "Qwen3-0.6B": (
        "q4_k",
        config("qwen3", (28, 1024, 16, 8, 128, 3072, 151936, 40960), rope_theta=1e6, **TIED),
    ),
    "Qwen3.5-0.8B": (
        "q4_k",
        config(
            "qwen3_5_text", (24, 1024, 8, 2, 256, 3584, 248320, 262144), linear_num_value_heads=16, **TIED,
            rope_parameters={"rope_type": "default", "rope_theta": 1e7, "partial_rotary_factor": 0.25},
        ),
    ),
    "Gemma 3 270M": (
        "q8_0",
        config("gemma3_text", (18, 640, 4, 1, 256, 2048, 262144, 32768), sliding_window=512),
    ),
    "Gemma 3 1B": (
        "q4_k",
        config("gemma3_text", (26, 1152, 4, 1, 256, 6912, 262144, 32768), sliding_window=512),
    ),
    "Llama-3.2-1B": (
        "q4_k",
        config(
            "llama", (16, 2048, 32, 8, 64, 8192, 128256, 131072), rope_theta=5e5, rms_norm_eps=1e-5,
            rope_scaling=LLAMA3, **TIED,
        ),
    ),
    "Nanbeige4.1-3B": (
        "q4_k",
        config(
            "llama", (32, 2560, 20, 4, 128, 10496, 166144, 262144), rope_theta=7e7, rms_norm_eps=1e-5,
            tie_word_embeddings=False,
        ),
    ),
    "SmolLM3-3B": (
        "q4_k",
        config("smollm3", (36, 2048, 16, 4, 128, 11008, 128256, 65536), rope_theta=5e6, **TIED),
    ),
}  # fmt: skip


def numbers(fields: dict[str, Any]) -> HyperParameters:
    """The numbers of a config.json."""
    reader = ConfigReader(fields, "config.json")
    family = find_outward(family_of_config(reader))
    assert family is not None
    return family.from_huggingface_config(reader)


def shapes_of(hp: HyperParameters) -> list[tuple[int, ...]]:
    """The shapes of the model's tensors."""
    architecture = find_architecture(hp.arch)
    assert architecture is not None
    return list(architecture.tensor_shapes(hp).values())


def n_params(hp: HyperParameters) -> int:
    """Numbers that the model has learnt."""
    return sum(map(math.prod, shapes_of(hp)))


def file_bytes(hp: HyperParameters, storage: str) -> int:
    """Bytes of the file's tensors."""
    stored = ((shape, storage_of(shape, storage)) for shape in shapes_of(hp))
    return sum(math.prod(shape) // of.block * of.file_bytes for shape, of in stored)


def check_room(name: str, n_bytes: int, folder: Path) -> None:
    """Raise ResourceError when the file, and twice its bytes in memory, do not fit."""
    free = shutil.disk_usage(folder).free
    if free < n_bytes + SPARE_BYTES:
        raise ResourceError(
            f"{name}: needs {n_bytes + SPARE_BYTES} bytes of {folder}'s disk, {free} are free"
        )
    facts = dict(line.split(":") for line in Path("/proc/meminfo").read_text().splitlines())
    available = 1024 * int(facts["MemAvailable"].split()[0])
    if available < 2 * n_bytes + SPARE_BYTES:
        raise ResourceError(
            f"{name}: needs {2 * n_bytes + SPARE_BYTES} bytes of memory, {available} are available"
        )


def measure(name: str, n_tokens: int, threads: int, folder: Path) -> dict[str, Any]:
    """The row of one shape."""
    storage, fields = SHAPES[name]
    hp = numbers(fields)
    check_room(name, file_bytes(hp, storage), folder)
    path, env = folder / "model.gguf", {"CK_CACHE_DIR": str(folder / "cache")}
    start = time.perf_counter()
    n_bytes = write_model(path, hp, storage)
    written_s = time.perf_counter() - start
    source = open_model(path)
    command = [sys.executable, "-c", LOAD, path]
    cold, cached = (run(command, env) for _ in range(2))
    sizes = ["-p", str(N_PROMPT), "-n", str(n_tokens), "-r", "1", "-t", str(threads)]
    bench = run([*CK, "bench", path, *sizes, "--json"], env)
    rates = {(row["n_prompt"], row["n_gen"]): float(row["avg_ts"]) for row in json.loads(bench.out)}
    plan = plan_memory(source.file, hp, n_ctx=N_PROMPT + n_tokens, chunk=512, kv="f16", dtype=None)
    return {
        "shape": name, "storage": storage, "n_params": n_params(hp), "file_bytes": n_bytes,
        "written_s": written_s, "cold_s": cold.wall_s, "compile_rss_bytes": cold.peak_rss_bytes,
        "cached_s": cached.wall_s, "rss_bytes": bench.peak_rss_bytes, "least_bytes": plan.total_bytes,
        "prompt_rate": rates[N_PROMPT, 0], "decode_rate": rates[0, n_tokens],
    }  # fmt: skip


def table(result: dict[str, Any]) -> str:
    """The rows as Markdown."""
    facts = result["situation"]
    lines = [
        f"{facts['date']}, commit {facts['commit']}, {facts['cpu']}, {facts['cores']} cores, "
        f"{result['threads']} threads; {N_PROMPT} tokens read, {result['tokens']} generated.",
        "",
        "| shape | parameters | file | cold | cached | peak memory | weights and cache | prompt | decode |",
        "|---|---|---|---|---|---|---|---|---|",
    ]
    for row in result["rows"]:
        lines.append(
            f"| {row['shape']} | {row['n_params'] / 1e6:.0f} M, {row['storage'].upper()} "
            f"| {row['file_bytes'] / 1e6:.0f} MB | {row['cold_s']:.1f} s | {row['cached_s']:.1f} s "
            f"| {row['rss_bytes'] / 1e6:.0f} MB | {row['least_bytes'] / 1e6:.0f} MB "
            f"| {row['prompt_rate']:.0f} /s | {row['decode_rate']:.1f} /s |"
        )
    return "\n".join(lines) + "\n"


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description="Compile, load and run models of published shapes.")
    parser.add_argument("--shapes", default=",".join(SHAPES), help="names, separated by commas")
    parser.add_argument("--tokens", type=int, default=16, help="to generate")
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--folder", type=Path, metavar="DIR", help="on whose disk files are written")
    parser.add_argument("--out", type=Path, default=ROOT / "build" / "benchmarks", metavar="DIR")
    parser.add_argument("--markdown", action="store_true", help="print the table, not the rows as JSON")
    return parser.parse_args()


def main() -> int:
    args = arguments()
    try:
        names = args.shapes.split(",")
        unknown = [name for name in names if name not in SHAPES]
        if unknown:
            raise UsageError(f"--shapes: must be of {', '.join(SHAPES)}, found {unknown[0]}")
        rows: list[dict[str, Any]] = []
        for name in names:
            with tempfile.TemporaryDirectory(dir=args.folder) as folder:
                rows.append(measure(name, args.tokens, args.threads, Path(folder)))
            print(f"{name}: done", file=sys.stderr)
        result = {"situation": situation(), "threads": args.threads, "tokens": args.tokens, "rows": rows}
        args.out.mkdir(parents=True, exist_ok=True)
        (args.out / "shapes.json").write_text(json.dumps(result, indent=1) + "\n")
        print(table(result) if args.markdown else json.dumps(result["rows"], indent=1), end="")
    except (CkError, OSError) as error:
        print(f"shapes.py: {error}", file=sys.stderr)
        return error.exit_code if isinstance(error, CkError) else MachineError.exit_code
    return 0


if __name__ == "__main__":
    sys.exit(main())
