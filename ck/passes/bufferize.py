"""Turn values into buffers and ops into calls, in the order written.

A tensor becomes an `rt.alloc`, the function's result an argument that the caller supplies; a kernel op
becomes its `rt.call`s, a `ck.fused` an `rt.launch` of a generated function (one for all groups that do the
same), a reshape a view. An op that is `InPlace` overwrites its operand when nothing reads that later.

Before:
    func.func @f(%x: tensor<2x32xf32>, %n: index) -> tensor<2x16xf32> {
      %w = ck.weight @up : !ck.q<16x32xf16, r16>
      %y = ck.linear %x, %w {kernel = [@ck_linear_f16]}
        : (tensor<2x32xf32>, !ck.q<16x32xf16, r16>) -> tensor<2x16xf32>
      func.return %y : tensor<2x16xf32>
    }
After:
    func.func @f(%x: memref<2x32xf32>, %n: index, %y: memref<2x16xf32>) {
      %w = rt.weight @up : !ck.q<16x32xf16, r16>
      rt.call @ck_linear_f16 outs(%y : memref<2x16xf32>)
        ins(%x, %w, %n : memref<2x32xf32>, !ck.q<16x32xf16, r16>, index)
        {immediates = {n_out = 16 : i64, n_in = 32 : i64}, split = "cols"}
      func.return
    }

What an op updates is written where it lies: a cache, and the states of training (weights, gradients,
moments).

A call of an op that has several is left out when nothing reads what it makes: a frozen weight's gradient.

What a function returns twice is copied. Raises for a function without a live count `n`, for one that returns
an argument, a view, a state or what is written over another value, for a kernel's weight without a layout
or rows that are not one a token, and for an entry with a name used twice.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import ClassVar

from xdsl.context import Context
from xdsl.dialects import func
from xdsl.dialects.builtin import FunctionType, IndexType, MemRefType, ModuleOp, f32, i8
from xdsl.ir import Attribute, Block, Operation, Region, SSAValue
from xdsl.passes import ModulePass
from xdsl.rewriter import InsertPoint, Rewriter
from xdsl.utils.exceptions import VerifyException

from ck.ir.check.tier import Tier
from ck.ir.lower_rows import lower_fused, meaning_of, name_of
from ck.ir.op import CkOp, InPlace, KernelCall, KernelOp, Live, Updates, is_state
from ck.ir.ops.cache import CacheOp
from ck.ir.ops.fused import FusedOp, YieldOp
from ck.ir.ops.reshape import ReshapeOp
from ck.ir.ops.scale import ScaleOp
from ck.ir.ops.weight import WeightOp
from ck.ir.rt import ops as rt
from ck.ir.types import ActivationType, KvType, WeightType, is_tensor, shape
from ck.passes.assign_layouts import require_layouts


def buffer_type(of: Attribute) -> Attribute:
    """The buffer that holds a value of type `of`; scalars, weights and caches stay as they are."""
    if is_tensor(of):
        return MemRefType(of.element_type, of.get_shape())
    if isinstance(of, ActivationType):
        return MemRefType(i8, [of.get_shape()[0], of.row_bytes])
    return of


def computed_type(of: Attribute) -> Attribute:
    """The buffer of a value that an op makes: a gradient is no state yet, but rows of f32."""
    return MemRefType(f32, of.get_shape()) if isinstance(of, WeightType) else buffer_type(of)


@dataclass
class _Generated:
    """Functions made from `ck.fused` groups, one for each meaning."""

    functions: list[func.FuncOp] = field(default_factory=list[func.FuncOp])
    names: dict[object, str] = field(default_factory=dict[object, str])
    taken: set[str] = field(default_factory=set[str])

    def name_for(self, fused: FusedOp) -> str:
        key = meaning_of(fused)
        if key not in self.names:
            name, number = name_of(fused), 2
            while name in self.taken:
                name, number = f"{name_of(fused)}_{number}", number + 1
            self.taken.add(name)
            self.names[key] = name
            self.functions.append(lower_fused(fused, name))
        return self.names[key]


class _Function:
    """One function on its way from values to buffers."""

    def __init__(self, function: func.FuncOp, generated: _Generated) -> None:
        self.old = function.body.block
        self.generated = generated
        self.name = function.sym_name.data
        self.order = {op: place for place, op in enumerate(self.old.ops)}
        last = self.old.last_op
        assert isinstance(last, func.ReturnOp)
        self.returned = list(last.operands)
        inputs = [arg.type for arg in self.old.args]
        results = [computed_type(value.type) for value in self.returned]
        self.types = [*(buffer_type(of) for of in inputs), *results]
        self.block = Block(arg_types=self.types)
        self.buffers: dict[SSAValue, SSAValue] = {}
        for value, arg in zip((*self.old.args, *self.returned), self.block.args, strict=True):
            arg.name_hint = value.name_hint
        for value, arg in zip(self.old.args, self.block.args, strict=False):
            self.buffers[value] = arg
        if "ck.entry" in function.attributes:
            self._require_names()
        self.outputs = dict(zip(self.returned, self.block.args[len(inputs) :], strict=True))
        self.live = next((arg for arg in self.block.args if arg.name_hint == "n"), None)
        self.capacity = shape(self.old.args[0].type)[0]

    def emit(self, op: Operation) -> None:
        self.block.add_op(op)

    def _require_names(self) -> None:
        """Raises VerifyException for an entry two of whose buffers could not be told apart by their names."""
        names = [arg.name_hint or "" for arg in self.block.args]
        again = next((name for place, name in enumerate(names) if name in names[:place]), None)
        if again is not None:
            called = f"are called {again}" if again else "have no name"
            raise VerifyException(
                f"@{self.name}: two arguments or results {called}: an entry's are found by name"
            )

    def build(self) -> Block:
        if self.live is None:
            raise VerifyException(f"@{self.name}: an index argument named n is required, the live count")
        for value in self.returned:
            if not _has_own_buffer(value):
                raise VerifyException(
                    f"@{self.name}: returns %{value.name_hint}, an argument, a view, a state or written over "
                    "another value, which has no buffer of its own"
                )
        for op in self.old.ops:
            self._bufferize(op)
        return self.block

    def _bufferize(self, op: Operation) -> None:
        match op:
            case WeightOp() | CacheOp():
                self._leaf(op)
            case ReshapeOp():
                view = rt.ViewOp.at(self.buffers[op.x], 0, buffer_type(op.y.type))
                view.buffer.name_hint = op.y.name_hint
                self.emit(view)
                self.buffers[op.y] = view.buffer
            case FusedOp():
                outs = [self._result(result) for result in op.outputs]
                ins = [self.buffers[value] for value in op.inputs]
                assert self.live is not None
                name = self.generated.name_for(op)
                self.emit(rt.LaunchOp.of(name, outs, ins, self.live, op.rows // self.capacity))
            case func.ReturnOp():
                self.emit(func.ReturnOp())
            case _ if isinstance(op, KernelOp):
                self._calls(op)
            case _:
                raise VerifyException(f"{op.name} has no lowering to buffers")

    def _leaf(self, op: WeightOp | CacheOp) -> None:
        kind = rt.WeightOp if isinstance(op, WeightOp) else rt.CacheOp
        leaf = kind.create(result_types=[buffer_type(op.value.type)], properties={"symbol": op.symbol})
        leaf.results[0].name_hint = op.value.name_hint
        self.emit(leaf)
        self.buffers[op.value] = leaf.results[0]

    def _calls(self, op: Operation) -> None:
        assert isinstance(op, KernelOp)
        require_layouts("ck-bufferize", op)
        self._check_rows(op)
        calls = op.kernels()
        if calls[0].outs is not None:
            self._named_calls(op, calls)
            return
        assert self.live is not None
        ins = [self.buffers[value] for value in op.operands]
        if not any(isinstance(value.type, IndexType) for value in op.operands):
            ins.append(self.live)
        if len(calls) == 1 and isinstance(op.results[0].type, KvType):
            # The cache is written where it is.
            self.buffers[op.results[0]] = self.buffers[op.operands[0]]
            ins = ins[1:]
            outs = [self.buffers[op.results[0]]]
        else:
            outs = [self._result(result, op) for result in op.results]
        for place, call in enumerate(calls):
            one = len(calls) == 1
            chosen = ins if one else [ins[0], ins[1 + place], self.live]
            made = outs if one else [outs[place]]
            self.emit(rt.CallOp.of(call.symbol, made, chosen, dict(call.immediates), call.split))

    def _check_rows(self, op: Operation) -> None:
        """Raises VerifyException for rows of which a kernel would compute the first `n` alone."""
        for value in op.operands:
            is_rows = is_tensor(value.type) or isinstance(value.type, ActivationType)
            sizes = shape(value.type) if is_rows else ()
            if len(sizes) == 2 and sizes[0] != self.capacity and "rows_per_token" not in op.properties:
                raise VerifyException(
                    f"{op.name}: one row a token is required, %{value.name_hint} has {sizes[0]} "
                    f"where @{self.name} takes {self.capacity} tokens"
                )

    def _named_calls(self, op: Operation, calls: Sequence[KernelCall]) -> None:
        """Calls that say which of the op's values they take."""
        updated = dict(op.updated) if isinstance(op, Updates) else {}
        calls = [call for call in calls if len(calls) == 1 or _is_wanted(call, calls, updated, self.outputs)]
        named = {value for call in calls for value in (*(call.outs or ()), *call.ins)}
        for result in op.results:
            if result in updated:
                self.buffers[result] = self._updated(op, updated[result])
            elif result in named:
                self._result(result, op)
        for call in calls:
            outs = [self.buffers[value] for value in call.outs or ()]
            ins = [self._operand(value) for value in call.ins]
            self.emit(rt.CallOp.of(call.symbol, outs, ins, dict(call.immediates), call.split))

    def _operand(self, value: SSAValue | Live) -> SSAValue:
        if isinstance(value, SSAValue):
            return self.buffers[value]
        assert self.live is not None
        return self.live

    def _updated(self, op: Operation, operand: SSAValue) -> SSAValue:
        """Where an operand that `op` updates lies: a state, or a value that nothing reads later."""
        root = _root(operand)
        if not is_state(root) and (root in self.outputs or self._last_use(root) is not op):
            raise VerifyException(f"{op.name}: overwrites %{operand.name_hint}, which is read later")
        return self.buffers[operand]

    def _result(self, value: SSAValue, op: Operation | None = None) -> SSAValue:
        """Where `value` is written: the caller's buffer, an operand's that is free, or a new one."""
        if value in self.outputs:
            self.buffers[value] = self.outputs[value]
        elif isinstance(op, InPlace) and (taken := self._overwritten(op)) is not None:
            self.buffers[value] = taken
        else:
            alloc = rt.AllocOp.create(result_types=[computed_type(value.type)])
            alloc.buffer.name_hint = value.name_hint
            self.emit(alloc)
            self.buffers[value] = alloc.buffer
        return self.buffers[value]

    def _overwritten(self, op: Operation) -> SSAValue | None:
        assert isinstance(op, InPlace)
        if len(op.operands) <= op.IN_PLACE_OPERAND:
            return None
        operand = op.operands[op.IN_PLACE_OPERAND]
        root = _root(operand)
        if sum(_root(value) is root for value in op.operands) > 1:
            return None
        made = isinstance(root.owner, CkOp) and not is_state(root)
        free = made and self._last_use(root) is op and root not in self.outputs
        return self.buffers[operand] if free else None

    def _last_use(self, value: SSAValue) -> Operation | None:
        """The last op that reads `value` or a view of it."""
        users: list[Operation] = []
        for use in value.uses:
            users.append(use.operation)
            if isinstance(use.operation, ReshapeOp):
                later = self._last_use(use.operation.y)
                users.extend([later] if later is not None else [])
        return max(users, key=self.order.__getitem__, default=None)


