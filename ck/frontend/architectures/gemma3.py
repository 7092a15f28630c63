"""The `gemma3` family, text models only.

What sets it apart: norms before and after attention and feed-forward, RMSNorm on each head of q and k, five
layers with a sliding window to one global layer, each kind with its own rotary base, embeddings scaled by
sqrt(D).
Source: Gemma 3 technical report, arXiv:2503.19786; names of keys and tensors from the GGUF specification.
"""

import math
from dataclasses import replace

from ck.frontend.gguf import Metadata
from ck.frontend.hyperparameters import CONTEXT_LIMIT, LAYER_LIMIT, HeaderReader, HyperParameters

# Converters leave these three out of the file.
ROPE_BASE, ROPE_BASE_LOCAL, WINDOW_PATTERN = 1e6, 1e4, 6
# The 27B model, known by its depth, divides q by the root of D / H instead of K (report, section 2).
LAYERS_27B = 62


def read_hyperparameters(metadata: Metadata, n_vocab: int, tied: bool) -> HyperParameters:
    """The header's numbers, in range. Raises MalformedError, UnsupportedError naming the key."""
    header = HeaderReader(metadata)
    header.refuse("final_logit_softcapping", 0.0)
    header.refuse("attn_logit_softcapping", 0.0)
    common = header.common(n_vocab, tied)
    scale = common.attention_scale
    if common.n_layers == LAYERS_27B:
        scale = 1 / math.sqrt(common.d_model / common.n_heads)
    return replace(
        common,
        rope_base=header.positive("rope.freq_base", ROPE_BASE),
        rope_base_local=header.positive("rope.freq_base_swa", ROPE_BASE_LOCAL),
        sliding_window=header.integer("attention.sliding_window", 1, CONTEXT_LIMIT),
        window_pattern=header.integer("attention.sliding_window_pattern", 1, LAYER_LIMIT, WINDOW_PATTERN),
        attention_scale=scale,
    )


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
