"""The `qwen35` family: dense text models of Qwen 3.5.

What sets it apart from qwen3: of every few layers all but the last are recurrent, with a gated delta rule in
place of attention; attention has a gate for each column of its heads, which comes out of the product for q;
a quarter of a head turns; the norm before the feed-forward is called post_attention_norm. Value heads lie as
in GGUF files: value head p reads key head p mod G.
Sources: Yang et al. 2024, arXiv:2412.06464, figure 1 (the recurrent layer); names from llama.cpp,
src/models/qwen35.cpp.
"""

from dataclasses import replace

from xdsl.ir import SSAValue

from ck.frontend.architectures import layers
from ck.frontend.decays import decay_name
from ck.frontend.gguf import Metadata
from ck.frontend.graph import Graph
from ck.frontend.hyperparameters import STATE_LIMIT, HeaderReader, HyperParameters, TemplateSizes
from ck.ir.ops.add import AddOp
from ck.ir.ops.bias_add import BiasAddOp
from ck.ir.ops.gain import GainOp
from ck.ir.ops.l2_norm import L2NormOp
from ck.ir.ops.mul import MulOp
from ck.ir.ops.sigmoid import SigmoidOp
from ck.ir.ops.silu import SiluOp
from ck.ir.ops.softplus import SoftplusOp
from ck.ir.ops.split import SplitOp

# Every so many layers one attends, unless the model says which.
INTERVAL = 4
# A head turns by this part of its columns in a new model.
TURNING = 4
L2_EPS = 1e-6


def read_hyperparameters(metadata: Metadata, n_vocab: int, tied: bool) -> HyperParameters:
    """The header's numbers, in range. Raises MalformedError, UnsupportedError naming the key."""
    header = HeaderReader(metadata)
    header.refuse("attention.sliding_window", 0)
    return header.recurrent(header.common(n_vocab, tied), INTERVAL)


