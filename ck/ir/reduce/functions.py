"""Ways that shrink what is around the ops: functions, what they return and take, notes, tables."""

from collections.abc import Iterable, Sequence

from xdsl.dialects import func
from xdsl.dialects.builtin import ArrayAttr, ModuleOp, SymbolRefAttr
from xdsl.ir import Attribute, Operation, OpResult, SSAValue

from ck.ir.functions import symbol_names
from ck.ir.reduce.way import Target, Way, called, functions
from ck.ir.rt.ops import RepeatOp
from ck.ir.types import is_tensor

# Where a function is cut first: early, because what is wrong is often small.
_FRACTIONS = (1 / 16, 1 / 8, 1 / 4, 1 / 2, 3 / 4, 7 / 8, 15 / 16, 1)


class DropFunctions(Way):
    """Functions whole, but for those that others call."""

    name = "functions"

    def targets(self, module: ModuleOp) -> Sequence[Target]:
        used = called(module)
        found = [op.sym_name.data in used for op in module.ops if isinstance(op, func.FuncOp)]
        return [(n,) for n, is_used in enumerate(found) if not is_used and len(found) > 1]

    def apply(self, module: ModuleOp, chosen: Sequence[Target]) -> None:
        found = [op for op in module.ops if isinstance(op, func.FuncOp)]
        for (n,) in chosen[: len(found) - 1]:
            found[n].detach()
            found[n].erase()


class CutFunctions(Way):
    """All that follows an op: its tensors become what the function returns."""

    name = "cut"
    by_chunks = False

    def targets(self, module: ModuleOp) -> Sequence[Target]:
        found: list[Target] = []
        for number, function in enumerate(functions(module)):
            ends = [n for n, op in enumerate(_returning(function)) if _tensors(op)]
            at = dict.fromkeys(ends[int(part * (len(ends) - 1))] for part in _FRACTIONS if ends)
            found += [(number, n) for n in at]
        return found

    def apply(self, module: ModuleOp, chosen: Sequence[Target]) -> None:
        for number, n in chosen:
            function = functions(module)[number]
            ops = _returning(function)
            end = function.get_return_op()
            assert end is not None
            end.operands = _tensors(ops[n])
            for op in reversed(ops[n + 1 :]):
                op.detach()
                op.erase()
            function.update_function_type()


def _returning(function: func.FuncOp) -> list[Operation]:
    """The ops of a function that returns something, without its end."""
    end = function.get_return_op()
    if end is None or not end.operands:
        return []
    return [op for op in function.body.block.ops if op is not end]


def _tensors(op: Operation) -> list[SSAValue]:
    return [result for result in op.results if is_tensor(result.type)]


class DropResults(Way):
    """Values that functions return."""

    name = "results"

    def targets(self, module: ModuleOp) -> Sequence[Target]:
        ends = [function.get_return_op() for function in functions(module)]
        return [(n, i) for n, end in enumerate(ends) if end for i in reversed(range(len(end.operands)))]

    def apply(self, module: ModuleOp, chosen: Sequence[Target]) -> None:
        for number, function in enumerate(functions(module)):
            gone = {i for n, i in chosen if n == number}
            end = function.get_return_op()
            if gone and end is not None:
                end.operands = [value for i, value in enumerate(end.operands) if i not in gone]
                function.update_function_type()


class ReturnOperands(Way):
    """An op whose result is returned: what it read is returned instead."""

    name = "returned"
    by_chunks = False

    def targets(self, module: ModuleOp) -> Sequence[Target]:
        found: list[Target] = []
        for number, function in enumerate(functions(module)):
            end = function.get_return_op()
            for i, value in enumerate(end.operands if end else ()):
                if isinstance(value, OpResult):
                    found += [
                        (number, i, k) for k, read in enumerate(value.op.operands) if is_tensor(read.type)
                    ]
        return found

    def apply(self, module: ModuleOp, chosen: Sequence[Target]) -> None:
        for number, i, k in chosen:
            function = functions(module)[number]
            end = function.get_return_op()
            assert end is not None
            value = end.operands[i]
            assert isinstance(value, OpResult)
            end.operands[i] = value.op.operands[k]
            _erase_unread(value.op)
            function.update_function_type()


def _erase_unread(op: Operation) -> None:
    if not any(result.uses for result in op.results):
        op.detach()
        op.erase()


class DropArguments(Way):
    """Arguments that nothing reads, of functions that nobody calls."""

    name = "arguments"

    def targets(self, module: ModuleOp) -> Sequence[Target]:
        used = called(module)
        return [
            (n, i)
            for n, function in enumerate(functions(module))
            for i, arg in reversed(list(enumerate(function.args)))
            if not arg.uses and function.sym_name.data not in used
        ]

    def apply(self, module: ModuleOp, chosen: Sequence[Target]) -> None:
        for number, function in enumerate(functions(module)):
            block = function.body.block
            for arg in [block.args[i] for n, i in chosen if n == number]:
                block.erase_arg(arg)
            function.update_function_type()


class DropAttributes(Way):
    """Notes on ops and on the module."""

    name = "attributes"

    def targets(self, module: ModuleOp) -> Sequence[Target]:
        return [(n, i) for n, op in enumerate(module.walk()) for i in range(len(op.attributes))]

    def apply(self, module: ModuleOp, chosen: Sequence[Target]) -> None:
        ops = list(module.walk())
        names = [(ops[n], list(ops[n].attributes)[i]) for n, i in chosen]
        for op, name in names:
            del op.attributes[name]


class DropNames(Way):
    """Names in lists of weights: what is trained, what decays."""

    name = "names"

    def targets(self, module: ModuleOp) -> Sequence[Target]:
        return [
            (n, k, i)
            for n, op in enumerate(module.walk())
            for k, value in enumerate(op.attributes.values())
            for i in reversed(range(len(symbol_names(value))))
        ]

    def apply(self, module: ModuleOp, chosen: Sequence[Target]) -> None:
        for n, op in enumerate(list(module.walk())):
            for k, key in enumerate(list(op.attributes)):
                gone = {i for at, nth, i in chosen if (at, nth) == (n, k)}
                if gone:
                    names = symbol_names(op.attributes[key])
                    op.attributes[key] = _symbols(name for i, name in enumerate(names) if i not in gone)


def _symbols(names: Iterable[str]) -> Attribute:
    return ArrayAttr([SymbolRefAttr(name) for name in names])


class DropRows(Way):
    """Rows of the tables of `rt.repeat`: all but one can go."""

    name = "table rows"

    def targets(self, module: ModuleOp) -> Sequence[Target]:
        return [
            (n, i)
            for n, op in enumerate(module.walk())
            if isinstance(op, RepeatOp)
            for i in reversed(range(len(op.rows)))
        ]

    def apply(self, module: ModuleOp, chosen: Sequence[Target]) -> None:
        for n, op in enumerate(list(module.walk())):
            if isinstance(op, RepeatOp):
                gone = {i for at, i in chosen if at == n}
                op.table = ArrayAttr(row for i, row in enumerate(op.table) if i not in gone)
