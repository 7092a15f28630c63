"""What the random programs found, each as the smallest program that shows it."""

from dataclasses import replace
from pathlib import Path

import pytest
from xdsl.utils.exceptions import VerifyException

from ck.errors import InternalError, UnsupportedError
from ck.frontend.architectures import ARCHITECTURES, find_architecture
from ck.frontend.graph import Plan, build_graph
from ck.ir.evaluate import find_function
from ck.ir.ops.add import AddOp
from ck.ir.ops.l2_norm import L2NormOp
from ck.ir.ops.linear import LinearOp
from ck.ir.ops.packed_conv1d import PackedConv1dOp
from ck.ir.ops.packed_delta_rule import PackedDeltaRuleOp
from ck.ir.ops.reshape import ReshapeOp
from ck.ir.ops.scale import ScaleOp
from ck.ir.ops.sigmoid import SigmoidOp
from ck.ir.ops.silu import SiluOp
from ck.ir.ops.softplus import SoftplusOp
from ck.ir.types import WeightType, trained
from tests.frontend.random_models import small
from tests.graphs.check_inference import check_inference
from tests.graphs.check_training import check_training
from tests.graphs.runs import stages
from tests.graphs.small import graph, inference, node, training


def test_equal_results_have_a_buffer_each(tmp_path: Path) -> None:
    """cse made one value of two that were returned: one of the buffers was never written."""
    twice = graph(17, {}, [node(SiluOp, "x -> a"), node(SiluOp, "x -> b")], "a", "b")
    check_inference(inference(twice), tmp_path)


def test_a_cotangent_keeps_its_name_through_an_add(tmp_path: Path) -> None:
    """An add hands its cotangent on, which was called after the operand: nobody found the argument."""
    weights = {"w": trained(5, 17), "u": trained(5, 17)}
    nodes = [node(LinearOp, "x w -> a"), node(LinearOp, "x u -> b"), node(AddOp, "a b -> y")]
    program = training(graph(17, weights, nodes, "y"))
    made = stages(program.module(), ("differentiated",))["differentiated"]
    arguments = find_function(made, "train_step").body.block.args
    assert [arg.name_hint for arg in arguments] == ["x", "n", "d_y"]
    check_training(program, tmp_path)


def test_a_product_of_more_rows_than_tokens_is_refused() -> None:
    """Of two rows a token its kernel computed the first half."""
    nodes = [node(ReshapeOp, "x -> halves", per_token=2, columns=4), node(LinearOp, "halves w -> y")]
    program = inference(graph(8, {"w": WeightType.of((3, 4), "f32")}, nodes, "y"))
    refused = "ck.linear: one row a token is required, %halves has 6 where @prefill takes 3 tokens"
    with pytest.raises((VerifyException, InternalError), match=refused):
        stages(program.module(), ())


def test_heads_that_attention_would_write_past_are_refused() -> None:
    """Of heads that are no whole vectors the kernel wrote behind the last row."""
    hp = small(ARCHITECTURES[0], head_dim=8, rope_dims=8)
    with pytest.raises(UnsupportedError, match=r"a multiple of 16 are required .* found 8"):
        build_graph(hp, find_architecture(hp.arch), {}, Plan(4, 64, "f32"))


def test_an_op_that_accumulates_one_gradient_keeps_its_other(tmp_path: Path) -> None:
    """The convolution's gradient op was made anew to add to that of its taps; its d_a was the old op's."""
    weights = {"u": trained(3, 3), "w": trained(3, 3)}
    nodes = [
        node(LinearOp, "x u -> a"),
        node(PackedConv1dOp, "a w starts -> b"),
        node(LinearOp, "b w -> c"),
        node(AddOp, "a c -> y"),
    ]
    packed = replace(graph(3, weights, nodes, "y"), inputs=("x", "starts", "n"))
    check_training(training(packed), tmp_path)


def test_a_decay_that_spans_no_rows_has_no_gradient(tmp_path: Path) -> None:
    """The kernel took sums over rows from each other: a slope that is 0 was what their rounding left."""
    weights = {"w.0": trained(1, 96), "w.1": trained(16, 96), "w.2": trained(1, 96)}
    heads = {"heads": 1, "key_heads": 1}
    nodes = [
        node(LinearOp, "x w.0 -> q"),
        node(LinearOp, "x w.0 -> one"),
        node(L2NormOp, "one -> k", eps=1e-6),
        node(LinearOp, "x w.1 -> v"),
        node(LinearOp, "x w.2 -> a"),
        node(SoftplusOp, "a -> b"),
        node(ScaleOp, "b -> g", factor=-10.0),
        node(SigmoidOp, "a -> beta"),
        node(PackedDeltaRuleOp, "q k v g beta starts -> y", **heads, order="grouped", scale=0.25),
    ]
    packed = replace(graph(96, weights, nodes, "y"), inputs=("x", "starts", "n"))
    check_training(replace(training(packed), rows=7, batches=((5,),), seed=94, style="large"), tmp_path)
