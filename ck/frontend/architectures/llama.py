"""The `llama` family: Llama 1 to 3, Mistral, SmolLM and others converted to its names.

Source: Touvron et al. 2023, arXiv:2302.13971; names of keys and tensors from the GGUF specification.
"""

from ck.frontend.gguf import Metadata
from ck.frontend.hyperparameters import HeaderReader, HyperParameters


def read_hyperparameters(metadata: Metadata, n_vocab: int, tied: bool) -> HyperParameters:
    """The header's numbers, in range. Raises MalformedError, UnsupportedError naming the key."""
    header = HeaderReader(metadata)
    header.refuse("expert_count", 0)
    header.refuse("attention.sliding_window", 0)
    return header.common(n_vocab, tied)


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
            block + "attn_k.weight": (kv, d),
            block + "attn_v.weight": (kv, d),
            block + "attn_output.weight": (d, heads),
            block + "ffn_norm.weight": (d,),
            block + "ffn_gate.weight": (hp.d_ffn, d),
            block + "ffn_up.weight": (hp.d_ffn, d),
            block + "ffn_down.weight": (d, hp.d_ffn),
        }
    return shapes
