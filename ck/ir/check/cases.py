"""On which inputs a function is run: how many rows are live, from which position on, and what is odd.

    full     every row of the capacity, from position 0
    ragged   a prime number of rows below the capacity, then a second call that goes on from there: what the
             first one left in caches and gradients counts
    one      a single row
    late     the last positions that the caches hold, over caches full of numbers; rings have wrapped
    special  rows of zeros, -0, denormals, ties, halves and huge numbers; the last two hold an infinity, a NaN

A heavy function, one whose weights and capacity make more than HEAVY products, runs over a few rows, neither
`full` nor `one`. In a function without a live count every row is live; it has neither `one` nor `late`.
"""

import math
from collections.abc import Iterator
from dataclasses import dataclass

from xdsl.dialects import func
from xdsl.dialects.builtin import IndexType, ModuleOp
from xdsl.ir import Attribute, SSAValue

from ck.ir.types import CacheType, KvType, WeightType, shape

HEAVY = 1 << 27
FEW = 7


@dataclass(frozen=True)
class Call:
    """One call: `n` live rows, the first of them at position `pos`."""

    n: int
    pos: int = 0


@dataclass(frozen=True)
class Case:
    """Calls one after the other, on states that the first one finds as the seed makes them.

    filled   the caches hold numbers before the first call; else NaN
    special  the inputs hold numbers that are not finite, and others that are odd
    """

    name: str
    calls: tuple[Call, ...]
    filled: bool = False
    special: bool = False

    def __str__(self) -> str:
        return self.name


def cases_of(function: func.FuncOp, module: ModuleOp) -> tuple[Case, ...]:
    """The cases of one function, for its form in `module` and every later one."""
    arguments = function.body.block.args
    capacity = shape(arguments[0].type)[0] if has_rows(function) else 1
    positions = _positions(module)
    if not any(is_live_count(argument) for argument in arguments):
        return _whole(capacity, positions)
    heavy = _products(function, capacity) > HEAVY
    first = prime_below(min(capacity, positions * 2 // 3, FEW + 1 if heavy else capacity))
    second = min(max(1, first - 2), positions - first)
    special = min(capacity, FEW, positions)
    found = [
        Case("ragged", (Call(first), Call(second, first))),
        Case("special", (Call(special),), special=True),
    ]
    if not heavy:
        found.insert(0, Case("full", (Call(min(capacity, positions)),)))
        found += [Case("one", (Call(1),))] if capacity > 1 else []
    if _has_position(function) and any(isinstance(of, CacheType) for of in _types(module)):
        n = min(capacity, 3, positions)
        found.append(Case("late", (Call(n, positions - n),), filled=True))
    return tuple(found)


def _whole(capacity: int, positions: int) -> tuple[Case, ...]:
    """The cases of a function that always runs over its capacity."""
    first = Call(capacity)
    further = (Call(capacity, capacity),) if 2 * capacity <= positions else ()
    return (
        Case("full", (first,)),
        Case("ragged", (first, *further)),
        Case("special", (first,), special=True),
    )


def has_rows(function: func.FuncOp) -> bool:
    """Whether a function takes tokens: it does, when the live count and a first argument with rows say so."""
    arguments = function.body.block.args
    return bool(arguments) and not isinstance(arguments[0].type, IndexType)


def is_live_count(argument: SSAValue) -> bool:
    """Whether an argument is the number of live rows."""
    return isinstance(argument.type, IndexType) and argument.name_hint == "n"


def prime_below(n: int) -> int:
    """The largest prime below `n`; 1 where there is none."""
    for candidate in range(n - 1, 1, -1):
        if all(candidate % factor for factor in range(2, math.isqrt(candidate) + 1)):
            return candidate
    return 1


def _has_position(function: func.FuncOp) -> bool:
    return any(isinstance(arg.type, IndexType) and not is_live_count(arg) for arg in function.body.block.args)


def _types(module: ModuleOp) -> Iterator[Attribute]:
    for op in module.walk():
        yield from (result.type for result in op.results)


def _positions(module: ModuleOp) -> int:
    """Positions that the largest cache of the module holds; none bounds them where there is no cache."""
    return max((shape(of)[1] for of in _types(module) if isinstance(of, KvType)), default=1 << 20)


def _products(function: func.FuncOp, capacity: int) -> int:
    """Multiplications of every row of the capacity with every matrix of the function."""
    matrices = {result for op in function.walk() for result in op.results}
    sizes = (math.prod(shape(value.type)) for value in matrices if isinstance(value.type, WeightType))
    return capacity * sum(sizes)
