"""`ck.sgd`: one step of gradient descent with momentum; the gradient is clipped before and zeroed after.

    g' = g * norm[1] (+ weight_decay * (w - toward) where decay is 1)
    m  = momentum * m + g'
    w  = w - lr * m
    g  = 0

w, g, m of one type, [D] f32 or !ck.q<OxKxf32, rows>; norm [2] f32 as `ck.global_norm` makes it; hyper [8]
f32: lr, momentum, weight_decay, four unused, max_norm -> the new w, g and m, each in its own place. Source:
Sutskever et al. 2013, in the form of PyTorch's SGD. Kernel: runtime_c/kernels/optimizer.
"""

from collections.abc import Mapping, Sequence
from typing import Any, ClassVar

import numpy as np
from xdsl.dialects.builtin import TensorType
from xdsl.ir import Attribute
from xdsl.irdl import ParsePropInAttrDict, irdl_op_definition, operand_def, result_def, traits_def

from ck.ir.op import Array, WritesStates, float_value, int_value
from ck.ir.ops.adamw import Optimizer, check_update, optimizer_properties
from ck.ir.types import WeightType


@irdl_op_definition
class SgdOp(Optimizer):
    name = "ck.sgd"
    w = operand_def(TensorType | WeightType)
    g = operand_def(TensorType | WeightType)
    m = operand_def(TensorType | WeightType)
    norm = operand_def(TensorType)
    hyper = operand_def(TensorType)
    new_w = result_def(TensorType | WeightType)
    new_g = result_def(TensorType | WeightType)
    new_m = result_def(TensorType | WeightType)
    traits = traits_def(WritesStates())
    irdl_options = (ParsePropInAttrDict(),)
    assembly_format = "$w `,` $g `,` $m `,` $norm `,` $hyper attr-dict `:` functional-type(operands, results)"

    @staticmethod
    def infer(*operands: Attribute, decay: Attribute, toward: Attribute) -> tuple[Attribute, ...]:
        *states, norm, hyper = operands
        check_update("ck.sgd", states, norm, hyper)
        return tuple(states)

    def reference(self, w: Array, g: Array, m: Array, norm: Array, hyper: Array) -> tuple[Array, ...]:
        g = g * norm[1]
        if int_value(self.decay):
            g = g + hyper[2] * (w - w.dtype.type(float_value(self.toward)))
        m = m * hyper[1] + g
        return w - hyper[0] * m, np.zeros_like(g), m

    KERNELS: ClassVar[tuple[str, ...]] = ("ck_sgd",)

    @staticmethod
    def emulate(symbol: str, outs: Sequence[Any], ins: Sequence[Any], immediates: Mapping[str, Any]) -> None:
        op = SgdOp.create(properties=optimizer_properties(immediates))
        for out, value in zip(outs, op.reference(*outs, *ins), strict=True):
            out[...] = value
