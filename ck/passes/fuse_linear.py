"""Fuse what stands around a product into it: the residual sum, the gated activation, its sister products.

A residual added in the kernel saves one write and one read of [T, D]; a gate multiplied there saves three.
Products of the same rows stand in one op, so that nothing needs a barrier between them. A loss whose gradient
is taken too is read from the gradient's op, which makes the same logits.

Before:
    func.func @f(%x: tensor<2x32xf32>, %r: tensor<2x16xf32>) -> tensor<2x16xf32> {
      %w = ck.weight @down : !ck.q<16x32xq8_0>
      %d = ck.linear %x, %w : (tensor<2x32xf32>, !ck.q<16x32xq8_0>) -> tensor<2x16xf32>
      %y = ck.add %r, %d : tensor<2x16xf32>, tensor<2x16xf32> -> tensor<2x16xf32>
      func.return %y : tensor<2x16xf32>
    }
After:
    func.func @f(%x: tensor<2x32xf32>, %r: tensor<2x16xf32>) -> tensor<2x16xf32> {
      %w = ck.weight @down : !ck.q<16x32xq8_0>
      %y = ck.linear %x, %w add %r
        : (tensor<2x32xf32>, !ck.q<16x32xq8_0>, tensor<2x16xf32>) -> tensor<2x16xf32>
      func.return %y : tensor<2x16xf32>
    }

Leaves a product alone when its result has another user (it would be computed twice), and a gate whose two
weights have different types (the kernel walks both with one layout) or are trained (row-major ones have
none). Products that the backward pass recomputes are not joined with those of the forward pass, whose results
would then be kept.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar

from xdsl.context import Context
from xdsl.dialects.builtin import ModuleOp
from xdsl.ir import Block, SSAValue
from xdsl.passes import ModulePass
from xdsl.rewriter import InsertPoint, Rewriter

from ck.ir.check.tier import BITS, Tier
from ck.ir.functions import bodies
from ck.ir.op import CkOp, is_recomputed
from ck.ir.ops.add import AddOp
from ck.ir.ops.cross_entropy import CrossEntropyBwdOp, CrossEntropyOp
from ck.ir.ops.gelu_tanh import GeluTanhOp
from ck.ir.ops.glu import GluOp
from ck.ir.ops.linear import LinearOp, is_quantized
from ck.ir.ops.linear_multi import LinearMultiOp
from ck.ir.ops.matmul import MatmulOp
from ck.ir.ops.mul import MulOp
from ck.ir.ops.silu import SiluOp
from ck.ir.ops.weight import WeightOp
from ck.ir.types import keeps_rows

GATES: dict[type[CkOp], str] = {SiluOp: "silu", GeluTanhOp: "gelu_tanh"}


def _plain_product(value: SSAValue) -> LinearOp | None:
    """The product that makes `value`, if it has no residual yet and nobody else uses it."""
    owner = value.owner
    if isinstance(owner, LinearOp) and owner.residual is None and value.has_one_use():
        return owner
    return None


def _plain_gradient(value: SSAValue) -> MatmulOp | None:
    """The product of a gradient that makes rows `value`, likewise."""
    owner = value.owner
    if isinstance(owner, MatmulOp) and owner.addend is None and value.has_one_use():
        return owner
    return None


def _replace(op: CkOp, by: CkOp, inputs: Sequence[CkOp]) -> None:
    """Put `by` in place of `op`, keep its name, and erase the `inputs` that it took in.

    What is said of the last of them, a product, is said of `by`: its precision, and that it is recomputed.
    """
    by.results[0].name_hint = op.results[0].name_hint
    by.attributes.update(inputs[-1].attributes)
    Rewriter.replace_op(op, by)
    for absorbed in inputs:
        Rewriter.erase_op(absorbed)


def _fuse_residual(op: AddOp) -> None:
    for product, residual in ((op.b, op.a), (op.a, op.b)):
        linear, gradient = _plain_product(product), _plain_gradient(product)
        if residual is product:
            return
        if linear is not None:
            _replace(op, LinearOp.build_op(linear.x, linear.w, residual), [linear])
            return
        if gradient is not None:
            sides = (gradient.a, gradient.b, residual)
            _replace(op, MatmulOp.build_op(*sides, form=gradient.form), [gradient])
            return


def _fuse_gate(op: MulOp) -> None:
    for gated, product in ((op.a, op.b), (op.b, op.a)):
        activation = gated.owner
        up = _plain_product(product)
        if not isinstance(activation, SiluOp | GeluTanhOp) or up is None or not gated.has_one_use():
            continue
        gate = _plain_product(activation.x)
        if gate is None or gate.x is not up.x or gate.w.type != up.w.type or keeps_rows(up.w.type):
            continue
        fused = GluOp.build_op(gate.x, gate.w, up.w, act=GATES[type(activation)])
        _replace(op, fused, [activation, gate, up])
        return


def _fuse_products(block: Block) -> None:
    """Join the products of each row value into one op at the place of the first."""
    # Quantised weights take quantised rows, float weights f32 rows: they are not products of the same rows.
    groups: dict[tuple[SSAValue, bool, bool], list[LinearOp]] = {}
    for op in block.ops:
        if isinstance(op, LinearOp) and op.residual is None:
            key = (op.x, is_quantized(op.w.type), is_recomputed(op))
            groups.setdefault(key, []).append(op)
    for products in groups.values():
        weights = [product.w.owner for product in products]
        if len(products) < 2 or not all(isinstance(weight, WeightOp) for weight in weights):
            continue
        for weight in weights:
            assert isinstance(weight, WeightOp)
            if not weight.is_before_in_block(products[0]):
                weight.detach()
                Rewriter.insert_op(weight, InsertPoint.before(products[0]))
        joined = LinearMultiOp.build_op(products[0].x, *(product.w for product in products))
        joined.attributes.update(products[0].attributes)
        Rewriter.insert_op(joined, InsertPoint.before(products[0]))
        for product, result in zip(products, joined.y, strict=True):
            result.name_hint = product.y.name_hint
            Rewriter.replace_op(product, [], [result])


def _fuse_loss(op: CrossEntropyBwdOp) -> None:
    """Take the loss from its gradient, where it is used after that alone."""
    for use in list(op.hidden.uses):
        loss = use.operation
        same = isinstance(loss, CrossEntropyOp) and loss.w == op.w and loss.targets == op.targets
        if not isinstance(loss, CrossEntropyOp) or not same or loss.parent is not op.parent:
            continue
        if all(op.is_before_in_block(user.operation) for user in loss.nll.uses):
            loss.nll.replace_all_uses_with(op.nll)
            op.nll.name_hint = "nll"
            Rewriter.erase_op(loss)
            return


@dataclass(frozen=True)
class FuseLinearPass(ModulePass):
    """`ck-fuse-linear`"""

    name = "ck-fuse-linear"
    TIER: ClassVar[Tier] = BITS

    def apply(self, ctx: Context, op: ModuleOp) -> None:
        for block in bodies(op):
            for inner in list(block.ops):
                if isinstance(inner, AddOp):
                    _fuse_residual(inner)
                elif isinstance(inner, MulOp):
                    _fuse_gate(inner)
                elif isinstance(inner, CrossEntropyBwdOp):
                    _fuse_loss(inner)
            _fuse_products(block)
