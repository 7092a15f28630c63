"""`ck.adamw`: one step of Adam with decoupled weight decay; the gradient is clipped before and zeroed after.

    g' = g * norm[1]
    w  = toward + (w - toward) * keep              only where decay is 1
    m  = m + (g' - m) * (1 - beta1)
    v  = beta2 * v + (1 - beta2) * g'^2
    w  = w - step * m / (sqrt(v) / root + eps)
    g  = 0

w, g, m, v of one type, [D] f32 or !ck.q<OxKxf32, rows>; norm [2] f32 as `ck.global_norm` makes it; hyper [8]
f32: keep = 1 - lr * decay, 1 - beta1, beta2, 1 - beta2, eps, step = lr / (1 - beta1^t), root = sqrt(1 -
beta2^t), max_norm -> the new w, g, m and v, each in its own place. `toward` is the value that decay draws to:
1 for a gain that a family stores as 1 + w. Source: Loshchilov and Hutter 2019, arXiv:1711.05101, algorithm 2.
Kernel: runtime_c/kernels/optimizer, which rounds as PyTorch's AdamW does.
"""

import math
from collections.abc import Mapping, Sequence
from typing import Any, ClassVar

import numpy as np
from xdsl.dialects.builtin import FloatAttr, IntegerAttr, TensorType
from xdsl.ir import Attribute, SSAValue
from xdsl.irdl import ParsePropInAttrDict, irdl_op_definition, operand_def, prop_def, result_def, traits_def
from xdsl.utils.exceptions import VerifyException

from ck.ir.op import (
    Array,
    CkOp,
    Cost,
    KernelCall,
    KernelOp,
    Updates,
    WritesStates,
    attr,
    float_value,
    int_value,
)
from ck.ir.ops.global_norm import HYPER
from ck.ir.types import WeightType, shape, tensor

# What stands before a weight's name in that of its v, a mean of squares.
SECOND_MOMENT = "adam_v"


def check_update(name: str, states: Sequence[Attribute], norm: Attribute, hyper: Attribute) -> None:
    """Raises VerifyException when an optimizer's operands do not fit."""
    if any(of != states[0] for of in states):
        raise VerifyException(
            f"{name}: weight, gradient and moments have one type, got {', '.join(map(str, states))}"
        )
    if norm != tensor(2) or hyper != tensor(HYPER):
        raise VerifyException(
            f"{name}: norm is {tensor(2)} and hyper {tensor(HYPER)}, got {norm} and {hyper}"
        )


class Optimizer(CkOp, KernelOp, Updates):
    """What the optimizers share: they update a weight, its gradient and its moments."""

    decay = prop_def(IntegerAttr)
    toward = prop_def(FloatAttr)

    @property
    def updated(self) -> Sequence[tuple[SSAValue, SSAValue]]:
        return tuple(zip(self.results, self.operands, strict=False))

    def kernels(self) -> tuple[KernelCall]:
        n_elements = math.prod(shape(self.operands[0].type))
        immediates = {
            "n_elements": n_elements,
            "decay": int_value(self.decay),
            "toward": float_value(self.toward),
        }
        ins = tuple(self.operands)[len(self.results) :]
        return (KernelCall(self.KERNELS[0], immediates, outs=tuple(self.results), ins=ins),)

    def cost(self) -> Cost:
        return Cost(12 * math.prod(shape(self.operands[0].type)), super().cost().n_bytes)


def optimizer_properties(immediates: Mapping[str, Any]) -> dict[str, Attribute]:
    """The properties that a kernel's immediates came from."""
    return {"decay": attr(int(immediates["decay"])), "toward": attr(float(immediates["toward"]))}


@irdl_op_definition
class AdamwOp(Optimizer):
    name = "ck.adamw"
    w = operand_def(TensorType | WeightType)
    g = operand_def(TensorType | WeightType)
    m = operand_def(TensorType | WeightType)
    v = operand_def(TensorType | WeightType)
    norm = operand_def(TensorType)
    hyper = operand_def(TensorType)
    new_w = result_def(TensorType | WeightType)
    new_g = result_def(TensorType | WeightType)
    new_m = result_def(TensorType | WeightType)
    new_v = result_def(TensorType | WeightType)
    traits = traits_def(WritesStates())
    irdl_options = (ParsePropInAttrDict(),)
    assembly_format = (
        "$w `,` $g `,` $m `,` $v `,` $norm `,` $hyper attr-dict `:` functional-type(operands, results)"
    )

    @staticmethod
    def infer(*operands: Attribute, decay: Attribute, toward: Attribute) -> tuple[Attribute, ...]:
        *states, norm, hyper = operands
        check_update("ck.adamw", states, norm, hyper)
        return tuple(states)

    def reference(
        self, w: Array, g: Array, m: Array, v: Array, norm: Array, hyper: Array
    ) -> tuple[Array, ...]:
        keep, beta1, beta2, rest2, eps, step, root, _ = hyper
        g = g * norm[1]
        toward = w.dtype.type(float_value(self.toward))
        w = toward + (w - toward) * keep if int_value(self.decay) else w
        m = m + (g - m) * beta1
        v = v * beta2 + g * g * rest2
        return w - step * (m / (np.sqrt(v) / root + eps)), np.zeros_like(g), m, v

    KERNELS: ClassVar[tuple[str, ...]] = ("ck_adamw",)

    @staticmethod
    def emulate(symbol: str, outs: Sequence[Any], ins: Sequence[Any], immediates: Mapping[str, Any]) -> None:
        op = AdamwOp.create(properties=optimizer_properties(immediates))
        for out, value in zip(outs, op.reference(*outs, *ins), strict=True):
            out[...] = value
