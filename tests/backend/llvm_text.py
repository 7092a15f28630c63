"""LLVM IR text for the functions that the backends' tests use: a second reading of the same IR, and a JIT.

No fast-math flags and no contraction. Covers what tests/backend/row_kernels.py and ck-expand-math make, no
more.
"""

import ctypes
import struct
from collections.abc import Iterable, Sequence

import llvmlite.binding as llvm
from xdsl.dialects import arith, func, math, memref, scf, vector
from xdsl.dialects.builtin import Float32Type, IndexType, IntegerType, MemRefType, VectorType
from xdsl.ir import Block, Operation, SSAValue

_BINARY = {
    arith.AddfOp: "fadd",
    arith.SubfOp: "fsub",
    arith.MulfOp: "fmul",
    arith.DivfOp: "fdiv",
    arith.AddiOp: "add",
    arith.SubiOp: "sub",
    arith.MuliOp: "mul",
    arith.AndIOp: "and",
    arith.OrIOp: "or",
    arith.XOrIOp: "xor",
    arith.ShLIOp: "shl",
    arith.ShRSIOp: "ashr",
}


def _type(type) -> str:
    if isinstance(type, VectorType):
        return f"<{type.get_shape()[0]} x {_type(type.element_type)}>"
    if isinstance(type, IndexType):
        return "i64"
    if isinstance(type, IntegerType):
        return f"i{type.width.data}"
    if isinstance(type, Float32Type):
        return "float"
    assert isinstance(type, MemRefType), type
    return "ptr"


def _float(value: float) -> str:
    """A literal of type float: LLVM writes it as the bits of the double with that value."""
    (value,) = struct.unpack("<f", struct.pack("<f", value))
    return f"0x{struct.pack('>d', value).hex().upper()}"


