"""The search: every way on chunks of halving length, over and over, until none makes the module smaller.

What is found is 1-minimal: no single edit that ck/ir/reduce knows leaves a smaller module that still fails.
The same module, predicate and edits give the same result, unless time runs out.
"""

import time
from collections.abc import Callable, Sequence
from hashlib import sha256

from xdsl.dialects.builtin import ModuleOp
from xdsl.utils.exceptions import DiagnosticException

from ck.errors import UsageError
from ck.ir.reduce.functions import (
    CutFunctions,
    DropArguments,
    DropAttributes,
    DropFunctions,
    DropNames,
    DropResults,
    DropRows,
    ReturnOperands,
)
from ck.ir.reduce.ops import REPLACEMENTS, DropOperands, DropOps, InlineFused, TrimFused
from ck.ir.reduce.sizes import ShrinkArena, ShrinkSizes
from ck.ir.reduce.way import Size, Target, Way, erase_dead

# Coarse ones first: what they take the fine ones need not try.
WAYS: tuple[Way, ...] = (
    DropFunctions(),
    DropNames(),
    CutFunctions(),
    DropResults(),
    *(DropOps(first) for first in REPLACEMENTS),
    ReturnOperands(),
    InlineFused(),
    TrimFused(),
    DropOperands(),
    DropArguments(),
    DropRows(),
    DropAttributes(),
    ShrinkSizes(multiples=True),
    ShrinkSizes(multiples=False),
    ShrinkArena(),
)

Predicate = Callable[[ModuleOp], bool]
Report = Callable[[str], None]


def reduce_module(module: ModuleOp, still_fails: Predicate, seconds: float = 60) -> ModuleOp:
    """A smaller module that still fails; `module` stays as it is. See `Reduction`."""
    reduction = Reduction(module, still_fails, seconds)
    reduction.run()
    return reduction.best


class Reduction:
    """A search under way: `best` is the smallest module so far that fails, at any time.

    `still_fails` gets a clone that it may change; one that it raises on counts as one that does not fail.
    `report` is told of progress, a line each. Raises UsageError when `module` does not fail to begin with.
    """

    def __init__(
        self,
        module: ModuleOp,
        still_fails: Predicate,
        seconds: float = 60,
        report: Report = lambda line: None,
    ) -> None:
        self.best = module.clone()
        self.size = Size.of(module)
        self.n_tested = 0
        self._still_fails, self._seconds, self._report = still_fails, seconds, report
        self._seen: set[bytes] = set()
        if not still_fails(module.clone()):
            raise UsageError("reduce: a module that fails is required, this one does not")

    def run(self) -> None:
        """Search until nothing can go any more, or for `seconds`."""
        self._end = time.monotonic() + self._seconds
        before = None
        while before != self.size and self._has_time():
            before = self.size
            for way in WAYS:
                self._run_way(way)

    def _run_way(self, way: Way) -> None:
        size = self.size
        length = len(way.targets(self.best)) if way.by_chunks else 1
        while length and self._has_time():
            self._sweep(way, length)
            length //= 2
        if self.size < size:
            self._report(f"{way.name}: {self.size} after {self.n_tested} tests")

    def _sweep(self, way: Way, length: int) -> None:
        """Try each chunk of `length` targets once."""
        targets, at = way.targets(self.best), 0
        while at < len(targets) and self._has_time():
            if self._try(way, targets[at : at + length]):
                # What followed has moved up; where targets are alternatives, all are new.
                targets, at = way.targets(self.best), at if way.by_chunks else 0
            else:
                at += length

    def _try(self, way: Way, chosen: Sequence[Target]) -> bool:
        """Whether the module still fails without `chosen`; it is the best one then."""
        candidate = self.best.clone()
        try:
            way.apply(candidate, chosen)
        except DiagnosticException:
            return False
        whole = candidate.clone()
        if not erase_dead(candidate):
            return self._accepts(candidate)
        # What is dead may be what it takes.
        return self._accepts(candidate) or self._accepts(whole)

    def _accepts(self, candidate: ModuleOp) -> bool:
        size = Size.of(candidate)
        if size >= self.size or not _verifies(candidate):
            return False
        key = sha256(str(candidate).encode()).digest()
        if key in self._seen:
            return False
        self._seen.add(key)
        self.n_tested += 1
        if not self._fails(candidate.clone()):
            return False
        self.best, self.size = candidate, size
        return True

    def _fails(self, candidate: ModuleOp) -> bool:
        try:
            return self._still_fails(candidate)
        except Exception:
            # A module that breaks the test in another way is no smaller form of the failure looked at.
            return False

    def _has_time(self) -> bool:
        return time.monotonic() < self._end


def _verifies(module: ModuleOp) -> bool:
    try:
        module.verify()
    except DiagnosticException:
        return False
    return True
