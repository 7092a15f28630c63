"""What a `ck` function means to PyTorch: an independent reading of every op that a frontend writes, in f64.

It shares neither shapes nor memory with the compiler's: only live rows exist, a cache is the list of all keys
and values there ever were, documents are masks, and gradients are autograd's.
"""

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor
from xdsl.dialects import func
from xdsl.ir import Operation, SSAValue

from ck.ir.op import CkOp, float_value, int_value, ints_value, str_value
from ck.ir.ops.cache import CacheOp
from ck.ir.ops.weight import WeightOp
from ck.ir.types import KvType, shape

torch.set_num_threads(1)


@dataclass
class History:
    """All keys and values [positions, kv heads, head width] of a cache, from position 0 on."""

    keys: Tensor
    values: Tensor


class RoundedProduct(torch.autograd.Function):
    """x w^T of factors rounded to bf16, and its gradient by the same rule."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, w: Tensor) -> Tensor:
        ctx.save_for_backward(x, w)
        return bf16(x) @ bf16(w).T

    @staticmethod
    def backward(ctx: Any, dy: Tensor) -> tuple[Tensor, Tensor]:
        x, w = ctx.saved_tensors
        return bf16(dy) @ bf16(w), bf16(dy).T @ bf16(x)


def bf16(x: Tensor) -> Tensor:
    """`x` rounded to bf16, by way of f32."""
    return x.float().bfloat16().to(x.dtype)


@dataclass
class Meaning:
    """One run of a function on `n` live rows.

    weights    f64 tensors by name
    histories  those of the caches by name, or recurrent states; a run adds to them
    compute    bf16 where products round their factors
    steepest   the largest score of any attention so far, in size
    decayed    the largest sum of log decays over a document, in size
    """

    function: func.FuncOp
    weights: Mapping[str, Tensor]
    histories: dict[str, Any]
    n: int
    compute: str = "f32"
    steepest: float = 0.0
    decayed: float = 0.0

    def __call__(self, given: Mapping[str, Any]) -> list[Tensor]:
        """The results: their live rows."""
        block = self.function.body.block
        self.capacity = shape(block.args[0].type)[0]
        values: dict[SSAValue, Any] = {arg: given[str(arg.name_hint)] for arg in block.args}
        for op in block.ops:
            if isinstance(op, func.ReturnOp):
                return [values[value] for value in op.operands]
            made = self._op(op, [values[value] for value in op.operands])
            values.update(zip(op.results, made if isinstance(made, tuple) else (made,), strict=False))
        raise AssertionError("a function returns")

    def _op(self, op: Operation, operands: list[Any]) -> Any:
        if isinstance(op, WeightOp):
            return self.weights[op.symbol_name]
        if isinstance(op, CacheOp):
            return op.symbol_name
        assert isinstance(op, CkOp)
        return MEANINGS[op.name](self, op, *operands)

    def product(self, x: Tensor, w: Tensor) -> Tensor:
        """Rows times a weight [out, in]."""
        return RoundedProduct.apply(x, w) if self.compute == "bf16" else F.linear(x, w)


def _real(op: CkOp, name: str) -> float:
    return float_value(op.properties[name])


def _whole(op: CkOp, name: str) -> int:
    return int_value(op.properties[name])


def _reshape(run: Meaning, op: Any, x: Tensor) -> Tensor:
    rows, columns = shape(op.y.type)
    return x.reshape(run.n * (rows // run.capacity), columns)


def _gelu_tanh(x: Tensor) -> Tensor:
    """F.gelu(x, approximate="tanh"), without its cancellation where x is far below 0."""
    return x * torch.sigmoid(math.sqrt(8 / math.pi) * (x + 0.044715 * x**3))


def _rms_norm(run: Meaning, op: CkOp, x: Tensor, w: Tensor) -> Tensor:
    return F.rms_norm(x, (x.shape[1],), w, _real(op, "eps"))


def _rope_table(run: Meaning, op: CkOp, freq: Tensor, pos: Any) -> Tensor:
    """Complex numbers of one length; the angle is rounded to f32, as transformers does."""
    at = pos[:, 0] if isinstance(pos, Tensor) else torch.arange(pos, pos + run.n)
    angle = torch.outer(at.float(), freq.float()).double()
    length = _real(op, "factor") if "factor" in op.properties else 1.0
    return torch.polar(torch.full_like(angle, length), angle)


def _rope(run: Meaning, op: CkOp, x: Tensor, table: Tensor) -> Tensor:
    heads, mode = _whole(op, "heads"), str_value(op.properties["mode"])
    turns = table.conj() if mode.endswith("inverse") else table
    by_head = x.reshape(run.n, heads, -1)
    dims = 2 * table.shape[1]
    part, rest = by_head[..., :dims], by_head[..., dims:]
    if mode.startswith("neox"):
        left, right = part.chunk(2, dim=-1)
        turned = torch.complex(left, right) * turns[:, None]
        part = torch.cat([turned.real, turned.imag], dim=-1)
    else:
        pairs = part.reshape(run.n, heads, -1, 2)
        turned = torch.complex(pairs[..., 0], pairs[..., 1]) * turns[:, None]
        part = torch.view_as_real(turned).reshape(run.n, heads, dims)
    return torch.cat([part, rest], dim=-1).reshape(run.n, -1)


def _attend(run: Meaning, op: CkOp, q: Tensor, k: Tensor, v: Tensor, visible: Tensor) -> Tensor:
    """q [T, H, K] over k, v [P, G, K], where `visible` [T, P] says."""
    group = q.shape[1] // k.shape[1]
    q, k, v = (part.transpose(0, 1) for part in (q, k, v))
    k, v = (part.repeat_interleave(group, dim=0) for part in (k, v))
    scores = (q @ k.transpose(1, 2) * _real(op, "scale"))[:, visible]
    run.steepest = max(run.steepest, float(scores.detach().abs().max()))
    y = F.scaled_dot_product_attention(q, k, v, attn_mask=visible, scale=_real(op, "scale"))
    return y.transpose(0, 1).reshape(q.shape[1], -1)


def _kv_append(run: Meaning, op: Any, cache: str, k: Tensor, v: Tensor, n: int, pos: int) -> str:
    kv_heads, _, head_dim = shape(op.cache.type)
    assert isinstance(op.cache.type, KvType)
    dtype = torch.float16 if op.cache.type.dtype_name == "f16" else torch.float32
    old = run.histories[cache]
    assert len(old.keys) == pos
    k, v = (part.reshape(n, kv_heads, head_dim).float().to(dtype).double() for part in (k, v))
    run.histories[cache] = History(torch.cat([old.keys, k]), torch.cat([old.values, v]))
    return cache


def _attention(run: Meaning, op: CkOp, q: Tensor, cache: str, n: int, pos: int) -> Tensor:
    history, window = run.histories[cache], _whole(op, "window")
    row, at = torch.arange(pos, pos + n)[:, None], torch.arange(len(history.keys))[None]
    visible = (at <= row) & ((at > row - window) if window else (at >= 0))
    return _attend(run, op, q.reshape(n, _whole(op, "heads"), -1), history.keys, history.values, visible)


def _packed_attention(run: Meaning, op: CkOp, q: Tensor, k: Tensor, v: Tensor, starts: Tensor) -> Tensor:
    window = _whole(op, "window")
    row, at = torch.arange(run.n)[:, None], torch.arange(run.n)[None]
    visible = (at <= row) & (starts[:, None] == starts[None])
    visible &= (row - at < window) if window else visible
    q, k, v = (
        part.reshape(run.n, _whole(op, heads), -1)
        for part, heads in ((q, "heads"), (k, "kv_heads"), (v, "kv_heads"))
    )
    return _attend(run, op, q, k, v, visible)


def _convolve(rows: Tensor, w: Tensor) -> Tensor:
    """Every channel's filter over rows, of which as many come out as have all of it behind them."""
    return F.conv1d(rows.T[None], w[:, None], groups=len(w))[0].T


