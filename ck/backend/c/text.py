"""Structured C for functions of the upstream dialects: func, scf, memref, arith, math and vector.

    emit_functions(functions, linkage)        a C file's text: typedefs, helpers and the functions, in order
    emit_module(module)                       the same for every function of a module
    emit_function(function, types, linkage)   one function alone; `types` gathers the typedefs it needs
    prototype(function, types, linkage)       its header alone

The text reads top to bottom: loops stay loops, a value used once is folded into the expression that uses it,
names come from the IR's hints. Buffers are pointers to rows, `float (*x)[576]`, with `restrict` where the
argument carries the unit attribute `ck.restrict` and `const` where the function never writes them. Shapes are
static. Nothing is reassociated or contracted, and the C compiler is not to either: -ffp-contract=off
-fno-math-errno -fno-trapping-math, never -ffast-math.
Raises InternalError for an operation or a type it has no C for; it knows no operation of ck's own dialects.
"""

import re
from collections.abc import Iterable

from xdsl.dialects import func, scf
from xdsl.dialects.builtin import IndexType, ModuleOp
from xdsl.ir import Block, Operation

from ck.backend.c.expressions import Expression
from ck.backend.c.operations import emit_operation
from ck.backend.c.spelling import Types, base_name
from ck.backend.c.values import Values
from ck.backend.operations import is_written
from ck.errors import InternalError

# Longest line a list of parameters may make, in characters.
_LINE = 108


def emit_functions(functions: Iterable[func.FuncOp], linkage: str = "static ") -> str:
    """C text of `functions`, preceded by what they need."""
    types = Types()
    texts = [emit_function(function, types, linkage) for function in functions]
    return "\n".join([types.prelude(), *texts])


def emit_module(module: ModuleOp) -> str:
    """C text of every function in `module` that has a body, each with external linkage."""
    functions = (op for op in module.body.block.ops if isinstance(op, func.FuncOp))
    return emit_functions([f for f in functions if f.body.blocks], linkage="")


def emit_function(function: func.FuncOp, types: Types, linkage: str = "static ") -> str:
    """C text of one function, ending in a newline."""
    return _FunctionEmitter(function, types).text(linkage)


def prototype(function: func.FuncOp, types: Types, linkage: str = "static ") -> str:
    """The function's header, without brace or semicolon."""
    return _FunctionEmitter(function, types).header(linkage)


class _FunctionEmitter(Values):
    def __init__(self, function: func.FuncOp, types: Types) -> None:
        super().__init__(function, types)
        self._function = function
        self._targets: list[list[str]] = []

    def text(self, linkage: str) -> str:
        header = self.header(linkage)
        body = self._function.body.block
        for argument in body.args:
            if not any(use.operation in self.live for use in argument.uses):
                self.line(f"(void){self.use(argument).text};")
        self.enter(body)
        for op in body.ops:
            self._operation(op)
        return "\n".join([f"{header} {{", *self.lines, "}", ""])

    def header(self, linkage: str) -> str:
        parameters = [self._parameter(i) for i in range(len(self._function.body.block.args))]
        results = self._function.function_type.outputs.data
        kind = self.types.scalar(results[0]) if results else "void"
        head = f"{linkage}{kind} {self._function.sym_name.data}("
        line = f"{head}{', '.join(parameters) or 'void'})"
        return line if len(line) <= _LINE else head + ",".join(f"\n        {p}" for p in parameters) + ")"

    def _parameter(self, index: int) -> str:
        argument = self._function.body.block.args[index]
        name = self.names.fresh(base_name(argument, "arg"))
        self.bind(argument, Expression(name))
        attributes = self._function.arg_attrs.data[index].data if self._function.arg_attrs else ()
        constant = not any(is_written(argument, use.operation) for use in argument.uses)
        restrict = "ck.restrict" in attributes
        return self.types.parameter(argument.type, name, constant=constant, restrict=restrict)

    def _operation(self, op: Operation) -> None:
        if op not in self.live:
            return
        match op:
            case scf.ForOp():
                self._loop(op)
            case scf.IfOp():
                self._branch(op)
            case scf.YieldOp():
                self._yield(op)
            case func.CallOp():
                self._call(op)
            case func.ReturnOp():
                if op.arguments:
                    self.line(f"return {self.use(op.arguments[0]).text};")
            case _:
                if not emit_operation(self, op):
                    raise InternalError(f"C: no spelling for operation {op.name}")

    def _loop(self, op: scf.ForOp) -> None:
        variable, *carried = op.body.block.args
        if not isinstance(variable.type, IndexType):
            raise InternalError(f"C: a loop counts an index, got {variable.type}")
        targets: list[str] = []
        for argument, result, initial in zip(carried, op.res, op.iter_args, strict=True):
            targets.append(self.carry(argument, initial, base_name(argument, base_name(result, "v"))))
            self.bind(result, Expression(targets[-1]))
        start, end, step = self.use(op.lb).text, self.atom(op.ub).text, self.atom(op.step).text
        self.names.push()
        name = self.names.fresh(base_name(variable, "i"))
        self.bind(variable, Expression(name))
        advance = f"++{name}" if step == "1" else f"{name} += {step}"
        self.line(f"for (int64_t {name} = {start}; {name} < {end}; {advance}) {{")
        self._nested(op.body.block, targets)
        self.line("}")
        self.names.pop()

    def _branch(self, op: scf.IfOp) -> None:
        targets: list[str] = []
        condition = self.use(op.cond).text
        for result in op.output:
            targets.append(self.names.fresh(base_name(result, "v")))
            self.bind(result, Expression(targets[-1]))
            self.line(f"{self.types.value(result.type)} {targets[-1]};")
        self.line(f"if ({condition}) {{")
        self._scoped(op.true_region.block, targets)
        if op.false_region.blocks:
            self.line("} else {")
            self._scoped(op.false_region.block, targets)
        self.line("}")

    def _scoped(self, block: Block, targets: list[str]) -> None:
        self.names.push()
        self._nested(block, targets)
        self.names.pop()

    def _nested(self, block: Block, targets: list[str]) -> None:
        self._targets.append(targets)
        left = self.enter(block)
        self.depth += 1
        for op in block.ops:
            self._operation(op)
        self.depth -= 1
        self.enter(left)
        self._targets.pop()

    def _yield(self, op: scf.YieldOp) -> None:
        """Assign the carried variables at once: through copies where a new value needs another's old one."""
        targets = self._targets[-1]
        texts = [self.whole(value).text for value in op.arguments]
        needs_old = any(
            re.search(rf"\b{target}\b", text)
            for position, target in enumerate(targets)
            for text in texts[position + 1 :]
        )
        if needs_old:
            for position, value in enumerate(op.arguments):
                name = self.names.fresh(f"next_{targets[position]}")
                self.line(f"{self.types.value(value.type)} {name} = {texts[position]};")
                texts[position] = name
        for target, text in zip(targets, texts, strict=True):
            if target != text:
                self.line(f"{target} = {text};")

    def _call(self, op: func.CallOp) -> None:
        arguments = ", ".join(self.use(value).text for value in op.arguments)
        text = f"{op.callee.root_reference.data}({arguments})"
        if op.res:
            self.declare(op.res[0], Expression(text))
        else:
            self.line(f"{text};")