def _is_wanted(
    call: KernelCall,
    calls: Sequence[KernelCall],
    updated: Mapping[SSAValue, SSAValue],
    outputs: Mapping[SSAValue, SSAValue],
) -> bool:
    """Whether an op, another call of the same op or a state takes something of what `call` makes."""
    taken = {value for other in calls if other is not call for value in other.ins}
    return any(out.uses or out in taken or out in updated or out in outputs for out in call.outs or ())


def _has_own_buffer(value: SSAValue) -> bool:
    """Whether an op makes `value` in memory that is the value's alone."""
    op = value.owner
    if isinstance(op, Updates) and any(value is new for new, _ in op.updated):
        return False
    return isinstance(op, CkOp) and not isinstance(op, ReshapeOp) and not is_state(value)


def _copy_repeated(function: func.FuncOp) -> None:
    """Copy what is returned more than once, as results become that cse found equal: each has a buffer."""
    last = function.body.block.last_op
    assert last is not None
    seen: set[SSAValue] = set()
    for place, value in enumerate(last.operands):
        if value in seen:
            last.operands[place] = _copied(function, value, place)
        seen.add(value)


def _copied(function: func.FuncOp, value: SSAValue, place: int) -> SSAValue:
    """A row-wise copy of `value`, made last of all."""
    last = function.body.block.last_op
    assert last is not None
    if not is_tensor(value.type) or len(shape(value.type)) != 2:
        raise VerifyException(
            f"@{function.sym_name.data}: returns %{value.name_hint}, a {value.type}, more than once; "
            "rows alone are copied"
        )
    block = Block(arg_types=[value.type])
    same = ScaleOp.build_op(block.args[0], factor=1.0)
    block.add_ops([same, YieldOp.create(operands=[same.y])])
    made = FusedOp.create(operands=[value], result_types=[value.type], regions=[Region(block)])
    made.results[0].name_hint = f"{value.name_hint or 'y'}_at{place}"
    Rewriter.insert_op(made, InsertPoint.before(last))
    return made.results[0]


