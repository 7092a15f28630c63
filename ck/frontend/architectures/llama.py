"""The `llama` family: Llama 1 to 3, Mistral, SmolLM and others converted to its names.

Source: Touvron et al. 2023, arXiv:2302.13971; names of keys and tensors from the GGUF specification.
"""

from xdsl.ir import SSAValue

from ck.errors import UsageError
from ck.frontend.gguf import Metadata
from ck.frontend.graph import Graph
from ck.frontend.hyperparameters import HeaderReader, HyperParameters, TemplateSizes
from ck.ir.ops.add import AddOp
from ck.ir.ops.embed import EmbedOp
from ck.ir.ops.linear import LinearOp
from ck.ir.ops.mul import MulOp
from ck.ir.ops.rms_norm import RmsNormOp
from ck.ir.ops.rope import RopeOp
from ck.ir.ops.silu import SiluOp


def read_hyperparameters(metadata: Metadata, n_vocab: int, tied: bool) -> HyperParameters:
    """The header's numbers, in range. Raises MalformedError, UnsupportedError naming the key."""
    header = HeaderReader(metadata)
    header.refuse("expert_count", 0)
    header.refuse("attention.sliding_window", 0)
    return header.common(n_vocab, tied)


def template(sizes: TemplateSizes) -> HyperParameters:
    """A new model of the family; defaults are those of transformers' LlamaConfig. Raises UsageError."""
    if sizes.sliding_window or sizes.window_pattern:
        raise UsageError("template llama: has no sliding window; leave sliding_window and window_pattern out")
    return sizes.common("llama", rope_base=1e4, rms_eps=1e-6, tied=False)


def stored_as_one_plus(hp: HyperParameters) -> tuple[str, ...]:
    """Names of gains that the family's own parameters hold less 1: none."""
    return ()


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


def hidden_states(g: Graph) -> SSAValue:
    """The stack of layers and the final norm: [T, D]."""
    h = g.op(EmbedOp, g.args["tokens"], g.weight("token_embd.weight"), hint="h").y
    for layer in range(g.hp.n_layers):
        block = f"blk.{layer}."
        x = _norm(g, h, block + "attn_norm", "x")
        h = g.op(AddOp, h, _attention(g, x, layer), hint="h").y
        x = _norm(g, h, block + "ffn_norm", "x")
        gate = g.op(SiluOp, _linear(g, x, block + "ffn_gate")).y
        up = _linear(g, x, block + "ffn_up")
        h = g.op(AddOp, h, _linear(g, g.op(MulOp, gate, up, hint="ffn").y, block + "ffn_down"), hint="h").y
    return _norm(g, h, "output_norm", "hidden")


def _norm(g: Graph, x: SSAValue, weight: str, hint: str) -> SSAValue:
    return g.op(RmsNormOp, x, g.weight(f"{weight}.weight"), eps=g.hp.rms_eps, hint=hint).y


def _linear(g: Graph, x: SSAValue, weight: str) -> SSAValue:
    return g.op(LinearOp, x, g.weight(f"{weight}.weight"), hint=weight.rpartition(".")[2]).y


def _attention(g: Graph, x: SSAValue, layer: int) -> SSAValue:
    hp, block = g.hp, f"blk.{layer}."
    table = g.rope_table(layer)
    q, k, v = (_linear(g, x, block + name) for name in ("attn_q", "attn_k", "attn_v"))
    # Converters permute the rows of q and k, so that neighbours turn together.
    q = g.op(RopeOp, q, table, heads=hp.n_heads, mode="interleaved", hint="q").y
    k = g.op(RopeOp, k, table, heads=hp.n_kv_heads, mode="interleaved", hint="k").y
    return _linear(g, g.attend(q, k, v, layer), block + "attn_output")
