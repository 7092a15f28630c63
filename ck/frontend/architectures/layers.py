"""What the families' layers are made of: tensors, norms, products, attention, feed-forward.

A family's module says which of it a layer has and in what order. What a tensor's absence decides is decided
by the family's `tensor_shapes`: a product has a bias, and heads of q and k a norm, where there is a tensor.
"""

from collections.abc import Collection

from xdsl.ir import SSAValue

from ck.frontend.graph import Graph
from ck.frontend.hyperparameters import HyperParameters
from ck.ir.op import CkOp
from ck.ir.ops.add import AddOp
from ck.ir.ops.bias_add import BiasAddOp
from ck.ir.ops.embed import EmbedOp
from ck.ir.ops.linear import LinearOp
from ck.ir.ops.mul import MulOp
from ck.ir.ops.reshape import ReshapeOp
from ck.ir.ops.rms_norm import RmsNormOp
from ck.ir.ops.rope import RopeOp
from ck.ir.types import shape

Shapes = dict[str, tuple[int, ...]]
QKV = ("attn_q", "attn_k", "attn_v")
HEAD_NORMS = ("attn_q_norm", "attn_k_norm")
POST_NORMS = ("post_attention_norm", "post_ffw_norm")


def tensor_shapes(hp: HyperParameters, norms: Collection[str] = (), biases: Collection[str] = ()) -> Shapes:
    """Every tensor of a model, outermost dimension first: what all families have, and these beyond.

    norms    of each layer: HEAD_NORMS, POST_NORMS
    biases   products of each layer that have one: some of QKV
    """
    d = hp.d_model
    shapes: Shapes = {"token_embd.weight": (hp.n_vocab, d), "output_norm.weight": (d,)}
    if not hp.tied:
        shapes["output.weight"] = (hp.n_vocab, d)
    for layer in range(hp.n_layers):
        for name, sizes in layer_shapes(hp).items():
            if len(sizes) > 1 or name in ("attn_norm", "ffn_norm") or name in norms:
                shapes[f"blk.{layer}.{name}.weight"] = sizes
            if name in biases:
                shapes[f"blk.{layer}.{name}.bias"] = sizes[:1]
    return shapes


def layer_shapes(hp: HyperParameters) -> Shapes:
    """Tensors of a layer that attends, by what they are in it."""
    d, heads, kv = hp.d_model, hp.n_heads * hp.head_dim, hp.n_kv_heads * hp.head_dim
    return {
        "attn_norm": (d,),
        "attn_q": (heads, d),
        "attn_q_norm": (hp.head_dim,),
        "attn_k": (kv, d),
        "attn_k_norm": (hp.head_dim,),
        "attn_v": (kv, d),
        "attn_output": (d, heads),
        "post_attention_norm": (d,),
        "ffn_norm": (d,),
        "ffn_gate": (hp.d_ffn, d),
        "ffn_up": (hp.d_ffn, d),
        "ffn_down": (d, hp.d_ffn),
        "post_ffw_norm": (d,),
    }


def embed(g: Graph, hint: str | None = None) -> SSAValue:
    """The tokens' rows of the embedding: [T, D]."""
    return g.op(EmbedOp, g.args["tokens"], g.weight("token_embd.weight"), hint=hint).y


def norm(g: Graph, x: SSAValue, name: str, hint: str = "normed") -> SSAValue:
    """RMSNorm of each row, with the gain `name`."""
    return g.op(RmsNormOp, x, g.weight(f"{name}.weight"), eps=g.hp.rms_eps, hint=hint).y


def linear(g: Graph, x: SSAValue, name: str) -> SSAValue:
    """The product with the weight `name`, and its bias where it has one."""
    hint = name.rpartition(".")[2]
    y = g.op(LinearOp, x, g.weight(f"{name}.weight"), hint=hint).y
    if f"{name}.bias" not in g.storage:
        return y
    return g.op(BiasAddOp, y, g.weight(f"{name}.bias"), hint=hint).y


def by_heads(g: Graph, x: SSAValue, heads: int) -> SSAValue:
    """Rows of `heads` heads side by side as a row a head."""
    return g.builder.insert(ReshapeOp.to(x, g.rows * heads, shape(x.type)[1] // heads)).y


def by_tokens(g: Graph, x: SSAValue, heads: int) -> SSAValue:
    """The inverse of `by_heads`."""
    return g.builder.insert(ReshapeOp.to(x, g.rows, heads * shape(x.type)[1])).y


def attention(g: Graph, x: SSAValue, layer: int, rope: str | None) -> SSAValue:
    """Attention of `layer` over the normed rows `x`; `rope` is the order in which columns of heads turn, None
    for heads that do not."""
    block = f"blk.{layer}."
    q, k, v = (linear(g, x, block + name) for name in QKV)
    q = turned(g, q, layer, "q", g.hp.n_heads, rope)
    k = turned(g, k, layer, "k", g.hp.n_kv_heads, rope)
    return linear(g, g.attend(q, k, v, layer), block + "attn_output")


def turned(g: Graph, x: SSAValue, layer: int, name: str, heads: int, rope: str | None) -> SSAValue:
    """q or k with every head normed, where the family does that, and rotated unless `rope` is None."""
    gain = f"blk.{layer}.attn_{name}_norm"
    if f"{gain}.weight" in g.storage:
        x = by_tokens(g, norm(g, by_heads(g, x, heads), gain), heads)
    if rope is None:
        return x
    return g.op(RopeOp, x, g.rope_table(layer), heads=heads, mode=rope, hint=name).y


def feed_forward(g: Graph, x: SSAValue, layer: int, activation: type[CkOp]) -> SSAValue:
    """down(activation(gate(x)) * up(x))."""
    block = f"blk.{layer}."
    gate = g.op(activation, linear(g, x, block + "ffn_gate")).results[0]
    up = linear(g, x, block + "ffn_up")
    return linear(g, g.op(MulOp, gate, up, hint="ffn").y, block + "ffn_down")


def pre_norm_stack(g: Graph, rope: str, activation: type[CkOp], unrotated: int | None = None) -> SSAValue:
    """Layers that norm what goes into each half and add what comes out of it, and the last norm.

    Every `unrotated`-th layer has no rotary embedding.
    """
    h = embed(g, "h")
    for layer in range(g.hp.n_layers):
        x = norm(g, h, f"blk.{layer}.attn_norm", "x")
        turning = None if unrotated and (layer + 1) % unrotated == 0 else rope
        h = g.op(AddOp, h, attention(g, x, layer, turning), hint="h").y
        x = norm(g, h, f"blk.{layer}.ffn_norm", "x")
        h = g.op(AddOp, h, feed_forward(g, x, layer, activation), hint="h").y
    return norm(g, h, "output_norm", "hidden")