def _root(value: SSAValue) -> SSAValue:
    while isinstance(value.owner, ReshapeOp):
        value = value.owner.x
    return value


@dataclass(frozen=True)
class BufferizePass(ModulePass):
    """`ck-bufferize`"""

    name = "ck-bufferize"
    TIER: ClassVar[Tier] = Tier(
        1e-9, "sums of rows in the order of the loops", quantized=1e-5, rounded=1e-2, coarse=1e-2
    )

    def apply(self, ctx: Context, op: ModuleOp) -> None:
        generated = _Generated()
        functions = [inner for inner in op.ops if isinstance(inner, func.FuncOp) and _holds_values(inner)]
        generated.taken.update(inner.sym_name.data for inner in op.ops if isinstance(inner, func.FuncOp))
        for function in functions:
            _copy_repeated(function)
            work = _Function(function, generated)
            block = work.build()
            of = FunctionType.from_lists(work.types, [])
            made = func.FuncOp(function.sym_name.data, of, Region(block), visibility=function.sym_visibility)
            made.attributes.update(function.attributes)
            Rewriter.replace_op(function, made, safe_erase=False)
        _insert_first(op, generated.functions)


def _holds_values(function: func.FuncOp) -> bool:
    return bool(function.body.blocks) and any(isinstance(op, CkOp) for op in function.body.block.ops)


def _insert_first(module: ModuleOp, functions: Sequence[func.FuncOp]) -> None:
    for function in reversed(functions):
        Rewriter.insert_op(function, InsertPoint.at_start(module.body.block))
