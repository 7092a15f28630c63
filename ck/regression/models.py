"""What the matrix compares: every template in two sizes, random weights of it, and transformers' model of it.

small    what is quick: the widths of a head and of the model divide evenly, a window hides something
odd      three key/value heads of 80, a width that 32 divides and 64 does not, a prime's worth of tokens
"""

import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ck.errors import UnsupportedError
from ck.frontend.architectures.outward import find_outward
from ck.frontend.hyperparameters import HyperParameters
from ck.frontend.template import Template, make_template
from ck.regression.rows import corpus
from ck.train.corpus import Document
from ck.train.parity.pytorch import pytorch
from ck.train.tokenizer_training import gguf_vocabulary, train_tokenizer

Weights = dict[str, NDArray[np.float32]]

# Eight layers hold two periods of every pattern there is.
SIZES: Mapping[str, Mapping[str, Any]] = {
    "small": {
        "layers": 4, "embed_dim": 64, "hidden_dim": 128, "num_heads": 4, "num_kv_heads": 2, "head_dim": 16,
        "vocab_size": 300, "context_len": 640,
    },
    "odd": {
        "layers": 8, "embed_dim": 96, "hidden_dim": 160, "num_heads": 6, "num_kv_heads": 3, "head_dim": 80,
        "vocab_size": 1003, "context_len": 640,
    },
}  # fmt: skip
# Of families with a window: shorter than every prompt here.
WINDOWS: Mapping[str, Mapping[str, int]] = {
    "small": {"sliding_window": 9, "window_pattern": 2},
    "odd": {"sliding_window": 37, "window_pattern": 3},
}
# Tokens that the vocabulary's own tokenizer spells; the others are there to be predicted.
_SPELLED = 300
_UNUSED = 5


def sizes_of(template: str, size: str, **changes: Any) -> dict[str, Any]:
    """What `make_template` is given for `template` in `size`, a name of SIZES."""
    given = {**SIZES[size], **changes}
    hp = make_template(template, **given).hp
    # Where a pattern of 0 is a template's own, every layer has the window.
    shorter = WINDOWS[size] if hp.window_pattern else {"sliding_window": WINDOWS[size]["sliding_window"]}
    return {**(shorter if hp.sliding_window else {}), **given}


def model_of(template: str, size: str, **changes: Any) -> Template:
    """The template in `size`, a name of SIZES."""
    return make_template(template, **sizes_of(template, size, **changes))


def random_weights(model: Template, seed: int = 0) -> Weights:
    """Every tensor: matrices that keep rows about as long as they were, gains near 1, biases near 0.

    Vectors that begin elsewhere are logarithms of rates, drawn around 0: large rates would forget all but the
    last token.
    """
    rng = np.random.default_rng(seed)
    weights: Weights = {}
    for name, first in model.initial_weights().items():
        values = rng.standard_normal(first.shape, np.float32)
        if first.ndim > 1:
            weights[name] = values / np.float32(math.sqrt(first.shape[-1]))
        elif np.isin(first, (0, 1)).all():
            weights[name] = first + (values / 10).astype(np.float32)
        else:
            weights[name] = values
    return weights


def vocabulary(n_vocab: int) -> dict[str, Any]:
    """A small tokenizer's keys of a GGUF header, with tokens that nothing spells up to `n_vocab`."""
    tokenizer = train_tokenizer([Document(corpus(), Path("corpus"), 1)], "bpe", min(n_vocab, _SPELLED))
    keys: dict[str, Any] = gguf_vocabulary(tokenizer)
    tokens = keys["tokenizer.ggml.tokens"]
    missing = n_vocab - len(tokens)
    keys["tokenizer.ggml.tokens"] = [*tokens, *(f"<{n}>" for n in range(missing))]
    keys["tokenizer.ggml.token_type"] = [*keys["tokenizer.ggml.token_type"], *[_UNUSED] * missing]
    return keys


def transformers_model(hp: HyperParameters, weights: Mapping[str, Any]) -> Any:
    """transformers' model of these numbers and weights, f32, in evaluation mode.

    Raises MachineError without PyTorch, UnsupportedError when transformers has no such model.
    """
    from importlib import import_module

    torch, transformers = pytorch(), import_module("transformers")
    family = find_outward(hp.arch)
    if family is None:
        raise UnsupportedError(f"{hp.arch}: transformers' model of this family is not known")
    config: Any = transformers.AutoConfig.for_model(**family.huggingface_config(hp))
    with torch.random.fork_rng(devices=[]):
        model: Any = transformers.AutoModelForCausalLM.from_config(config, attn_implementation="eager")
    named = dict(model.named_parameters())
    theirs = family.to_huggingface(hp, weights)
    if odd := sorted(named.keys() ^ theirs.keys()):
        raise UnsupportedError(f"{hp.arch}: both sides must have tensor {odd[0]}, one has it")
    for name, values in theirs.items():
        named[name].data = torch.from_numpy(np.ascontiguousarray(values))
    return model.eval()