class _Function:
    def __init__(self, function: func.FuncOp) -> None:
        self.function = function
        self.names: dict[SSAValue, str] = {}
        self.lines: list[str] = []
        self.count = 0
        self.label = "entry"

    def text(self) -> str:
        parameters = []
        for argument in self.function.body.block.args:
            self.names[argument] = self.fresh()
            parameters.append(f"{_type(argument.type)} {self.names[argument]}")
        self.block(self.function.body.block)
        head = f"define void @{self.function.sym_name.data}({', '.join(parameters)}) {{\nentry:"
        return "\n".join([head, *self.lines, "  ret void", "}"])

    def fresh(self) -> str:
        self.count += 1
        return f"%v{self.count}"

    def emit(self, text: str) -> str:
        name = self.fresh()
        self.lines.append(f"  {name} = {text}")
        return name

    def block(self, block: Block) -> list[str]:
        for op in block.ops:
            if isinstance(op, (scf.YieldOp, func.ReturnOp)):
                return [self.names[value] for value in op.operands]
            self.operation(op)
        return []

    def operation(self, op: Operation) -> None:
        names = [self.names[value] for value in op.operands]
        if type(op) in _BINARY:
            a, b = names
            self.names[op.results[0]] = self.emit(f"{_BINARY[type(op)]} {_type(op.results[0].type)} {a}, {b}")
        elif isinstance(op, (arith.MaximumfOp, arith.MinimumfOp)):
            self.bound(op, *names)
        elif isinstance(op, arith.BitcastOp):
            source, target = _type(op.input.type), _type(op.result.type)
            self.names[op.result] = self.emit(f"bitcast {source} {names[0]} to {target}")
        elif isinstance(op, math.SqrtOp):
            self.names[op.result] = self.emit(f"call float @llvm.sqrt.f32(float {names[0]})")
        elif isinstance(op, scf.ForOp):
            self.loop(op, names)
        else:
            getattr(self, op.name.replace(".", "_"))(op, names)

    def bound(self, op: Operation, a: str, b: str) -> None:
        """NaN where either is NaN, the second of equal values: what the C says."""
        type = _type(op.results[0].type)
        bits = type.replace("float", "i1")
        beyond = self.emit(f"fcmp {'ogt' if isinstance(op, arith.MaximumfOp) else 'olt'} {type} {a}, {b}")
        nan = self.emit(f"fcmp uno {type} {a}, {a}")
        first = self.emit(f"or {bits} {beyond}, {nan}")
        self.names[op.results[0]] = self.emit(f"select {bits} {first}, {type} {a}, {type} {b}")

    def arith_negf(self, op: arith.NegfOp, names: Sequence[str]) -> None:
        self.names[op.result] = self.emit(f"fneg {_type(op.result.type)} {names[0]}")

    def arith_index_cast(self, op: arith.IndexCastOp, names: Sequence[str]) -> None:
        source, target = _type(op.input.type), _type(op.result.type)
        how = "sext" if target == "i64" else "trunc"
        self.names[op.result] = self.emit(f"{how} {source} {names[0]} to {target}")

    def arith_sitofp(self, op: arith.SIToFPOp, names: Sequence[str]) -> None:
        self.names[op.result] = self.emit(f"sitofp {_type(op.input.type)} {names[0]} to float")

    def arith_constant(self, op: arith.ConstantOp, names: Sequence[str]) -> None:
        value = op.value.value.data
        self.names[op.result] = _float(value) if isinstance(op.result.type, Float32Type) else str(value)

    def vector_broadcast(self, op: vector.BroadcastOp, names: Sequence[str]) -> None:
        type, scalar = _type(op.vector.type), _type(op.source.type)
        lanes = op.vector.type.get_shape()[0]
        one = self.emit(f"insertelement {type} poison, {scalar} {names[0]}, i64 0")
        mask = f"<{lanes} x i32> zeroinitializer"
        self.names[op.vector] = self.emit(f"shufflevector {type} {one}, {type} poison, {mask}")

    def vector_shuffle(self, op: vector.ShuffleOp, names: Sequence[str]) -> None:
        type = _type(op.v1.type)
        lanes = op.mask.get_values()
        mask = f"<{len(lanes)} x i32> <{', '.join(f'i32 {lane}' for lane in lanes)}>"
        self.names[op.result] = self.emit(f"shufflevector {type} {names[0]}, {type} {names[1]}, {mask}")

    def vector_extract(self, op: vector.ExtractOp, names: Sequence[str]) -> None:
        lane = op.static_position.get_values()[0]
        self.names[op.result] = self.emit(f"extractelement {_type(op.vector.type)} {names[0]}, i64 {lane}")

    def vector_create_mask(self, op: vector.CreateMaskOp, names: Sequence[str]) -> None:
        lanes = ", ".join(f"i1 {int(lane < int(names[0]))}" for lane in range(16))
        self.names[op.mask_vector] = f"<{lanes}>"

    def place(self, buffer: SSAValue, indices: Sequence[SSAValue]) -> str:
        row = "".join(f"[{extent} x " for extent in buffer.type.get_shape()[1:])
        type = f"{row}float{']' * row.count('[')}"
        path = ", ".join(f"i64 {self.names[index]}" for index in indices)
        return self.emit(f"getelementptr {type}, ptr {self.names[buffer]}, {path}")

    def memref_load(self, op: memref.LoadOp, names: Sequence[str]) -> None:
        self.names[op.res] = self.emit(f"load float, ptr {self.place(op.memref, op.indices)}")

    def memref_store(self, op: memref.StoreOp, names: Sequence[str]) -> None:
        self.lines.append(f"  store float {names[0]}, ptr {self.place(op.memref, op.indices)}")

    def vector_load(self, op: vector.LoadOp, names: Sequence[str]) -> None:
        place = self.place(op.base, op.indices)
        self.names[op.result] = self.emit(f"load {_type(op.result.type)}, ptr {place}, align 4")

    def vector_store(self, op: vector.StoreOp, names: Sequence[str]) -> None:
        place = self.place(op.base, op.indices)
        self.lines.append(f"  store {_type(op.vector.type)} {names[0]}, ptr {place}, align 4")

    def vector_maskedload(self, op: vector.MaskedLoadOp, names: Sequence[str]) -> None:
        type, place = _type(op.result.type), self.place(op.base, op.indices)
        mask, rest = names[-2:]
        arguments = f"ptr align 4 {place}, <16 x i1> {mask}, {type} {rest}"
        self.names[op.result] = self.emit(f"call {type} @llvm.masked.load.v16f32.p0({arguments})")

    def vector_maskedstore(self, op: vector.MaskedStoreOp, names: Sequence[str]) -> None:
        type, place = _type(op.value_to_store.type), self.place(op.base, op.indices)
        mask, value = names[-2:]
        arguments = f"{type} {value}, ptr align 4 {place}, <16 x i1> {mask}"
        self.lines.append(f"  call void @llvm.masked.store.v16f32.p0({arguments})")

    def start(self, label: str) -> None:
        self.label = label
        self.lines.append(f"{label}:")

    def loop(self, op: scf.ForOp, names: Sequence[str]) -> None:
        lower, upper, step, *initial = names
        self.count += 1
        head, body, done = (f"{part}{self.count}" for part in ("head", "body", "done"))
        before = self.label
        self.lines.append(f"  br label %{head}")
        self.start(head)
        phis = []
        for argument, first in zip(op.body.block.args, [lower, *initial], strict=True):
            self.names[argument] = self.fresh()
            phis.append((len(self.lines), argument, first))
            self.lines.append("")
        more = self.emit(f"icmp slt i64 {self.names[op.body.block.args[0]]}, {upper}")
        self.lines.append(f"  br i1 {more}, label %{body}, label %{done}")
        self.start(body)
        carried = self.block(op.body.block)
        after = self.emit(f"add i64 {self.names[op.body.block.args[0]]}, {step}")
        for (line, argument, first), last in zip(phis, [after, *carried], strict=True):
            incoming = f"[{first}, %{before}], [{last}, %{self.label}]"
            self.lines[line] = f"  {self.names[argument]} = phi {_type(argument.type)} {incoming}"
        self.lines.append(f"  br label %{head}")
        self.start(done)
        for result, argument in zip(op.results, op.body.block.args[1:], strict=True):
            self.names[result] = self.names[argument]


