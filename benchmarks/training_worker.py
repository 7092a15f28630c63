"""One side of benchmarks/training.py in its own process: warm up, time whole steps, print a line of JSON.

    python benchmarks/training_worker.py SIDE PRESET THREADS

SIDE is ck, eager or compile with -f32 or -bf16 behind it, PRESET is JSON of the sizes. Every step has new
tokens; both sides get the same ones.
"""

import json
import statistics
import sys
import time
from collections.abc import Callable
from typing import Any

import numpy as np

import ck
from ck.frontend.architectures.outward import find_outward
from ck.frontend.template import Template
from ck.runtime.trainable import Hyper

FAMILY = "llama"
WARM_UP, LEAST_STEPS, LEAST_SECONDS = 2, 5, 4.0
Step = Callable[[np.ndarray, np.ndarray], float]


def make_template(sizes: dict[str, int]) -> Template:
    """The preset's model."""
    names = ("layers", "embed_dim", "hidden_dim", "num_heads", "num_kv_heads", "vocab_size")
    return ck.template(FAMILY, **{name: sizes[name] for name in names}, context_len=sizes["seq"])


def ck_step(template: Template, sizes: dict[str, int], dtype: str, threads: int) -> Step:
    """A step of ck."""
    trainable = ck.compile(
        template, mode="train", batch=sizes["batch"], seq=sizes["seq"], dtype=dtype, threads=threads
    )
    number = 0

    def step(tokens: np.ndarray, targets: np.ndarray) -> float:
        nonlocal number
        number += 1
        return trainable.step(tokens, targets, Hyper(), number).loss

    return step


def torch_step(template: Template, kind: str, dtype: str, threads: int) -> Step:
    """A step of PyTorch: forward, loss, backward, clip, fused AdamW with decay on matrices."""
    import torch
    import transformers

    torch.set_num_threads(threads)
    outward = find_outward(FAMILY)
    assert outward is not None
    fields = {k: v for k, v in outward.huggingface_config(template.hp).items() if k != "architectures"}
    config = transformers.AutoConfig.for_model(**fields, attn_implementation="sdpa")
    model: Any = transformers.AutoModelForCausalLM.from_config(config).float()
    weights = outward.to_huggingface(template.hp, template.initial_weights())
    model.load_state_dict({name: torch.from_numpy(np.array(w)) for name, w in weights.items()}, strict=False)
    model.train()
    matrices = [p for p in model.parameters() if p.dim() > 1]
    vectors = [p for p in model.parameters() if p.dim() == 1]
    groups = [{"params": matrices, "weight_decay": 0.1}, {"params": vectors, "weight_decay": 0.0}]
    optimizer = torch.optim.AdamW(groups, lr=3e-4, betas=(0.9, 0.95), eps=1e-8, fused=True)

    def loss_of(tokens: Any, targets: Any) -> Any:
        with torch.autocast("cpu", torch.bfloat16, enabled=dtype == "bf16"):
            logits = model(tokens, use_cache=False).logits
        return torch.nn.functional.cross_entropy(logits.float().flatten(0, 1), targets.flatten())

    forward = torch.compile(loss_of) if kind == "compile" else loss_of

    def step(tokens: np.ndarray, targets: np.ndarray) -> float:
        optimizer.zero_grad(set_to_none=True)
        loss = forward(torch.from_numpy(tokens).long(), torch.from_numpy(targets).long())
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        return float(loss.detach())

    return step


def main() -> None:
    """The command line."""
    name, sizes, threads = sys.argv[1], json.loads(sys.argv[2]), int(sys.argv[3])
    kind, _, dtype = name.partition("-")
    template = make_template(sizes)
    if kind == "ck":
        step = ck_step(template, sizes, dtype, threads)
    else:
        step = torch_step(template, kind, dtype, threads)
    rng = np.random.default_rng(0)
    seconds: list[float] = []
    losses: list[float] = []
    while len(losses) < WARM_UP + LEAST_STEPS or sum(seconds) < LEAST_SECONDS:
        ids = rng.integers(0, sizes["vocab_size"], (sizes["batch"], sizes["seq"] + 1)).astype(np.int32)
        started = time.perf_counter()
        losses.append(step(ids[:, :-1], ids[:, 1:]))
        if len(losses) > WARM_UP:
            seconds.append(time.perf_counter() - started)
    median = statistics.median(seconds)
    rate = sizes["batch"] * sizes["seq"] / median
    # After the same number of steps on both sides.
    print(
        json.dumps({"tokens_per_second": rate, "step_s": median, "loss": losses[WARM_UP + LEAST_STEPS - 1]})
    )


if __name__ == "__main__":
    main()
