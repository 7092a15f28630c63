"""A scheduled module as one LLVM module: row kernels, layers with their tables, entries.

    void ck_decode(ptr %c)       one exported function for each entry, run by all threads of the pool
    ck_context_hash              of the context's layout; the loader compares it with its own

The twin of the C program: the same functions in the same order, weights and caches numbered in the manifest's
order and named in comments. What it calls is declared at its end: the kernels and the pool of libck_rt.
"""

from xdsl.dialects import func
from xdsl.dialects.builtin import FloatAttr, IndexType, ModuleOp, f32
from xdsl.ir import Attribute, Operation, SSAValue

from ck.backend.context import context_fields, context_hash
from ck.backend.llvm.spelling import base_name, literal
from ck.backend.llvm.text import ATTRIBUTES, emit_function, header
from ck.backend.llvm.values import Body, Declarations
from ck.backend.names import comment
from ck.backend.scheduled import Scheduled, is_cache, row_name
from ck.errors import InternalError
from ck.ir.op import number_value
from ck.ir.rt.ops import (
    ArenaOp,
    BarrierOp,
    CacheOp,
    CallOp,
    LaunchOp,
    RepeatOp,
    ViewAtOp,
    ViewOp,
    WeightOp,
)
from ck.ir.types import shape

_THREADS = ("i32 %tid", "i32 %nth")


def emit_program(module: ModuleOp) -> str:
    """LLVM IR of `module`. Raises InternalError for an op that is not scheduled."""
    return _Program(module).text()


class _Program(Scheduled):
    def __init__(self, module: ModuleOp) -> None:
        super().__init__(module)
        self.declarations = Declarations()
        self.fields = context_fields(self.manifest)
        self.places = {field.name: place for place, field in enumerate(self.fields)}

    def text(self) -> str:
        kernels = [emit_function(function, self.declarations) for function in self.rows]
        bodies = [_ProgramBody(self, function).layer() for function in self.layers]
        bodies += [_ProgramBody(self, function).entry() for function in self.entries]
        digest = context_hash(self.manifest)
        return "\n".join(
            [
                f"; {', '.join(field.name for field in self.fields)}",
                f"%ck_context = type {{ {', '.join(field.llvm for field in self.fields)} }}",
                "",
                f'@ck_context_hash = constant [{len(digest) + 1} x i8] c"{digest}\\00"',
                "",
                *kernels,
                *bodies,
                self.declarations.text(),
                ATTRIBUTES,
            ]
        )


