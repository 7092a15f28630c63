"""`ck-opt --check`: what it prints, and the small file that a failure leaves."""

import sys
from pathlib import Path

from xdsl.context import Context
from xdsl.dialects.builtin import ModuleOp
from xdsl.parser import Parser
from xdsl.passes import ModulePass

from ck.errors import UsageError
from ck.ir.check.checker import Checker
from ck.ir.check.failure import CheckFailure
from ck.ir.reduce import Reduction
from ck.passes.pipeline import tier_of
from ck.passes.reproducer import kept_line, unkept_line, write_reproducer


class PassCheck:
    """Holds a module against what it was before each pass, and says so on stderr."""

    def __init__(self, module: ModuleOp) -> None:
        self._checker = Checker(module)

    def after(self, done: ModulePass, module: ModuleOp) -> None:
        """Compare with what there was before pass `done`. Raises CheckFailure."""
        for line in self._checker.after(type(done), module, tier_of(type(done))):
            print(f"// check {done.name}: {line}", file=sys.stderr)


def fails_check(context: Context, suspect: ModulePass, module: ModuleOp) -> bool:
    """Whether `suspect` changes what `module` computes; `module` is what it leaves."""
    checker = Checker(module)
    suspect.apply(context, module)
    module.verify()
    try:
        checker.after(type(suspect), module, tier_of(type(suspect)))
    except CheckFailure:
        return True
    return False


def keep_failure(
    failure: CheckFailure, context: Context, suspect: ModulePass, seconds: float, directory: Path
) -> str:
    """Write a reproducer of `failure`, shrunk for up to `seconds`; returns what to do with it."""
    before = _shrunk(failure.before, context, suspect, seconds) if seconds else failure.before
    try:
        path = write_reproducer(directory, before, [str(suspect.spec())], str(failure), ["--check"])
    except OSError as error:
        return unkept_line(directory, error)
    return kept_line(path)


def _shrunk(before: str, context: Context, suspect: ModulePass, seconds: float) -> str:
    """The text of a smaller module on which `suspect` fails too; `before` where its text alone does not."""
    module = Parser(context, before).parse_module()
    try:
        reduction = Reduction(module, lambda tried: fails_check(context, suspect, tried), seconds, _say)
    except UsageError:
        return before
    reduction.run()
    return str(reduction.best)


def _say(line: str) -> None:
    print(f"// reduce {line}", file=sys.stderr)
