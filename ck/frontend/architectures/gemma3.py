"""The `gemma3` family, text models only.

What sets it apart: norms before and after attention and feed-forward, RMSNorm on each head of q and k, five
layers with a sliding window to one global layer, each kind with its own rotary base, embeddings scaled by
sqrt(D).
Source: Gemma 3 technical report, arXiv:2503.19786; names of keys and tensors from the GGUF specification.
"""

import math
from dataclasses import replace

from xdsl.ir import SSAValue

from ck.frontend.architectures import layers
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
from ck.ir.ops.gelu_tanh import GeluTanhOp
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


def tensor_shapes(hp: HyperParameters) -> layers.Shapes:
    """Every tensor a file must have, and its shape, outermost dimension first."""
    return layers.tensor_shapes(hp, norms=(*layers.HEAD_NORMS, *layers.POST_NORMS))


def hidden_states(g: Graph) -> SSAValue:
    """The stack of layers and the final norm: [T, D]."""
    h = g.op(ScaleOp, layers.embed(g), factor=math.sqrt(g.hp.d_model), hint="h").y
    for layer in range(g.hp.n_layers):
        block = f"blk.{layer}."
        attended = layers.attention(g, layers.norm(g, h, block + "attn_norm", "x"), layer, "neox")
        h = g.op(AddOp, h, layers.norm(g, attended, block + "post_attention_norm"), hint="h").y
        down = layers.feed_forward(g, layers.norm(g, h, block + "ffn_norm", "x"), layer, GeluTanhOp)
        h = g.op(AddOp, h, layers.norm(g, down, block + "post_ffw_norm"), hint="h").y
    return layers.norm(g, h, "output_norm", "hidden")
