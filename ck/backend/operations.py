"""What the emitters ask about operations and types of generated functions, whichever language they write."""

from typing import TypeGuard

from xdsl.dialects import arith, func, memref, scf, vector
from xdsl.dialects.builtin import DenseIntOrFPElementsAttr, FloatAttr, IntegerAttr, VectorType
from xdsl.ir import Attribute, Operation, SSAValue
from xdsl.utils.hints import isa

from ck.errors import InternalError

# Operations that may write memory.
WRITES = (
    *(memref.StoreOp, memref.CopyOp, vector.StoreOp, vector.MaskedStoreOp),
    *(func.CallOp, scf.ForOp, scf.IfOp),
)
_EFFECTS = (*WRITES, scf.YieldOp, func.ReturnOp)


def live_operations(function: func.FuncOp) -> set[Operation]:
    """Operations with an effect, and those whose results reach one."""
    live: set[Operation] = set()
    for op in function.walk(reverse=True):
        if isinstance(op, _EFFECTS) or any(use.operation in live for r in op.results for use in r.uses):
            live.add(op)
    return live


def is_written(buffer: SSAValue, user: Operation) -> bool:
    """Whether `user` may write to `buffer`."""
    if isinstance(user, memref.CopyOp):
        return user.destination is buffer
    return not isinstance(user, (memref.LoadOp, vector.LoadOp, vector.MaskedLoadOp))


def vector_shape(type: Attribute) -> tuple[int, Attribute] | None:
    """Length and element type of a one-dimensional vector type, None for any other type."""
    if not _is_vector(type):
        return None
    shape = type.get_shape()
    if len(shape) != 1:
        raise InternalError(f"vectors have one dimension, got {type}")
    return shape[0], type.get_element_type()


def _is_vector(type: Attribute) -> TypeGuard[VectorType[Attribute]]:
    # xDSL's `isa` would look at the element type as well, which takes most of an emitter's time.
    return isinstance(type, VectorType)


def element_of(type: Attribute) -> Attribute:
    """The element type of a vector type, or the type itself."""
    shape = vector_shape(type)
    return shape[1] if shape else type


def constant_number(op: arith.ConstantOp) -> int | float:
    """The value of a constant, or the one value in all lanes of a vector."""
    value = op.value
    if isinstance(value, DenseIntOrFPElementsAttr):
        if not value.is_splat():
            raise InternalError(f"a vector constant has one value in all lanes, got {value}")
        number = value.get_values()[0]
        assert isinstance(number, int | float)
        return number
    assert isa(value, IntegerAttr) or isa(value, FloatAttr)
    return value.value.data


def constant_lane(op: vector.ExtractOp | vector.InsertOp) -> int:
    """The lane that an operation takes or puts."""
    positions = op.static_position.get_values()
    if len(positions) != 1 or op.dynamic_position:
        raise InternalError(f"{op.name} takes one constant position, got {op}")
    lane = positions[0]
    assert isinstance(lane, int)
    return lane


def mask_count(mask: SSAValue) -> int | None:
    """How many lanes a mask lets through; None for all."""
    create = mask.owner
    count = create.mask_dim_sizes[0].owner if isinstance(create, vector.CreateMaskOp) else None
    length = vector_shape(mask.type)
    if not isinstance(count, arith.ConstantOp) or not isa(count.value, IntegerAttr) or length is None:
        raise InternalError(f"a mask is vector.create_mask of a constant, got {mask}")
    n = max(count.value.value.data, 0)
    return None if n >= length[0] else n
