"""LLVM IR for functions of the upstream dialects: func, scf, memref, arith, math and vector.

    emit_module(module)                                 every function of a module that has a body
    emit_functions(functions, linkage)                  these, with what they need
    emit_function(function, declarations, linkage)      one alone; `declarations` gathers what it calls

The text reads as the IR does: a loop is a block that counts, its body, and a block after it, named `rows` for
the loop over a function's rows and `columns` for one inside; names come from the IR's hints. An argument is
`noalias` where it carries the unit attribute `ck.restrict` and `readonly` where the function never writes it.
There is no fast-math flag, nothing is reassociated or contracted, and 16 lanes stay one vector on machines
that have them. The bits are those of the C; of a NaN neither sign nor payload is promised.
The text names no machine: triple and data layout come with the build.
Raises InternalError for an operation or a type it has no LLVM for; it knows no operation of ck's own
dialects.
"""

from collections.abc import Iterable, Sequence

from xdsl.dialects import func, scf
from xdsl.dialects.builtin import IndexType, IntegerType, ModuleOp
from xdsl.ir import Block, Operation, SSAValue
from xdsl.utils.hints import isa

from ck.backend.llvm.operations import emit_operation
from ck.backend.llvm.spelling import base_name, type_name
from ck.backend.llvm.values import Body, Declarations
from ck.backend.operations import is_written, live_operations
from ck.errors import InternalError

# Of every function: it does not unwind; vectors of 512 bits stay whole where the machine has them.
ATTRIBUTES = (
    'attributes #0 = { noinline nounwind "prefer-vector-width"="512" "min-legal-vector-width"="512" }\n'
)
# Longest line a list of parameters may make, in characters.
_LINE = 108


def emit_module(module: ModuleOp) -> str:
    """LLVM IR of every function in `module` that has a body, each with external linkage."""
    functions = (op for op in module.body.block.ops if isinstance(op, func.FuncOp))
    return emit_functions([f for f in functions if f.body.blocks], linkage="")


def emit_functions(functions: Iterable[func.FuncOp], linkage: str = "internal ") -> str:
    """LLVM IR of `functions`, followed by what they need."""
    declarations = Declarations()
    texts = [emit_function(function, declarations, linkage) for function in functions]
    return "\n".join([*texts, *filter(None, [declarations.text()]), ATTRIBUTES])


def emit_function(function: func.FuncOp, declarations: Declarations, linkage: str = "internal ") -> str:
    """LLVM IR of one function, ending in a newline."""
    return _FunctionEmitter(function, declarations).text(linkage)


def header(name: str, parameters: Sequence[str], linkage: str, result: str = "void") -> str:
    """The first line of a definition; several where one would be too long."""
    head = f"define {linkage}{result} @{name}("
    line = f"{head}{', '.join(parameters)}) #0 {{"
    return line if len(line) <= _LINE else head + ",".join(f"\n        {p}" for p in parameters) + ") #0 {"


class _FunctionEmitter:
    def __init__(self, function: func.FuncOp, declarations: Declarations) -> None:
        self._function = function
        self._live = live_operations(function)
        self._body = Body(declarations)

    def text(self, linkage: str) -> str:
        block = self._function.body.block
        parameters = [self._parameter(i) for i in range(len(block.args))]
        results = self._function.function_type.outputs.data
        kind = type_name(results[0]) if results else "void"
        self._block(block)
        head = header(self._function.sym_name.data, parameters, linkage, kind)
        return "\n".join([head, self._body.text(), "}", ""])

    def _parameter(self, index: int) -> str:
        argument = self._function.body.block.args[index]
        words = [type_name(argument.type)]
        attributes = self._function.arg_attrs.data[index].data if self._function.arg_attrs else ()
        if words[0] == "ptr":
            if "ck.restrict" in attributes:
                words.append("noalias")
            if not any(is_written(argument, use.operation) for use in argument.uses):
                words.append("readonly")
        elif isa(argument.type, IntegerType) and argument.type.width.data < 32:
            words.append("zeroext")
        return " ".join([*words, self._body.name(argument, "arg")])

    def _block(self, block: Block) -> Sequence[SSAValue]:
        """Emit a block; returns what it yields."""
        for op in block.ops:
            if isinstance(op, scf.YieldOp):
                return op.arguments
            if op in self._live:
                self._operation(op)
        return ()

    def _operation(self, op: Operation) -> None:
        match op:
            case scf.ForOp():
                self._loop(op)
            case scf.IfOp():
                self._branch(op)
            case func.CallOp():
                self._call(op)
            case func.ReturnOp():
                self._body.line(f"ret {self._body.typed(op.arguments[0])}" if op.arguments else "ret void")
            case _:
                if not emit_operation(self._body, op):
                    raise InternalError(f"LLVM: no spelling for operation {op.name}")

    def _loop(self, op: scf.ForOp) -> None:
        body = self._body
        variable, *carried = op.body.block.args
        if not isinstance(variable.type, IndexType):
            raise InternalError(f"LLVM: a loop counts an index, got {variable.type}")
        arguments = set(self._function.body.block.args)
        head = body.fresh("rows" if {op.lb, op.ub} <= arguments else "columns")
        inside, after = body.fresh(f"{head}.body"), body.fresh(f"{head}.end")
        before = body.label
        body.line(f"br label %{head}")
        body.start(head)
        fill = [(value, body.name(value), body.later()) for value in (variable, *carried)]
        more = body.let(f"{head}.more", f"icmp slt {body.typed(variable)}, {body.use(op.ub)}")
        body.line(f"br i1 {more}, label %{inside}, label %{after}")
        body.start(inside)
        yielded = [body.use(value) for value in self._block(op.body.block)]
        step = body.let(
            f"{base_name(variable, 'i')}.next", f"add nsw {body.typed(variable)}, {body.use(op.step)}"
        )
        starts = [body.use(value) for value in (op.lb, *op.iter_args)]
        for (value, name, write), first, last in zip(fill, starts, [step, *yielded], strict=True):
            incoming = f"[ {first}, %{before} ], [ {last}, %{body.label} ]"
            write(f"{name} = phi {type_name(value.type)} {incoming}")
        body.line(f"br label %{head}")
        body.start(after)
        for result, argument in zip(op.res, carried, strict=True):
            body.bind(result, body.use(argument))

    def _branch(self, op: scf.IfOp) -> None:
        body = self._body
        regions = [("then", op.true_region)]
        if op.false_region.blocks:
            regions.append(("else", op.false_region))
        labels = [body.fresh(word) for word, _ in regions]
        after = body.fresh("join")
        otherwise = labels[1] if len(labels) > 1 else after
        body.line(f"br {body.typed(op.cond)}, label %{labels[0]}, label %{otherwise}")
        incoming: list[list[str]] = [[] for _ in op.output]
        for label, (_, region) in zip(labels, regions, strict=True):
            body.start(label)
            for texts, value in zip(incoming, self._block(region.block), strict=True):
                texts.append(f"[ {body.use(value)}, %{body.label} ]")
            body.line(f"br label %{after}")
        body.start(after)
        for result, texts in zip(op.output, incoming, strict=True):
            body.define(result, f"phi {type_name(result.type)} {', '.join(texts)}")

    def _call(self, op: func.CallOp) -> None:
        arguments = ", ".join(self._body.typed(value) for value in op.arguments)
        name = op.callee.root_reference.data
        if op.res:
            self._body.define(op.res[0], f"call {type_name(op.res[0].type)} @{name}({arguments})")
        else:
            self._body.line(f"call void @{name}({arguments})")
