"""A scheduled module as one C file: row kernels, layers with their tables, entries.

    void ck_decode(ck_context* c)       one exported function for each entry, run by all threads of the pool
    const char ck_context_hash[]        of the context's layout; the loader compares it with its own

The file is read top to bottom: what a layer does once, then how often and on what. Weights and caches are
numbered in the manifest's order; the tables name them in comments.
"""

from collections.abc import Sequence

from xdsl.dialects import func
from xdsl.dialects.builtin import IndexType, ModuleOp, f32
from xdsl.ir import Attribute, Operation, SSAValue

from ck.backend.c.spelling import Types, base_name, float_literal
from ck.backend.c.text import emit_function
from ck.backend.context import context_hash, context_struct, field
from ck.backend.names import Names, comment
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
from ck.ir.types import is_buffer, shape


def emit_program(module: ModuleOp) -> str:
    """C text of `module`. Raises InternalError for an op that is not scheduled."""
    return _Program(module).text()


class _Program(Scheduled):
    def __init__(self, module: ModuleOp) -> None:
        super().__init__(module)
        self.types = Types()

    def text(self) -> str:
        kernels = [emit_function(function, self.types) for function in self.rows]
        bodies = [_Body(self, function).layer() for function in self.layers]
        bodies += [_Body(self, function).entry() for function in self.entries]
        context = context_struct(self.manifest)
        return "\n".join(
            [
                '#include "ck_rt.h"\n',
                self.types.prelude(),
                context,
                "",
                f'const char ck_context_hash[] = "{context_hash(self.manifest)}";',
                "",
                *kernels,
                *bodies,
            ]
        )


