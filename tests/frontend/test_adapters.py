"""Adapters: which products have one, what they begin as, and that they compute what merged weights do."""

from dataclasses import replace
from typing import Any

import numpy as np
import pytest

import ck
from ck.errors import UsageError
from ck.frontend.adapted_graph import products, template_graph
from ck.frontend.adapters import Adapters, choose
from ck.frontend.architectures import ARCHITECTURES
from ck.frontend.template import Template
from ck.ir.dialects import context
from ck.ir.ops.cross_entropy import CrossEntropyBwdOp
from ck.passes.differentiate import DifferentiatePass
from ck.runtime.trainable import compile_trainable

SIZES: dict[str, Any] = {
    "layers": 2, "embed_dim": 64, "hidden_dim": 96, "num_heads": 4, "num_kv_heads": 2, "head_dim": 16,
    "vocab_size": 131, "context_len": 64,
}  # fmt: skip


def adapted(family: str, *targets: str, rank: int = 4, alpha: float = 6.0) -> Template:
    made = ck.template(family, **SIZES)
    return replace(made, adapters=Adapters(rank, alpha, choose(made.hp, products(made), targets or ("all",))))


@pytest.mark.parametrize("family", ARCHITECTURES)
def test_all_means_every_product_of_every_layer(family: str) -> None:
    made = ck.template(family, **SIZES)
    matrices = {
        name
        for name, shape in made.shapes.items()
        if name.startswith("blk.") and len(shape) == 2 and "conv" not in name
    }
    assert set(products(made)) == matrices
    assert choose(made.hp, products(made), ["all"]) == products(made)


def test_a_target_goes_by_three_names() -> None:
    made = ck.template("llama", **SIZES)
    known = products(made)
    for spelling in ("o", "o_proj", "attn_output"):
        assert choose(made.hp, known, [spelling]) == ("blk.0.attn_output.weight", "blk.1.attn_output.weight")
    with pytest.raises(
        UsageError, match="targets must be all or some of q, k, v, o, gate, up, down, found w"
    ):
        choose(made.hp, known, ["q", "w"])


def test_a_fresh_adapter_changes_nothing() -> None:
    made = adapted("llama", rank=4)
    first = made.initial_weights(seed=5)
    for name, values in first.items():
        if name.endswith("lora_b"):
            assert not values.any()
        else:
            limit = values.shape[1] ** -0.5
            assert 0.8 * limit < np.abs(values).max() <= limit
    other = made.initial_weights(seed=6)
    name = next(iter(first))
    assert not np.array_equal(first[name], other[name])
    assert np.array_equal(first[name], made.initial_weights(seed=5)[name])


def test_nothing_is_made_for_what_is_frozen() -> None:
    """No gradient of a frozen tensor, no working memory for it: the head's product is not taken."""
    made = adapted("llama", "q")
    module = template_graph(made, 8).module
    DifferentiatePass().apply(context(), module)
    text = str(module)
    assert text.count('form = "tn"') == 2 * len(made.adapters.weights if made.adapters else ())
    assert "embed_bwd" not in text
    heads = [op for op in module.walk() if isinstance(op, CrossEntropyBwdOp)]
    assert heads
    assert not any(op.dw.uses for op in heads)


@pytest.mark.parametrize("family", ARCHITECTURES)
@pytest.mark.parametrize("backend", ["c", "llvm"])
def test_adapters_compute_what_merged_weights_do(family: str, backend: str) -> None:
    made = adapted(family)
    assert made.adapters is not None
    rng = np.random.default_rng(1)
    base = {name: 3 * values for name, values in replace(made, adapters=None).initial_weights(seed=2).items()}
    tensors = {name: rng.normal(0, 0.1, shape).astype(np.float32) for name, shape in made.trained.items()}
    merged = {
        name: values + made.adapters.delta(tensors, name) if name in made.adapters.weights else values
        for name, values in base.items()
    }
    tokens = rng.integers(0, SIZES["vocab_size"], (2, 24))
    sizes: dict[str, Any] = {"batch": 2, "seq": 24, "backend": backend}
    apart = compile_trainable(made, weights=tensors, frozen=base, **sizes)
    whole = compile_trainable(replace(made, adapters=None), weights=merged, **sizes)
    frozen = {name: values.copy() for name, values in apart.frozen.items()}
    assert apart.step(tokens, tokens).loss == pytest.approx(whole.step(tokens, tokens).loss, abs=2e-6)
    assert apart.parameters.keys() == made.trained.keys() == apart.gradients.keys()
    assert all(np.array_equal(values, apart.frozen[name]) for name, values in frozen.items())
    assert all(not np.array_equal(values, tensors[name]) for name, values in apart.parameters.items())
