"""The training graph of a model with adapters (ck/frontend/adapters.py): added to the products of any family.

    y = linear(x, W)   becomes   y = linear(x, W) + linear(scale(linear(x, A)), B)

Of the module's weights only A and B are trained, so `ck-differentiate` makes gradients of nothing else.
"""

from collections.abc import Iterator

from xdsl.builder import Builder
from xdsl.dialects import func
from xdsl.dialects.builtin import ArrayAttr, SymbolRefAttr
from xdsl.ir import Block
from xdsl.rewriter import InsertPoint

from ck.frontend.adapters import Adapters, Shapes, names_of
from ck.frontend.graph import BuiltGraph, build_training_graph
from ck.frontend.template import Template
from ck.ir.ops.add import AddOp
from ck.ir.ops.linear import LinearOp
from ck.ir.ops.scale import ScaleOp
from ck.ir.ops.weight import WeightOp
from ck.ir.types import trained

# Layers have products that adapt; the head and the embedding are none of them.
_LAYERS = "blk."


def template_graph(template: Template, rows: int) -> BuiltGraph:
    """The module that trains what of `template` is trained, on up to `rows` rows at a time."""
    built = build_training_graph(template.hp, template.architecture, template.shapes, rows)
    if template.adapters is not None:
        _add_adapters(built, template.adapters, template.trained)
    return built


def products(template: Template) -> tuple[str, ...]:
    """The weights of layers that the model multiplies with: those that may have an adapter."""
    built = build_training_graph(template.hp, template.architecture, template.shapes, 1)
    step = next(_functions(built))
    return tuple(dict.fromkeys(name for name, _ in _products(step.body.block)))


def _functions(built: BuiltGraph) -> Iterator[func.FuncOp]:
    return (op for op in built.module.ops if isinstance(op, func.FuncOp))


def _products(block: Block) -> list[tuple[str, LinearOp]]:
    """The products with a weight of a layer, each with the weight's name."""
    found: list[tuple[str, LinearOp]] = []
    for op in block.ops:
        weight = op.w.owner if isinstance(op, LinearOp) else None
        if isinstance(weight, WeightOp) and weight.symbol_name.startswith(_LAYERS):
            assert isinstance(op, LinearOp)
            found.append((weight.symbol_name, op))
    return found


def _add_adapters(built: BuiltGraph, adapters: Adapters, shapes: Shapes) -> None:
    for function in _functions(built):
        for name, product in _products(function.body.block):
            if name in adapters.weights:
                _adapt(product, name, shapes, adapters.scale)
        if "ck.trainable" in function.attributes:
            function.attributes["ck.trainable"] = ArrayAttr([SymbolRefAttr(name) for name in shapes])


def _adapt(product: LinearOp, name: str, shapes: Shapes, scale: float) -> None:
    """Add what the adapter makes of the product's rows to its result."""
    builder = Builder(InsertPoint.after(product))
    a, b = (builder.insert(WeightOp.of(side, trained(*shapes[side]))).value for side in names_of(name))
    hint = product.y.name_hint or "y"
    low = builder.insert(LinearOp.build_op(product.x, a, hint=f"{hint}_low")).y
    if scale != 1:
        low = builder.insert(ScaleOp.build_op(low, factor=scale, hint=f"{hint}_scaled")).y
    learned = builder.insert(LinearOp.build_op(low, b, hint=f"{hint}_learned")).y
    total = builder.insert(AddOp.build_op(product.y, learned, hint=f"{hint}_adapted"))
    product.y.replace_uses_with_if(total.y, lambda use: use.operation is not total)