class _Body:
    """One layer or entry."""

    def __init__(self, program: _Program, function: func.FuncOp) -> None:
        self.program = program
        self.function = function
        self.name = function.sym_name.data
        self.names = Names(["c", "tid", "nth", "row", "arg", "first", "last", "i", *program.by_name])
        self.spelled: dict[SSAValue, str] = {}
        self.lines: list[str] = []
        self.tables = 0

    def line(self, text: str) -> None:
        self.lines.append(f"    {text}")

    def _name(self, value: SSAValue, fallback: str = "b") -> str:
        self.spelled[value] = self.names.fresh(base_name(value, fallback))
        return self.spelled[value]

    def entry(self) -> str:
        """An entry: its arguments come from the context."""
        arguments = self.program.manifest.entries[self.name]
        block = self.function.body.block
        for value, argument in zip(block.args, arguments, strict=True):
            self.spelled[value] = self.names.fresh(argument.name)
            self.line(f"{field(argument)} = c->{argument.name};")
        self._body(block.ops)
        head = f"static void {self.name}_body(void* context, int tid, int nth) {{"
        run = f"void ck_{self.name}(ck_context* c) {{"
        start = f"    ck_pool_run(c->pool, c->n_threads, {self.name}_body, c);"
        return "\n".join([head, "    ck_context* c = context;", *self.lines, "}\n", run, start, "}\n"])

    def layer(self) -> str:
        """A layer: shared values, then a row of its table."""
        block = self.function.body.block
        shared, columns = self.program.split_arguments(self.function)
        parameters = ["ck_context* c"]
        for value in shared:
            parameters.append(f"{_c_type(value.type)} {self._name(value)}")
        fields: list[str] = []
        for value in columns:
            column = self.names.fresh(base_name(value, "column"))
            # Offsets in an arena pass 2 GiB; weights and caches are numbered.
            width = "int64_t" if isinstance(value.type, IndexType) else "int32_t"
            fields.append(f"    {width} {column};")
            self.spelled[value] = self._from_row(value.type, column)
        parameters += [f"const struct {self.name}_row* row", "int tid", "int nth"]
        self._body(block.ops)
        struct = "\n".join([f"struct {self.name}_row {{", *fields, "};\n"])
        header = f"static void {self.name}({', '.join(parameters)}) {{"
        return "\n".join([struct, header, *self.lines, "}\n"])

    def _from_row(self, of: Attribute, column: str) -> str:
        if isinstance(of, IndexType):
            return f"row->{column}"
        array = "caches" if is_cache(of) else "weights"
        return f"c->{array}[row->{column}]"

    def _body(self, ops: Sequence[Operation] | object) -> None:
        block = self.function.body.block
        launches = [op for op in block.ops if isinstance(op, LaunchOp)]
        if launches:
            live = self.spelled[launches[0].live]
            self.line(f"const int64_t first = {live} * tid / nth, last = {live} * (tid + 1) / nth;")
        for op in block.ops:
            self._operation(op)

    def _operation(self, op: Operation) -> None:
        match op:
            case ArenaOp():
                self.line(f"uint8_t* {self._name(op.buffer)} = c->arena;")
            case ViewOp():
                self._view(op.buffer, op.source, str(op.offset_bytes))
            case ViewAtOp():
                self._view(op.buffer, op.source, self.spelled[op.offset])
            case WeightOp():
                number = self.program.weight_numbers[op.symbol_name]
                name = self._name(op.value)
                self.line(f"const void* {name} = c->weights[{number}];  // {comment(op.symbol_name)}")
            case CacheOp():
                number = self.program.cache_numbers[op.symbol_name]
                self.line(
                    f"void* {self._name(op.value)} = c->caches[{number}];  // {comment(op.symbol_name)}"
                )
            case CallOp():
                self._call(op)
            case LaunchOp():
                self._launch(op)
            case BarrierOp():
                self.line("ck_barrier(c->pool);")
            case RepeatOp():
                self._repeat(op)
            case func.ReturnOp():
                pass
            case _:
                raise InternalError(f"C: {op.name} is not scheduled; run the whole pipeline")

    def _view(self, buffer: SSAValue, source: SSAValue, offset: str) -> None:
        sizes = "".join(f"[{n}]" for n in shape(buffer.type))
        pointer = _c_type(buffer.type)
        base = self.spelled[source]
        where = (
            base if offset == "0" else f"({base} + {offset})" if _is_bytes(source) else f"{base} + {offset}"
        )
        cast = "" if pointer == _c_type(source.type) else f"({pointer})"
        self.line(f"{pointer} {self._name(buffer)} = {cast}{where};  // {sizes}")

    def _call(self, op: CallOp) -> None:
        values = [*(self._written(value) for value in op.outs), *(self.spelled[value] for value in op.ins)]
        known = op.immediates.data
        constants = [_literal(value) for value in known.values()]
        call = ", ".join([*values, *constants, "tid", "nth"])
        what = ", ".join(known)
        self.line(f"{op.symbol_name}({call});" + (f"  // {what}" if what else ""))

    def _written(self, value: SSAValue) -> str:
        """An output; weights are constant for all but the ops that train them."""
        spelled = self.spelled[value]
        is_weight = isinstance(value.owner, WeightOp) or spelled.startswith("c->weights")
        return f"(void*){spelled}" if is_weight else spelled

    def _launch(self, op: LaunchOp) -> None:
        factor = op.rows_per_token.value.data
        times = "" if factor == 1 else f" * {factor}"
        values = [self._row_argument(value) for value in (*op.ins, *op.outs)]
        call = ", ".join([*values, f"first{times}", f"last{times}"])
        self.line(f"{op.symbol_name}({call});")

    def _row_argument(self, value: SSAValue) -> str:
        """An argument of a row kernel, which takes buffers as pointers to rows."""
        spelled = self.spelled[value]
        has_rows = is_buffer(value.type) and len(shape(value.type)) == 2
        return f"(void*){spelled}" if has_rows else spelled

    def _repeat(self, op: RepeatOp) -> None:
        layer = self.program.by_name[op.symbol_name]
        columns = layer.body.block.args[len(op.shared) :]
        self.tables += 1
        table = self.names.fresh("layers")
        self.line(f"static const struct {op.symbol_name}_row {table}[{len(op.rows)}] = {{")
        for row in op.rows:
            numbers = [self.program.entry(e, column.type) for e, column in zip(row, columns, strict=True)]
            self.line(f"    {{{', '.join(map(str, numbers))}}},  // {comment(row_name(row))}")
        self.line("};")
        shared = "".join(f", {self.spelled[value]}" for value in op.shared)
        self.line(f"for (int i = 0; i < {len(op.rows)}; i++)")
        self.line(f"    {op.symbol_name}(c{shared}, &{table}[i], tid, nth);")


def _is_bytes(value: SSAValue) -> bool:
    return _c_type(value.type) in ("uint8_t*", "int8_t*")


def _c_type(of: Attribute) -> str:
    """The type of a buffer, weight, cache or scalar that is passed around."""
    if isinstance(of, IndexType):
        return "int64_t"
    if is_buffer(of):
        element = str(of.element_type)
        return {"f32": "float*", "i8": "uint8_t*", "i32": "const int32_t*"}[element]
    return "void*" if is_cache(of) else "const void*"


def _literal(value: Attribute) -> str:
    number = number_value(value)
    return str(number) if isinstance(number, int) else float_literal(number, f32)
