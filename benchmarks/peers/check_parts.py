"""Does ck read what llama.cpp's gguf-split makes of a file as it reads the file, whichever part it is given.

    python benchmarks/peers/llama_cpp.py        once: builds the peer
    python benchmarks/peers/check_parts.py [MODEL.gguf ...]

Both demo models, and any other file, are split by tensors, by size, and with a first part that has none, then
joined again. Of each, keys, tensors and every byte of them must be the file's. Exit code 5 when one differs.
"""

import argparse
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import llama_cpp
import numpy as np

from ck.errors import CkError, GateError
from ck.frontend.model import GgufModel
from ck.runtime.known_models import known_models
from ck.runtime.resolve import resolve_model

WAYS = {
    "by tensors": ("--split-max-tensors", "60"),
    "by size": ("--split-max-size", "40M"),
    "by size, none in the first": ("--no-tensor-first-split", "--split-max-size", "70M"),
}
# What the tool adds.
ADDED = ("split.no", "split.count", "split.tensors.count")


def gguf_split(*words: str | Path) -> None:
    """Run the tool. Raises GateError with its last line."""
    command = [llama_cpp.program("llama-gguf-split"), *words]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        raise GateError(f"gguf-split: must do its work, it says: {done.stderr.strip()[-200:]}")


def difference(whole: GgufModel, other: GgufModel) -> str | None:
    """What differs; None when nothing does."""
    keys = [key for key in other.metadata if key not in ADDED]
    if keys != list(whole.metadata) or any(
        not np.array_equal(whole.metadata[key], other.metadata[key]) for key in keys
    ):
        return "keys"
    if list(whole.tensors) != list(other.tensors):
        return "names of tensors"
    for name, tensor in whole.tensors.items():
        found = other.tensors[name]
        if (found.shape, found.storage) != (tensor.shape, tensor.storage):
            return f"shape or type of {name}"
        if not np.array_equal(whole.raw(name), other.raw(name)):
            return f"bytes of {name}"
    return None


def check(model: Path) -> Iterator[bool]:
    """Each way to split the file: whether it failed."""
    whole = GgufModel(model)
    for way, options in WAYS.items():
        with tempfile.TemporaryDirectory() as scratch:
            folder = Path(scratch)
            gguf_split("--split", *options, model, folder / "part")
            paths = sorted(folder.glob("part-*.gguf"))
            found = {f"part {n + 1}": difference(whole, GgufModel(path)) for n, path in enumerate(paths)}
            gguf_split("--merge", paths[0], folder / "joined.gguf")
            found["joined"] = difference(whole, GgufModel(folder / "joined.gguf"))
        wrong = {name: text for name, text in found.items() if text is not None}
        print(f"{model.name}, {way}: {len(paths)} parts, {wrong or 'equal'}")
        yield bool(wrong)


def main() -> int:
    parser = argparse.ArgumentParser(description="Compare the parts that gguf-split makes with the whole.")
    parser.add_argument("models", nargs="*", type=Path, help="GGUF files beside the demo models")
    given = parser.parse_args()
    try:
        models = [*map(resolve_model, known_models()), *given.models]
        failed = [way for model in models for way in check(model)]
    except CkError as error:
        print(f"check_parts.py: {error}", file=sys.stderr)
        return error.exit_code
    return 5 if any(failed) else 0


if __name__ == "__main__":
    sys.exit(main())
