"""`ck.global_norm`: the norm of all gradients together, and the factor that clips it.

    norm[0] = sqrt(sum_i sum g_i^2)
    norm[1] = min(1, max_norm / (norm[0] + 1e-6)),  1 where max_norm is 0;  max_norm = hyper[7]

hyper [8] f32 (ck/ir/ops/adamw.py says what is in it), g_i [D] f32 or !ck.q<OxKxf32, rows> -> norm [2] f32,
partials [P] f32, working memory: the sums of squares of pieces of 4096 elements.
Source: Pascanu et al. 2013, arXiv:1211.5063, algorithm 1; the 1e-6 is PyTorch's clip_grad_norm_.
Kernel: runtime_c/kernels/optimizer.
"""

import math
from collections.abc import Mapping, Sequence
from typing import Any, ClassVar

import numpy as np
from xdsl.dialects.builtin import TensorType
from xdsl.ir import Attribute
from xdsl.irdl import irdl_op_definition, operand_def, result_def, traits_def, var_operand_def
from xdsl.traits import Pure
from xdsl.utils.exceptions import VerifyException

from ck.ir.op import Array, CkOp, Cost, KernelCall, KernelOp
from ck.ir.types import WeightType, shape, tensor

PIECE = 4096
HYPER = 8


def n_pieces(of: Attribute) -> int:
    """Pieces whose squares are summed apart."""
    return -(-math.prod(shape(of)) // PIECE)


@irdl_op_definition
class GlobalNormOp(CkOp, KernelOp):
    name = "ck.global_norm"
    hyper = operand_def(TensorType)
    g = var_operand_def(TensorType | WeightType)
    norm = result_def(TensorType)
    partials = result_def(TensorType)
    traits = traits_def(Pure())
    assembly_format = "$hyper `,` $g attr-dict `:` functional-type(operands, results)"

    @staticmethod
    def infer(hyper: Attribute, *g: Attribute) -> tuple[Attribute, Attribute]:
        if shape(hyper) != (HYPER,):
            raise VerifyException(f"ck.global_norm: hyper is {tensor(HYPER)}, got {hyper}")
        if not g:
            raise VerifyException("ck.global_norm: one gradient at least is required, got none")
        return tensor(2), tensor(sum(n_pieces(of) for of in g))

    def reference(self, hyper: Array, *g: Array) -> tuple[Array, Array]:
        partials = np.concatenate([_partials(gradient) for gradient in g]).astype(hyper.dtype)
        return _clip(partials, hyper), partials

    KERNELS: ClassVar[tuple[str, ...]] = ("ck_square_sums", "ck_clip")

    @staticmethod
    def emulate(symbol: str, outs: Sequence[Any], ins: Sequence[Any], immediates: Mapping[str, Any]) -> None:
        if symbol == "ck_clip":
            outs[0][:] = _clip(ins[0], ins[1])
        else:
            found = _partials(ins[0])
            outs[0][immediates["first"] :][: len(found)] = found

    def kernels(self) -> Sequence[KernelCall]:
        calls: list[KernelCall] = []
        first = 0
        for gradient in self.g:
            immediates = {"n_elements": math.prod(shape(gradient.type)), "first": first}
            calls.append(KernelCall("ck_square_sums", immediates, outs=(self.partials,), ins=(gradient,)))
            first += n_pieces(gradient.type)
        last = KernelCall(
            "ck_clip", {"n_partials": first}, outs=(self.norm,), ins=(self.partials, self.hyper)
        )
        return [*calls, last]

    def cost(self) -> Cost:
        return Cost(2 * sum(math.prod(shape(g.type)) for g in self.g), super().cost().n_bytes)


def _partials(gradient: Array) -> Array:
    """Sums of squares of the pieces, each in f64 and rounded once."""
    squares = gradient.reshape(-1).astype(np.float64) ** 2
    return np.add.reduceat(squares, np.arange(0, len(squares), PIECE)).astype(gradient.dtype)


def _clip(partials: Array, hyper: Array) -> Array:
    norm = np.sqrt(partials.astype(np.float64).sum())
    factor = min(1.0, hyper[7] / (norm + 1e-6)) if hyper[7] > 0 else 1.0
    return np.array([norm, factor], partials.dtype)
