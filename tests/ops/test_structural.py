"""The ops that hold a program together: weights, caches, groups."""

import pytest
from xdsl.dialects.builtin import ModuleOp, i32
from xdsl.parser import Parser
from xdsl.utils.exceptions import VerifyException

from ck.ir.dialects import context
from ck.ir.op import type_bytes
from ck.ir.ops.cache import CacheOp
from ck.ir.ops.weight import WeightOp
from ck.ir.types import KvType, Q8Type, Q16Type, StateType, WeightType, tensor, trained

GROUP = """
func.func @f(%g: tensor<2x3xf32>, %u: tensor<2x3xf32>) -> tensor<2x3xf32> {{
  %y = ck.fused(%g, %u) {{
  ^bb0(%a: tensor<2x3xf32>, %b: tensor<2x3xf32>):
    {body}
  }} : (tensor<2x3xf32>, tensor<2x3xf32>) -> tensor<2x3xf32>
  func.return %y : tensor<2x3xf32>
}}
"""
SILU = "%s = ck.silu %a : tensor<2x3xf32> -> tensor<2x3xf32>\n    "


def parse(text: str) -> ModuleOp:
    module = Parser(context(), text).parse_module()
    module.verify()
    return module


@pytest.mark.parametrize(
    "line",
    [
        "%w = ck.weight @blk.0.attn_q.weight : !ck.q<576x576xq4_1>",
        "%w = ck.weight @blk.0.attn_q.weight : !ck.q<576x576xq4_1, r16>",
        "%w = ck.weight @blk.0.attn_norm.weight : tensor<576xf32>",
        "%w = ck.cache @blk.0.kv : !ck.kv<3x4096x64xf16>",
        "%w = ck.cache @blk.0.state : !ck.state<16x128x128xf32>",
    ],
)
def test_leaves_round_trip(line: str) -> None:
    text = str(parse(f"func.func @f() {{\n  {line}\n  func.return\n}}"))
    assert str(parse(text)) == text
    assert line.partition("=")[2].strip() in text


def test_a_leaf_keeps_its_name() -> None:
    weight = WeightOp.of("blk.0.attn_q.weight", WeightType.of((16, 32), "q8_0"))
    assert weight.symbol_name == "blk.0.attn_q.weight"
    assert weight.value.name_hint == "blk_0_attn_q_weight"
    cache = CacheOp.of("blk.0.kv", KvType.of(3, 64, 16, "f16"))
    assert cache.symbol_name == "blk.0.kv"


def test_a_weight_is_a_matrix_or_a_vector() -> None:
    with pytest.raises(VerifyException, match=r"a !ck\.q or a tensor, got i32"):
        WeightOp.of("x", i32).verify()


@pytest.mark.parametrize("kind", [WeightOp, CacheOp])
def test_a_leafs_type_is_declared(kind: type) -> None:
    with pytest.raises(VerifyException, match="declared, not inferred"):
        kind.infer()


def test_a_group_round_trips() -> None:
    text = str(parse(GROUP.format(body=SILU + "ck.yield %s : tensor<2x3xf32>")))
    assert str(parse(text)) == text


@pytest.mark.parametrize(
    ("body", "words"),
    [
        (SILU.strip(), "is not a terminator"),
        (SILU + "ck.yield %s, %b : tensor<2x3xf32>, tensor<2x3xf32>", "the region yields"),
        (
            "%s = ck.silu %g : tensor<2x3xf32> -> tensor<2x3xf32>\n    ck.yield %s : tensor<2x3xf32>",
            "from outside",
        ),
        (
            "%r = ck.reshape %a : tensor<2x3xf32> -> tensor<2x3xf32>\n    ck.yield %r : tensor<2x3xf32>",
            "ck.reshape is not row-wise",
        ),
    ],
)
def test_a_group_refuses(body: str, words: str) -> None:
    with pytest.raises(VerifyException, match=words):
        parse(GROUP.format(body=body))


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("!ck.q<16x32xiq2_s>", "storage is one of"),
        ("!ck.q<16x33xq8_0>", "rows of q8_0 are multiples of 32, got 33"),
        ("!ck.q<16xq8_0>", r"a weight is \[out, in\], got 1 sizes"),
        ("!ck.q<16x32xq8_0, r8>", "layout is r16, rows or absent, got r8"),
        ("!ck.q<16x32xf16, rows>", "layout rows holds f32, got f16"),
        ("!ck.q16<4x33>", "rows are multiples of 32"),
        ("!ck.q8<4x33>", "rows are multiples of 32"),
        ("!ck.kv<3x65x16xf16>", "capacity a multiple of 64"),
        ("!ck.kv<64x16xf16>", "capacity a multiple of 64"),
        ("!ck.kv<3x64x16xq8_0>", "holds f16 or f32, got q8_0"),
        ("!ck.state<3x64xf16>", "holds f32, got f16"),
        ("!ck.state<f32>", r"sizes of at least 1, got \(\)"),
    ],
)
def test_types_refuse(text: str, words: str) -> None:
    with pytest.raises(Exception, match=words):
        Parser(context(), text).parse_type()


@pytest.mark.parametrize(
    ("of", "n_bytes"),
    [
        (tensor(3, 65), 3 * 65 * 4),
        (WeightType.of((17, 64), "q8_0"), 17 * 68),
        (WeightType.of((17, 64), "q8_0", "r16"), 2 * 2 * 544),
        (trained(17, 65), 17 * 65 * 4),
        (trained(65), 65 * 4),
        (Q16Type.of((3, 64)), 3 * (2 * 64 + 8 + 16)),
        (Q8Type.of((3, 64)), 3 * (64 + 8 + 16)),
        (KvType.of(3, 64, 16, "f16"), 2 * 3 * 64 * 16 * 2),
        (StateType.of(3, 5, 7), 3 * 5 * 7 * 4),
    ],
)
def test_types_know_their_bytes(of, n_bytes: int) -> None:
    assert type_bytes(of) == n_bytes
    assert str(Parser(context(), str(of)).parse_type()) == str(of)
