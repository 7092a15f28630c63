"""The values of a function being emitted: their C text, whether it folds, and when it becomes a variable."""

import re

from xdsl.dialects import arith, func
from xdsl.dialects.builtin import IndexType
from xdsl.ir import Attribute, Block, Operation, SSAValue

from ck.backend.c.expressions import Expression, Level
from ck.backend.c.spelling import Types, base_name
from ck.backend.names import Names
from ck.backend.operations import WRITES, element_of, live_operations

# Longest expression that is folded into its user, in characters.
_FOLD = 64
# Longest index that is written out at each use, in characters.
_INDEX = 12


class Values:
    """C text of the values of one function, and the lines written so far."""

    def __init__(self, function: func.FuncOp, types: Types) -> None:
        self.types = types
        self.names = Names([function.sym_name.data])
        self.live = live_operations(function)
        self.lines: list[str] = []
        self.depth = 1
        self._block: Block | None = None
        self._expressions: dict[SSAValue, Expression] = {}
        self._writes_before: dict[Operation, int] = {}

    def line(self, text: str) -> None:
        """Add a line at the current depth."""
        self.lines.append("    " * self.depth + text)

    def enter(self, block: Block | None) -> Block | None:
        """Go into a block, or back to one; returns the block left."""
        left, self._block = self._block, block
        n_writes = 0
        for op in block.ops if block else ():
            self._writes_before[op] = n_writes
            n_writes += isinstance(op, WRITES)
        return left

    def bind(self, value: SSAValue, expression: Expression) -> None:
        """Give a value its text."""
        self._expressions[value] = expression

    def define(self, value: SSAValue, expression: Expression) -> None:
        """Give an operation's result its text: folded into its user if it can be, else a variable."""
        self._expressions[value] = expression
        if not self._folds(value, expression):
            self.declare(value, expression)

    def declare(self, value: SSAValue, expression: Expression) -> Expression:
        """Write a variable that holds the value."""
        type = element_of(value.type) if expression.splat else value.type
        name = self.names.fresh(base_name(value, "i" if isinstance(type, IndexType) else "v"))
        self.line(f"{self.types.value(type)} {name} = {self._initializer(type, expression)};")
        named = Expression(name, splat=expression.splat)
        # A constant of an outer block may be needed as a variable again, outside this one's scope.
        if isinstance(value.owner, Operation) and value.owner.parent is self._block:
            self._expressions[value] = named
        return named

    def _initializer(self, type: Attribute, expression: Expression) -> str:
        """The text that initialises a variable: braces alone for a vector given lane by lane."""
        text, head = expression.text, f"({self.types.value(type)})"
        return text[len(head) :] if re.fullmatch(re.escape(head) + r"\{[^{}]*\}", text) else text

    def carry(self, value: SSAValue, initial: SSAValue, base: str) -> str:
        """Write a variable that starts as `initial`; returns its name."""
        name = self.names.fresh(base)
        start = self._initializer(value.type, self.whole(initial))
        self.line(f"{self.types.value(value.type)} {name} = {start};")
        self._expressions[value] = Expression(name)
        return name

    def use(self, value: SSAValue) -> Expression:
        """The value's text; a splat stays a scalar."""
        return self._expressions[value]

    def atom(self, value: SSAValue) -> Expression:
        """The value as a name or a literal, so that it can be repeated."""
        expression = self._expressions[value]
        if isinstance(value.owner, arith.ConstantOp) or re.fullmatch(r"[\w.-]+", expression.text):
            return expression
        return self.declare(value, expression)

    def whole(self, value: SSAValue) -> Expression:
        """The value as it is typed: a splat becomes a vector."""
        expression = self._expressions[value]
        if not expression.splat:
            return expression
        zero = f"({self.types.value(value.type)}){{0}}"
        if expression.text in ("0.0f", "0u"):
            return Expression(zero, Level.UNARY)
        # c - 0 is c for every float, -0 and NaN included.
        return Expression(f"{expression.at(Level.ADD)} - {zero}", Level.ADD, reads=expression.reads)

    def variable(self, value: SSAValue) -> str:
        """The name of a variable that holds the whole value."""
        if self._expressions[value].splat:
            return self.declare(value, self.whole(value)).text
        return self.atom(value).text

    def _folds(self, value: SSAValue, expression: Expression) -> bool:
        if expression.splat and expression.level == Level.ATOM:
            return True
        # A place in a row reads better where it is used, even twice.
        if isinstance(value.type, IndexType) and not expression.reads and len(expression.text) <= _INDEX:
            return True
        users = [use.operation for use in value.uses if use.operation in self.live]
        owner = value.owner
        if len(users) != 1 or len(expression.text) > _FOLD or not isinstance(owner, Operation):
            return False
        if users[0].parent is not owner.parent:
            return False
        # A read does not move past a write.
        return not expression.reads or self._writes_before[users[0]] == self._writes_before[owner]