class _ProgramBody(Body):
    """One layer or entry."""

    def __init__(self, program: _Program, function: func.FuncOp) -> None:
        super().__init__(program.declarations)
        for name in ("c", "tid", "nth", "row"):
            self.fresh(name)
        self._program = program
        self._function = function
        self._symbol = function.sym_name.data
        self._tables: list[str] = []
        self._fields: dict[str, str] = {}
        self._slice = ("", "")

    def entry(self) -> str:
        """An entry: its arguments come from the context."""
        arguments = self._program.manifest.entries[self._symbol]
        block = self._function.body.block
        for value, argument in zip(block.args, arguments, strict=True):
            self.bind(value, self._field(argument.name))
        self._operations()
        inner = header(f"{self._symbol}_body", ["ptr %c", *_THREADS], "internal ")
        return "\n".join([*self._tables, inner, self.text(), "}", "", self._exported()])

    def _exported(self) -> str:
        """The function that the runtime calls: all threads run the body."""
        run = Body(self.declarations)
        run.fresh("c")
        pool, n_threads = (_load_field(run, self._program, name) for name in ("pool", "n_threads"))
        self.declarations.add("ck_pool_run", "void", "ptr, i32, ptr, ptr")
        run.line(f"call void @ck_pool_run(ptr {pool}, i32 {n_threads}, ptr @{self._symbol}_body, ptr %c)")
        run.line("ret void")
        return "\n".join([header(f"ck_{self._symbol}", ["ptr %c"], ""), run.text(), "}", ""])

    def layer(self) -> str:
        """A layer: shared values, then a row of its table."""
        shared, columns = self._program.split_arguments(self._function)
        parameters = ["ptr %c", *(f"{_type(value.type)} {self.name(value)}" for value in shared)]
        parameters += ["ptr readonly %row", *_THREADS]
        names = [base_name(value, "column") for value in columns]
        for place, value in enumerate(columns):
            self._column(place, value)
        self._operations()
        kinds = [_column_type(value) for value in columns]
        struct = f"; {', '.join(names)}\n%{self._symbol}_row = type {{ {', '.join(kinds)} }}\n"
        return "\n".join([struct, header(self._symbol, parameters, "internal "), self.text(), "}", ""])

    def _column(self, place: int, value: SSAValue) -> None:
        """A value that the row holds, or holds the number of."""
        name = base_name(value, "column")
        at = self.let(f"{name}.at", f"getelementptr %{self._symbol}_row, ptr %row, i64 0, i32 {place}")
        if isinstance(value.type, IndexType):
            self.define(value, f"load i64, ptr {at}")
            return
        number = self.let(f"{name}.number", f"load i32, ptr {at}")
        table = self._field("caches" if is_cache(value.type) else "weights")
        slot = self.let(f"{name}.slot", f"getelementptr ptr, ptr {table}, i32 {number}")
        self.define(value, f"load ptr, ptr {slot}")

    def _field(self, name: str) -> str:
        """A field of the context, read once."""
        if name not in self._fields:
            self._fields[name] = _load_field(self, self._program, name)
        return self._fields[name]

    def _operations(self) -> None:
        ops = list(self._function.body.block.ops)
        launches = [op for op in ops if isinstance(op, LaunchOp)]
        if launches:
            self._split(self.use(launches[0].live))
        for op in ops:
            self._operation(op)

    def _split(self, live: str) -> None:
        """This thread's first row and the one after its last."""
        tid, nth = self.let("tid.wide", "sext i32 %tid to i64"), self.let("nth.wide", "sext i32 %nth to i64")
        begin = self.let("begin", f"mul nsw i64 {live}, {tid}")
        after = self.let("tid.next", f"add nsw i64 {tid}, 1")
        end = self.let("end", f"mul nsw i64 {live}, {after}")
        first = self.let("first", f"sdiv i64 {begin}, {nth}")
        self._slice = (first, self.let("last", f"sdiv i64 {end}, {nth}"))

    def _operation(self, op: Operation) -> None:
        match op:
            case ArenaOp():
                self.bind(op.buffer, self._field("arena"))
            case ViewOp():
                self._view(op.buffer, op.source, str(op.offset_bytes))
            case ViewAtOp():
                self._view(op.buffer, op.source, self.use(op.offset))
            case WeightOp():
                self._slot("weights", self._program.weight_numbers, op.symbol_name, op.value)
            case CacheOp():
                self._slot("caches", self._program.cache_numbers, op.symbol_name, op.value)
            case CallOp():
                self._call(op)
            case LaunchOp():
                self._launch(op)
            case BarrierOp():
                self.declarations.add("ck_barrier", "void", "ptr")
                self.line(f"call void @ck_barrier(ptr {self._field('pool')})")
            case RepeatOp():
                self._repeat(op)
            case func.ReturnOp():
                self.line("ret void")
            case _:
                raise InternalError(f"LLVM: {op.name} is not scheduled; run the whole pipeline")

    def _view(self, buffer: SSAValue, source: SSAValue, offset: str) -> None:
        sizes = "".join(f"[{n}]" for n in shape(buffer.type))
        name = self.name(buffer, "b")
        self.line(f"{name} = getelementptr inbounds i8, ptr {self.use(source)}, i64 {offset}  ; {sizes}")

    def _slot(self, table: str, numbers: dict[str, int], symbol: str, value: SSAValue) -> None:
        name = base_name(value, "b")
        start = self._field(table)
        at = self.let(f"{name}.slot", f"getelementptr ptr, ptr {start}, i64 {numbers[symbol]}")
        self.define(value, f"load ptr, ptr {at}  ; {comment(symbol)}")

    def _call(self, op: CallOp) -> None:
        values = [f"{_type(value.type)} {self.use(value)}" for value in (*op.outs, *op.ins)]
        constants = [_immediate(value) for value in op.immediates.data.values()]
        arguments = [*values, *constants, *_THREADS]
        self.declarations.add(op.symbol_name, "void", ", ".join(text.split()[0] for text in arguments))
        what = ", ".join(op.immediates.data)
        self.line(f"call void @{op.symbol_name}({', '.join(arguments)})" + (f"  ; {what}" if what else ""))

    def _launch(self, op: LaunchOp) -> None:
        factor = op.rows_per_token.value.data
        bounds = self._slice
        if factor != 1:
            words = zip(("first", "last"), self._slice, strict=True)
            bounds = tuple(self.let(f"{word}.row", f"mul nsw i64 {row}, {factor}") for word, row in words)
        values = [f"{_type(value.type)} {self.use(value)}" for value in (*op.ins, *op.outs)]
        self.line(f"call void @{op.symbol_name}({', '.join([*values, *(f'i64 {row}' for row in bounds)])})")

    def _repeat(self, op: RepeatOp) -> None:
        table, name = self._table(op), op.symbol_name
        loop, after = self.fresh("layers"), self.fresh("layers.end")
        before = self.label
        self.line(f"br label %{loop}")
        self.start(loop)
        i, following = f"%{self.fresh('i')}", f"%{self.fresh('i.next')}"
        self.line(f"{i} = phi i64 [ 0, %{before} ], [ {following}, %{loop} ]")
        row = self.let("row", f"getelementptr %{name}_row, ptr {table}, i64 {i}")
        shared = [f"{_type(value.type)} {self.use(value)}" for value in op.shared]
        self.line(f"call void @{name}({', '.join(['ptr %c', *shared, f'ptr {row}', *_THREADS])})")
        self.line(f"{following} = add nsw i64 {i}, 1")
        more = self.let("layers.more", f"icmp slt i64 {following}, {len(op.rows)}")
        self.line(f"br i1 {more}, label %{loop}, label %{after}")
        self.start(after)

    def _table(self, op: RepeatOp) -> str:
        """Write the table beside the function; returns its name."""
        layer, name = self._program.by_name[op.symbol_name], f"{op.symbol_name}_row"
        columns = layer.body.block.args[len(op.shared) :]
        table = f"@{self._symbol}_layers" + (f"_{len(self._tables)}" if self._tables else "")
        rows: list[str] = []
        for row in op.rows:
            entries = [
                f"{_column_type(column)} {self._program.entry(e, column.type)}"
                for e, column in zip(row, columns, strict=True)
            ]
            end = "," if len(rows) < len(op.rows) - 1 else ""
            rows.append(f"  %{name} {{ {', '.join(entries)} }}{end}  ; {comment(row_name(row))}")
        head = f"{table} = internal constant [{len(rows)} x %{name}] ["
        self._tables.append("\n".join([head, *rows, "]\n"]))
        return table


def _load_field(body: Body, program: _Program, name: str) -> str:
    place = program.places[name]
    at = body.let(f"{name}.at", f"getelementptr %ck_context, ptr %c, i64 0, i32 {place}")
    return body.let(name, f"load {program.fields[place].llvm}, ptr {at}")


def _type(of: Attribute) -> str:
    """The type of a buffer, weight, cache or scalar that is passed around."""
    return "i64" if isinstance(of, IndexType) else "ptr"


def _column_type(value: SSAValue) -> str:
    """The type of a column: offsets in an arena pass 2 GiB, weights and caches are numbered."""
    return "i64" if isinstance(value.type, IndexType) else "i32"


def _immediate(value: Attribute) -> str:
    number = number_value(value)
    return f"float {literal(number, f32)}" if isinstance(value, FloatAttr) else f"i64 {int(number)}"
