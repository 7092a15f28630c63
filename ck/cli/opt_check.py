"""`ck-opt --check`: what it prints, and the small file that a failure leaves."""

import re
import sys
from collections.abc import Sequence
from pathlib import Path

from xdsl.context import Context
from xdsl.dialects.builtin import ModuleOp, StringAttr
from xdsl.parser import Parser
from xdsl.passes import ModulePass

from ck.errors import UsageError
from ck.ir.check.failure import CheckFailure
from ck.ir.reduce import Reduction
from ck.passes.pipeline import mark, tier_of
from ck.passes.reproducer import kept_line, unkept_line, write_reproducer
from ck.passes.reroll_layers import RerollLayersPass
from ck.passes.schedule_threads import ScheduleThreadsPass

# After these a program is complete: before, its threads do not wait for one another.
_COMPLETE = (ScheduleThreadsPass.name, RerollLayersPass.name)

# An op's name in its text: `%y = ck.silu %x`, or `rt.call @kernel`.
_NAME = re.compile(r'(?:^|= )"?(\w+\.\w+)')


class PassCheck:
    """Holds a module against what it was before each pass, and says so on stderr."""

    def __init__(self, module: ModuleOp) -> None:
        # What compiles and runs programs is not loaded for those who only print IR.
        from ck.runtime.check import CompiledCheck

        self._check = CompiledCheck(module)

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


def fails_check(context: Context, suspect: ModulePass, module: ModuleOp, like: CheckFailure) -> bool:
    """Whether `suspect` changes what `module` computes, in a value that such an op made as in failure `like`.

    `module` is left as `suspect` leaves it.
    """
    from ck.runtime.check import CompiledCheck

    checker = CompiledCheck(module).checker
    suspect.apply(context, module)
    module.verify()
    try:
        checker.after(type(suspect), module, tier_of(type(suspect)))
    except CheckFailure as failure:
        return _kind(failure.op) == _kind(like.op)
    return False


def _kind(op: str) -> str:
    """The name of the op whose text is `op`."""
    found = _NAME.search(op)
    return found[1] if found else ""


def keep_failure(
    failure: CheckFailure, context: Context, suspect: ModulePass | None, seconds: float, directory: Path
) -> str:
    """Write a reproducer of `failure`; returns what to do with it.

    Where a pass is the suspect its IR is shrunk for up to `seconds`. A compiled program stays whole: what is
    left of one need not end, so it is for --reduce, which runs it in another process.
    """
    before = failure.before
    if suspect is None:
        before = _noted(context, before)
    elif seconds:
        before = _shrunk(failure, context, suspect, seconds)
    passes = [str(suspect.spec())] if suspect else []
    try:
        path = write_reproducer(directory, before, passes, str(failure), ["--check"])
    except OSError as error:
        return unkept_line(directory, error)
    return kept_line(path)


def _noted(context: Context, text: str) -> str:
    """A complete program's text with the note that it is one."""
    module = Parser(context, text).parse_module()
    mark(module, RerollLayersPass.name)
    return str(module)


def _shrunk(failure: CheckFailure, context: Context, suspect: ModulePass, seconds: float) -> str:
    """The text of a smaller module on which `suspect` fails likewise; all of it where its text does not."""
    module = Parser(context, failure.before).parse_module()

    def still_fails(tried: ModuleOp) -> bool:
        return fails_check(context, suspect, tried, failure)

    try:
        reduction = Reduction(module, still_fails, seconds, _say)
    except UsageError:
        return failure.before
    reduction.run()
    return str(reduction.best)


def _say(line: str) -> None:
    print(f"// reduce {line}", file=sys.stderr)
