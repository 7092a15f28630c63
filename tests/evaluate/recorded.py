"""What llama-perplexity said of two tiny models, in tests/data/perplexity.

    base.dat         its log probabilities of the first model on TEXT
    saved.txt        what it printed meanwhile
    compared.txt     what it printed of the second model against base.dat
    version.txt      which llama.cpp, and the command that built it

`python -m tests.evaluate.recorded` writes them anew; it needs benchmarks/peers/llama_cpp.py to have built it.
"""

import re
import subprocess
import sys
import tempfile
from pathlib import Path

import numpy as np
from gguf import GGUFReader

from tests.frontend.make_gguf import write_tiny

ROOT = Path(__file__).resolve().parents[2]
DATA = ROOT / "tests" / "data" / "perplexity"
N_CTX, N_CHUNKS = 16, 15
# Ends with a newline, which is no part of it.
TEXT = (ROOT / "tests" / "data" / "prose.txt").read_bytes()[:400] + b"\n"
NOISE = 0.02


def write_models(folder: Path) -> tuple[Path, Path]:
    """The base, and the same with noise on every weight."""
    base, model = write_tiny(folder / "base.gguf"), write_tiny(folder / "model.gguf")
    rng = np.random.default_rng(1)
    for tensor in GGUFReader(model, "r+").tensors:
        tensor.data[...] += (NOISE * rng.standard_normal(tensor.data.shape)).astype(np.float32)
        tensor.data.flush()
    return base, model


def main() -> None:
    sys.path.insert(0, str(ROOT / "benchmarks" / "peers"))
    import llama_cpp

    DATA.mkdir(exist_ok=True)
    with tempfile.TemporaryDirectory() as folder:
        base, model = write_models(Path(folder))
        text = Path(folder) / "text"
        text.write_bytes(TEXT)
        common = ["-f", text, "-c", str(N_CTX), "-ctk", "f32", "-ctv", "f32", "-fa", "off", "-t", "1"]
        common += ["--chunks", str(N_CHUNKS), "--kl-divergence-base", DATA / "base.dat"]
        for name, words in {"saved": ["-m", base], "compared": ["-m", model, "--kl-divergence"]}.items():
            command = [llama_cpp.program("llama-perplexity"), *words, *common]
            done = subprocess.run(command, capture_output=True, text=True, check=True)
            final = re.findall(r"Final estimate: PPL = .*", done.stderr)
            lines = done.stdout.partition("minutes\n")[2].strip().splitlines()
            (DATA / f"{name}.txt").write_text("\n".join([*lines, *final]) + "\n")
    (DATA / "version.txt").write_text(f"{llama_cpp.describe()}: python benchmarks/peers/llama_cpp.py\n")


if __name__ == "__main__":
    main()
