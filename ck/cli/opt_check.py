"""`ck-opt --check`: what it prints, and what a failure leaves.

What executes, compiles and shrinks is imported on use: who only prints IR does not wait for it.
"""

import sys
from collections.abc import Sequence
from pathlib import Path

from xdsl.context import Context
from xdsl.dialects import func
from xdsl.dialects.builtin import ModuleOp, StringAttr
from xdsl.passes import ModulePass

from ck.ir.check.failure import CheckFailure
from ck.passes.pipeline import tier_of
from ck.passes.reroll_layers import RerollLayersPass
from ck.passes.schedule_threads import ScheduleThreadsPass

# After these a program is complete: before, its threads do not wait for one another.
_COMPLETE = (ScheduleThreadsPass.name, RerollLayersPass.name)

_NOT_EXECUTED = "not executed: a public function of fixed sizes whose first argument has rows is required"


class PassCheck:
    """Holds a module against what it was before each pass, and says so on stderr."""

    def __init__(self, module: ModuleOp) -> None:
        from ck.ir.check.runs import entries
        from ck.runtime.check import CompiledCheck

        self._check = CompiledCheck(module)
        executed = entries(module)
        for op in module.ops:
            if not isinstance(op, func.FuncOp) or op.sym_visibility is not None or not op.body.blocks:
                continue
            if op.sym_name.data not in executed:
                print(f"// check @{op.sym_name.data}: {_NOT_EXECUTED}", file=sys.stderr)

    def after(self, done: ModulePass, module: ModuleOp) -> None:
        """Compare with what there was before pass `done`. Raises CheckFailure."""
        for line in self._check.checker.after(type(done), module, tier_of(type(done))):
            print(f"// check {done.name}: {line}", file=sys.stderr)

    def compiled(self, module: ModuleOp, passes: Sequence[ModulePass]) -> None:
        """Compare a complete program, made by `passes`, with itself compiled. Raises CheckFailure."""
        from ck.runtime.check import is_program

        note = module.attributes.get("ck.after")
        last = passes[-1].name if passes else note.data if isinstance(note, StringAttr) else ""
        if is_program(module) and last in _COMPLETE:
            for name, line in self._check.compiled(module):
                print(f"// check {name}: {line}", file=sys.stderr)


def keep_failure(
    failure: CheckFailure, context: Context, suspect: ModulePass | None, seconds: float | None, kept: Path
) -> str:
    """Leave what replays `failure` in directory `kept`; returns what to do with it.

    `seconds` are for shrinking it; None is the usual time.
    """
    from ck.runtime import check_failure

    limit = check_failure.SHRINKING if seconds is None else seconds
    return check_failure.keep_failure(failure, context, suspect, limit, kept, _say)


def _say(line: str) -> None:
    print(f"// reduce {line}", file=sys.stderr)
