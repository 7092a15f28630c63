"""The `gemma3` family, text models only.

What sets it apart: norms before and after attention and feed-forward, RMSNorm on each head of q and k, five
layers with a sliding window to one global layer, each kind with its own rotary base, embeddings scaled by
sqrt(D).
Source: Gemma 3 technical report, arXiv:2503.19786; names of keys and tensors from the GGUF specification.
"""

import math
from dataclasses import replace

from xdsl.ir import SSAValue

from ck.frontend.gguf import Metadata
from ck.frontend.graph import Graph
from ck.frontend.hyperparameters import (
    CONTEXT_LIMIT,
    LAYER_LIMIT,
    HeaderReader,
    HyperParameters,
    TemplateSizes,
)
from ck.ir.ops.add import AddOp
from ck.ir.ops.embed import EmbedOp
from ck.ir.ops.gelu_tanh import GeluTanhOp
from ck.ir.ops.linear import LinearOp
from ck.ir.ops.mul import MulOp
from ck.ir.ops.reshape import ReshapeOp
from ck.ir.ops.rms_norm import RmsNormOp
from ck.ir.ops.rope import RopeOp
from ck.ir.ops.scale import ScaleOp

# Converters leave these three out of the file.
ROPE_BASE, ROPE_BASE_LOCAL, WINDOW_PATTERN = 1e6, 1e4, 6
WINDOW = 512
# The 27B model, known by its depth, divides q by the root of D / H instead of K (report, section 2).
LAYERS_27B = 62


def read_hyperparameters(metadata: Metadata, n_vocab: int, tied: bool) -> HyperParameters:
    """The header's numbers, in range. Raises MalformedError, UnsupportedError naming the key."""
    header = HeaderReader(metadata)
    header.refuse("final_logit_softcapping", 0.0)
    header.refuse("attn_logit_softcapping", 0.0)
    common = header.common(n_vocab, tied)
    return replace(
        common,
        rope_base=header.positive("rope.freq_base", ROPE_BASE),
        rope_base_local=header.positive("rope.freq_base_swa", ROPE_BASE_LOCAL),
        sliding_window=header.integer("attention.sliding_window", 1, CONTEXT_LIMIT),
        window_pattern=header.integer("attention.sliding_window_pattern", 1, LAYER_LIMIT, WINDOW_PATTERN),
        attention_scale=_attention_scale(common),
    )


def _attention_scale(hp: HyperParameters) -> float:
    width = hp.d_model / hp.n_heads if hp.n_layers == LAYERS_27B else hp.head_dim
    return 1 / math.sqrt(width)


def template(sizes: TemplateSizes) -> HyperParameters:
    """A new model of the family; defaults are those of the 270M and 1B models."""
    common = sizes.common("gemma3", rope_base=ROPE_BASE, rms_eps=1e-6, tied=True)
    return replace(
        common,
        rope_base_local=ROPE_BASE_LOCAL,
        sliding_window=sizes.sliding_window or WINDOW,
        window_pattern=sizes.window_pattern or WINDOW_PATTERN,
        attention_scale=_attention_scale(common),
    )


def stored_as_one_plus(hp: HyperParameters) -> tuple[str, ...]:
    """Names of gains that the family's own parameters hold less 1: all of them."""
    return tuple(name for name, shape in tensor_shapes(hp).items() if len(shape) == 1)


def tensor_shapes(hp: HyperParameters) -> dict[str, tuple[int, ...]]:
    """Every tensor a file must have, and its shape, outermost dimension first."""
    d, heads, kv = hp.d_model, hp.n_heads * hp.head_dim, hp.n_kv_heads * hp.head_dim
    shapes: dict[str, tuple[int, ...]] = {"token_embd.weight": (hp.n_vocab, d), "output_norm.weight": (d,)}
    if not hp.tied:
        shapes["output.weight"] = (hp.n_vocab, d)
    for layer in range(hp.n_layers):
        block = f"blk.{layer}."
        shapes |= {
            block + "attn_norm.weight": (d,),
            block + "attn_q.weight": (heads, d),
            block + "attn_q_norm.weight": (hp.head_dim,),
            block + "attn_k.weight": (kv, d),
            block + "attn_k_norm.weight": (hp.head_dim,),
            block + "attn_v.weight": (kv, d),
            block + "attn_output.weight": (d, heads),
            block + "post_attention_norm.weight": (d,),
            block + "ffn_norm.weight": (d,),
            block + "ffn_gate.weight": (hp.d_ffn, d),
            block + "ffn_up.weight": (hp.d_ffn, d),
            block + "ffn_down.weight": (d, hp.d_ffn),
            block + "post_ffw_norm.weight": (d,),
        }
    return shapes


def hidden_states(g: Graph) -> SSAValue:
    """The stack of layers and the final norm: [T, D]."""
    embedded = g.op(EmbedOp, g.args["tokens"], g.weight("token_embd.weight")).y
    h = g.op(ScaleOp, embedded, factor=math.sqrt(g.hp.d_model), hint="h").y
    for layer in range(g.hp.n_layers):
        block = f"blk.{layer}."
        attended = _attention(g, _norm(g, h, block + "attn_norm", "x"), layer)
        h = g.op(AddOp, h, _norm(g, attended, block + "post_attention_norm"), hint="h").y
        x = _norm(g, h, block + "ffn_norm", "x")
        gate = g.op(GeluTanhOp, _linear(g, x, block + "ffn_gate")).y
        up = _linear(g, x, block + "ffn_up")
        down = _linear(g, g.op(MulOp, gate, up, hint="ffn").y, block + "ffn_down")
        h = g.op(AddOp, h, _norm(g, down, block + "post_ffw_norm"), hint="h").y
    return _norm(g, h, "output_norm", "hidden")


def _norm(g: Graph, x: SSAValue, weight: str, hint: str = "normed") -> SSAValue:
    return g.op(RmsNormOp, x, g.weight(f"{weight}.weight"), eps=g.hp.rms_eps, hint=hint).y


def _linear(g: Graph, x: SSAValue, weight: str) -> SSAValue:
    return g.op(LinearOp, x, g.weight(f"{weight}.weight"), hint=weight.rpartition(".")[2]).y


def _rotated(g: Graph, x: SSAValue, layer: int, name: str, heads: int) -> SSAValue:
    """RMSNorm of every head of q or k, then its rotation."""
    rows = g.builder.insert(ReshapeOp.to(x, g.rows * heads, g.hp.head_dim)).y
    normed = _norm(g, rows, f"blk.{layer}.attn_{name}_norm")
    flat = g.builder.insert(ReshapeOp.to(normed, g.rows, heads * g.hp.head_dim)).y
    return g.op(RopeOp, flat, g.rope_table(layer), heads=heads, mode="neox", hint=name).y


def _attention(g: Graph, x: SSAValue, layer: int) -> SSAValue:
    hp, block = g.hp, f"blk.{layer}."
    q, k, v = (_linear(g, x, block + name) for name in ("attn_q", "attn_k", "attn_v"))
    q = _rotated(g, q, layer, "q", hp.n_heads)
    k = _rotated(g, k, layer, "k", hp.n_kv_heads)
    return _linear(g, g.attend(q, k, v, layer), block + "attn_output")