def _causal_conv1d(run: Meaning, op: CkOp, state: str, x: Tensor, w: Tensor, n: int, pos: int) -> Tensor:
    before = run.histories[state] if pos else torch.zeros_like(run.histories[state])
    rows = torch.cat([before, x])
    run.histories[state] = rows[n:].float().double()
    return _convolve(rows, w)


def _packed_conv1d(run: Meaning, op: CkOp, x: Tensor, w: Tensor, starts: Tensor) -> Tensor:
    _, lengths = torch.unique_consecutive(starts, return_counts=True)
    documents = (F.pad(part, (0, 0, w.shape[1] - 1, 0)) for part in x.split(lengths.tolist()))
    return torch.cat([_convolve(rows, w) for rows in documents])


def _by_rule(
    op: CkOp, state: Tensor, q: Tensor, k: Tensor, v: Tensor, g: Tensor, beta: Tensor
) -> tuple[Tensor, Tensor]:
    """Rows of one document from a state, by the paper's form: S [V, K] is multiplied by (I - beta k k^T)."""
    heads, key_heads = _whole(op, "heads"), _whole(op, "key_heads")
    cyclic = str_value(op.properties["order"]) == "cyclic"
    chosen = [h % key_heads if cyclic else h // (heads // key_heads) for h in range(heads)]
    q, k = (part.reshape(len(part), key_heads, -1)[:, chosen, :, None] for part in (q, k))
    v = v.reshape(len(v), heads, -1, 1)
    s, rows = state.transpose(1, 2), [v.new_zeros(0, heads, v.shape[2])]
    eye = torch.eye(k.shape[2], dtype=k.dtype)
    for t in range(len(q)):
        rate, key = beta[t, :, None, None], k[t]
        s = s * g[t].exp()[:, None, None] @ (eye - rate * key @ key.transpose(1, 2))
        s = s + rate * v[t] @ key.transpose(1, 2)
        rows.append(_real(op, "scale") * (s @ q[t])[None, ..., 0])
    return torch.cat(rows).reshape(len(q), -1), s.transpose(1, 2)


def _delta_rule(run: Meaning, op: CkOp, state: str, *rest: Any) -> Tensor:
    *rows, _, pos = rest
    before = run.histories[state] if pos else torch.zeros_like(run.histories[state])
    y, after = _by_rule(op, before, *rows)
    run.histories[state] = after.float().double()
    return y


def _packed_delta_rule(run: Meaning, op: CkOp, *rest: Any) -> Tensor:
    *rows, starts = rest
    _, lengths = torch.unique_consecutive(starts, return_counts=True)
    documents = zip(*(part.split(lengths.tolist()) for part in rows), strict=True)
    sums = (part.detach().cumsum(0).abs().max() for part in rows[3].split(lengths.tolist()))
    run.decayed = max(run.decayed, *map(float, sums))
    heads = _whole(op, "heads")
    sizes = heads, rows[0].shape[1] // _whole(op, "key_heads"), rows[2].shape[1] // heads
    return torch.cat([_by_rule(op, rows[0].new_zeros(sizes), *document)[0] for document in documents])


def _gain(run: Meaning, op: CkOp, x: Tensor, w: Tensor) -> Tensor:
    return x * (w if str_value(op.properties["form"]) == "w" else -torch.exp(w))


def _l2_norm(run: Meaning, op: CkOp, x: Tensor) -> Tensor:
    return x / torch.sqrt((x * x).sum(-1, keepdim=True) + _real(op, "eps"))


def _cross_entropy(run: Meaning, op: CkOp, hidden: Tensor, w: Tensor, targets: Tensor) -> Tensor:
    wanted = torch.where(targets < 0, -100, targets)
    return F.cross_entropy(run.product(hidden, w), wanted, reduction="none")[:, None]


MEANINGS: dict[str, Callable[..., Any]] = {
    "ck.add": lambda run, op, a, b: a + b,
    "ck.mul": lambda run, op, a, b: a * b,
    "ck.bias_add": lambda run, op, x, b: x + b,
    "ck.scale": lambda run, op, x: _real(op, "factor") * x,
    "ck.silu": lambda run, op, x: F.silu(x),
    "ck.gelu_tanh": lambda run, op, x: _gelu_tanh(x),
    "ck.softcap": lambda run, op, x: torch.tanh(x / _real(op, "cap")) * _real(op, "cap"),
    "ck.linear": lambda run, op, x, w: run.product(x, w),
    "ck.embed": lambda run, op, tokens, w: F.embedding(tokens, w),
    "ck.reshape": _reshape,
    "ck.rms_norm": _rms_norm,
    "ck.l2_norm": _l2_norm,
    "ck.gain": _gain,
    "ck.sigmoid": lambda run, op, x: torch.sigmoid(x),
    "ck.softplus": lambda run, op, x: F.softplus(x, threshold=1e2),
    "ck.exp": lambda run, op, x: torch.exp(x),
    "ck.split": lambda run, op, x: x.split(ints_value(op.properties["sizes"]), dim=1),
    "ck.causal_conv1d": _causal_conv1d,
    "ck.packed_conv1d": _packed_conv1d,
    "ck.delta_rule": _delta_rule,
    "ck.packed_delta_rule": _packed_delta_rule,
    "ck.rope_table": _rope_table,
    "ck.rope": _rope,
    "ck.kv_append": _kv_append,
    "ck.attention": _attention,
    "ck.packed_attention": _packed_attention,
    "ck.cross_entropy": _cross_entropy,
}
