"""What a file of this folder says about its op, and the values on which the generic tests run it.

A file tests/ops/<op>.py holds an `OpCase` for the op and one for its gradient op, if it has one.
"""

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from importlib import import_module
from pathlib import Path
from typing import Any

import numpy as np
from gguf import GGMLQuantizationType, dequantize
from xdsl.dialects.builtin import Float32Type, StringAttr, TensorType, i32
from xdsl.ir import Attribute, Block

from ck.ir.op import CkOp
from ck.ir.ops.quantize_rows import quantize
from ck.ir.types import ActivationType, KvType, Q8Type, Q16Type, StateType, WeightType, shape

FOLDER = Path(__file__).parent
# Where a block of a file holds its f16 numbers, in bytes: random bytes there would be NaN now and then.
F16_FIELDS = {
    "q8_0": (0,), "q5_1": (0, 2), "q5_0": (0,), "q4_1": (0, 2), "q4_0": (0,),
    "q6_k": (208,), "q5_k": (0, 2), "q4_k": (0, 2), "q3_k": (108,), "q2_k": (80, 82),
    "iq4_nl": (0,), "iq4_xs": (0,),
}  # fmt: skip


@dataclass(frozen=True, eq=False)
class Sample:
    """Operand types and properties of one instance.

    numbers  the values of its index operands
    given    the values of other operands that cannot be just any numbers, by place
    compute  the type to which ck-assign-precision has the factors of a product rounded
    """

    operands: tuple[Attribute, ...]
    properties: Mapping[str, Any] = field(default_factory=dict)
    numbers: tuple[int, ...] = ()
    given: Mapping[int, Any] = field(default_factory=dict)
    compute: str = "f32"

    @property
    def capacity(self) -> int:
        """Tokens that its rows are of."""
        rows = next((shape(of)[0] for of in self.operands if hasattr(of, "get_shape")), 1)
        return rows // self.properties.get("rows_per_token", 1)

    def has_rows(self, place: int) -> bool:
        """Whether an operand has rows of tokens: vectors of numbers and weights have none."""
        of = self.operands[place]
        if isinstance(of, ActivationType):
            return True
        is_rows = isinstance(of, TensorType) and (len(shape(of)) == 2 or of.element_type == i32)
        return is_rows and shape(of)[0] % self.capacity == 0


@dataclass(frozen=True)
class Refusal:
    """An instance that must not be built, and words of the message."""

    sample: Sample
    words: str


@dataclass(frozen=True, eq=False)
class OpCase:
    """One op's tests.

    samples    three instances, one of them of odd sizes
    refusals   one for every VerifyException of `infer`
    roundings  row-wise ops: from operands and results in f64 to a bound of each result's error in units of
               2^-23, the roundings of the formula times what each is multiplied with
    scales     row-wise ops: the standard deviations of the inputs that are tried
    build      how an instance is made where `build_op` is not it
    slopes     instances whose gradient is held against finite differences, where `samples` will not do
    no_slope   operands and results through which no gradient flows; integers are known to have none
    """

    op: type[CkOp]
    samples: tuple[Sample, Sample, Sample]
    refusals: tuple[Refusal, ...]
    roundings: Callable[..., Any] | None = None
    scales: tuple[float, ...] = (1.0, 30.0, 1e-4)
    build: Callable[..., CkOp] | None = None
    slopes: tuple[Sample, ...] | None = None
    no_slope: frozenset[str] = frozenset()

    def make(self, sample: Sample) -> tuple[Block, CkOp]:
        """An instance in a block whose arguments are its operands."""
        block = Block(arg_types=sample.operands)
        op = (self.build or self.op.build_op)(*block.args, **sample.properties)
        if sample.compute != "f32":
            op.attributes["compute"] = StringAttr(sample.compute)
        block.add_op(op)
        return block, op