def template(sizes: TemplateSizes) -> HyperParameters:
    """A new model of the family. Raises UsageError.

    Recurrent layers have as many heads as others, and as wide where their training takes that, unless they
    are asked for; other defaults are those of the models up to 4B.
    """
    sizes.refuse_windows("qwen35")
    common = sizes.common("qwen35", rope_base=1e7, rms_eps=1e-6, tied=True)
    interval = sizes.attention_interval or INTERVAL
    return replace(
        common,
        rope_dims=max(sizes.head_dim // TURNING // 2 * 2, 2),
        recurrent_layers=tuple(bool((layer + 1) % interval) for layer in range(sizes.layers)),
        n_state_heads=sizes.state_heads or sizes.num_heads,
        n_state_keys=sizes.state_keys or sizes.num_kv_heads,
        state_key_dim=sizes.state_key_dim or min(sizes.head_dim, STATE_LIMIT),
        state_value_dim=sizes.state_value_dim or min(sizes.head_dim, STATE_LIMIT),
        conv_taps=sizes.conv_taps or 4,
        log_decay=True,
    )


def stored_as_one_plus(hp: HyperParameters) -> tuple[str, ...]:
    """Names of gains that the family's own parameters hold less 1: all but those of gated norms."""
    return tuple(name for name in tensor_shapes(hp) if name.endswith("_norm.weight") and "ssm" not in name)


def tensor_shapes(hp: HyperParameters) -> layers.Shapes:
    """Every tensor a file must have, and its shape, outermost dimension first."""
    d = hp.d_model
    shapes: layers.Shapes = {"token_embd.weight": (hp.n_vocab, d), "output_norm.weight": (d,)}
    if not hp.tied:
        shapes["output.weight"] = (hp.n_vocab, d)
    for layer in range(hp.n_layers):
        of = _recurrent_shapes(hp) if hp.is_recurrent(layer) else _attention_shapes(hp)
        shapes |= {f"blk.{layer}.{name}.weight": shape for name, shape in of.items()}
        if hp.is_recurrent(layer):
            heads = (hp.n_state_heads,)
            shapes |= {f"blk.{layer}.ssm_dt.bias": heads, decay_name(hp, layer): heads}
    return shapes


def _attention_shapes(hp: HyperParameters) -> layers.Shapes:
    of = layers.layer_shapes(hp)
    rows, columns = of["attn_q"]
    return {name: of[name] for name in of if name not in ("ffn_norm", "post_ffw_norm")} | {
        "attn_q": (2 * rows, columns)
    }


def _recurrent_shapes(hp: HyperParameters) -> layers.Shapes:
    d, of = hp.d_model, layers.layer_shapes(hp)
    values = hp.n_state_heads * hp.state_value_dim
    shared = ("attn_norm", "post_attention_norm", "ffn_gate", "ffn_up", "ffn_down")
    return {name: of[name] for name in shared} | {
        "attn_qkv": (hp.conv_channels, d),
        "attn_gate": (values, d),
        "ssm_conv1d": (hp.conv_channels, hp.conv_taps),
        "ssm_alpha": (hp.n_state_heads, d),
        "ssm_beta": (hp.n_state_heads, d),
        "ssm_norm": (hp.state_value_dim,),
        "ssm_out": (d, values),
    }


def hidden_states(g: Graph) -> SSAValue:
    """The stack of layers and the final norm: [T, D]."""
    h = layers.embed(g, "h")
    for layer in range(g.hp.n_layers):
        x = layers.norm(g, h, f"blk.{layer}.attn_norm", "x")
        mixed = _recalled(g, x, layer) if g.hp.is_recurrent(layer) else _attended(g, x, layer)
        h = g.op(AddOp, h, mixed, hint="h").y
        x = layers.norm(g, h, f"blk.{layer}.post_attention_norm", "x")
        h = g.op(AddOp, h, layers.feed_forward(g, x, layer, SiluOp), hint="h").y
    return layers.norm(g, h, "output_norm", "hidden")


def _attended(g: Graph, x: SSAValue, layer: int) -> SSAValue:
    """Attention of `layer` over the normed rows `x`, each column of its heads through a gate."""
    block, heads, width = f"blk.{layer}.", g.hp.n_heads, g.hp.head_dim
    both = layers.by_heads(g, layers.linear(g, x, block + "attn_q"), heads)
    parts = g.op(SplitOp, both, sizes=(width, width), hint="q").parts
    q, gate = (layers.by_tokens(g, part, heads) for part in parts)
    k, v = (layers.linear(g, x, block + name) for name in ("attn_k", "attn_v"))
    q = layers.turned(g, q, layer, "q", heads, "neox")
    k = layers.turned(g, k, layer, "k", g.hp.n_kv_heads, "neox")
    attended = g.attend(q, k, v, layer)
    gated = g.op(MulOp, attended, g.op(SigmoidOp, gate, hint="gate").y, hint="gated").y
    return layers.linear(g, gated, block + "attn_output")


def _recalled(g: Graph, x: SSAValue, layer: int) -> SSAValue:
    """The gated delta rule of `layer` over the normed rows `x`."""
    hp, block = g.hp, f"blk.{layer}."
    keys, values = hp.n_state_keys * hp.state_key_dim, hp.n_state_heads * hp.state_value_dim
    mixed = layers.linear(g, x, block + "attn_qkv")
    z = layers.linear(g, x, block + "attn_gate")
    beta = g.op(SigmoidOp, layers.linear(g, x, block + "ssm_beta"), hint="beta").y
    g_ = _log_decay(g, layers.linear(g, x, block + "ssm_alpha"), layer)
    mixed = g.op(SiluOp, g.convolve(mixed, g.weight(block + "ssm_conv1d.weight"), layer), hint="mixed").y
    q, k, v = g.op(SplitOp, mixed, sizes=(keys, keys, values), hint="q").parts
    recalled = g.recall((_unit(g, q), _unit(g, k), v, g_, beta), layer)
    normed = layers.norm(g, layers.by_heads(g, recalled, hp.n_state_heads), block + "ssm_norm")
    gate = g.op(SiluOp, layers.by_heads(g, z, hp.n_state_heads), hint="z").y
    gated = layers.by_tokens(g, g.op(MulOp, normed, gate, hint="gated").y, hp.n_state_heads)
    return layers.linear(g, gated, block + "ssm_out")


def _unit(g: Graph, x: SSAValue) -> SSAValue:
    """Every key head of length 1."""
    heads = layers.by_heads(g, x, g.hp.n_state_keys)
    return layers.by_tokens(g, g.op(L2NormOp, heads, eps=L2_EPS, hint="unit").y, g.hp.n_state_keys)


def _log_decay(g: Graph, steps: SSAValue, layer: int) -> SSAValue:
    """The logarithm of what each value head keeps of its state: softplus(steps + bias) times the decay."""
    biased = g.op(BiasAddOp, steps, g.weight(f"blk.{layer}.ssm_dt.bias"), hint="steps").y
    form = "neg_exp" if g.hp.log_decay else "w"
    positive = g.op(SoftplusOp, biased, hint="steps").y
    return g.op(GainOp, positive, g.weight(decay_name(g.hp, layer)), form=form, hint="g").y