def llvm_text(functions: Iterable[func.FuncOp]) -> str:
    """LLVM IR for functions."""
    return "\n\n".join(_Function(function).text() for function in functions)


class Jit:
    """Machine code for LLVM IR text, optimised at level 3 for this machine."""

    def __init__(self, text: str) -> None:
        llvm.initialize_native_target()
        llvm.initialize_native_asmprinter()
        self.module = llvm.parse_assembly(_declare(text))
        self.module.verify()
        features = llvm.get_host_cpu_features().flatten()
        self.machine = llvm.Target.from_default_triple().create_target_machine(features=features, opt=3)
        builder = llvm.create_pass_builder(self.machine, llvm.create_pipeline_tuning_options(speed_level=3))
        builder.getModulePassManager().run(self.module, builder)
        self.engine = llvm.create_mcjit_compiler(self.module, self.machine)
        self.engine.finalize_object()

    def call(self, name: str, *arguments: ctypes.c_void_p | ctypes.c_int64) -> None:
        """Call a function."""
        address = self.engine.get_function_address(name)
        ctypes.CFUNCTYPE(None, *map(type, arguments))(address)(*arguments)


def _declare(text: str) -> str:
    masked = (
        "declare <16 x float> @llvm.masked.load.v16f32.p0(ptr, <16 x i1>, <16 x float>)",
        "declare void @llvm.masked.store.v16f32.p0(<16 x float>, ptr, <16 x i1>)",
        "declare float @llvm.sqrt.f32(float)",
    )
    return "\n".join([*masked, text])
