"""The reference of the logits tier: transformers' own model on the weights of the GGUF, dequantised to f32.

transformers reads both demo files itself (`gguf_file=`): it dequantises with the gguf package, undoes the row
order that llama's q and k have in a GGUF, takes the 1 from Gemma's norm gains (its module adds it back), and
fills in what Gemma's file leaves out: local rope base 1e4, five local layers to a global one, query scale
1/sqrt(256). test_reference.py holds those facts: a release that reads the files otherwise fails there first.
"""

import fcntl
import hashlib
import json
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

PROSE = Path(__file__).parents[1] / "data" / "prose.txt"
# 512 tokens are the tier's; the rest lies past Gemma's attention window of 512.
N_TOKENS = 640
N_GREEDY = 32
PROMPTS = (
    "The capital of France is",
    "Once upon a time, in a village by the sea,",
    "def fibonacci(n):\n    ",
    "The three laws of thermodynamics state that",
    "Q: What is seven times eight?\nA:",
)


@dataclass(frozen=True)
class Greedy:
    """One greedy continuation: `prompt` ids, `ids` [N_GREEDY], `gaps` [N_GREEDY] of the two best logits."""

    prompt: list[int]
    ids: list[int]
    gaps: list[float]


@dataclass(frozen=True)
class Reference:
    """What transformers says of one model: `ids` [T] i32, `logits` [T, V] f32 (mapped), greedy runs."""

    ids: np.ndarray
    logits: np.ndarray
    greedy: list[Greedy]


def load_model(path: Path) -> Any:
    """transformers' model of the GGUF at `path`, f32, in evaluation mode."""
    import torch
    from transformers import AutoModelForCausalLM

    model = AutoModelForCausalLM.from_pretrained(
        str(path.parent), gguf_file=path.name, dtype=torch.float32, attn_implementation="eager"
    )
    return model.eval()


def reference(path: Path, cache: Path) -> Reference:
    """The reference of the model at `path`, computed once per file and transformers version into `cache`."""
    import transformers

    with path.open("rb") as file:
        digest = hashlib.file_digest(file, "sha256").hexdigest()
    text = hashlib.sha256(PROSE.read_bytes() + repr((PROMPTS, N_TOKENS, N_GREEDY)).encode()).hexdigest()
    folder = cache / f"{digest[:16]}-{text[:8]}-transformers-{transformers.__version__}"
    done = folder / "greedy.json"
    with _locked(cache / "lock"):
        if not done.exists():
            folder.mkdir(exist_ok=True)
            _compute(path, folder)
    greedy = [Greedy(**run) for run in json.loads(done.read_text())]
    return Reference(np.load(folder / "ids.npy"), np.load(folder / "logits.npy", mmap_mode="r"), greedy)


def top2_gaps(logits: np.ndarray) -> np.ndarray:
    """The distance [T] between the best and the second best logit of each row of [T, V]."""
    best = np.stack([np.partition(row, -2)[-2:] for row in logits])
    return best[:, 1] - best[:, 0]


@contextmanager
def _locked(path: Path) -> Iterator[None]:
    """Hold the file lock `path`: two test processes compute a reference once."""
    with path.open("w") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield


def _compute(path: Path, folder: Path) -> None:
    import torch
    from transformers import AutoTokenizer

    tokenizer = AutoTokenizer.from_pretrained(str(path.parent), gguf_file=path.name)
    model = load_model(path)
    ids = tokenizer.encode(PROSE.read_text())[:N_TOKENS]
    assert len(ids) == N_TOKENS
    with torch.inference_mode():
        logits = model(torch.tensor([ids])).logits[0].numpy()
        runs = [_greedy(model, tokenizer.encode(prompt)) for prompt in PROMPTS]
    np.save(folder / "ids.npy", np.array(ids, np.int32))
    np.save(folder / "logits.npy", logits)
    partial = folder / "greedy.partial"
    partial.write_text(json.dumps([run.__dict__ for run in runs]))
    partial.rename(folder / "greedy.json")


def _greedy(model: Any, prompt: list[int]) -> Greedy:
    """`N_GREEDY` steps of argmax after `prompt`; the end-of-text token is a token like any other."""
    import torch

    fed, cache, ids, gaps = prompt, None, [], []
    for _ in range(N_GREEDY):
        out = model(torch.tensor([fed]), past_key_values=cache, use_cache=True)
        cache, best = out.past_key_values, out.logits[0, -1].topk(2)
        ids.append(int(best.indices[0]))
        gaps.append(float(best.values[0] - best.values[1]))
        fed = ids[-1:]
    return Greedy(prompt, ids, gaps)