def cases() -> Iterator[OpCase]:
    """The records of all files, in order of their names."""
    for path in sorted(FOLDER.glob("*.py")):
        if not path.stem.startswith("test_"):
            module = import_module(f"tests.ops.{path.stem}")
            yield from (value for value in vars(module).values() if isinstance(value, OpCase))


@dataclass(frozen=True)
class Operand:
    """A value as `reference` takes it, and as it lies in memory for a kernel."""

    value: Any
    stored: Any


def draw(sample: Sample, scale: float = 1.0) -> list[Operand]:
    """Random values for the operands, the same every time; f32 rows have standard deviation `scale`."""
    rng = np.random.default_rng(len(sample.operands))
    numbers = iter(sample.numbers)
    n_vocab = min((shape(of)[0] for of in sample.operands if isinstance(of, WeightType)), default=1)
    drawn = [_draw(of, rng, numbers, n_vocab, scale) for of in sample.operands]
    for place, value in sample.given.items():
        of = sample.operands[place]
        dtype = np.int32 if isinstance(of, TensorType) and of.element_type == i32 else np.float32
        rows = np.array(value, dtype).reshape(shape(of))
        drawn[place] = Operand(rows, rows)
    return drawn


def _draw(
    of: Attribute, rng: np.random.Generator, numbers: Iterator[int], n_vocab: int, scale: float
) -> Operand:
    match of:
        case WeightType():
            return _weight(of, rng)
        case Q16Type() | Q8Type():
            stored = quantize(rng.standard_normal(shape(of), np.float32), of.PLANES)
            return Operand(stored, stored)
        case KvType():
            dtype = np.float16 if of.dtype_name == "f16" else np.float32
            keys, values = (rng.standard_normal(shape(of)).astype(dtype) for _ in range(2))
            return Operand((keys, values), pack_cache(keys, values))
        case TensorType(element_type=Float32Type()) | StateType():
            rows = (scale * rng.standard_normal(shape(of))).astype(np.float32)
            return Operand(rows, rows)
        case TensorType():
            tokens = rng.integers(0, n_vocab, shape(of), np.int32)
            return Operand(tokens, tokens)
        case _:
            number = next(numbers)
            return Operand(number, number)


def _weight(of: WeightType, rng: np.random.Generator) -> Operand:
    """Rows as a file stores them, and their f32 values by the gguf package."""
    n_out, n_in = of.get_shape()
    name = of.storage.data
    if not of.row.quantized:
        rows = rng.standard_normal((n_out, n_in), np.float32)
        if name == "f16":
            rows = rows.astype(np.float16)
            return Operand(rows.astype(np.float32), rows)
        if name == "bf16":
            halves = (rows.view(np.uint32) >> 16).astype(np.uint16)
            return Operand((halves.astype(np.uint32) << 16).view(np.float32), halves)
        return Operand(rows, rows)
    blocks = rng.integers(0, 256, (n_out, n_in // of.row.block, of.row.file_bytes), np.uint8)
    for at in F16_FIELDS[name]:
        scales = rng.uniform(0.5, 2.0, blocks.shape[:2]).astype(np.float16)
        blocks[..., at : at + 2] = scales[..., None].view(np.uint8)
    stored = blocks.reshape(n_out, -1)
    return Operand(dequantize(stored, GGMLQuantizationType(of.row.ggml_id)), stored)


def pack_cache(keys: np.ndarray, values: np.ndarray) -> np.ndarray:
    """Keys and values [heads, capacity, head width] as the runtime keeps them: bytes."""
    heads, capacity, head_dim = keys.shape
    blocks = keys.reshape(heads, capacity // 64, 64, head_dim).swapaxes(2, 3)
    return np.concatenate([part.ravel().view(np.uint8) for part in (np.ascontiguousarray(blocks), values)])


def ids(*sizes: int) -> TensorType:
    """`tensor<...xi32>`: tokens, targets, first rows of documents."""
    return TensorType(i32, sizes)
